// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// ErrNotStored is returned when a run is read that is not committed yet or has
// been dropped.
var ErrNotStored = errors.New("run is not stored")

// recovery is what the store remembers between Open and Sweep.
type recovery struct {
	mu         sync.Mutex
	runs       map[runName]*Run    // every run named by a loaded directory
	loaded     map[uint64]struct{} // queues whose directory was loaded
	incomplete bool                // some directory could not be loaded whole
	over       bool                // swept: directories may have changed
}

func newRecovery() recovery {
	return recovery{runs: make(map[runName]*Run), loaded: make(map[uint64]struct{})}
}

// RecoveredRun is an entry of a queue's directory.
type RecoveredRun struct {
	Share   *Share
	First   uint64 // the queue's number of the first message
	Count   uint32
	Bytes   uint64
	Settled Settled // which of the messages are settled
}

// beginRead keeps the database open until endRead.
func (s *Store) beginRead() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusal == ErrClosed {
		return ErrClosed
	}
	s.readers.Add(1)
	return nil
}

func (s *Store) endRead() { s.readers.Done() }

// newIter returns an iterator over the keys in [lower, upper).
func (s *Store) newIter(lower, upper []byte) (*pebble.Iterator, error) {
	return s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
}

// Config calls visit for each piece of metadata in the order of keys. The
// slices are valid only during the call. It stops at the first error, of visit
// or because a record is damaged ([ErrDamaged]).
func (s *Store) Config(visit func(key, value []byte) error) error {
	if err := s.beginRead(); err != nil {
		return err
	}
	defer s.endRead()
	it, err := s.newIter(spaceBounds(spaceConfig))
	if err != nil {
		return fmt.Errorf("read metadata: %w", err)
	}
	for it.First(); it.Valid() && err == nil; it.Next() {
		var value []byte
		if value, err = it.ValueAndErr(); err != nil {
			break
		}
		if value, err = unseal(it.Key(), value, 0); err == nil {
			err = visit(configKeyName(it.Key()), value)
		}
	}
	if err = errors.Join(err, it.Close()); err != nil {
		return fmt.Errorf("read metadata: %w", err)
	}
	return nil
}

// Directory calls visit for each run in the queue's directory, in the order of
// numbers, without reading any body. It is called once for every queue that
// exists, an empty one too, before Sweep: a body is deleted with the last of
// the shares seen here. Runs shared by several queues come with shares of the
// same run. Directories of several queues may be loaded at the same time.
//
// A damaged entry is passed over, a damaged settled mark taken for none, and
// both are reported in the error ([ErrDamaged]) after the rest was visited. An
// error of visit stops it at once.
func (s *Store) Directory(queue uint64, visit func(RecoveredRun) error) error {
	if err := s.beginRead(); err != nil {
		return err
	}
	defer s.endRead()
	if err := s.recovery.begin(queue); err != nil {
		return err
	}
	if err := s.loadDirectory(queue, visit); err != nil {
		s.recovery.fail()
		return fmt.Errorf("read directory of queue %d: %w", queue, err)
	}
	return nil
}

func (s *Store) loadDirectory(queue uint64, visit func(RecoveredRun) error) (err error) {
	entries, err := s.newIter(queueBounds(spaceDirectory, queue))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, entries.Close()) }()
	marks, err := s.newIter(queueBounds(spaceSettled, queue))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, marks.Close()) }()

	var damage []error
	marks.First()
	for entries.First(); entries.Valid(); entries.Next() {
		sh, err := s.loadEntry(entries, queue)
		if errors.Is(err, ErrDamaged) {
			damage = append(damage, err)
			continue
		}
		if err != nil {
			return err
		}
		if err := loadMark(marks, sh); errors.Is(err, ErrDamaged) {
			damage = append(damage, err)
		} else if err != nil {
			return err
		}
		if err := visit(RecoveredRun{Share: sh, First: sh.first, Count: sh.count, Bytes: sh.bytes, Settled: sh.settled}); err != nil {
			return err
		}
	}
	return errors.Join(damage...)
}

