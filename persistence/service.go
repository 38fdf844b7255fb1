// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// When the disk fails, the store goes out of service: nothing is confirmed, and
// what is proposed waits. As soon as the disk writes again, the database is
// opened anew, as the next generation. Each commit carries its number, so the
// number that the database then has tells which of the batches on their way had
// arrived; the others are written again, as they were, and the store goes on.

// probeFile is written to find out whether the disk works again.
const probeFile = "PROBE"

// generationFailed is called when the disk has failed a generation, on any
// goroutine, with whatever locks of Pebble's. It does not block. The store goes
// out of service if it is with this generation that it is in service; one that
// is still being opened only cannot be opened.
func (s *Store) generationFailed(g *generation, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.hasFailed() {
		return // others have told
	}
	g.cause = cause
	close(g.failed)
	if s.gen == g {
		s.failLocked(cause)
	}
}

func (s *Store) failLocked(cause error) {
	if s.failure != nil || s.refusal != nil {
		return
	}
	s.failure = fmt.Errorf("%w: %w", ErrFailed, cause)
	s.counters.failures.Add(1)
	s.wakeAll()
	s.opts.Logger.Error("store is out of service: nothing is confirmed until the disk works again", logError(cause))
	if s.closing {
		go s.tellFailed(s.failure)
		s.giveUpLocked(s.failure)
	}
}

func (s *Store) tellFailed(err error) {
	if s.opts.Events.Failed != nil {
		s.opts.Events.Failed(err)
	}
}

// restoreLoop restores the store after each failure, until it is closed or given
// up. It is one goroutine, so that Events.Failed and Events.Recovered take turns.
func (s *Store) restoreLoop() {
	for {
		s.mu.Lock()
		for s.failure == nil && s.refusal == nil {
			s.idle.Wait()
		}
		failed, failure, over := s.gen, s.failure, s.refusal != nil
		s.mu.Unlock()
		if over {
			return
		}
		s.tellFailed(failure)
		s.restore(failed)
	}
}

// giveUp takes the store out of service for good: no disk is to blame for cause,
// or more than the disk. f, which may be nil, is a flight that cannot be built.
func (s *Store) giveUp(f *flight, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f != nil {
		s.flights = append(s.flights, f)
	}
	s.opts.Logger.Error("store is out of service for good", logError(cause))
	s.failure = fmt.Errorf("%w: %w", ErrFailed, cause)
	go s.tellFailed(s.failure)
	s.giveUpLocked(s.failure)
}

// giveUpLocked answers everything with err, now and from now on.
func (s *Store) giveUpLocked(err error) {
	if s.refusal != nil {
		return
	}
	s.refusal, s.closeErr = err, err
	s.end()
	s.timer.Stop()
	s.hold.Stop()
	s.wakeAll()
	g := s.gen
	s.startRefusing()
	go func() {
		s.reclaimer.close()
		s.workers.Wait()
		g.fs.cut()
		s.mu.Lock()
		for s.refusing {
			s.idle.Wait()
		}
		s.mu.Unlock()
		if err := s.lock.Close(); err != nil {
			s.opts.Logger.Error("cannot unlock the data directory", logError(err))
		}
		close(s.stopped)
	}()
}

// restore brings the store back into service once the disk works.
func (s *Store) restore(old *generation) {
	s.mu.Lock()
	for s.working && !s.applying || s.reporting {
		s.idle.Wait() // until nobody but us touches the flights
	}
	s.mu.Unlock()
	delay, longest := s.opts.RetryDelay, maxRetryDelay
	for {
		select {
		case <-time.After(delay):
		case <-s.life.Done():
			return
		}
		delay = min(2*delay, longest)
		if err := s.probe(); err != nil {
			s.opts.Logger.Debug("disk does not work yet", logError(err))
			continue
		}
		old.fs.cut()
		g, err := s.reopen()
		if err == nil {
			if s.replaceGeneration(g) {
				s.backInService()
			}
			return
		}
		if s.life.Err() != nil {
			return
		}
		if errors.Is(err, ErrIncomplete) {
			s.giveUp(nil, err)
			return
		}
		// A database that fails leaves goroutines behind that wait for ever, with what
		// they hold. On a disk that takes the probe and fails again they must not add up.
		longest = maxReopenDelay
		s.opts.Logger.Error("store cannot be reopened yet", logError(err))
	}
}

const (
	// maxRetryDelay is the longest time between two probes of a disk that fails them.
	maxRetryDelay = 5 * time.Second
	// maxReopenDelay is the same once a disk has taken a probe and failed the
	// database.
	maxReopenDelay = time.Minute
)

