// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
)

// Binding is a binding of a virtual host.
type Binding = exchanges.Binding[*Queue]

// Exchange is an exchange of a virtual host.
type Exchange = exchanges.Exchange[*Queue]

// DeclareExchange makes an exchange, or checks that the existing one is
// equivalent. w as in DeclareQueue. Errors: 403, 406.
func (v *VHost) DeclareExchange(d exchanges.Declaration, w persistence.Waiter) (waiting bool, err *wire.Error) {
	d.Name = cleanName(d.Name)
	v.mu.Lock()
	defer v.mu.Unlock()
	var x *Exchange
	var created bool
	v.changeRoutes(func(r *exchanges.Router[*Queue]) {
		if _, exists := r.Exchange(d.Name); !exists {
			if err = checkDedupArguments(d.Arguments, d.Name, v.name); err != nil {
				return
			}
		}
		if x, created, err = r.Declare(d); created {
			v.configureExchange(r, x)
			v.attachHistory(x, v.hosts.store.NewID)
			v.attachDelayer(x, v.hosts.store.NewID)
		}
	})
	switch {
	case err != nil || !x.Durable:
		return false, err
	case !created:
		return v.commit(w), nil
	}
	return v.commit(w, persistence.SetConfig(exchangeKey(v.id, x.Name), encodeExchange(x))), nil
}

// DeclareExchangePassive checks that an exchange exists. Errors: 404.
func (v *VHost) DeclareExchangePassive(name string) *wire.Error {
	v.routes.RLock()
	defer v.routes.RUnlock()
	_, err := v.router.Passive(cleanName(name))
	return err
}

// DeleteExchange deletes an exchange with its bindings; deleting what does not
// exist is fine. w as in DeclareQueue. Errors: 403, 406.
func (v *VHost) DeleteExchange(name string, ifUnused bool, w persistence.Waiter) (waiting bool, err *wire.Error) {
	name = cleanName(name)
	v.mu.Lock()
	defer v.mu.Unlock()
	var records []persistence.Record
	v.changeRoutes(func(r *exchanges.Router[*Queue]) {
		var x *Exchange
		var bindings []Binding
		var gone []*Exchange
		if x, bindings, gone, err = r.Delete(name, ifUnused); err == nil && x != nil {
			records = v.appendRemoved(records, bindings, append(gone, x), x.Durable)
		}
	})
	if err != nil {
		return false, err
	}
	return v.commit(w, records...), nil
}

// Bind adds a binding to a queue or an exchange. owner is the connection that
// asks. If the source has a history w, which is as in DeclareQueue, is told when
// the destination has it. Errors: 403, 404, 405, 406.
func (v *VHost) Bind(b Binding, owner uint64, w persistence.Waiter) (waiting bool, err *wire.Error) {
	b.Source, b.Destination = cleanName(b.Source), cleanName(b.Destination)
	h, f, waiting, err := v.bind(b, owner, w)
	if f == nil {
		return waiting, err
	}
	h.copy(f, w)
	return w != nil, nil
}

// bind is Bind but for the copying of history h to its new follower f, which is
// not nil if there is some to be done; w is not used then.
func (v *VHost) bind(b Binding, owner uint64, w persistence.Waiter) (h *recentHistory, f *follower, waiting bool, err *wire.Error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.checkEnds(&b, owner); err != nil {
		return nil, nil, false, err
	}
	if err := v.checkLocalRandom(&b); err != nil {
		return nil, nil, false, err
	}
	if x, ok := v.router.Exchange(b.Source); ok {
		if h = historyOf(x); h != nil {
			f = h.follow(&b, v.queues)
		}
	}
	var added bool
	v.changeRoutes(func(r *exchanges.Router[*Queue]) { added, err = r.Bind(b) })
	switch {
	case f == nil:
	case added:
		h.bound(f, v.version.Load())
		w = nil
	default:
		h.notBound(f)
		f = nil
	}
	switch {
	case err != nil || !v.durableBinding(&b):
		return h, f, false, err
	case !added:
		return h, f, v.commit(w), nil
	}
	b.Arguments = b.Arguments.Sorted()
	return h, f, v.commit(w, persistence.SetConfig(bindingKey(v.id, &b), encodeBinding(&b))), nil
}

// Unbind removes a binding; removing what does not exist is fine. owner is the
// connection that asks. w as in DeclareQueue. Errors: 403, 405.
func (v *VHost) Unbind(b Binding, owner uint64, w persistence.Waiter) (waiting bool, err *wire.Error) {
	b.Source, b.Destination = cleanName(b.Source), cleanName(b.Destination)
	v.mu.Lock()
	defer v.mu.Unlock()
	switch err := v.checkEnds(&b, owner); {
	case err == nil:
	case err.Code == wire.NotFound:
		return v.commit(w), nil
	default:
		return false, err
	}
	var records []persistence.Record
	v.changeRoutes(func(r *exchanges.Router[*Queue]) {
		var bindings []Binding
		var gone []*Exchange
		if bindings, gone, err = r.Unbind(b); err == nil {
			records = v.appendRemoved(records, bindings, gone, true)
		}
	})
	if err != nil {
		return false, err
	}
	return v.commit(w, records...), nil
}

// checkEnds refuses what the router does not know about: reply queues, and
// queues that are exclusive to another connection. Called with mu held.
func (v *VHost) checkEnds(b *Binding, owner uint64) *wire.Error {
	if b.ToExchange {
		return nil
	}
	if strings.HasPrefix(b.Destination, ReplyTo) {
		return wire.Errorf(wire.AccessRefused, "cannot bind or unbind to a volatile (direct reply-to) queue")
	}
	if q, ok := v.queues[b.Destination]; ok && q.exclusive && q.owner != owner {
		if _, err := v.router.Passive(b.Source); err != nil && b.Source != "" {
			return err // a missing exchange is reported first
		}
		return v.locked(q.name)
	}
	return nil
}

// checkLocalRandom refuses queues that are not classic ones as destinations of a
// local random exchange, as RabbitMQ does. Called with mu held.
func (v *VHost) checkLocalRandom(b *Binding) *wire.Error {
	source, ok := v.router.Exchange(b.Source)
	if !ok || source.Type != exchanges.TypeLocalRandom || b.ToExchange || b.Key != "" {
		return nil // if there is something wrong with it, the router says so
	}
	if q, ok := v.queues[b.Destination]; ok && q.Quorum() {
		return wire.Errorf(wire.PreconditionFailed, "Queue type rabbit_quorum_queue not valid for this exchange type")
	}
	return nil
}

// durableBinding says whether both ends are durable. Called with mu held.
func (v *VHost) durableBinding(b *Binding) bool {
	source, ok := v.router.Exchange(b.Source)
	if !ok || !source.Durable {
		return false
	}
	if b.ToExchange {
		x, ok := v.router.Exchange(b.Destination)
		return ok && x.Durable
	}
	q, ok := v.queues[b.Destination]
	return ok && q.durable
}

// Exchanges lists the exchanges by name. They are for reading only.
func (v *VHost) Exchanges() []*Exchange {
	v.routes.RLock()
	defer v.routes.RUnlock()
	return v.router.Exchanges()
}

// Bindings lists all bindings, those of the default exchange first; reply queues
// are left out.
func (v *VHost) Bindings() []Binding {
	v.routes.RLock()
	defer v.routes.RUnlock()
	return withoutReplies(v.router.Bindings())
}

// withoutReplies drops the bindings of direct reply-to queues, in place.
func withoutReplies(all []Binding) []Binding {
	return slices.DeleteFunc(all, func(b Binding) bool { return !b.ToExchange && b.Queue.volatile })
}
