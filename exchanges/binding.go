// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
)

// Binding leads from a source exchange to a queue or to another exchange. Its
// identity is everything but Queue; arguments compare independent of order.
type Binding[Q comparable] struct {
	Source      string
	Destination string // name of a queue, or of an exchange if ToExchange
	ToExchange  bool
	Key         string
	// Arguments are sorted by name in bindings that the router returns.
	Arguments wire.Table
	// Queue is the destination queue in bindings that the router returns, the
	// zero value if ToExchange. It is ignored in those it is given.
	Queue Q
}

// PropertiesKey names the binding among those with the same source and
// destination, in a form fit for a URL path, as "properties_key" does in
// RabbitMQ's management API: "~" without key and arguments, otherwise the
// escaped routing key followed, if there are arguments, by "~" and a hash of
// them.
func (b *Binding[Q]) PropertiesKey() string {
	if b.Key == "" && len(b.Arguments) == 0 {
		return "~"
	}
	// A tilde in the key would read as the separator.
	key := strings.ReplaceAll(url.QueryEscape(b.Key), "~", "%7E")
	if len(b.Arguments) == 0 {
		return key
	}
	sum := sha256.Sum256(wire.AppendTable(nil, b.Arguments.Sorted()))
	return key + "~" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// binding is a Binding as the router keeps it: exactly one of queue and
// exchange is its destination.
type binding[Q comparable] struct {
	source    *Exchange[Q]
	queue     *queue[Q]
	exchange  *Exchange[Q]
	key       string
	arguments wire.Table // sorted
	encoded   string     // arguments in wire form, which makes them comparable
}

// bindingID tells apart the bindings of one source.
type bindingID[Q comparable] struct {
	target  target[Q]
	key     string
	encoded string
}

func (b *binding[Q]) id() bindingID[Q] {
	return bindingID[Q]{b.target(), b.key, b.encoded}
}

func (b *binding[Q]) target() target[Q] {
	if b.queue != nil {
		return target[Q]{queue: b.queue.value}
	}
	return target[Q]{exchange: b.exchange}
}

func (b *binding[Q]) destination() string {
	if b.queue != nil {
		return b.queue.name
	}
	return b.exchange.Name
}

func (b *binding[Q]) public() Binding[Q] {
	p := Binding[Q]{
		Source:      b.source.Name,
		Destination: b.destination(),
		ToExchange:  b.exchange != nil,
		Key:         b.key,
		Arguments:   b.arguments,
	}
	if b.queue != nil {
		p.Queue = b.queue.value
	}
	return p
}

// link makes the binding part of both its ends.
func (b *binding[Q]) link() {
	b.source.outgoing[b.id()] = b
	b.source.matcher.add(b)
	switch {
	case b.exchange != nil:
		b.exchange.incoming[b] = struct{}{}
	case b.queue.bindings == nil:
		b.queue.bindings = map[*binding[Q]]struct{}{b: {}}
	default:
		b.queue.bindings[b] = struct{}{}
	}
}

// unlink undoes link. It reports false when that was done before.
func (b *binding[Q]) unlink() bool {
	id := b.id()
	if b.source.outgoing[id] != b {
		return false
	}
	delete(b.source.outgoing, id)
	b.source.matcher.remove(b)
	if b.exchange != nil {
		delete(b.exchange.incoming, b)
	} else {
		delete(b.queue.bindings, b)
	}
	return true
}

// Bind adds a binding unless it exists. Errors: 403 when either end is the
// default exchange, 404 when an end is missing (the source is looked at first),
// 406 when the exchange type refuses the key or arguments.
func (r *Router[Q]) Bind(want Binding[Q]) (added bool, err *wire.Error) {
	b, err := r.resolve(&want)
	if err != nil {
		return false, err
	}
	if err := b.source.matcher.validate(b); err != nil {
		return false, err
	}
	if _, exists := b.source.outgoing[b.id()]; exists {
		return false, nil
	}
	b.link()
	r.version++
	return true, nil
}

// Unbind removes a binding. That it, or one of its ends, does not exist is no
// error: removed is then empty. Otherwise removed starts with the binding and
// goes on with those of auto-delete exchanges that lost their last binding and
// went with it. Error: 403 when either end is the default exchange.
func (r *Router[Q]) Unbind(want Binding[Q]) (removed []Binding[Q], autoDeleted []*Exchange[Q], err *wire.Error) {
	b, err := r.resolve(&want)
	if err != nil {
		if err.Code == wire.NotFound {
			err = nil
		}
		return nil, nil, err
	}
	held, ok := b.source.outgoing[b.id()]
	if !ok {
		return nil, nil, nil
	}
	r.version++
	removed, autoDeleted = r.drop([]*binding[Q]{held})
	return removed, autoDeleted, nil
}

// resolve finds both ends of a binding.
func (r *Router[Q]) resolve(want *Binding[Q]) (*binding[Q], *wire.Error) {
	if want.Source == "" || want.ToExchange && want.Destination == "" {
		return nil, notDefault("")
	}
	source, ok := r.exchanges[want.Source]
	if !ok {
		return nil, r.noExchange(want.Source)
	}
	b := &binding[Q]{source: source, key: want.Key}
	if want.ToExchange {
		if b.exchange, ok = r.exchanges[want.Destination]; !ok {
			return nil, r.noExchange(want.Destination)
		}
	} else if b.queue, ok = r.queues[want.Destination]; !ok {
		return nil, r.noQueue(want.Destination)
	}
	if len(want.Arguments) > 0 {
		b.arguments = want.Arguments.Sorted()
		b.encoded = string(wire.AppendTable(nil, b.arguments))
	}
	return b, nil
}

// Bindings returns all bindings in a fixed order, the implicit ones from the
// default exchange to every queue among them.
func (r *Router[Q]) Bindings() []Binding[Q] {
	all := r.implicit()
	for _, x := range r.Exchanges() {
		all = append(all, public(sorted(maps.Values(x.outgoing)))...)
	}
	return all
}

// BindingsFrom returns the bindings with that exchange as their source, for ""
// the implicit one of every queue.
func (r *Router[Q]) BindingsFrom(source string) []Binding[Q] {
	if source == "" {
		return r.implicit()
	}
	x, ok := r.exchanges[source]
	if !ok {
		return nil
	}
	return public(sorted(maps.Values(x.outgoing)))
}

// BindingsToQueue returns the bindings that lead to a queue, the implicit one
// first.
func (r *Router[Q]) BindingsToQueue(name string) []Binding[Q] {
	q, ok := r.queues[name]
	if !ok {
		return nil
	}
	return append([]Binding[Q]{q.implicit()}, public(sorted(maps.Keys(q.bindings)))...)
}

// BindingsToExchange returns the bindings that lead to an exchange.
func (r *Router[Q]) BindingsToExchange(name string) []Binding[Q] {
	x, ok := r.exchanges[name]
	if !ok {
		return nil
	}
	return public(sorted(maps.Keys(x.incoming)))
}

// implicit returns the default exchange's bindings, sorted by queue.
func (r *Router[Q]) implicit() []Binding[Q] {
	all := make([]Binding[Q], 0, len(r.queues))
	for _, name := range slices.Sorted(maps.Keys(r.queues)) {
		all = append(all, r.queues[name].implicit())
	}
	return all
}

// implicit returns the queue's binding from the default exchange.
func (q *queue[Q]) implicit() Binding[Q] {
	return Binding[Q]{Destination: q.name, Key: q.name, Queue: q.value}
}

// sorted collects bindings in an order that does not depend on map iteration.
func sorted[Q comparable](bindings iter.Seq[*binding[Q]]) []*binding[Q] {
	return slices.SortedFunc(bindings, func(a, b *binding[Q]) int {
		return cmp.Or(
			strings.Compare(a.source.Name, b.source.Name),
			strings.Compare(a.destination(), b.destination()),
			strings.Compare(a.key, b.key),
			strings.Compare(a.encoded, b.encoded),
			compareKinds(a, b),
		)
	})
}

// compareKinds puts a queue before an exchange of the same name.
func compareKinds[Q comparable](a, b *binding[Q]) int {
	switch {
	case (a.queue == nil) == (b.queue == nil):
		return 0
	case a.queue != nil:
		return -1
	default:
		return 1
	}
}

func public[Q comparable](bindings []*binding[Q]) []Binding[Q] {
	all := make([]Binding[Q], len(bindings))
	for i, b := range bindings {
		all[i] = b.public()
	}
	return all
}
