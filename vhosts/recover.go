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
	f := &found{vhosts: map[uint64]*VHost{}, queues: map[uint64]*Queue{}, histories: map[uint64]*recentHistory{}}
	restore := func(kinds ...byte) error {
		for _, kind := range kinds {
			for i := range entries {
				if entries[i].kind != kind {
					continue
				}
				if err := h.restore(&entries[i], f); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := restore(vhostKind, policyKind, operatorPolicyKind); err != nil {
		return err
	}
	for _, v := range f.vhosts {
		v.applyToExchanges() // to those that every virtual host has
	}
	if err := restore(exchangeKind, queueKind, bindingKind, windowKind); err != nil {
		return err
	}
	return h.recoverRuns(f)
}

// found is what a start finds declared, by the ids that the store knows.
type found struct {
	vhosts    map[uint64]*VHost
	queues    map[uint64]*Queue
	histories map[uint64]*recentHistory
}

// recoverRuns reads the directories of all queues into their engines, and those of
// histories.
func (h *Hosts) recoverRuns(f *found) error {
	err := h.store.Recover(func(r *persistence.RecoveredRun) (bool, error) {
		if q, ok := f.queues[r.Queue]; ok {
			return true, q.restoreRun(r)
		}
		if history, ok := f.histories[r.Queue]; ok {
			history.restoreRun(r)
			return true, nil
		}
		return false, nil // deleted just before the last stop
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
	for id, q := range f.queues {
		upTo, known := delivered[id]
		q.mu.Lock()
		q.restoreNumbersLocked(forgotten[id], upTo, known)
		q.restoreDeparturesLocked(f.queues) // what leaves from now on does so after these
		q.goOnLocked()
		q.mu.Unlock()
	}
	return nil
}

func (h *Hosts) restore(e *entry, f *found) error {
	if e.kind == vhostKind {
		v := newVHost(h, e.name, e.vhost)
		f.vhosts[e.vhost] = v
		h.byName[e.name] = v
		return nil
	}
	v, ok := f.vhosts[e.vhost]
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
	case windowKind:
		v.restoreWindow(e)
		return nil
	case queueKind:
		f.queues[e.queueID] = v.addQueueLocked(&e.queue, e.queueID)
		return nil
	case exchangeKind:
		return v.restoreRoutes(func(r *exchanges.Router[*Queue]) error {
			x, _, err := r.Declare(e.exchange)
			if err != nil {
				return fmt.Errorf("exchange %q: %w", e.exchange.Name, err)
			}
			v.configureExchange(r, x)
			v.attachHistory(x, func() uint64 { return e.queueID })
			v.attachDelayer(x, func() uint64 { return e.queueID })
			if q := delayerOf(x); q != nil {
				f.queues[q.id] = q
			}
			if h := historyOf(x); h != nil {
				f.histories[h.id] = h
			}
			return nil
		})
	default:
		return v.restoreRoutes(func(r *exchanges.Router[*Queue]) error {
			if _, err := r.Bind(e.binding); err != nil {
				return fmt.Errorf("binding of %q to %q: %w", e.binding.Destination, e.binding.Source, err)
			}
			if x, _ := r.Exchange(e.binding.Source); historyOf(x) != nil && !e.binding.ToExchange {
				historyOf(x).restoreBinding(v.queues[e.binding.Destination])
			}
			return nil
		})
	}
}

func (v *VHost) restoreRoutes(change func(*exchanges.Router[*Queue]) error) (err error) {
	v.changeRoutes(func(r *exchanges.Router[*Queue]) { err = change(r) })
	return err
}

// restoreWindow gives a window what it remembered. What belongs to none is deleted:
// its owner takes duplicates now. Called with mu held.
func (v *VHost) restoreWindow(e *entry) {
	var w *window
	if e.onExchange {
		w = v.windows[e.owner]
	} else if q, ok := v.queues[e.owner]; ok {
		w = q.window.Load()
	}
	if w != nil && w.key != nil {
		w.restore(e.window.first, e.window.entries, v.hosts.timers.now())
		return
	}
	gone := window{key: windowKey(v.id, e.owner, e.onExchange)}
	v.commit(nil, persistence.DeleteConfig(gone.partKey(e.window.first)))
}

// restoreRun puts a run found in the store at the queue's end.
func (q *Queue) restoreRun(r *persistence.RecoveredRun) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.engine.Restore(r.First, r.Count, r.Bytes, queue.Bitmap(r.Settled), queue.Place(r.Place), queue.Times(r.Times), []byte(r.Counts)); err != nil {
		return fmt.Errorf("directory of queue %q: %w", q.name, err)
	}
	return nil
}

// restoreNumbersLocked sees to it that no number that was forgotten is given to a message
// again, and makes the messages below those in delivered redeliveries, each of one
// level, or all of them if it is not known how far they were delivered.
func (q *Queue) restoreNumbersLocked(forgotten, delivered []uint64, known bool) {
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

// goOnLocked goes on where the last stop, or crash, has interrupted a queue.
func (q *Queue) goOnLocked() {
	if q.engine.Timed() {
		q.wakeAtLocked(1) // something may have become due
	}
	for q.retryLocked() {
	}
	if q.bounds.set {
		q.engine.Weigh(q.bounds.mostBytes != unset)
		q.dispatchLocked() // there may be more than the limits allow
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
