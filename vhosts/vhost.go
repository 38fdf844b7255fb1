// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"sync"
	"sync/atomic"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// VHost is one virtual host. Its methods may be called by anybody.
//
// Declarations change memory under mu and propose what is durable of them
// before they let go of it, so the store sees changes in the order they
// happened. The caller answers its client when the waiter it passed is told.
type VHost struct {
	hosts *Hosts
	name  string
	id    uint64 // the store's name of the vhost, never reused

	mu       sync.Mutex
	queues   map[string]*Queue
	delayers map[string]*Queue // by the exchanges whose delayed messages they hold
	unstable atomic.Int64      // changes proposed and not durable yet
	totals   QueueTotals
	policies atomic.Pointer[policies] // never nil; replaced under mu

	// routes guards router: changes happen under mu and routes, look-ups under
	// routes alone. version is the router's, so that cached routes can be checked
	// without the lock.
	routes  sync.RWMutex
	router  *exchanges.Router[*Queue]
	windows map[string]*window // of exchanges that drop duplicates, by name
	version atomic.Uint64
}

func newVHost(h *Hosts, name string, id uint64) *VHost {
	v := &VHost{hosts: h, name: name, id: id, queues: map[string]*Queue{}, delayers: map[string]*Queue{}, router: exchanges.NewRouter[*Queue](name), windows: map[string]*window{}}
	v.version.Store(v.router.Version())
	v.policies.Store(new(policies))
	return v
}

// Name is the virtual host's name.
func (v *VHost) Name() string { return v.name }

// Queue finds a queue by name for a user of connection owner. Errors: 404, and
// 405 for another connection's exclusive queue.
func (v *VHost) Queue(name string, owner uint64) (*Queue, *wire.Error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.queueLocked(name, owner)
}

func (v *VHost) queueLocked(name string, owner uint64) (*Queue, *wire.Error) {
	q, ok := v.queues[name]
	if !ok {
		return nil, v.noQueue(name)
	}
	if q.exclusive && q.owner != owner {
		return nil, v.locked(name)
	}
	return q, nil
}

func (v *VHost) noQueue(name string) *wire.Error {
	return wire.Errorf(wire.NotFound, "no queue '%s' in vhost '%s'", name, v.name)
}

func (v *VHost) locked(name string) *wire.Error {
	return wire.Errorf(wire.ResourceLocked, "cannot obtain exclusive access to locked queue '%s' in vhost '%s'. "+
		"It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.",
		name, v.name)
}

// changeRoutes runs change with the router to itself and makes cached routes
// stale if it altered any. Called with mu held.
func (v *VHost) changeRoutes(change func(*exchanges.Router[*Queue])) {
	v.routes.Lock()
	change(v.router)
	v.version.Store(v.router.Version())
	v.routes.Unlock()
}

// commit proposes what a change of metadata has to leave in the store; w, which
// may be nil, is told when it is durable. It reports false, and does not use w,
// when there is nothing to wait for: then the caller answers at once. A change
// that left nothing still waits for those before it, as it may repeat one of
// them. Called with mu held.
func (v *VHost) commit(w persistence.Waiter, records ...persistence.Record) (waiting bool) {
	if len(records) == 0 {
		if w == nil || v.unstable.Load() == 0 && v.hosts.store.Err() == nil {
			return false
		}
		v.hosts.store.Propose(0, w)
		return true
	}
	v.unstable.Add(1)
	v.hosts.store.Propose(0, &change{v, w}, records...)
	return w != nil
}

// change counts a proposed change of metadata as durable and passes the news on.
type change struct {
	vhost  *VHost
	waiter persistence.Waiter
}

func (c *change) Durable(err error) {
	c.vhost.unstable.Add(-1)
	if c.waiter != nil {
		c.waiter.Durable(err)
	}
}

func (c *change) Flush() {
	if c.waiter != nil {
		c.waiter.Flush()
	}
}

// tellCancelled tells consumers that their queue is gone. Called without locks.
func tellCancelled(consumers []*queue.Consumer) {
	for _, c := range consumers {
		c.Sink.Cancelled()
	}
}

// recordStop proposes, for an orderly stop, how far each durable queue has been handed
// out, and what of it is leaving.
func (v *VHost) recordStop() {
	for _, q := range v.appendQueues(nil) {
		if !q.durable {
			continue
		}
		q.mu.Lock()
		q.noteLocked()
		q.applyLocked()
		if !q.delays { // what an exchange delays is handed out to nobody
			v.hosts.store.Propose(0, nil, persistence.Delivered(q.id, q.engine.Delivered()...))
		}
		q.mu.Unlock()
	}
}
