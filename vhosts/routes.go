// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"bytes"
	"slices"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
)

// maxCachedRoutes bounds one connection's cache; a publisher of more keys than
// this gains nothing from a cache.
const maxCachedRoutes = 1024

// Route is where a message goes, or why it goes nowhere. Its exported fields are
// constant.
type Route struct {
	Queues  []*Queue
	Durable bool        // at least one of them, of the histories or of held, is durable
	Err     *wire.Error // the exchange is missing or internal
	filters []filter    // what messages have to pass on the way

	histories []*recentHistory // those that are to remember the message
	held      []*Queue         // of delayed exchanges on the way, which hold the message back
	stored    bool             // at least one of Queues or histories is durable
	version   uint64           // of the routes it was found in
	delayer   *Queue           // where messages wait that are to be delayed, nil if none are
	later     *Route           // to there, made by Postpone

	highest    Priority // the highest that one of the queues tells from others, 0 if none orders by priority
	usual      Priority // what all of them take for NoPriority; NoPriority if they do not agree
	priority   Priority // of the messages
	alike      bool     // all of them have the same levels, and there are no histories
	byPriority []*Route // made by For
}

// Nowhere reports whether a message of this route is taken by nobody. One that
// reaches no queue may still be remembered by an exchange.
func (r *Route) Nowhere() bool { return r.Unroutable() && len(r.histories) == 0 }

// Unroutable reports whether a message of this route reaches no queue, not even later.
func (r *Route) Unroutable() bool { return len(r.Queues) == 0 && len(r.held) == 0 }

// alone reports whether there is one queue and nothing else that takes a message.
func (r *Route) alone() bool { return len(r.Queues) == 1 && len(r.histories) == 0 && len(r.held) == 0 }

// Routes looks routes up for one connection and remembers them. It belongs to
// the connection's reader.
type Routes struct {
	vhost   *VHost
	scratch exchanges.Scratch[*Queue]
	version uint64
	cached  map[string]*Route // by exchange and key as they are on the wire
	last    *Route            // the route found last, if it may be used again
	lastKey []byte
	single  map[*Queue]*Route // routes to one queue, for messages that are routed one by one
	varied  *Route            // the last other route of such messages
}

// NewRoutes makes an empty cache over a virtual host's routes.
func NewRoutes(v *VHost) *Routes {
	return &Routes{vhost: v, cached: map[string]*Route{}, single: map[*Queue]*Route{}}
}

// Find returns where a message goes. properties may be nil if a delivery mode is
// all there is, and extra are the routing keys of CC and BCC. Routes that depend
// on either are not remembered. The usual case, the same exchange and key again,
// costs a comparison.
func (c *Routes) Find(p *wire.PublishView, properties *wire.PropertyView, extra []string) *Route {
	if version := c.vhost.version.Load(); version != c.version {
		clear(c.cached)
		clear(c.single)
		c.version, c.last, c.varied = version, nil, nil
	}
	if len(extra) > 0 {
		route, _ := c.route(p, properties, extra)
		return route
	}
	if c.last != nil && bytes.Equal(c.lastKey, p.ExchangeAndKey) {
		return c.last
	}
	route, ok := c.cached[string(p.ExchangeAndKey)]
	if !ok {
		var constant bool
		if route, constant = c.route(p, properties, nil); !constant {
			return route
		}
		if len(c.cached) >= maxCachedRoutes {
			clear(c.cached)
		}
		c.cached[string(p.ExchangeAndKey)] = route
	}
	c.last, c.lastKey = route, append(c.lastKey[:0], p.ExchangeAndKey...)
	return route
}

// route works a route out; constant says that it is worth remembering, see
// exchanges.Scratch.Constant.
func (c *Routes) route(p *wire.PublishView, properties *wire.PropertyView, extra []string) (route *Route, constant bool) {
	v := c.vhost
	v.routes.RLock()
	defer v.routes.RUnlock()
	x, ok := v.router.Lookup(p.Exchange())
	switch {
	case !ok:
		return &Route{Err: wire.Errorf(wire.NotFound, "no exchange '%s' in vhost '%s'", p.Exchange(), v.name)}, true
	case x.Internal:
		return &Route{Err: wire.Errorf(wire.AccessRefused, "cannot publish to internal exchange '%s' in vhost '%s'", p.Exchange(), v.name)}, true
	}
	queues, held, err := v.reach(&c.scratch, exchanges.Publish[*Queue]{Exchange: x, Key: p.RoutingKey(), CC: extra, Properties: properties}, p.Mandatory)
	if err != nil {
		return &Route{Err: err}, false
	}
	window := v.windows[x.Name]
	if delayer := delayerOf(x); c.scratch.Constant() || window != nil || delayer != nil || held != nil {
		route = v.newRoute(queues, c.scratch.Recorded(), held)
		route.delayer = delayer
		route.addFilters(window)
		return route, c.scratch.Constant()
	}
	return c.shared(queues, c.scratch.Recorded()), false
}

