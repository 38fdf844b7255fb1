// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// commitLoop is the committer goroutine. It ends when the store is closed or
// has failed.
func (s *Store) commitLoop() {
	defer close(s.stopped)
	var list pending
	for s.take(&list) {
		rest, start := list.proposals, 0
		for len(rest) > 0 {
			var c chunk
			c, rest = cut(rest, list.records, start, s.chunkBytes)
			start += len(c.records)
			if !s.commit(c) {
				return
			}
		}
		list.reset()
	}
}

// take waits until there is something to commit and exchanges it for the empty
// list. It returns false when the committer is to end, after it has finished an
// orderly stop if that is why.
func (s *Store) take(list *pending) bool {
	s.mu.Lock()
	for {
		if s.failure != nil {
			s.mu.Unlock()
			return false
		}
		if s.due && len(s.pending.proposals) > 0 {
			break
		}
		if s.closing {
			s.refusal = ErrClosed
			s.mu.Unlock()
			s.timer.Stop()
			s.finish()
			return false
		}
		s.due = false
		s.wake.Wait()
	}
	*list, s.pending = s.pending, *list
	s.taken = list.proposals
	s.due = s.closing
	if s.armed {
		s.timer.Stop()
		s.armed = false
	}
	s.mu.Unlock()
	return true
}

// commit writes a chunk and tells its waiters. It returns false when the store
// has failed and the committer is to end.
func (s *Store) commit(c chunk) bool {
	begin := time.Now()
	info := CommitInfo{Records: len(c.records)}
	var err error
	s.clearBatch(c.bytes)
	if info.Runs, err = s.build(c.records); err != nil {
		s.fail(err)
		return false
	}
	// A chunk that leaves nothing to write costs nothing, except that a barrier
	// must not overtake what was committed without a sync.
	if s.batch.Empty() && c.barrier && s.unsynced {
		err = s.batch.LogData(nil, nil)
	}
	if err == nil && !s.batch.Empty() {
		info.Bytes, info.Synced = s.batch.Len(), c.urgent
		err = write(s.batch, c.urgent)
		s.unsynced = !c.urgent
	}
	if err != nil {
		s.fail(err)
		return false
	}
	info.Elapsed = time.Since(begin)
	return s.report(c, info)
}

// write commits a batch. It does not return if the disk fails.
func write(b *pebble.Batch, sync bool) error {
	how := pebble.NoSync
	if sync {
		how = pebble.Sync
	}
	if err := b.Commit(how); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// report tells the waiters of a chunk that is committed. If the store has
// failed meanwhile, they have been told so instead. It returns false when the
// committer is to end.
func (s *Store) report(c chunk, info CommitInfo) bool {
	s.mu.Lock()
	if s.failure != nil {
		s.mu.Unlock()
		return false
	}
	s.reporting = true
	s.taken = s.taken[len(c.proposals):]
	s.release(c.bytes)
	s.mu.Unlock()

	for i, sh := range s.fresh {
		sh.stored.Store(true)
		s.fresh[i] = nil
	}
	answer(c.proposals, nil)
	if s.opts.Events.Committed != nil {
		s.opts.Events.Committed(info)
	}

	s.mu.Lock()
	s.reporting = false
	failed := s.failure != nil
	if failed {
		s.startRefusing()
	}
	s.mu.Unlock()
	return !failed
}

// answer calls the waiters of proposals.
func answer(proposals []proposal, err error) {
	for i := range proposals {
		if w := proposals[i].waiter; w != nil {
			w.Durable(err)
		}
	}
	var last Waiter
	for i := range proposals {
		if w := proposals[i].waiter; w != nil && w != last {
			w.Flush()
			last = w
		}
	}
}

// startRefusing sees to it that what is taken and pending is answered with the
// refusal, by one goroutine at a time and never while the committer answers.
// The caller holds mu.
func (s *Store) startRefusing() {
	if !s.refusing && !s.reporting {
		s.refusing = true
		go s.refuse()
	}
}

func (s *Store) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.taken)+len(s.pending.proposals) > 0 {
		for _, proposals := range [][]proposal{s.taken, s.pending.proposals} {
			for i := range proposals {
				s.release(proposals[i].bytes)
			}
		}
		taken, list, err := s.taken, s.pending, s.refusal
		s.taken, s.pending = nil, pending{}
		s.mu.Unlock()
		answer(taken, err)
		answer(list.proposals, err)
		s.mu.Lock()
	}
	s.refusing = false
}
