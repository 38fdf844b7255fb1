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
	Durable bool        // at least one of them is durable
	Err     *wire.Error // the exchange is missing or internal

	highest    Priority // the highest that one of the queues tells from others, 0 if none orders by priority
	usual      Priority // what all of them take for NoPriority; NoPriority if they do not agree
	priority   Priority // of the messages
	ordered    bool     // all of them order by priority
	byPriority []*Route // made by For
}

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
		c.version, c.last = version, nil
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
	queues := v.router.Route(&c.scratch, exchanges.Publish[*Queue]{Exchange: x, Key: p.RoutingKey(), CC: extra, Properties: properties})
	if c.scratch.Constant() || len(queues) != 1 {
		return newRoute(queues), c.scratch.Constant()
	}
	// Exchanges that hash or choose at random lead to one of a few queues: their
	// routes are made once and not per message.
	route, ok = c.single[queues[0]]
	if !ok {
		route = newRoute(queues)
		c.single[queues[0]] = route
	}
	return route, false
}

// Same reports whether messages of both routes go to the same queues with the same
// priority, in which case they can be one run.
func (r *Route) Same(other *Route) bool {
	return r == other || r.priority == other.priority && slices.Equal(r.Queues, other.Queues)
}

// without returns the route without the queues that skip tells.
func (r *Route) without(skip func(*Queue) bool) *Route {
	if !slices.ContainsFunc(r.Queues, skip) {
		return r
	}
	return newRoute(slices.DeleteFunc(slices.Clone(r.Queues), skip))
}

// routeTo routes a message that the broker itself publishes: to no queue if the
// exchange does not exist, and to an internal one as to any other. headers is the
// content header's payload.
func (v *VHost) routeTo(s *exchanges.Scratch[*Queue], exchange, key string, cc []string, header []byte) *Route {
	var properties wire.PropertyView
	if err := properties.Scan(header[wire.ContentHeaderSize:]); err != nil {
		return &Route{Err: err}
	}
	v.routes.RLock()
	defer v.routes.RUnlock()
	x, ok := v.router.Exchange(exchange)
	if !ok {
		return &Route{}
	}
	return newRoute(v.router.Route(s, exchanges.Publish[*Queue]{Exchange: x, Key: []byte(key), CC: cc, Properties: &properties}))
}

func newRoute(queues []*Queue) *Route {
	r := &Route{Queues: slices.Clone(queues), Durable: slices.ContainsFunc(queues, (*Queue).Durable)}
	r.rank()
	return r
}