// shared returns the route of a message that is routed by itself. It is not made
// anew for each: exchanges that hash or choose at random lead to one of a few
// queues, others mostly to the same ones again. Called under VHost.routes.
func (c *Routes) shared(queues []*Queue, recorded []*Exchange) *Route {
	if len(queues) == 1 && len(recorded) == 0 {
		route, ok := c.single[queues[0]]
		if !ok {
			route = c.vhost.newRoute(queues, nil, nil)
			route.addFilters(nil)
			c.single[queues[0]] = route
		}
		return route
	}
	if c.varied == nil || !c.varied.leads(queues, recorded) {
		c.varied = c.vhost.newRoute(queues, recorded, nil)
		c.varied.addFilters(nil)
	}
	return c.varied
}

// leads reports whether the route is the one to these queues and histories.
func (r *Route) leads(queues []*Queue, recorded []*Exchange) bool {
	return slices.Equal(r.Queues, queues) &&
		slices.EqualFunc(r.histories, recorded, func(h *recentHistory, x *Exchange) bool { return historyOf(x) == h })
}

// Same reports whether messages of both routes go to the same queues by the same way
// with the same priority, in which case they can be one run.
func (r *Route) Same(other *Route) bool {
	return r == other || r.priority == other.priority && slices.Equal(r.Queues, other.Queues) &&
		slices.Equal(r.histories, other.histories) && slices.Equal(r.held, other.held) && slices.Equal(r.filters, other.filters)
}

// without returns the route without the queues that skip tells.
func (r *Route) without(skip func(*Queue) bool) *Route {
	if !slices.ContainsFunc(r.Queues, skip) {
		return r
	}
	rest := &Route{Queues: slices.DeleteFunc(slices.Clone(r.Queues), skip), histories: r.histories, held: r.held, version: r.version, delayer: r.delayer}
	rest.rank()
	return rest
}

// rest returns the route of a message that was refused when it went there before: to
// the queues that did not take it, and neither histories nor delayed exchanges.
func (r *Route) rest(took []*Queue) *Route {
	rest := &Route{version: r.version, delayer: r.delayer}
	has := make(map[*Queue]bool, len(took))
	for _, q := range took {
		has[q] = true
	}
	for _, q := range r.Queues {
		if !has[q] {
			rest.Queues = append(rest.Queues, q)
		}
	}
	rest.rank()
	return rest
}

// routeTo routes a message that the broker itself publishes: to no queue if the
// exchange does not exist, and to an internal one as to any other. raw is the
// message's property flags and list. It does not go again where a delayed exchange
// leads whose queue is one of took, which have the message already.
func (v *VHost) routeTo(s *exchanges.Scratch[*Queue], exchange, key string, cc []string, raw []byte, took ...*Queue) *Route {
	var properties wire.PropertyView
	if err := properties.Scan(raw); err != nil {
		return &Route{Err: err}
	}
	v.routes.RLock()
	defer v.routes.RUnlock()
	x, ok := v.router.Exchange(exchange)
	if !ok {
		return &Route{}
	}
	m := exchanges.Publish[*Queue]{Exchange: x, Key: []byte(key), CC: cc, Properties: &properties}
	if slices.ContainsFunc(took, (*Queue).holdsBack) {
		m.Holds = func(x *Exchange) bool { return slices.Contains(took, delayerOf(x)) }
	}
	// A delay that is not valid was passed over when the message was published, or it is none.
	queues, held, _ := v.reach(s, m, false)
	route := v.newRoute(queues, s.Recorded(), held)
	route.delayer = delayerOf(x)
	return route
}

// newRoute returns a route of the present version. Called under VHost.routes.
func (v *VHost) newRoute(queues []*Queue, recorded []*Exchange, held []*Queue) *Route {
	r := &Route{Queues: slices.Clone(queues), held: held, version: v.router.Version()}
	for _, x := range recorded {
		if h := historyOf(x); h != nil {
			r.histories = append(r.histories, h)
		}
	}
	r.rank()
	return r
}

// ccOf is the routing keys in the header CC. headers are the contents of the table.
func ccOf(headers []byte) []string {
	if _, _, ok := wire.LookupField(headers, "CC"); !ok {
		return nil
	}
	table, err := wire.ParseTable(headers)
	if err != nil {
		return nil
	}
	return copiesIn(table)
}

// copiesIn is the routing keys in the header CC.
func copiesIn(headers wire.Table) (keys []string) {
	value, _ := headers.Get("CC")
	list, _ := value.(wire.Array)
	for _, element := range list {
		if key, ok := element.(string); ok {
			keys = append(keys, key)
		}
	}
	return keys
}
