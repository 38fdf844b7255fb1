// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// flight is one batch on its way. The committer builds it and hands it to the
// database; the reporter waits until it is durable and tells its waiters. While
// the disk works for one, the committer prepares the next.
type flight struct {
	chunk
	gen     *generation
	list    *pending // the list the chunk is of
	last    bool     // nothing of the list comes after it
	answers bool     // nothing has to be done for it, see fleeting.go
	index   uint64   // its number among the commits, if it has a batch

	batch   *pebble.Batch // nil if nothing is to be written, or once it is durable
	room    int64         // what the batch was made for, in bytes
	body    []byte        // the batch without its header, in case it must be written again
	count   uint32        // operations in it
	synced  bool
	applied bool // the database has it, changed under mu

	fresh     []*Share         // shares it writes
	condemned []condemnedRange // ranges it condemns
	freed     int64            // bytes of bodies it deletes
	info      CommitInfo
	begin     time.Time
}

const (
	// maxFlights is how many batches may be on their way: one for the disk to
	// work on and one that is ready when it is done. More would only be smaller.
	maxFlights = 2
	// pipelineFrom is how many bytes make it worth to prepare a batch while the
	// disk works on another, and pipelineProposals how many proposals: below these,
	// more of them share the next sync.
	pipelineFrom      = 64 << 10
	pipelineProposals = 28
	// maxUnsynced is how many bytes may be committed without a sync: they are kept
	// in memory until then, see [Store.reopen].
	maxUnsynced = 8 << 20
)

// commitLoop is the committer goroutine of one generation. It ends when the
// store is closed or has failed.
func (s *Store) commitLoop(g *generation) {
	for {
		f, last := s.nextFlight(g)
		if f == nil {
			last(g)
			return
		}
		if err := s.prepare(f); err != nil {
			s.giveUp(f, err)
			continue
		}
		if batch := s.takeOff(f); batch != nil {
			s.land(f, apply(g, batch, f.synced))
		}
	}
}

// nextFlight waits until there is something to commit. It returns nil when the
// committer is to end, and what it has to do before.
func (s *Store) nextFlight(g *generation) (f *flight, last func(*generation)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.gen != g: // the database took so long that another has taken over
			return nil, func(*generation) {}
		case s.failure != nil || s.refusal != nil:
			s.working = false
			s.wakeAll()
			return nil, func(*generation) {}
		case s.underway() >= maxFlights:
		case s.underway() > 0 && s.taken == nil && !s.manyLocked():
		case s.taken != nil:
			return s.cutLocked(g), nil
		case s.due > 0:
			s.takeLocked()
			continue
		case s.closing && len(s.flights) == 0 && !s.reporting:
			s.refusal = ErrClosed
			s.working = false
			s.wakeAll()
			return nil, s.finish
		case s.renewal:
			s.renewal = false
			if s.restingLocked(g) {
				g.closed = true
				return nil, s.renew
			}
			continue
		}
		s.wake.Wait()
	}
}

// manyLocked reports whether it is worth to prepare a batch of what is pending while the
// disk works on another.
func (s *Store) manyLocked() bool {
	return s.pending.bytes >= pipelineFrom || len(s.pending.proposals)-s.useless >= pipelineProposals
}

// underway is the number of batches on their way.
func (s *Store) underway() (n int) {
	for _, f := range s.flights {
		if !f.answers {
			n++
		}
	}
	return n
}

// takeLocked takes over what is due.
func (s *Store) takeLocked() {
	list, n := s.spare.list(), s.readyLocked()
	if n < len(s.pending.proposals) {
		s.pending.moveTo(list, n)
	} else {
		*list, s.pending = s.pending, *list
		if s.armed {
			s.timer.Stop()
			s.armed = false
		}
	}
	s.first.Add(uint64(n))
	s.front, s.told = max(s.front, s.first.Load()), max(s.told, s.first.Load())
	s.useless = 0
	s.due = 0
	if s.closing {
		s.due = len(s.pending.proposals)
	}
	s.taken, s.next, s.nextRecord = list, 0, 0
}

// cutLocked makes a flight of the first part of what was taken.
func (s *Store) cutLocked(g *generation) *flight {
	c, rest := cut(s.taken.proposals[s.next:], s.taken.records, s.nextRecord, s.chunkBytes())
	f := &flight{chunk: c, gen: g, list: s.taken, last: len(rest) == 0, begin: time.Now()}
	f.batch, f.room = s.spare.batch(g, c.bytes)
	s.next += len(c.proposals)
	s.nextRecord += len(c.records)
	if f.last {
		s.taken = nil
	}
	s.building = true
	return f
}

