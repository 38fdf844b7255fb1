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

// Restore puts a recovered run at the end of its level, which first tells: its page
// is on disk, at place, and settled says which of its messages are gone; a run that
// is gone as a whole leaves nothing but its numbers behind. Runs come in order of
// their numbers, which may have gaps between runs, before anything is appended. The
// engine must have a Keeper.
func (e *Engine) Restore(first uint64, count uint32, bytes uint64, settled Bitmap, place Place, times Times, tallies []byte) error {
	l := e.level(Level(first))
	if first < l.next || count == 0 || count > MaxRunMessages || l.dir.tail.len() > 0 {
		return fmt.Errorf("run of %d messages from number %d does not follow number %d", count, first, l.next)
	}
	if settled.NextSet(count, MaxRunMessages) != MaxRunMessages {
		return fmt.Errorf("run of %d messages from number %d has marks past its end", count, first)
	}
	r := Run{First: first, Count: count, Bytes: bytes, settled: settled, gone: settled.Count()}
	r.setTimes(times)
	l.next = r.end()
	l.ahead.done = l.next
	if r.Done() {
		return nil
	}
	if r.due != 0 {
		c := e.timed()
		c.far = earlier(c.far, r.due)
	}
	l.ready += uint64(r.live())
	e.bytes += r.liveBytes()
	var err error
	if r.aside, err = parseTallies(tallies, &r); err != nil {
		return fmt.Errorf("run of %d messages from number %d: %w", count, first, err)
	}
	if r.someAway() {
		n := r.aside.away.Count()
		l.ready -= uint64(n)
		e.delayed += uint64(n - r.aside.departs)
		e.watch(&r)
		e.restoreDepartures(&r)
	}
	l.dir.pack(&r, place, e.limits().segmentRuns)
	return nil
}

// refill thaws segments until enough runs lie ahead of the cursor.
func (l *log) refill() {
	for len(l.dir.cold) > 0 && l.dir.head.len()-l.cursor <= l.q.limits().aheadRuns {
		s := l.dir.takeCold()
		s.unpack(l.q.Keeper)
		l.dir.head.join(s.warm)
		l.dir.joinTail()
	}
}

// chill packs the oldest of the runs that lie well ahead of the cursor and whose
// pages Trim has dropped, as long as there are many of them. A run that cannot be
// packed yet holds up those after it, until a later call.
func (l *log) chill() {
	if l.q.Keeper == nil {
		return
	}
	lim := l.q.limits()
	for {
		start := l.dir.head.len() // where the tail begins
		if len(l.dir.cold) > 0 {
			if l.dir.tail.len() < lim.hotRuns {
				return
			}
		} else {
			if l.ahead.done-l.ahead.bare < uint64(lim.hotRuns) {
				return
			}
			start = l.untilLive(max(l.cursor+1+lim.aheadRuns, l.dir.position(l.ahead.bare)))
		}
		if l.dir.position(l.ahead.done)-start < lim.hotRuns || !l.chillAt(start) {
			return
		}
	}
}

// chillAll packs what was never handed out, however little it is, as far as it can
// be packed.
func (l *log) chillAll() {
	for {
		start := l.dir.head.len()
		if len(l.dir.cold) == 0 {
			start = l.untilLive(l.cursor)
		}
		if start >= l.dir.hot() || !l.chillAt(start) {
			return
		}
	}
}

// untilLive is the position of the first run of the head, from position i on, that
// has unsettled messages.
func (l *log) untilLive(i int) int {
	for i < l.dir.head.len() && l.dir.head.at(i).Done() {
		i++
	}
	return i
}

// chillAt packs the run at a position: the tail's first, or one of the head after
// which all can be packed. It returns false if that cannot be done now.
func (l *log) chillAt(start int) bool {
	r := l.dir.at(start)
	if r.Done() && len(l.dir.cold) > 0 {
		l.dir.tail.shift()
		l.dir.tail.dead--
		return true
	}
	p, ok := l.chillRun(r)
	if !ok {
		return false
	}
	if len(l.dir.cold) == 0 {
		l.dir.tail = l.dir.head.split(start)
	}
	l.dir.tail.shift()
	l.dir.tail.tidy()
	l.dir.pack(r, p, l.q.limits().segmentRuns)
	return true
}

// chillRun gives up the handle of a run that nobody uses; false if that cannot be
// done now.
func (l *log) chillRun(r *Run) (Place, bool) {
	if r.Page != nil || r.asked || r.sent > 0 || r.Done() || r.someAway() || r.loading || r.spilling || r.loose || r.thinning || !l.q.Keeper.Stored(r) {
		return Place{}, false
	}
	p, ok := l.q.Keeper.Chill(r)
	if ok {
		r.Stored = nil
	}
	return p, ok
}

// Cold calls visit for the packed parts of the queue, level by level: the numbers
// first..end-1 belong to runs that Runs does not visit.
func (e *Engine) Cold(visit func(first, end uint64)) {
	for _, l := range e.levels {
		for _, i := range l.appendCold(nil) {
			visit(i.First, i.End)
		}
	}
}

// Interval is the message numbers First..End-1.
type Interval struct{ First, End uint64 }

// appendCold appends the numbers of all packed runs as few intervals.
func (l *log) appendCold(to []Interval) []Interval {
	apart := true // a run in its full form lies between this segment and the last
	for _, s := range l.dir.cold {
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
func (e *Engine) RunCount() (n int) {
	for _, l := range e.levels {
		n += l.dir.hot() - l.dir.head.dead - l.dir.tail.dead
		for _, s := range l.dir.cold {
			n += s.runs()
		}
	}
	return n
}

// ColdBytes is the bytes of memory that packed runs take.
func (e *Engine) ColdBytes() (n int) {
	for _, l := range e.levels {
		for _, s := range l.dir.cold {
			n += segmentSize + cap(s.packed)
		}
	}
	return n
}
