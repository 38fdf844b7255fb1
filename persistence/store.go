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

	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	// ErrClosed answers what is asked of a store after Close.
	ErrClosed = errors.New("store is closed")
	// ErrFailed is wrapped by what [Store.Err] returns while the store is out of
	// service, and by what a store answers that was closed or given up meanwhile.
	ErrFailed = errors.New("store is out of service")
	// ErrIncomplete is returned by [Open] for a data directory of which something
	// is missing.
	ErrIncomplete = errors.New("not complete")
)

// Waiter is told what became of proposals. Both methods are called without any
// lock of the store held, one call at a time. They must not block.
// Waiters are compared with ==, so a Waiter is best a pointer.
type Waiter interface {
	// Durable is called once for each proposal, in the order of proposals: with
	// nil when the proposal is durable, else with an error that wraps
	// [ErrFailed] or [ErrClosed], when it may or may not be. Only a store that is
	// closed gives errors; one that is out of service takes its time.
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
	orderly bool
	ids     atomic.Uint64

	life      context.Context // ends when the store is closed
	end       context.CancelFunc
	note      *note          // the reporter's
	absent    []string       // blob files, see absentBlobs; constant after Open
	workers   sync.WaitGroup // housekeeper and reclaimer
	measure   chan struct{}  // asks the housekeeper to measure the disk's space
	reclaimer reclaimer
	forgotten map[uint64][]uint64 // see Forgotten; constant after Recover
	bodies    sharedBodies
	counters  counters
	stored    storedTotals
	disk      diskTimes
	space     spaceState

	// Owned by the committer.
	boots         uint64 // the stored boot counter
	commits       uint64 // number of the latest commit
	mark          []byte // scratch of prepare
	unsyncedBytes int    // of batches committed since the last sync

	durable      atomic.Uint64 // number of the latest commit that is synced
	pendingBytes atomic.Int64  // changed under mu
	commitTime   atomic.Int64  // mean of the last synced commits, in nanoseconds; changed by the reporter

	// mu guards what follows. It may be taken under any lock of the callers';
	// nothing else is taken under it.
	mu     sync.Mutex
	wake   sync.Cond // the committer waits here
	landed sync.Cond // the reporter waits here
	idle   sync.Cond // who waits for both of them to let go of the flights, or for reads, waits here
	gen    *generation

	pending pending       // proposed and not yet taken
	first   atomic.Uint64 // place of the first of them, changed under mu: see fleeting.go
	front   uint64        // place of the first that is not passed
	told    uint64        // place of the first of those that is not answered
	useless int           // so many that are answered have no record any more
	due     int           // so many of them are to be taken
	timer   *time.Timer   // makes settlements due after SettleDelay
	armed   bool          // timer is running

	hold                 *time.Timer // makes what is held due after FleetingDelay
	holding              bool        // hold is running
	heldBefore           uint64      // the place before which
	joinedFrom, joinedTo uint64      // places that must come into one commit, of the last run that was extended and those that overlap
	building             bool        // the committer has a flight that is in no list

	taken      *pending // what the committer took; from next and nextRecord on it is in no flight yet
	next       int
	nextRecord int
	flights    []*flight // not yet reported, in order
	unsynced   []*flight // reported, but not yet followed by a sync
	working    bool      // a committer runs
	applying   bool      // it hands the last flight to the database, and may never return
	reporting  bool      // a reporter calls waiters
	spare      spares

	renewal  bool          // the database is to be opened anew if nothing is going on
	closing  bool          // Close was called
	failure  error         // why the store is out of service, until it is in service again
	refusal  error         // proposals are not committed any more: ErrClosed, or the failure of a store that was given up
	refusing bool          // a goroutine is answering with refusal
	stopped  chan struct{} // closed when nothing will happen any more
	closeErr error         // of closing the database
	room     chan struct{} // closed when Throttle's waiters are to look again
}

