// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// removed is what a deleted queue leaves behind.
type removed struct {
	ready     uint64            // messages lost
	consumers []*queue.Consumer // to be told once mu is released
}

// deleteLocked deletes a queue if check, run under the queue's lock, lets it,
// with its bindings and the auto-delete exchanges that go with those. Called
// with VHost.mu held.
func (v *VHost) deleteLocked(q *Queue, w persistence.Waiter, check func() *wire.Error) (gone removed, waiting bool, err *wire.Error) {
	q.mu.Lock()
	if err := check(); err != nil {
		q.mu.Unlock()
		return gone, false, err
	}
	gone.ready, gone.consumers = q.removeLocked()
	records := q.records
	q.records = nil
	q.mu.Unlock()
	if w := q.window.Load(); w != nil {
		records = w.close(records)
	}

	delete(v.queues, q.name)
	v.totals.Deleted++
	if q.durable {
		records = append(records, persistence.DeleteConfig(queueKey(v.id, q.name)))
	}
	v.changeRoutes(func(r *exchanges.Router[*Queue]) {
		bindings, sources := r.RemoveQueue(q.name, q)
		records = v.appendRemoved(records, bindings, sources, q.durable)
	})
	return gone, v.commit(w, records...), nil
}

// appendRemoved appends the records that forget bindings and exchanges which
// went because one of their ends did; durable says whether that end was. Called
// under VHost.mu and VHost.routes.
func (v *VHost) appendRemoved(records []persistence.Record, bindings []exchanges.Binding[*Queue], gone []*exchanges.Exchange[*Queue], durable bool) []persistence.Record {
	was := map[string]bool{} // exchanges that are gone, and whether they were durable
	for _, x := range gone {
		was[x.Name] = x.Durable
		if w := v.windows[x.Name]; w != nil {
			records = w.close(records)
			delete(v.windows, x.Name)
		}
		if x.Durable {
			records = append(records, persistence.DeleteConfig(exchangeKey(v.id, x.Name)))
		}
		records = appendHistory(records, x)
		records = v.appendDelayer(records, x)
	}
	for i := range bindings {
		b := &bindings[i]
		v.unbound(b)
		if v.durableEnd(b.Source, false, nil, was, durable) && v.durableEnd(b.Destination, !b.ToExchange, b.Queue, was, durable) {
			records = append(records, persistence.DeleteConfig(bindingKey(v.id, b)))
		}
	}
	return records
}

// durableEnd says whether one end of a binding is, or was before it went,
// durable.
func (v *VHost) durableEnd(name string, isQueue bool, q *Queue, was map[string]bool, fallback bool) bool {
	if isQueue {
		return q.durable
	}
	if durable, ok := was[name]; ok {
		return durable
	}
	if x, ok := v.router.Exchange(name); ok {
		return x.Durable
	}
	return fallback
}
