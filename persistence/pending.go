// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import "context"

// proposal is what the committer knows of one Propose call.
type proposal struct {
	waiter   Waiter // or nil
	end      int    // its records end before this index
	bytes    int64  // what it adds to pendingBytes
	urgent   bool   // to be synced
	barrier  bool   // waits for everything before it
	fleeting bool   // it may wait for its runs to be settled, see fleeting.go
	live     int    // of their shares, those not dropped
}

// holds reports whether the proposal waits for its runs to be settled.
func (p *proposal) holds() bool { return p.fleeting && p.live > 0 }

// pressing reports whether the proposal is to be committed at once.
func (p *proposal) pressing() bool { return p.urgent && !p.fleeting }

// pending is a list of proposals with all their records.
type pending struct {
	proposals []proposal
	records   []Record
	bytes     int64 // what the proposals bring to a batch
}

const (
	// maxLazyRecords is how many records gather before they are committed
	// although none is urgent and SettleDelay is not over.
	maxLazyRecords = 1 << 16
	// maxLazyBytes is how many bytes gather at most, likewise.
	maxLazyBytes = 4 << 20
	// keptRoom is how many records a list keeps room for however few it gets.
	keptRoom = 1 << 12
)

// reset empties the list. It keeps its memory for the next, unless that has
// become far too much.
func (p *pending) reset() {
	if c := cap(p.records); c > keptRoom && len(p.records) < c/8 {
		p.records = nil
	}
	if c := cap(p.proposals); c > keptRoom && len(p.proposals) < c/8 {
		p.proposals = nil
	}
	clear(p.records)
	clear(p.proposals)
	p.records, p.proposals, p.bytes = p.records[:0], p.proposals[:0], 0
}

// moveTo moves the first n proposals to an empty list.
func (p *pending) moveTo(list *pending, n int) {
	end := p.proposals[n-1].end
	list.proposals = append(list.proposals, p.proposals[:n]...)
	list.records = append(list.records, p.records[:end]...)
	for i := range n {
		list.bytes += p.proposals[i].bytes
	}
	p.bytes -= list.bytes
	p.remove(0, n, 0, end)
}

// remove takes proposals out, from from up to to, with the records from start up to end.
func (p *pending) remove(from, to, start, end int) {
	kept := copy(p.proposals[from:], p.proposals[to:]) + from
	clear(p.proposals[kept:])
	p.proposals = p.proposals[:kept]
	for i := from; i < kept; i++ {
		p.proposals[i].end -= end - start
	}
	kept = copy(p.records[start:], p.records[end:]) + start
	clear(p.records[kept:])
	p.records = p.records[:kept]
}

// chunk is a part of a list that is committed as one batch.
type chunk struct {
	proposals []proposal
	records   []Record
	bytes     int64
	urgent    bool
	barrier   bool
}

// cut splits the proposals into a chunk of about maxBytes, at least one
// proposal, and the rest. records are those of all the list; start is where
// those of the first proposal begin.
func cut(proposals []proposal, records []Record, start int, maxBytes int64) (c chunk, rest []proposal) {
	n := 0
	for n < len(proposals) && (n == 0 || c.bytes+proposals[n].bytes <= maxBytes) {
		p := &proposals[n]
		c.bytes += p.bytes
		c.urgent = c.urgent || p.pressing() || p.holds()
		c.barrier = c.barrier || p.barrier
		n++
	}
	c.proposals = proposals[:n]
	c.records = records[start:proposals[n-1].end]
	return c, proposals[n:]
}

// Propose hands records to the committer, to be committed together. group is
// the group of nodes that agrees on them: 0. w, which may be nil, is told when
// they are durable. The records slice is copied.
//
// With a [PutRun], [SetConfig] or [DeleteConfig] among the records, or with a
// waiter, the proposal is committed at once and synced; without records it is a
// barrier, durable after everything proposed before. Otherwise it waits for
// such a commit to ride in, for [Options].SettleDelay at most, and is then
// committed without a sync. Runs that are [Run.Fleeting] wait a moment whether they
// are settled; then w is told without the disk, as nothing is to be written.
//
// While the store is out of service proposals wait. Propose itself never waits
// for the disk and takes only a leaf lock, so it may be called under the
// caller's locks, which is how a queue's proposals come in the queue's order.
func (s *Store) Propose(group uint64, w Waiter, records ...Record) {
	p := proposal{waiter: w, barrier: len(records) == 0, fleeting: true}
	p.urgent = p.barrier || w != nil
	settles := w == nil && !p.barrier // and nothing else
	for i := range records {
		r := &records[i]
		p.bytes += r.prepare(group)
		p.urgent = p.urgent || r.urgent()
		p.fleeting = p.fleeting && r.fleeting(w)
		settles = settles && r.settles()
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.refusal != nil: // only the waiter is needed
		s.pendingBytes.Add(p.bytes)
	case settles:
		s.settleLocked(records)
		return
	default:
		s.pendingBytes.Add(p.bytes)
		s.putLocked(&p, records)
	}
	s.addLocked(p)
}