// chunkBytes is about how large a batch may be.
func (s *Store) chunkBytes() int64 { return s.opts.MemTableSize / 4 }

// prepare fills the flight's batch.
func (s *Store) prepare(f *flight) error {
	f.info.Records = len(f.records)
	if err := s.build(f, f.records); err != nil {
		return err
	}
	f.synced = f.urgent || s.unsyncedBytes > maxUnsynced
	switch {
	case !f.batch.Empty():
		s.commits++
		f.index = s.commits
		if err := setNumber(f.batch, metaKey(metaCommit), f.index); err != nil {
			return err
		}
		s.mark = appendDurable(s.mark[:0], s.durable.Load())
		if err := f.batch.LogData(s.mark, nil); err != nil {
			return err
		}
	case f.barrier && s.unsyncedBytes > 0:
		// There is nothing to write, but a barrier must not overtake what was
		// committed without a sync.
		if err := f.batch.LogData(nil, nil); err != nil {
			return err
		}
		f.index = s.commits
	default:
		s.mu.Lock()
		s.spare.giveBack(f)
		s.mu.Unlock()
		return nil
	}
	f.info.Bytes, f.info.Synced = f.batch.Len(), f.synced
	f.count = f.batch.Count()
	f.body = f.batch.Repr()[batchHeaderLen:]
	if f.synced {
		s.unsyncedBytes = 0
	} else {
		s.unsyncedBytes += int(f.room) // what keeping it takes, not what it holds
	}
	return nil
}

// batchHeaderLen is the length of the part of a batch that the database itself
// writes, a sequence number and a count: see [pebble.Batch.SetRepr].
const batchHeaderLen = 8 + 4

// setBatchCount writes the number of operations into a batch's header.
func setBatchCount(repr []byte, count uint32) {
	binary.LittleEndian.PutUint32(repr[8:], count)
}

// takeOff adds a flight to those on their way. From then on it is written, if
// not to this database, then to the next. It returns the batch, or nil if there is
// nothing to apply, or nothing to apply it to.
func (s *Store) takeOff(f *flight) *pebble.Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flights = append(s.flights, f)
	s.building = false
	s.passLocked()
	s.applying = f.batch != nil && s.failure == nil
	f.applied = f.batch == nil
	if f.applied {
		s.landed.Signal()
	}
	if !s.applying {
		return nil
	}
	return f.batch
}

// apply hands a flight's batch to the database. It does not return if the disk
// fails; the flight may be another generation's by then.
func apply(g *generation, b *pebble.Batch, sync bool) error {
	if sync {
		return g.db.ApplyNoSyncWait(b, pebble.Sync)
	}
	return b.Commit(pebble.NoSync)
}