// Open opens the store in the data directory o.Dir, which it creates if it does
// not exist. Only one process at a time may have it open: [ErrInUse]. A
// directory that is not a store, one of another version and one that is not
// whole is refused and left as it is: [ErrForeign], [ErrIncomplete].
//
// After Open the caller loads the metadata with Config and the directories of
// all queues with Recover, and only then lets traffic begin.
func Open(o Options) (*Store, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("persistence options: %w", err)
	}
	dir, err := openDataDir(o.FS, o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opts:    o,
		lock:    dir.lock,
		front:   1,
		told:    1,
		measure: make(chan struct{}, 1),
		stopped: make(chan struct{}),
	}
	s.first.Store(s.front)
	s.life, s.end = context.WithCancel(context.Background())
	s.wake.L, s.landed.L, s.idle.L = &s.mu, &s.mu, &s.mu
	s.reclaimer.changed.L = &s.reclaimer.mu
	g, err := s.open(dir)
	if err != nil {
		s.end()
		return nil, errors.Join(err, dir.lock.Close())
	}
	s.measureSpace()
	s.timer = time.AfterFunc(time.Hour, s.settlementsDue)
	s.timer.Stop()
	s.hold = time.AfterFunc(time.Hour, s.holdsDue)
	s.hold.Stop()
	s.startGeneration(g)
	s.workers.Go(s.restoreLoop)
	s.workers.Go(s.housekeep)
	s.workers.Go(s.reclaimLoop)
	return s, nil
}

// open opens the database of a data directory. It must be the one that the last
// stop left behind, which is found out before anything in it is changed.
func (s *Store) open(dir dataDir) (g *generation, err error) {
	switch dir.state.kind {
	case stateStopped:
		err = s.inspectStopped(dir.state)
	case stateRunning:
		err = s.inspectCrashed(dir.state)
	}
	if err != nil {
		return nil, refused(s.opts.Dir, err)
	}
	if dir.state.kind == stateStopped {
		// Opening writes a new manifest, which the mark of the last stop does not fit.
		if err := s.writeRunning(dir.state.commit); err != nil {
			return nil, err
		}
	}
	if g, err = s.openGeneration(openMode{create: dir.state.kind == stateNew}); err != nil {
		return nil, refused(s.opts.Dir, err)
	}
	if dir.format != 0 && dir.format != formatVersion {
		if err := writeFormat(s.opts.FS, s.opts.Dir); err != nil {
			g.fs.cut()
			return nil, err
		}
	}
	err = g.run(func() error {
		boots, _, err := getNumber(g.db, metaKey(metaBoot), 0)
		if err != nil {
			return fmt.Errorf("read boot counter: %w", err)
		}
		if s.commits, err = g.lastCommit(); err != nil {
			return err
		}
		s.durable.Store(s.commits)
		s.orderly = dir.state.kind != stateRunning
		// From now on the last stop is one without a mark, until this run is over.
		if err := s.writeRunning(s.commits); err != nil {
			return err
		}
		if s.note, err = openNote(s.opts.FS, s.opts.Dir); err != nil {
			return err
		}
		if err := s.boot(g.db, boots); err != nil || dir.state.kind != stateNew {
			return err
		}
		// Pebble creates the log of a new database before it raises the database's
		// format. Only the next log tells damage from a write cut short. It begins
		// with the flush, whose end need not be waited for.
		_, err = g.db.AsyncFlush()
		return err
	})
	if err != nil {
		g.fs.cut()
		return nil, refused(s.opts.Dir, err)
	}
	return g, nil
}

// writeRunning marks the directory as one whose last stop was not orderly. Its
// database ends with a commit.
func (s *Store) writeRunning(commit uint64) error {
	if err := ensureNote(s.opts.FS, s.opts.Dir, commit); err != nil {
		return err
	}
	return writeState(s.opts.FS, s.opts.Dir, state{kind: stateRunning, noted: true})
}