// probe writes as much to the disk as it takes to open the database: what its log
// holds becomes tables, and what has not arrived is written again.
func (s *Store) probe() (err error) {
	path := s.opts.FS.PathJoin(s.opts.Dir, probeFile)
	f, err := s.opts.FS.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	step := make([]byte, 1<<20)
	for left := s.reopenBytes(); left > 0 && err == nil; left -= int64(len(step)) {
		_, err = f.Write(step)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), s.opts.FS.Remove(path))
}

// reopenBytes is about how much reopening the database writes.
func (s *Store) reopenBytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes := 2 * s.opts.MemTableSize
	for _, f := range s.unsynced {
		bytes += int64(len(f.body))
	}
	for _, f := range s.flights {
		bytes += int64(len(f.body))
	}
	return bytes
}

// reopen opens the database again and writes what has not arrived. The flights
// are its alone, as neither committer nor reporter touches them.
func (s *Store) reopen() (g *generation, err error) {
	if g, err = s.openGeneration(openMode{}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.fs.cut()
		}
	}()
	s.mu.Lock()
	flights := append(append([]*flight(nil), s.unsynced...), s.flights...)
	s.mu.Unlock()
	return g, g.runUntil(s.life, func() error {
		// What was read from the log is not known to be on the disk, whose sync has
		// failed. It is once it is in tables: opening tries that only once.
		if err := g.db.Flush(); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
		arrived, err := g.lastCommit()
		if err != nil {
			return err
		}
		if arrived < s.durable.Load() {
			return fmt.Errorf("%w: commit %d was durable, and the database ends with %d", ErrIncomplete, s.durable.Load(), arrived)
		}
		for _, f := range flights {
			if f.body == nil || f.index <= arrived {
				continue
			}
			if err := f.applyAgain(g.db); err != nil {
				return fmt.Errorf("write commit %d again: %w", f.index, err)
			}
		}
		return g.db.LogData(nil, pebble.Sync)
	})
}

// applyAgain writes the flight's batch, as it was.
func (f *flight) applyAgain(db *pebble.DB) error {
	again := db.NewBatch()
	repr := append(append(make([]byte, 0, batchHeaderLen+len(f.body)), again.Repr()[:batchHeaderLen]...), f.body...)
	setBatchCount(repr, f.count)
	if err := again.SetRepr(repr); err != nil {
		return err
	}
	return errors.Join(again.Commit(pebble.NoSync), again.Close())
}

// replaceGeneration lets the store go on with the next generation, unless it was
// closed meanwhile. All flights are durable by then.
func (s *Store) replaceGeneration(g *generation) bool {
	s.mu.Lock()
	if s.refusal != nil {
		s.mu.Unlock()
		g.fs.cut()
		return false
	}
	for _, f := range s.flights {
		f.batch, f.body, f.applied = nil, nil, true
	}
	s.unsynced = nil
	s.unsyncedBytes = 0
	s.durable.Store(s.commits)
	s.mu.Unlock()
	s.startGeneration(g)
	return true
}

// backInService tells that a failure is over.
func (s *Store) backInService() {
	s.counters.reopenings.Add(1)
	s.opts.Logger.Info("store is in service again")
	if s.opts.Events.Recovered != nil {
		s.opts.Events.Recovered()
	}
}

// wakeAll lets everybody look whether the store is still in service.
func (s *Store) wakeAll() {
	s.wake.Signal()
	s.landed.Signal()
	s.idle.Broadcast()
}

// startRefusing sees to it that whatever is not answered is answered with the
// refusal, by one goroutine at a time and never while the reporter answers. The
// caller holds mu.
func (s *Store) startRefusing() {
	if !s.refusing {
		s.refusing = true
		go s.refuse()
	}
}

func (s *Store) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.working && !s.applying || s.reporting {
		s.idle.Wait()
	}
	for {
		var open []proposal
		for _, f := range s.flights {
			open = append(open, f.proposals...)
		}
		if s.taken != nil {
			open = append(open, s.taken.proposals[s.next:]...)
		}
		open = append(open, s.pending.proposals...)
		s.first.Store(s.endLocked())
		s.front, s.told, s.useless = s.first.Load(), s.first.Load(), 0
		s.flights, s.unsynced, s.taken, s.pending = nil, nil, nil, pending{}
		if len(open) == 0 {
			break
		}
		for i := range open {
			s.release(open[i].bytes)
		}
		err := s.refusal
		s.mu.Unlock()
		answer(open, err)
		s.mu.Lock()
	}
	s.refusing = false
	s.wakeAll()
}
