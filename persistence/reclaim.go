// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"
)

// Purging or deleting a queue condemns ranges of its directory: one key each.
// The reclaimer goes over them entry by entry, deletes the bodies that no other
// queue has, and then the entries by one range. Each step is one commit, so a
// crash leaves the rest of the range condemned.

// condemnedRange is entries of a queue's directory that count as deleted: those
// from first to last, both included.
type condemnedRange struct {
	space       byte // directory or volatile directory
	queue       uint64
	first, last uint64
}

// reclaimed is one step's worth of a condemned range.
type reclaimed struct {
	condemnedRange         // what is left of the range with this step
	entries        []entry // whose bodies lose a share
	next           uint64  // the step goes up to here, not included
	whole          bool    // nothing is left after it
}

// reclaimStep is how many entries one step takes.
const reclaimStep = 2048

// reclaimRetry is how long the reclaimer waits after a failed read.
const reclaimRetry = time.Second

// reclaimer is the list of what is condemned. It may be used by any goroutine.
type reclaimer struct {
	mu      sync.Mutex
	changed sync.Cond
	ranges  []condemnedRange // the first is being reclaimed
	closed  bool
}

func (r *reclaimer) add(c condemnedRange) {
	r.mu.Lock()
	r.ranges = append(r.ranges, c)
	r.mu.Unlock()
	r.changed.Signal()
}

func (r *reclaimer) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.changed.Signal()
}

// next waits for a range; false means that the reclaimer is closed.
func (r *reclaimer) next() (condemnedRange, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.ranges) == 0 && !r.closed {
		r.changed.Wait()
	}
	if r.closed {
		return condemnedRange{}, false
	}
	return r.ranges[0], true
}

// keep replaces the first range by what is left of it.
func (r *reclaimer) keep(rest condemnedRange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ranges[0] = rest
}

// done takes the first range off the list.
func (r *reclaimer) done() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ranges = r.ranges[1:]
}

// waiting is how many ranges are not wholly reclaimed.
func (r *reclaimer) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.ranges)
}

// reclaimLoop reclaims, step by step, until the store is closed.
func (s *Store) reclaimLoop() {
	for {
		c, ok := s.reclaimer.next()
		if !ok {
			return
		}
		rest, whole, err := s.reclaim(c)
		switch {
		case err != nil && s.life.Err() != nil:
			return
		case err != nil && !errors.Is(readError(err), ErrDamaged):
			// The disk may answer next time.
			select {
			case <-time.After(reclaimRetry):
			case <-s.life.Done():
			}
		case err != nil:
			s.opts.Logger.Error("deleted messages keep their space until the next start",
				slog.Uint64("queue", c.queue), logError(err))
			s.reclaimer.done()
		case whole:
			s.reclaimer.done()
		default:
			s.reclaimer.keep(rest)
		}
	}
}

// reclaim takes one step and returns what is left of the range.
func (s *Store) reclaim(c condemnedRange) (rest condemnedRange, whole bool, err error) {
	step, err := s.reclaimable(c)
	if err != nil {
		return c, false, err
	}
	w := newReply()
	s.Propose(0, w, Record{kind: kindReclaim, rare: &rareRecord{queue: c.queue, reclaimed: step}})
	if err := w.wait(); err != nil {
		return c, false, err
	}
	c.first = step.next
	return c, step.whole, nil
}

// reclaimable reads the next entries of a condemned range.
func (s *Store) reclaimable(c condemnedRange) (step *reclaimed, err error) {
	g, err := s.beginRead()
	if err != nil {
		return nil, err
	}
	defer s.endRead(g)
	_, upper := queueBounds(c.space, c.queue)
	if c.last < math.MaxUint64 {
		upper = entryKey(c.space, c.queue, c.last+1)
	}
	it, err := g.newIter(entryKey(c.space, c.queue, c.first), upper)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	step = &reclaimed{condemnedRange: c, whole: true}
	for it.First(); it.Valid(); it.Next() {
		_, first, ok := parseEntryKey(it.Key())
		if !ok {
			return nil, damaged(it.Key(), c.queue, "the key has %d bytes", len(it.Key()))
		}
		if len(step.entries) == reclaimStep {
			step.next, step.whole = first, false
			break
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		e, err := unsealEntry(it.Key(), value, c.queue)
		if err != nil {
			s.opts.Logger.Error("a damaged entry of a deleted run leaves its body behind", logError(err))
			continue
		}
		step.entries = append(step.entries, e)
	}
	return step, nil
}

// reclaim writes one step.
func (w *batchWriter) reclaim(r *reclaimed) error {
	for i := range r.entries {
		e := &r.entries[i]
		run := &Run{name: e.name, refs: 1, volatile: r.space == spaceVolatileDirectory}
		if e.shared {
			run = w.bodies.find(e.name)
		}
		w.stored.messages.Add(-int64(e.count))
		w.stored.bytes.Add(-int64(e.bytes))
		if err := w.dropBody(run, e.bytes); err != nil {
			return err
		}
	}
	end := r.last + 1
	if !r.whole {
		end = r.next
	}
	spaces := []byte{r.space}
	if r.space == spaceDirectory {
		spaces = append(spaces, spaceSettled)
	}
	for _, space := range spaces {
		_, upper := queueBounds(space, r.queue)
		if end != 0 {
			upper = entryKey(space, r.queue, end)
		}
		if err := w.batch.DeleteRange(entryKey(space, r.queue, r.first), upper, nil); err != nil {
			return err
		}
	}
	if r.space == spaceVolatileDirectory {
		return nil // the next boot forgets them anyway
	}
	if err := w.batch.Delete(condemnedKey(r.condemnedRange), nil); err != nil || r.whole {
		return err
	}
	rest := r.condemnedRange
	rest.first = r.next
	return w.putCondemned(rest)
}

// forget condemns a range.
func (w *batchWriter) forget(queue, from, end uint64) error {
	if from >= end {
		return nil
	}
	c := condemnedRange{space: spaceVolatileDirectory, queue: queue, first: from, last: end - 1}
	w.condemned = append(w.condemned, c)
	c.space = spaceDirectory
	w.condemned = append(w.condemned, c)
	return w.putCondemned(c)
}

func (w *batchWriter) putCondemned(c condemnedRange) error {
	key := condemnedKey(c)
	op := w.batch.SetDeferred(len(key), sealLen)
	copy(op.Key, key)
	seal(op.Key, op.Value)
	return op.Finish()
}

// loadCondemned reads what was condemned and not reclaimed before the start, in
// the order of queues and numbers.
func (g *generation) loadCondemned() (list []condemnedRange, err error) {
	err = g.scan(spaceCondemned, func(key, value []byte) error {
		c, ok := parseCondemnedKey(key)
		if !ok {
			return damaged(key, 0, "the key has %d bytes", len(key))
		}
		_, err := unsealFixed(key, value, c.queue, 0)
		list = append(list, c)
		return err
	})
	return list, err
}

// reply is a waiter for a goroutine that has time to wait.
type reply chan error

func newReply() reply { return make(reply, 1) }

// Durable implements [Waiter].
func (r reply) Durable(err error) { r <- err }

// Flush implements [Waiter].
func (r reply) Flush() {}

func (r reply) wait() error { return <-r }
