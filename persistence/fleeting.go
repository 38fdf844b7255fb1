// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import "time"

// A message that is settled before it is written need not be written at all. Of a
// run that is fleeting, because its messages are with consumers that settle
// quickly, the committer waits a moment whether they are: if so its proposal is
// answered without the disk. The rest of the list is answered in order, as ever.
//
// The list of proposals is thus committed in parts, each a prefix of it:
//
//	first         front          end
//	  | passed ... | holds or presses ... |
//
// What is passed are proposals that need no commit of their own: settlements, which
// ride in the next one, and runs of which nothing is left. What holds is taken when it
// has waited about as long as a commit takes, or with something behind it that presses.
//
// To drop a share that the committer has not taken is no record in the list. It is
// simply not written, although the drop comes after proposals that may be committed
// later. That is for settlements alone, which state what has happened to that one
// message and nothing else. What is settled together with something, as a dead letter
// with its copy, binds its share: neither that nor any later drop of the share is known
// earlier than the proposal, until nothing else is left of that, as the copy was settled
// too.

// Fleeting says that the run's messages are expected to be settled at once, so that
// writing them can wait a moment, see [Options].FleetingDelay, if nothing is proposed with
// it but other such runs and, without a waiter, settlements. It is called before the run
// is proposed.
func (r *Run) Fleeting() { r.fleeting = true }

// Fate is what has become of a share since its run was made.
type Fate int

const (
	Waiting Fate = iota // the committer has not taken it: it is not written if it is dropped now
	Spared              // it never will be written
	Written             // it was taken to be written
)

// Fate tells what has become of a share.
func (s *Store) Fate(sh *Share) Fate {
	switch {
	case !s.untaken(sh.run):
		return Written
	case sh.dropped.Load():
		return Spared
	}
	return Waiting
}

// The place of a run is that of its proposal in the list. That of a run that was taken
// is below first, as is 0, that of one found on disk.
const (
	unproposed = 1<<64 - 1 // it may come
	unwritten  = 1<<64 - 2 // its proposal was answered, as nothing was left of it
)

// untaken reports whether the committer has not taken the run.
func (s *Store) untaken(r *Run) bool { return r.place.Load() >= s.first.Load() }

// living is the number of shares that are not dropped.
func (r *Run) living() (n int) {
	if r.inline.run != nil && !r.inline.dropped.Load() {
		n++
	}
	for _, sh := range r.others {
		if !sh.dropped.Load() {
			n++
		}
	}
	return n
}

// endLocked is the place of the next proposal.
func (s *Store) endLocked() uint64 { return s.first.Load() + uint64(len(s.pending.proposals)) }

// atLocked returns the proposal at a place in the list.
func (s *Store) atLocked(place uint64) *proposal { return &s.pending.proposals[place-s.first.Load()] }

// passedLocked is the number of proposals that are passed.
func (s *Store) passedLocked() int { return int(s.front - s.first.Load()) }

// settleLocked proposes settlements and nothing else.
func (s *Store) settleLocked(records []Record) {
	var p proposal
	for i := range records {
		if r := &records[i]; r.kind == kindDrop && r.share.bound == 0 && s.untaken(r.share.run) {
			s.spareLocked(r.share)
		} else {
			p.bytes += r.cost()
			s.pending.records = append(s.pending.records, *r)
		}
	}
	if p.bytes > 0 {
		s.pendingBytes.Add(p.bytes)
		s.addLocked(p)
	} else {
		s.passLocked()
	}
}

// spareLocked drops a share of a run that was not taken. If that is all that was left of
// its proposal, what that settles stands for itself from then on.
func (s *Store) spareLocked(sh *Share) {
	place := sh.run.place.Load()
	if sh.dropped.Swap(true) || place >= s.endLocked() {
		return
	}
	p := s.atLocked(place)
	if p.live--; p.live == 0 && p.fleeting {
		s.unbindLocked(s.recordsLocked(place))
	}
}

// bindLocked notes what a proposal settles together with something else.
func bindLocked(records []Record) {
	for i := range records {
		if sh := records[i].share; sh != nil {
			sh.bound++
		}
	}
}

// unbindLocked takes that back when nothing else is left of the proposal, as when the
// copy of a dead letter was settled.
func (s *Store) unbindLocked(records []Record) {
	for i := range records {
		r := &records[i]
		if r.share == nil {
			continue
		}
		if r.share.bound--; r.kind == kindDrop && r.share.bound == 0 && s.untaken(r.share.run) {
			s.spareLocked(r.share)
		}
	}
}

// fleeting reports whether a proposal with the record may wait for its runs to be
// settled. A waiter would not wait with it for what is settled in it.
func (r *Record) fleeting(w Waiter) bool {
	if r.kind == kindPutRun {
		return !r.run.volatile
	}
	return r.settles() && w == nil
}

// holdLocked sees to it that the last proposal is taken in time.
func (s *Store) holdLocked() {
	if !s.holding {
		s.holding = true
		s.heldBefore = s.endLocked()
		s.hold.Reset(min(max(s.opts.FleetingDelay, time.Duration(s.commitTime.Load())), maxFleetingDelay))
	}
}

