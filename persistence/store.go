// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

var (
	// ErrClosed answers what is asked of a store after Close.
	ErrClosed = errors.New("store is closed")
	// ErrFailed is wrapped by the error of everything that a failed write or
	// sync has put in doubt, and of everything asked of the store after it.
	ErrFailed = errors.New("store is out of service")
)

// Waiter is told what became of proposals. Both methods are called without any
// lock of the store held, one call at a time, on the committer goroutine or the
// one that takes over from it after a failure or Close. They must not block.
// Waiters are compared with ==, so a Waiter is best a pointer.
type Waiter interface {
	// Durable is called once for each proposal, in the order of proposals: with
	// nil when the proposal is durable, else with an error that wraps
	// [ErrFailed] or [ErrClosed], when it may or may not be.
	Durable(err error)
	// Flush is called after the Durable calls of one commit, once for each run
	// of proposals with the same waiter. It is the place to send what Durable
	// has gathered.
	Flush()
}

// Store is an open data directory. Its methods may be called by any goroutine,
// unless they say otherwise.
type Store struct {
	opts    Options
	lock    io.Closer
	db      *pebble.DB
	orderly bool
	ids     atomic.Uint64

	recovery recovery
	readers  sync.WaitGroup // reads under way; Add under mu while refusal is nil

	// Owned by the committer goroutine.
	boots        uint64        // the stored boot counter
	batch        *pebble.Batch // reused
	batchRoom    int64         // what the batch was made for, in bytes
	smallBatches int           // batches in a row that needed far less
	fresh        []*Share      // shares the batch writes, reused
	unsynced     bool          // something is committed that was not synced
	chunkBytes   int64         // about how large a batch may be

	// failed is closed when failure is set, stopped when the committer has ended.
	failed  chan struct{}
	stopped chan struct{}

	// pendingBytes is changed under mu.
	pendingBytes atomic.Int64

	// mu guards what follows. It may be taken under any lock of the callers';
	// nothing else is taken under it.
	mu        sync.Mutex
	wake      sync.Cond   // the committer waits here
	pending   pending     // proposed and not yet taken
	taken     []proposal  // taken and not yet answered
	due       bool        // pending is to be taken
	timer     *time.Timer // makes pending due after SettleDelay
	armed     bool        // timer is running
	closing   bool        // Close was called
	refusal   error       // ErrClosed or failure: proposals are not committed any more
	failure   error       // why the store is out of service
	reporting bool        // the committer is calling waiters
	refusing  bool        // a goroutine is answering with refusal
	closeErr  error       // of closing the database
	room      chan struct{}
}

// Open opens the store in the data directory o.Dir, which it creates if it does
// not exist. Only one process at a time may have it open: [ErrInUse]. A
// directory that is not a store, or one of a newer version, is refused and left
// untouched: [ErrForeign].
//
// After Open the caller loads the metadata with Config and every queue with
// Directory, then calls Sweep, and only then lets traffic begin.
func Open(o Options) (*Store, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("persistence options: %w", err)
	}
	lock, err := openDataDir(o.FS, o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opts:       o,
		lock:       lock,
		recovery:   newRecovery(),
		chunkBytes: o.MemTableSize / 4,
		failed:     make(chan struct{}),
		stopped:    make(chan struct{}),
	}
	s.wake.L = &s.mu
	if err := s.guard(s.openDatabase); err != nil {
		if s.Err() != nil {
			return nil, err // the database is half open and keeps its files
		}
		return nil, errors.Join(err, lock.Close())
	}
	s.newBatch(minBatchRoom)
	s.timer = time.AfterFunc(time.Hour, s.settlementsDue)
	s.timer.Stop()
	go s.commitLoop()
	return s, nil
}

// guard runs f, which uses the database, and returns its error, or the failure
// of the store if f is never to return because of it. Opening a database, Pebble
// panics on some errors of the file system; they are errors here.
func (s *Store) guard(f func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("database: %v", p)
			}
		}()
		done <- f()
	}()
	select {
	case err := <-done:
		return err
	case <-s.failed:
		return s.Err()
	}
}

// Orderly reports whether the store had been closed orderly before it was
// opened, or is new.
func (s *Store) Orderly() bool { return s.orderly }

// NewID returns an id, never 0, that this store never returns again, not even
// after a crash, as long as it is only stored through the store itself.
func (s *Store) NewID() uint64 { return s.ids.Add(1) }

// Err returns nil while the store is in service, and an error that wraps
// [ErrFailed] once a write or sync has failed. It says nothing about Close.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// Close commits and syncs everything proposed so far, writes the mark of an
// orderly stop and closes the database and its directory. Proposals made
// meanwhile may still be committed; later ones get [ErrClosed]. If ctx ends
// first, its error is returned and the work goes on. A store that has failed is
// given up instead of closed, because Pebble may hold its own locks for good:
// Close returns the failure, and the directory stays locked until the process
// ends. Further calls return the same.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.due = true
	s.wake.Signal()
	s.mu.Unlock()
	select {
	case <-s.stopped:
	case <-s.failed:
		return s.Err()
	case <-ctx.Done():
		return fmt.Errorf("close store: %w", context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.failure, s.closeErr)
}

// finish ends an orderly stop. It runs on the committer, when proposals are
// refused already and everything before has been committed.
func (s *Store) finish() {
	s.batch.Reset()
	if err := setNumber(s.batch, metaKey(metaClean), s.boots); err != nil {
		s.fail(err)
		return
	}
	if err := write(s.batch, true); err != nil {
		s.fail(err)
		return
	}
	s.readers.Wait()
	err := errors.Join(s.batch.Close(), s.db.Close(), s.lock.Close())
	if err != nil {
		err = fmt.Errorf("close store: %w", err)
	}
	s.mu.Lock()
	s.closeErr = err
	s.mu.Unlock()
}

// fail takes the store out of service. It may be called by any goroutine that
// holds no lock of the store, more than once, and does not block.
//
// The committer may be held up inside Pebble for good, or be the caller. So a
// new goroutine answers everything that is not answered yet, unless the
// committer is just calling waiters: then it does so itself when it is done,
// and the order of answers is kept.
func (s *Store) fail(cause error) {
	s.mu.Lock()
	if s.failure != nil {
		s.mu.Unlock()
		return
	}
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	s.failure, s.refusal = err, err
	s.startRefusing()
	close(s.failed)
	s.wake.Signal()
	s.mu.Unlock()

	s.opts.Logger.Error("store is out of service", "error", cause)
	if s.opts.Events.Failed != nil {
		go s.opts.Events.Failed(err)
	}
}
