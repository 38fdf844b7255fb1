// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"context"
	"fmt"

	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// recover rebuilds the virtual hosts from the store: first what was declared,
// then each durable queue's directory of runs. No message is read.
func (h *Hosts) recover() error {
	var entries []entry
	err := h.store.Config(func(key, value []byte) error {
		e, err := decodeEntry(key, value)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return err
	}
	// Entries come in any order of kinds, and later kinds refer to earlier ones.
	byID := map[uint64]*VHost{}
	for _, kind := range []byte{vhostKind, exchangeKind, queueKind, bindingKind} {
		for i := range entries {
			if entries[i].kind != kind {
				continue
			}
			if err := h.restore(&entries[i], byID); err != nil {
				return err
			}
		}
	}
	// Whatever the store still holds of queues that were not read is of queues
	// deleted just before the last stop.
	return h.store.Sweep()
}

func (h *Hosts) restore(e *entry, byID map[uint64]*VHost) error {
	if e.kind == vhostKind {
		v := newVHost(h, e.name, e.vhost)
		byID[e.vhost] = v
		h.byName[e.name] = v
		return nil
	}
	v, ok := byID[e.vhost]
	if !ok {
		return fmt.Errorf("an entry of kind %q belongs to virtual host number %d, which does not exist", e.kind, e.vhost)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e.kind {
	case queueKind:
		return v.restoreQueue(v.addQueueLocked(&e.queue, e.queueID))
	case exchangeKind:
		return v.restoreRoutes(func(r *exchanges.Router[*Queue]) error {
			if _, _, err := r.Declare(e.exchange); err != nil {
				return fmt.Errorf("exchange %q: %w", e.exchange.Name, err)
			}
			return nil
		})
	default:
		return v.restoreRoutes(func(r *exchanges.Router[*Queue]) error {
			if _, err := r.Bind(e.binding); err != nil {
				return fmt.Errorf("binding of %q to %q: %w", e.binding.Destination, e.binding.Source, err)
			}
			return nil
		})
	}
}

func (v *VHost) restoreRoutes(change func(*exchanges.Router[*Queue]) error) (err error) {
	v.changeRoutes(func(r *exchanges.Router[*Queue]) { err = change(r) })
	return err
}

// restoreQueue reads a queue's directory of runs into its engine.
func (v *VHost) restoreQueue(q *Queue) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	err := v.hosts.store.Directory(q.id, func(r persistence.RecoveredRun) error {
		return q.engine.Restore(r.First, r.Count, r.Bytes, queue.Bitmap(r.Settled), r.Share)
	})
	if err != nil {
		return fmt.Errorf("directory of queue %q: %w", q.name, err)
	}
	// After an orderly stop it is known how far the queue had been delivered;
	// otherwise every message may have been.
	delivered := q.engine.Next()
	if upTo, ok := v.hosts.store.DeliveredUpTo(q.id); ok && v.hosts.store.Orderly() {
		delivered = upTo
		q.engine.SkipTo(upTo)
	}
	q.engine.RedeliverBelow(delivered)
	return nil
}

// create makes a virtual host unless it exists, and waits until it is durable.
func (h *Hosts) create(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, exists := h.byName[name]; exists {
		return nil
	}
	v := newVHost(h, name, h.store.NewID())
	w := durableWait{done: make(chan error, 1)}
	h.store.Propose(0, w, persistence.SetConfig(vhostKey(name), encodeVHost(v.id)))
	if err := w.wait(context.Background()); err != nil {
		return fmt.Errorf("create virtual host %q: %w", name, err)
	}
	h.byName[name] = v
	return nil
}

// durableWait is a waiter for a goroutine that has time to wait.
type durableWait struct{ done chan error }

func (w durableWait) Durable(err error) { w.done <- err }
func (w durableWait) Flush()            {}

func (w durableWait) wait(ctx context.Context) error {
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