// maxFleetingDelay bounds what is held, however long commits take.
const maxFleetingDelay = 10 * time.Millisecond

// commitTook keeps commitTime.
func (s *Store) commitTook(elapsed time.Duration) {
	mean := s.commitTime.Load()
	s.commitTime.Store(mean + (int64(elapsed)-mean)/8)
}

// holdsDue runs when what is held and was proposed before some place has waited
// enough. What came since waits for as long again, so nothing waits for more than twice
// that time.
func (s *Store) holdsDue() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holding = false
	if s.refusal != nil {
		return
	}
	if s.front < s.heldBefore {
		s.due = max(s.due, int(s.heldBefore-s.first.Load()))
		s.wake.Signal()
	}
	if max(s.front, s.heldBefore) < s.endLocked() {
		s.holdLocked()
	}
}

// joinLocked notes that the next proposal adds to a run at a place in the list. All
// from there on up to it must be one commit, see [Store.Extend].
func (s *Store) joinLocked(place uint64) {
	if s.joinedTo >= s.first.Load() {
		place = min(place, s.joinedFrom)
	}
	s.joinedFrom, s.joinedTo = place, s.endLocked()
}

// readyLocked is how many proposals are to be taken: those that are due, and what can
// go with them.
func (s *Store) readyLocked() int {
	n, first := s.due, s.first.Load()
	for {
		for n < len(s.pending.proposals) && !s.pending.proposals[n].holds() {
			n++
		}
		if end := first + uint64(n); s.joinedTo < end || s.joinedFrom >= end {
			return n
		}
		n = int(s.joinedTo-first) + 1
	}
}

// passLocked passes what can be passed, and has it answered: in order, so not before
// what was taken is on its way.
func (s *Store) passLocked() {
	for end := s.endLocked(); s.front < end; s.front++ {
		if p := s.atLocked(s.front); p.holds() || p.pressing() {
			break
		}
	}
	if s.taken != nil || s.building {
		return
	}
	for ; s.told < s.front; s.told++ {
		s.answerPassedLocked()
	}
	// That half of the list is of no use makes it worth to move the rest.
	if s.useless > 0 && 2*s.useless >= len(s.pending.proposals) {
		s.compactLocked()
	}
}

// answerPassedLocked has the next proposal that is passed answered, and lets go of all in
// it but settlements of what is written or may be.
func (s *Store) answerPassedLocked() {
	p, left := s.atLocked(s.told), false
	records := s.recordsLocked(s.told)
	for i := range records {
		if r := &records[i]; s.answered(r) {
			*r = Record{}
		} else {
			left = true
		}
	}
	var bytes int64
	if left {
		s.armLocked()
	} else {
		s.useless++
		bytes, p.bytes = p.bytes, 0
		s.pending.bytes -= bytes
	}
	if p.waiter == nil {
		s.release(bytes)
		return
	}
	s.answerLocked(p.waiter, bytes)
	p.waiter = nil
}

// recordsLocked returns the records of the proposal at a place in the list.
func (s *Store) recordsLocked(place uint64) []Record {
	start := 0
	if place > s.first.Load() {
		start = s.atLocked(place - 1).end
	}
	return s.pending.records[start:s.atLocked(place).end]
}

// compactLocked takes out of the list what was answered and is of no use.
func (s *Store) compactLocked() {
	passed := s.pending.proposals[:s.told-s.first.Load()]
	kept, end, start, due := 0, 0, 0, s.due
	for i := range passed {
		p, before := passed[i], end
		for ; start < p.end; start++ {
			if r := &s.pending.records[start]; r.kind != 0 {
				s.pending.records[end] = *r
				end++
			}
		}
		if end > before {
			p.end = end
			passed[kept] = p
			kept++
		} else if i < due {
			s.due--
		}
	}
	s.pending.remove(kept, len(passed), end, start)
	s.first.Add(uint64(len(passed) - kept))
	s.useless = 0
	for i := range kept {
		place := s.first.Load() + uint64(i)
		for _, r := range s.recordsLocked(place) {
			if r.run != nil { // a volatile one
				r.run.place.Store(place)
			}
		}
	}
}

// answered lets go of a record with which nothing has to be done any more.
func (s *Store) answered(r *Record) bool {
	switch r.kind {
	case kindPutRun:
		if r.run.volatile {
			return false
		}
		r.run.body.Release()
		r.run.body = nil
		r.run.place.Store(unwritten)
		return true
	case kindSettle, kindDrop, kindCount:
		return r.share.dropped.Load() && s.untaken(r.share.run)
	}
	return false
}

// answerLocked has the reporter tell a waiter, and take bytes off the account, after all
// that is on its way.
func (s *Store) answerLocked(w Waiter, bytes int64) {
	n := len(s.flights)
	if n == 0 || !s.flights[n-1].answers {
		s.flights = append(s.flights, &flight{gen: s.gen, list: s.spare.list(), last: true, applied: true, answers: true})
		s.landed.Signal()
		n++
	}
	f := s.flights[n-1]
	f.list.proposals = append(f.list.proposals, proposal{waiter: w, bytes: bytes})
	f.proposals = f.list.proposals
	f.bytes += bytes
}
