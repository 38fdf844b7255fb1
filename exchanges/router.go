// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package exchanges decides which queues a message goes to.
//
// A [Router] holds the exchanges, queues and bindings of one virtual host and
// nothing else: no lock, no clock, no I/O, no goroutine. Queues are opaque
// comparable values of type Q, usually pointers, that the router only hands
// back. Each exchange type is a matcher in a file of its own; walking
// exchange-to-exchange bindings and alternate exchanges is done for all of them
// in route.go.
//
// # Concurrency
//
// Methods that change the router (Declare, Delete, Bind, Unbind, AddQueue,
// RemoveQueue, SetPolicyAlternate) need exclusive access. All others only read
// and may run at the same time as each other: what a route needs to remember
// while it is worked out lives in a [Scratch] owned by the caller.
package exchanges

import (
	"maps"
	"slices"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
)

// Router is the routing state of one virtual host. Create it with [NewRouter].
type Router[Q comparable] struct {
	vhost     string // for error texts
	version   uint64
	exchanges map[string]*Exchange[Q]
	queues    map[string]*queue[Q]
}

// queue is a registered destination queue.
type queue[Q comparable] struct {
	name  string
	value Q
	// bindings lead to this queue. The implicit one from the default exchange
	// is not among them. Nil until the first, as most queues have none.
	bindings map[*binding[Q]]struct{}
}

// NewRouter returns a router with the exchanges that every RabbitMQ virtual
// host has from the start: the default exchange (named ""), amq.direct,
// amq.fanout, amq.topic, amq.headers, amq.match and amq.rabbitmq.trace. The
// virtual host's name is used in error texts only.
func NewRouter[Q comparable](vhost string) *Router[Q] {
	r := &Router[Q]{
		vhost:     vhost,
		exchanges: make(map[string]*Exchange[Q]),
		queues:    make(map[string]*queue[Q]),
	}
	r.exchanges[""] = newExchange(
		Declaration{Type: TypeDirect, Durable: true}, defaultMatcher[Q](r.queues))
	for _, d := range []Declaration{
		{Name: "amq.direct", Type: TypeDirect},
		{Name: "amq.fanout", Type: TypeFanout},
		{Name: "amq.headers", Type: TypeHeaders},
		{Name: "amq.match", Type: TypeHeaders},
		{Name: "amq.rabbitmq.trace", Type: TypeTopic, Internal: true},
		{Name: "amq.topic", Type: TypeTopic},
	} {
		d.Durable = true
		m, _ := newMatcher[Q](&d, vhost) // without arguments nothing is refused
		r.exchanges[d.Name] = newExchange(d, m)
	}
	return r
}

// Version is raised by every change that can alter where a message goes. A
// route computed at one version holds as long as the version stays.
func (r *Router[Q]) Version() uint64 { return r.version }

// Touch raises the version: something outside the router that routes depend on has
// changed.
func (r *Router[Q]) Touch() { r.version++ }

// Exchange returns the exchange of that name; "" is the default exchange.
func (r *Router[Q]) Exchange(name string) (*Exchange[Q], bool) {
	x, ok := r.exchanges[name]
	return x, ok
}

// Lookup is Exchange for a name still in a read buffer; it does not allocate.
func (r *Router[Q]) Lookup(name []byte) (*Exchange[Q], bool) {
	x, ok := r.exchanges[string(name)]
	return x, ok
}

// Exchanges returns all exchanges sorted by name, the default one first.
func (r *Router[Q]) Exchanges() []*Exchange[Q] {
	return slices.SortedFunc(maps.Values(r.exchanges), func(a, b *Exchange[Q]) int {
		return strings.Compare(a.Name, b.Name)
	})
}

// AddQueue makes a queue reachable through the default exchange under its name
// and ready to be bound. It reports false, changing nothing, when a queue of
// that name is registered already. Every name needs a q of its own.
func (r *Router[Q]) AddQueue(name string, q Q) (added bool) {
	if _, exists := r.queues[name]; exists {
		return false
	}
	r.queues[name] = &queue[Q]{name: name, value: q}
	r.version++
	return true
}

// RemoveQueue forgets a queue and every binding to it, at a cost in proportion
// to that queue's own bindings. It returns the explicit bindings that are gone
// and the auto-delete exchanges that went with their last binding, together
// with those exchanges' own bindings. Nothing happens when name is not
// registered for q.
func (r *Router[Q]) RemoveQueue(name string, q Q) (removed []Binding[Q], autoDeleted []*Exchange[Q]) {
	dst, ok := r.queues[name]
	if !ok || dst.value != q {
		return nil, nil
	}
	delete(r.queues, name)
	r.version++
	return r.drop(sorted(maps.Keys(dst.bindings)))
}

func (r *Router[Q]) noExchange(name string) *wire.Error {
	return wire.Errorf(wire.NotFound, "no exchange '%s' in vhost '%s'", name, r.vhost)
}

func (r *Router[Q]) noQueue(name string) *wire.Error {
	return wire.Errorf(wire.NotFound, "no queue '%s' in vhost '%s'", name, r.vhost)
}
