// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "fmt"

// A long queue is mostly runs that nobody will ask for soon. Their pages are gone
// (see Trim), and what is left, a Run and the store's handle, is some 200 bytes.
// Chilling packs such runs into segments, at about 8 bytes a run; thawing brings
// a segment back before the cursor gets there.

// Keeper is the engine's view of the store's handles, Run.Stored. It is called
// under the queue's lock, for runs, never for messages, and must not block.
type Keeper interface {
	// Stored reports whether the run can be read back now. It is false for a run
	// without a handle.
	Stored(r *Run) bool

	// Chill gives the handle of a run up for its place. It returns false while
	// something of the run is on its way to the store; then the handle stays.
	Chill(r *Run) (Place, bool)

	// Warm returns the handle of a run that was chilled or recovered. Its First,
	// Count, Bytes, Volatile and Settled are set.
	Warm(r *Run, p Place) any
}

// Restore puts a recovered run at the end of the queue: its page is on disk, at
// place, and settled says which of its messages are gone; a run that is gone as a
// whole leaves nothing but its numbers behind. Runs come in order of their
// numbers, which may have gaps between runs, before anything is appended. The
// engine must have a Keeper.
func (e *Engine) Restore(first uint64, count uint32, bytes uint64, settled Bitmap, place Place) error {
	if first < e.next || count == 0 || count > MaxRunMessages || e.dir.tail.len() > 0 {
		return fmt.Errorf("run of %d messages from number %d does not follow number %d", count, first, e.next)
	}
	if settled.NextSet(count, MaxRunMessages) != MaxRunMessages {
		return fmt.Errorf("run of %d messages from number %d has marks past its end", count, first)
	}
	r := Run{First: first, Count: count, Bytes: bytes, settled: settled, gone: settled.Count()}
	e.next = r.end()
	e.ahead.done = e.next
	if r.Done() {
		return nil
	}
	e.ready += uint64(r.live())
	e.bytes += r.liveBytes()
	e.dir.pack(&r, place, e.limits().segmentRuns)
	return nil
}

// refill thaws segments until enough runs lie ahead of the cursor.
func (e *Engine) refill() {
	for len(e.dir.cold) > 0 && e.dir.head.len()-e.cursor <= e.limits().aheadRuns {
		s := e.dir.takeCold()
		s.unpack(e.Keeper)
		e.dir.head.join(s.warm)
		e.dir.joinTail()
	}
}

// chill packs the oldest of the runs that lie well ahead of the cursor and whose
// pages Trim has dropped, as long as there are many of them. A run that cannot be
// packed yet holds up those after it, until a later call.
func (e *Engine) chill() {
	if e.Keeper == nil {
		return
	}
	l := e.limits()
	for {
		start := e.dir.head.len() // where the tail begins
		if len(e.dir.cold) > 0 {
			if e.dir.tail.len() < l.hotRuns {
				return
			}
		} else {
			if e.ahead.done-e.ahead.bare < uint64(l.hotRuns) {
				return
			}
			start = max(e.cursor+1+l.aheadRuns, e.dir.position(e.ahead.bare))
		}
		if e.dir.position(e.ahead.done)-start < l.hotRuns {
			return
		}
		r := e.dir.at(start)
		p, ok := e.chillRun(r)
		if !ok {
			return
		}
		if len(e.dir.cold) == 0 {
			e.dir.tail = e.dir.head.split(start)
		}
		e.dir.tail.shift()
		e.dir.tail.tidy()
		e.dir.pack(r, p, l.segmentRuns)
	}
}

// chillRun gives up the handle of a run that nobody uses; false if that cannot be
// done now.
func (e *Engine) chillRun(r *Run) (Place, bool) {
	if r.Page != nil || r.sent > 0 || r.loading || r.spilling || r.loose || r.thinning || !e.Keeper.Stored(r) {
		return Place{}, false
	}
	p, ok := e.Keeper.Chill(r)
	if ok {
		r.Stored = nil
	}
	return p, ok
}

// Cold calls visit for the packed part of the queue, oldest first: the numbers
// first..end-1 belong to runs that Runs does not visit.
func (e *Engine) Cold(visit func(first, end uint64)) {
	for _, i := range e.appendCold(nil) {
		visit(i.First, i.End)
	}
}

// Interval is the message numbers First..End-1.
type Interval struct{ First, End uint64 }

// appendCold appends the numbers of all packed runs as few intervals.
func (e *Engine) appendCold(to []Interval) []Interval {
	apart := true // a run in its full form lies between this segment and the last
	for _, s := range e.dir.cold {
		switch {
		case s.count == 0:
		case apart:
			to = append(to, Interval{s.first, s.last.end})
		default:
			to[len(to)-1].End = s.last.end
		}
		apart = s.warm.len() > 0 || apart && s.count == 0
	}
	return to
}

// RunCount is the number of runs that have unsettled messages, packed ones
// included.
func (e *Engine) RunCount() int {
	n := e.dir.hot() - e.dir.head.dead
	for _, s := range e.dir.cold {
		n += s.runs()
	}
	return n
}

// ColdBytes is the bytes of memory that packed runs take.
func (e *Engine) ColdBytes() (n int) {
	for _, s := range e.dir.cold {
		n += segmentSize + cap(s.packed)
	}
	return n
}
