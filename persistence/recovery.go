// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"
)

// ErrNotStored is returned when a run is read that is not committed yet or has
// been dropped.
var ErrNotStored = errors.New("run is not stored")

// beginRead returns the database and keeps it open until endRead. It waits while the
// database is opened anew, but not for a disk on which that has failed: the error is
// that of Err then.
func (s *Store) beginRead() (*generation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.gen.closed && s.failure == nil && s.refusal == nil {
		s.idle.Wait()
	}
	switch {
	case s.refusal != nil:
		return nil, s.refusal
	case s.gen.closed:
		return nil, s.failure
	}
	s.gen.readers++
	return s.gen, nil
}

func (s *Store) endRead(g *generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.readers--
	if g.readers == 0 {
		s.idle.Broadcast()
	}
}

// newIter returns an iterator over the keys in [lower, upper).
func (g *generation) newIter(lower, upper []byte) (*pebble.Iterator, error) {
	return g.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
}

// scan calls visit for each record of a key space in the order of keys. The
// slices are valid only during the call. It stops at the first error.
func (g *generation) scan(space byte, visit func(key, value []byte) error) (err error) {
	it, err := g.newIter(spaceBounds(space))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := visit(it.Key(), value); err != nil {
			return err
		}
	}
	return nil // Close tells how the iteration ended
}

// Config calls visit for each piece of metadata in the order of keys. The
// slices are valid only during the call. It stops at the first error, of visit
// or because a record is damaged ([ErrDamaged]).
func (s *Store) Config(visit func(key, value []byte) error) error {
	g, err := s.beginRead()
	if err != nil {
		return err
	}
	defer s.endRead(g)
	err = g.scan(spaceConfig, func(key, value []byte) error {
		payload, err := unseal(key, value, 0)
		if err != nil {
			return err
		}
		return visit(configKeyName(key), payload)
	})
	if err != nil {
		return s.unreadable("metadata", err)
	}
	return nil
}

// RecoveredRun is an entry of a queue's directory.
type RecoveredRun struct {
	Queue   uint64
	First   uint64 // the queue's number of the first message
	Count   uint32
	Bytes   uint64
	Settled Settled // which of the messages are settled
	Times   Times
	Place   Place  // for Warm
	Counts  string // as given to Count, empty if it was not
}

// Recover calls visit for each run in the directories of all queues, in the
// order of queues and numbers, without reading any body. It is called once,
// before traffic begins. visit reports whether the queue exists: what is kept of
// others is forgotten. An error of visit stops it, and so does a damaged record
// ([ErrDamaged]): a queue must not come back shorter than it was.
func (s *Store) Recover(visit func(*RecoveredRun) (exists bool, err error)) error {
	g, err := s.beginRead()
	if err != nil {
		return err
	}
	defer s.endRead(g)
	r := recovery{store: s, visit: visit}
	if err := r.run(g); err != nil {
		return s.unreadable("directories", err)
	}
	// Only now is every share of a body counted.
	for _, c := range r.condemned {
		s.reclaimer.add(c)
		if s.forgotten == nil {
			s.forgotten = make(map[uint64][]uint64)
		}
		s.forgotten[c.queue] = append(s.forgotten[c.queue], c.last+1)
	}
	for _, queue := range r.unknown {
		s.Propose(0, nil, Forget(queue, 0, math.MaxUint64), DropQueue(queue))
	}
	return nil
}

// Forgotten returns, after Recover and before traffic begins, the queues of which
// the store still has runs that count as deleted, with the end of each [Forget].
// The queue must not use any number that was forgotten.
func (s *Store) Forgotten() map[uint64][]uint64 { return s.forgotten }

// recovery is one run of Recover.
type recovery struct {
	store     *Store
	visit     func(*RecoveredRun) (bool, error)
	marks     *pebble.Iterator
	condemned []condemnedRange
	next      int      // the first condemned range that may hold the next entry
	unknown   []uint64 // queues that do not exist
}

func (r *recovery) run(g *generation) (err error) {
	if r.condemned, err = g.loadCondemned(); err != nil {
		return err
	}
	if r.marks, err = g.newIter(spaceBounds(spaceSettled)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.marks.Close()) }()
	r.marks.First()
	return g.scan(spaceDirectory, r.entry)
}

// entry takes one directory entry.
func (r *recovery) entry(key, value []byte) error {
	queue, first, ok := parseEntryKey(key)
	if !ok {
		return damaged(key, 0, "the key has %d bytes", len(key))
	}
	e, err := unsealEntry(key, value, queue)
	if err != nil {
		return err
	}
	if e.shared {
		r.store.bodies.count(e.name)
	}
	r.store.stored.messages.Add(int64(e.count))
	r.store.stored.bytes.Add(int64(e.bytes))
	if n := len(r.unknown); n > 0 && r.unknown[n-1] == queue || r.isCondemned(queue, first) {
		return nil
	}
	run := RecoveredRun{Queue: queue, First: first, Count: e.count, Bytes: e.bytes, Place: e.place(), Times: e.times}
	var counts []byte
	if run.Settled, counts, err = r.mark(queue, first); err != nil {
		return err
	}
	run.Counts = string(counts)
	exists, err := r.visit(&run)
	if err != nil || exists {
		return err
	}
	r.unknown = append(r.unknown, queue)
	return nil
}

// isCondemned reports whether the entry was deleted with its range. Entries and
// ranges have the same order.
func (r *recovery) isCondemned(queue, first uint64) bool {
	for ; r.next < len(r.condemned); r.next++ {
		c := &r.condemned[r.next]
		if queue < c.queue || queue == c.queue && first < c.first {
			return false
		}
		if queue == c.queue && first <= c.last {
			return true
		}
	}
	return false
}

// mark returns the settled mark of an entry. Entries and marks have the same
// order.
func (r *recovery) mark(queue, first uint64) (s Settled, counts []byte, err error) {
	key := entryKey(spaceSettled, queue, first)
	for r.marks.Valid() && string(r.marks.Key()) < string(key) {
		r.marks.Next()
	}
	if !r.marks.Valid() || string(r.marks.Key()) != string(key) {
		return s, nil, r.marks.Error()
	}
	value, err := r.marks.ValueAndErr()
	if err != nil {
		return s, nil, err
	}
	return unsealSettled(key, value, queue)
}

// place is where the entry's body is.
func (e *entry) place() Place {
	p := Place{Group: e.name.group, Index: e.name.index, Part: e.name.part}
	if e.shared {
		p.Flags = placeShared
	}
	return p
}

// Delivered returns what was noted at the last stop by [Delivered]. Of a queue that
// is missing, or if the last stop was not orderly, every message may have been
// delivered.
func (s *Store) Delivered() (map[uint64][]uint64, error) {
	if !s.orderly {
		return nil, nil
	}
	g, err := s.beginRead()
	if err != nil {
		return nil, err
	}
	defer s.endRead(g)
	upTo := make(map[uint64][]uint64)
	err = g.scan(spaceDelivered, func(key, value []byte) error {
		queue, ok := parseDeliveredKey(key)
		if !ok {
			return damaged(key, 0, "the key has %d bytes", len(key))
		}
		upTo[queue], err = unsealNumbers(key, value, queue)
		return err
	})
	if err != nil {
		return nil, s.unreadable("delivered marks", err)
	}
	return upTo, nil
}

// unreadable says what cannot be read at the start, and what to do if that is
// because it is damaged.
func (s *Store) unreadable(what string, err error) error {
	if err = readError(err); !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return fmt.Errorf("read %s of data directory %s: %w; %s", what, s.opts.Dir, oneLine{err}, restoreHint)
}