// land notes that the database has the flight.
func (s *Store) land(f *flight, err error) {
	if err != nil {
		s.generationFailed(f.gen, fmt.Errorf("commit: %w", err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gen != f.gen {
		return // the next generation has it already
	}
	s.applying = false
	f.applied = err == nil
	s.landed.Signal()
	if s.failure != nil {
		s.idle.Broadcast()
	}
}

// reportLoop is the reporter goroutine of one generation: it tells waiters what
// is durable, in the order of commits.
func (s *Store) reportLoop(g *generation) {
	for {
		f, batch := s.nextReport(g)
		if f == nil {
			return
		}
		if batch != nil && f.synced {
			if err := batch.SyncWait(); err != nil {
				s.generationFailed(g, fmt.Errorf("sync: %w", err))
				return
			}
		}
		if !s.report(g, f) {
			return
		}
	}
}

// nextReport waits for the next flight that the database has, and returns its
// batch too, which is only to be looked at under mu; nil when the reporter is to
// end.
func (s *Store) nextReport(g *generation) (*flight, *pebble.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.gen == g && s.failure == nil && s.refusal == nil {
		// What comes while the database is opened anew is for the next reporter.
		if !g.closed && len(s.flights) > 0 && s.flights[0].applied {
			return s.flights[0], s.flights[0].batch
		}
		s.landed.Wait()
	}
	return nil, nil
}

// report tells the waiters of a flight that is committed. It returns false when
// the reporter is to end: then others tell them.
func (s *Store) report(g *generation, f *flight) bool {
	s.mu.Lock()
	if s.gen != g || s.failure != nil || s.refusal != nil {
		s.mu.Unlock()
		return false
	}
	s.reporting = true
	s.flights = append(s.flights[:0], s.flights[1:]...)
	synced := f.batch != nil && f.synced
	switch {
	case f.batch == nil:
	case synced:
		s.durable.Store(f.index)
		for _, u := range s.unsynced {
			s.spare.giveBack(u)
		}
		clear(s.unsynced)
		s.unsynced = s.unsynced[:0]
		s.spare.giveBack(f)
	default:
		s.unsynced = append(s.unsynced, f)
	}
	s.release(f.bytes)
	s.wake.Signal()
	s.mu.Unlock()

	if synced {
		s.noteDurable(f.index)
	}
	if !f.answers {
		s.count(f)
	}
	for _, sh := range f.fresh {
		sh.stored.Store(true)
	}
	for _, c := range f.condemned {
		s.reclaimer.add(c)
	}
	answer(f.proposals, nil)
	if s.opts.Events.Committed != nil && !f.answers {
		s.opts.Events.Committed(f.info)
	}
	f.fresh, f.condemned = nil, nil

	s.mu.Lock()
	defer s.mu.Unlock()
	s.reporting = false
	f.chunk = chunk{}
	if f.last {
		s.spare.giveBackList(f.list)
	}
	f.list = nil
	if s.failure != nil || s.refusal != nil {
		s.idle.Broadcast()
	}
	s.wake.Signal() // a committer that is to end waits for the last answer
	return true
}

// noteDurable writes down that a commit is durable, before anybody is told. What
// cannot be written is missed only if the log is damaged later, so it is not a
// failure of the disk, which will tell by itself.
func (s *Store) noteDurable(commit uint64) {
	if err := s.note.write(commit); err != nil {
		s.opts.Logger.Debug("cannot note what is durable", logError(err))
	}
}

// count adds a commit to the counters.
func (s *Store) count(f *flight) {
	f.info.Elapsed = time.Since(f.begin)
	c := &s.counters
	c.records.Add(int64(f.info.Records))
	if f.info.Bytes == 0 {
		return
	}
	c.commits.Add(1)
	c.runs.Add(int64(f.info.Runs))
	c.written.Add(int64(f.info.Bytes))
	c.batchRecords.observe(int64(f.info.Records))
	s.space.freed.Add(f.freed)
	s.wrote(f.info.Bytes)
	if f.synced {
		c.synced.Add(1)
		c.commitLatency.observeLatency(f.info.Elapsed)
		s.commitTook(f.info.Elapsed)
	}
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

// spares are lists and batches to be used again. They are guarded by Store.mu.
type spares struct {
	lists   []*pending
	batches []spareBatch
}

type spareBatch struct {
	batch *pebble.Batch
	room  int64
}

const (
	minBatchRoom = 64 << 10
	// keptBatchRoom is the room of the largest batch that is kept.
	keptBatchRoom = 4 << 20
)

func (s *spares) list() *pending {
	if n := len(s.lists); n > 0 {
		list := s.lists[n-1]
		s.lists = s.lists[:n-1]
		return list
	}
	return new(pending)
}

func (s *spares) giveBackList(list *pending) {
	list.reset()
	if len(s.lists) <= maxFlights {
		s.lists = append(s.lists, list)
	}
}

// batch returns an empty batch with room for so many bytes, without copying as
// it grows.
func (s *spares) batch(g *generation, bytes int64) (b *pebble.Batch, room int64) {
	bytes += minBatchRoom / 2
	for i, spare := range s.batches {
		if spare.room >= bytes {
			s.batches = append(s.batches[:i], s.batches[i+1:]...)
			return spare.batch, spare.room
		}
	}
	room = max(minBatchRoom, int64(1)<<bits.Len64(uint64(bytes-1)))
	return g.db.NewBatch(pebble.WithInitialSizeBytes(int(room)), pebble.WithMaxRetainedSizeBytes(keptBatchRoom)), room
}

// giveSparesUp lets go of lists and batches that wait to be used again.
func (s *Store) giveSparesUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, spare := range s.spare.batches {
		_ = spare.batch.Close() // it only gives its memory back
	}
	s.spare = spares{}
	if len(s.pending.records) == 0 && len(s.pending.proposals) == 0 {
		s.pending = pending{}
	}
}

// giveBack takes a flight's batch back that the database has done with.
func (s *spares) giveBack(f *flight) {
	b := f.batch
	f.batch, f.body = nil, nil
	if b == nil {
		return
	}
	if f.room > keptBatchRoom || len(s.batches) > maxFlights {
		_ = b.Close() // it only gives its memory back
		return
	}
	b.Reset()
	s.batches = append(s.batches, spareBatch{b, f.room})
}