// putLocked adds a proposal's records to the list, in which it will be the next.
func (s *Store) putLocked(p *proposal, records []Record) {
	runs, brief := 0, 0
	for i := range records {
		if run := records[i].run; run != nil {
			run.place.Store(s.endLocked())
			runs++
			if n := run.living(); n == 0 || run.fleeting {
				brief++
				p.live += n
			}
		}
	}
	p.fleeting = p.fleeting && runs > 0 && brief == runs
	bindLocked(records)
	if p.fleeting && p.live == 0 {
		s.unbindLocked(records)
	}
	s.pending.records = append(s.pending.records, records...)
}

// Extend adds the messages of more to the only share of a run that was proposed
// with [PutRun], and tells w, which may be nil, when they are durable: count
// messages, together bytes long in the sense of [Run.Share], numbered from where
// the share ends. It returns false and does nothing when the committer has taken
// the run already, or its body, a [GrowingBody], does not take them. As Propose
// it may be called under the caller's locks; those under which the share's
// messages are read and settled must be held.
func (s *Store) Extend(sh *Share, more Body, count uint32, bytes uint64, w Waiter) bool {
	run := sh.run
	s.mu.Lock()
	defer s.mu.Unlock()
	// What is extended is committed with what was proposed when the run was. So that
	// this is not before anything proposed since, all since then must be one commit.
	place := run.place.Load()
	if place < s.first.Load() || place >= s.endLocked() || run.shared || s.refusal != nil ||
		s.pending.bytes+int64(more.Size()) > s.chunkBytes() {
		return false
	}
	body, ok := run.body.(GrowingBody)
	if !ok || !body.Grow(more) {
		return false
	}
	p := proposal{waiter: w, urgent: w != nil, fleeting: s.atLocked(place).fleeting, bytes: int64(body.Size() - run.size)}
	run.size = body.Size()
	sh.count += count
	sh.bytes += bytes
	s.pendingBytes.Add(p.bytes)
	s.joinLocked(place)
	s.addLocked(p)
	return true
}

// addLocked adds a proposal to the list, which has its records, and sees to it
// that the list is taken in time.
func (s *Store) addLocked(p proposal) {
	p.end = len(s.pending.records)
	s.pending.proposals = append(s.pending.proposals, p)
	s.pending.bytes += p.bytes
	switch {
	case s.refusal != nil:
		s.startRefusing()
		return
	case p.pressing() || s.closing || len(s.pending.records) >= maxLazyRecords || s.pending.bytes >= maxLazyBytes:
		if s.due == 0 || s.manyLocked() {
			s.wake.Signal()
		}
		s.due = len(s.pending.proposals)
	case p.holds():
		s.holdLocked()
	case !p.fleeting:
		s.armLocked()
	}
	s.passLocked()
}

// armLocked sees to it that settlements are taken in time.
func (s *Store) armLocked() {
	if !s.armed {
		s.armed = true
		s.timer.Reset(s.opts.SettleDelay)
	}
}

// Sync proposes a barrier: w is told when everything proposed before is
// durable.
func (s *Store) Sync(w Waiter) { s.Propose(0, w) }

// settlementsDue runs when the oldest pending settlement has waited enough. A
// timer that fires late only makes the next one leave early.
func (s *Store) settlementsDue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = false
	// What waits behind a run that is held goes with that, or is passed with it later.
	s.due = max(s.due, s.passedLocked())
	s.wake.Signal()
}

// Throttle returns at once while no more than [Options].MaxPendingBytes are on
// their way to the disk, and else waits until that is so again or ctx ends,
// whose error it returns then. The wait ends without any client doing anything:
// by the committer's work, by the disk's recovery, or when the store is closed.
// A publisher's reader calls it between bursts, without any lock.
func (s *Store) Throttle(ctx context.Context) error {
	for s.pendingBytes.Load() > s.opts.MaxPendingBytes {
		s.mu.Lock()
		if s.pendingBytes.Load() <= s.opts.MaxPendingBytes {
			s.mu.Unlock()
			return nil
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// release takes bytes that have arrived, or are given up, off the account. The
// caller holds mu.
func (s *Store) release(bytes int64) {
	if s.pendingBytes.Add(-bytes) <= s.opts.MaxPendingBytes && s.room != nil {
		close(s.room)
		s.room = nil
	}
}
