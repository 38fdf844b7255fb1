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
	byQueue := map[uint64]*Queue{}
	for _, kind := range []byte{vhostKind, policyKind, operatorPolicyKind, exchangeKind, queueKind, bindingKind} {
		for i := range entries {
			if entries[i].kind != kind {
				continue
			}
			if err := h.restore(&entries[i], byID, byQueue); err != nil {
				return err
			}
		}
	}
	return h.recoverRuns(byQueue)
}

// recoverRuns reads the directories of all queues into their engines.
func (h *Hosts) recoverRuns(queues map[uint64]*Queue) error {
	err := h.store.Recover(func(r *persistence.RecoveredRun) (bool, error) {
		q, ok := queues[r.Queue]
		if !ok {
			// Deleted just before the last stop.
			return false, nil
		}
		return true, q.restoreRun(r)
	})
	if err != nil {
		return err
	}
	// After an orderly stop it is known how far a queue had been delivered;
	// otherwise every message may have been.
	delivered, err := h.store.Delivered()
	if err != nil {
		return err
	}
	forgotten := h.store.Forgotten()
	for id, q := range queues {
		upTo, known := delivered[id]
		q.restoreNumbers(forgotten[id], upTo, known)
	}
	return nil
}

func (h *Hosts) restore(e *entry, byID map[uint64]*VHost, byQueue map[uint64]*Queue) error {
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
	if e.kind == policyKind || e.kind == operatorPolicyKind {
		if err := v.restorePolicy(e.policyKind, e.policy); err != nil {
			return fmt.Errorf("%s %q: %w", e.policyKind, e.policy.Name, err)
		}
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e.kind {
	case queueKind:
		byQueue[e.queueID] = v.addQueueLocked(&e.queue, e.queueID)
		return nil
	case exchangeKind:
		return v.restoreRoutes(func(r *exchanges.Router[*Queue]) error {
			if _, _, err := r.Declare(e.exchange); err != nil {
				return fmt.Errorf("exchange %q: %w", e.exchange.Name, err)
			}
			v.configureExchange(r, e.exchange.Name)
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

// restoreRun puts a run found in the store at the queue's end.
func (q *Queue) restoreRun(r *persistence.RecoveredRun) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.engine.Restore(r.First, r.Count, r.Bytes, queue.Bitmap(r.Settled), queue.Place(r.Place), queue.Times(r.Times)); err != nil {
		return fmt.Errorf("directory of queue %q: %w", q.name, err)
	}
	return nil
}

// restoreNumbers sees to it that no number that was forgotten is given to a message
// again, and makes the messages below those in delivered redeliveries, each of one
// level, or all of them if it is not known how far they were delivered.
func (q *Queue) restoreNumbers(forgotten, delivered []uint64, known bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, end := range forgotten {
		q.engine.SkipTo(end)
	}
	for _, upTo := range delivered {
		q.engine.SkipTo(upTo)
		q.engine.RedeliverBelow(upTo)
	}
	if !known {
		q.engine.RedeliverAll()
	}
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