// loadEntry makes the share of the entry at the iterator.
func (s *Store) loadEntry(it *pebble.Iterator, queue uint64) (*Share, error) {
	_, first, ok := parseEntryKey(it.Key())
	if !ok {
		return nil, damaged(it.Key(), queue, "the key has %d bytes", len(it.Key()))
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return nil, err
	}
	e, err := unsealEntry(it.Key(), value, queue)
	if err != nil {
		return nil, err
	}
	return s.recovery.share(queue, first, e), nil
}

// loadMark moves the iterator over settled marks to the share's, if it has one,
// and takes it over. Entries and marks have the same order.
func loadMark(it *pebble.Iterator, sh *Share) error {
	key := entryKey(spaceSettled, sh.queue, sh.first)
	for it.Valid() && string(it.Key()) < string(key) {
		it.Next()
	}
	if !it.Valid() || string(it.Key()) != string(key) {
		return it.Error()
	}
	sh.marked = true
	value, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	sh.settled, err = unsealSettled(key, value, sh.queue)
	return err
}

func (r *recovery) begin(queue uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return fmt.Errorf("directory of queue %d is read after Sweep", queue)
	}
	if _, again := r.loaded[queue]; again {
		return fmt.Errorf("directory of queue %d is read twice", queue)
	}
	r.loaded[queue] = struct{}{}
	return nil
}

func (r *recovery) fail() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.incomplete = true
}

// share counts a directory entry and returns the share it stands for.
func (r *recovery) share(queue, first uint64, e entry) *Share {
	r.mu.Lock()
	defer r.mu.Unlock()
	run := r.runs[e.name]
	if run == nil {
		run = &Run{name: e.name}
		r.runs[e.name] = run
	}
	run.refs++
	sh := run.Share(queue, first, e.count, e.bytes)
	sh.written = true
	sh.stored.Store(true)
	return sh
}

// DeliveredUpTo returns up to which number the queue's messages had been
// delivered at the last stop. Without a sound [Delivered] record, or if the
// last stop was not orderly, ok is false, and every message may have been.
func (s *Store) DeliveredUpTo(queue uint64) (upTo uint64, ok bool) {
	if !s.orderly || s.beginRead() != nil {
		return 0, false
	}
	defer s.endRead()
	key := make([]byte, deliveredKeyLen)
	putDeliveredKey(key, queue)
	upTo, ok, err := getNumber(s.db, key, queue)
	if err != nil {
		s.opts.Logger.Error("delivered mark cannot be read", slog.Uint64("queue", queue), slog.Any("error", err))
	}
	return upTo, ok
}

// ReadRun reads the run's body, as its [Body] encoded it, into memory of its
// own. It waits for the disk, so it is never called under a lock. The error is
// [ErrNotStored] for a share that is not committed yet or is dropped, and wraps
// [ErrDamaged] if what is stored is not what was written.
func (s *Store) ReadRun(sh *Share) ([]byte, error) {
	if !sh.stored.Load() || sh.dropped.Load() {
		return nil, ErrNotStored
	}
	if err := s.beginRead(); err != nil {
		return nil, err
	}
	defer s.endRead()
	key := make([]byte, bodyKeyLen)
	putBodyKey(key, sh.run.name)
	value, closer, err := s.db.Get(key)
	switch {
	case errors.Is(err, pebble.ErrNotFound) && sh.dropped.Load():
		return nil, ErrNotStored // dropped meanwhile
	case errors.Is(err, pebble.ErrNotFound):
		return nil, damaged(key, sh.queue, "the body is missing")
	case err != nil:
		return nil, fmt.Errorf("read run %d of queue %d: %w", sh.first, sh.queue, err)
	}
	body, err := unseal(key, value, sh.queue)
	if err == nil {
		body = append(make([]byte, 0, len(body)), body...)
	}
	return body, errors.Join(err, closer.Close())
}