// inspectStopped makes sure, without changing anything, that the database is the
// one that an orderly stop left behind.
func (s *Store) inspectStopped(st state) error {
	manifest, err := manifestSum(s.opts.FS, s.opts.Dir)
	if err != nil {
		return err
	}
	if manifest != st.manifest {
		return fmt.Errorf("it is %w: its manifest is damaged or not that of the last stop, or blob files are missing or cut short", ErrIncomplete)
	}
	last, err := s.peekLastCommit(s.opts.FS)
	if err == nil && last != st.commit {
		err = fmt.Errorf("it is %w: it was stopped at commit %d, and its database ends with %d", ErrIncomplete, st.commit, last)
	}
	return err
}

// inspectCrashed makes sure, without changing anything, that the database is not
// older than what a crash can have left behind.
func (s *Store) inspectCrashed(st state) error {
	if err := checkManifest(s.opts.FS, s.opts.Dir); err != nil {
		return err
	}
	flushed, err := s.peekLastCommit(withoutLogs{s.opts.FS})
	if err != nil {
		return err
	}
	last, err := s.peekLastCommit(s.opts.FS)
	if err != nil {
		return err
	}
	return checkCommits(s.opts.FS, s.opts.Dir, st, flushed, last)
}

// peekLastCommit reads the number of the latest commit, as fs shows the database,
// without changing anything.
func (s *Store) peekLastCommit(fs vfs.FS) (last uint64, err error) {
	g, err := s.openGeneration(openMode{readOnly: true, fs: fs})
	if err != nil {
		return 0, err
	}
	defer g.fs.cut()
	err = g.run(func() error {
		if last, err = g.lastCommit(); err == nil {
			s.absent, err = absentBlobs(g.db, fs, g.fs.dir)
		}
		return errors.Join(err, g.db.Close())
	})
	return last, err
}

// startGeneration lets a committer and a reporter work with a database.
func (s *Store) startGeneration(g *generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gen = g
	s.spare.batches = nil
	s.working, s.applying = true, false
	s.failure = nil
	s.wakeAll()        // who worked with the one before, or waited for this one
	if g.hasFailed() { // before it was in service
		s.failLocked(g.cause)
	}
	go s.commitLoop(g)
	go s.reportLoop(g)
}

// Orderly reports whether the store had been closed orderly before it was
// opened, or is new.
func (s *Store) Orderly() bool { return s.orderly }

// NewID returns an id, never 0, that this store never returns again, not even
// after a crash, as long as it is only stored through the store itself.
func (s *Store) NewID() uint64 { return s.ids.Add(1) }

// Err returns nil while the store is in service, and an error that wraps
// [ErrFailed] while a write or sync has failed and could not be made up for yet.
// It says nothing about Close.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// Close commits and syncs everything proposed so far, writes what is in memory
// into tables, marks the stop as orderly and closes the database and its
// directory. Proposals made meanwhile may still be committed; later ones get
// [ErrClosed]. All waiters of the earlier ones have been told by then. If ctx
// ends first, its error is returned and the work goes on. A store that is out of
// service is given up: what is not durable is answered with the failure, which
// Close returns. Further calls return the same.
func (s *Store) Close(ctx context.Context) error {
	s.reclaimer.close()
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		s.due = len(s.pending.proposals)
		s.wake.Signal()
		if s.failure != nil {
			s.giveUpLocked(s.failure)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.stopped:
	case <-ctx.Done():
		return fmt.Errorf("close store: %w", context.Cause(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeErr
}

// finish ends an orderly stop. It runs on the committer, when proposals are
// refused already and everything before has been committed and reported.
func (s *Store) finish(g *generation) {
	s.end()
	s.timer.Stop()
	s.hold.Stop()
	s.workers.Wait()
	s.mu.Lock()
	for g.readers > 0 {
		s.idle.Wait()
	}
	s.mu.Unlock()
	err := g.run(func() error {
		if err := g.db.Flush(); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
		return g.db.Close()
	})
	if err == nil {
		err = writeStopped(s.opts.FS, s.opts.Dir, s.commits)
	}
	g.fs.cut()
	err = errors.Join(err, s.note.close(), s.lock.Close())
	if err != nil {
		err = fmt.Errorf("close store: %w: %w", ErrFailed, err)
	}
	s.mu.Lock()
	s.closeErr = err
	s.mu.Unlock()
	close(s.stopped)
}
