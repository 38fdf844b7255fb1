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

// Route is where a message goes, or why it goes nowhere. It is immutable.
type Route struct {
	Queues  []*Queue
	Durable bool        // at least one of them is durable
	Err     *wire.Error // the exchange is missing or internal
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
}

// NewRoutes makes an empty cache over a virtual host's routes.
func NewRoutes(v *VHost) *Routes {
	return &Routes{vhost: v, cached: map[string]*Route{}}
}

// Find returns where a message goes. headers are the contents of its headers
// table, nil if it has none, and extra the routing keys of CC and BCC. Routes
// that depend on either are not remembered. The usual case, the same exchange
// and key again, costs a comparison.
func (c *Routes) Find(p *wire.PublishView, headers []byte, extra []string) *Route {
	if version := c.vhost.version.Load(); version != c.version {
		clear(c.cached)
		c.version, c.last = version, nil
	}
	if len(extra) > 0 {
		route, _ := c.route(p, headers, extra)
		return route
	}
	if c.last != nil && bytes.Equal(c.lastKey, p.ExchangeAndKey) {
		return c.last
	}
	route, ok := c.cached[string(p.ExchangeAndKey)]
	if !ok {
		var constant bool
		if route, constant = c.route(p, headers, nil); !constant {
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

// route works a route out; constant says that it depends on exchange and key
// only.
func (c *Routes) route(p *wire.PublishView, headers []byte, extra []string) (route *Route, constant bool) {
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
	queues := v.router.Route(&c.scratch, exchanges.Publish[*Queue]{Exchange: x, Key: p.RoutingKey(), CC: extra, Headers: headers})
	return newRoute(queues), !c.scratch.HeadersRead()
}

// SameQueues reports whether messages of both routes go to the same queues, in
// which case they can be one run.
func (r *Route) SameQueues(other *Route) bool {
	return r == other || slices.Equal(r.Queues, other.Queues)
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
	return newRoute(v.router.Route(s, exchanges.Publish[*Queue]{Exchange: x, Key: []byte(key), CC: cc, Headers: properties.Headers}))
}

func newRoute(queues []*Queue) *Route {
	return &Route{Queues: slices.Clone(queues), Durable: slices.ContainsFunc(queues, (*Queue).Durable)}
}
