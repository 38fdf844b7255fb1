// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "slices"

// sweep is how far Trim has come on one side of the cursor. It holds numbers, so
// that it stays right when runs are packed, thawed or joined.
type sweep struct {
	done  uint64 // runs below it were looked at, and let go of or left for good
	asked uint64 // runs below it were asked to be spilled if they needed it
	bare  uint64 // the runs from here up to done have lost their pages
}

// sparedRuns is how many runs after the cursor's are never spilled.
const sparedRuns = 8

// Trim drops pages while more than limit bytes are resident: first of runs that
// were handed out whole, whose bytes are wanted again only if they come back,
// then of those that came when there was no room left, so that the head of the
// queue stays. Only what can be read back goes. While more than spill bytes are
// resident, what is in memory only is asked to be stored by Spills effects, a
// bounded amount at a time, and goes at a later call. Runs far back in the queue
// without pages are packed.
//
// The shell calls it after each Append and Loaded, with or without room. It
// looks at each run once, or until that is stored, so a call costs no more than
// what came since the last.
func (e *Engine) Trim(limit, spill uint64, fx *Effects) { e.trimTo(limit, spill, false, fx) }

// TrimUnread is Trim for one of many queues that nobody reads while memory is short:
// not the head of the queue stays but what came last, so that small runs can be
// joined before they leave memory.
func (e *Engine) TrimUnread(limit, spill uint64, fx *Effects) { e.trimTo(limit, spill, true, fx) }

func (e *Engine) trimTo(limit, spill uint64, newest bool, fx *Effects) {
	if limit < e.limit { // what could stay may have to go
		for _, l := range e.levels {
			l.ahead, l.behind = sweep{}, sweep{}
		}
	}
	e.limit = limit
	if e.resident > limit {
		e.trim(limit, spill, fx)
	} else if !newest {
		for _, l := range e.levels {
			if l.unbroken() {
				l.ahead.done, l.ahead.bare = l.next, l.next
			}
		}
	}
	for _, l := range e.levels {
		l.chill()
	}
}

// trim goes over all levels, the lowest first: their messages are wanted last.
func (e *Engine) trim(limit, spill uint64, fx *Effects) {
	for _, l := range slices.Backward(e.levels) {
		l.trimStrays(limit)
	}
	first := e.readiest()
	if e.served != nil && e.served != first {
		e.served.retreat()
	}
	e.served = first
	spills := e.resident > spill
	for _, l := range slices.Backward(e.levels) {
		l.spill(&l.behind, 0, l.cursor, spill, fx)
		l.sweep(&l.behind, 0, l.cursor, limit, spills)
	}
	for _, l := range slices.Backward(e.levels) {
		// Of the level that is served now the cursor's run stays, and some are not
		// spilled.
		served, spared := 1, 1+sparedRuns
		if l != first {
			served, spared = 0, 0
		}
		l.spill(&l.ahead, l.cursor+spared, l.dir.hot(), spill, fx)
		l.sweep(&l.ahead, l.cursor+served, l.dir.hot(), limit, spills)
	}
}

// retreat drops what was read ahead: another level is served now.
func (l *log) retreat() {
	for i := l.cursor; l.q.Keeper != nil && i < min(l.cursor+readAheadRuns, l.dir.head.len()); i++ {
		if r := l.dir.head.at(i); r.Page != nil && l.q.Keeper.Stored(r) {
			l.q.dropPage(r)
		}
	}
}

// unbroken says whether every run from the cursor's on has its page: then what
// comes while there is room belongs to the head that stays. Otherwise it is the
// first to go when room gets short, as what lies before it has gone already.
func (l *log) unbroken() bool {
	if len(l.dir.cold) > 0 {
		return false
	}
	if l.ahead.bare >= l.ahead.done || l.cursor >= l.dir.head.len() {
		return true
	}
	return l.dir.head.at(l.cursor).First >= l.ahead.done
}

// sweep drops the pages of the runs at positions from..to-1, oldest first. If
// those in memory only are being spilled it waits for them, else it passes them.
func (l *log) sweep(s *sweep, from, to int, limit uint64, spills bool) {
	if l.q.Keeper == nil {
		s.done = l.next
		return
	}
	if from >= to {
		return
	}
	for i := max(from, l.dir.position(s.done)); i < to && l.q.resident > limit; i++ {
		r := l.dir.at(i)
		if r.Page != nil {
			switch {
			case r.Stored == nil && (r.spilling || spills && r.First >= s.asked):
				return
			case r.Stored == nil:
				s.bare = r.end() // it stays
			case !l.q.Keeper.Stored(r):
				return // and with it all later ones are on their way to the store
			default:
				l.q.dropPage(r)
			}
		}
		s.done = r.end()
	}
}

// spill asks for pages that are in memory only to be stored.
func (l *log) spill(s *sweep, from, to int, limit uint64, fx *Effects) {
	if l.q.Keeper == nil || l.q.resident <= limit || from >= to {
		return
	}
	if s.asked >= l.dir.at(to-1).end() {
		return
	}
	most := l.q.limits().spillBytes
	for i := max(from, l.dir.position(max(s.done, s.asked))); i < to; i++ {
		if l.q.spilling >= most || l.q.resident-l.q.spilling <= limit {
			return
		}
		r := l.dir.at(i)
		s.asked = r.end()
		if r.Stored == nil && r.Page != nil && !r.spilling {
			r.spilling = true
			l.q.spilling += weight(r.Page)
			fx.Spills = append(fx.Spills, r)
		}
	}
}

// Spilled answers a Spills effect: stored is the store's handle of the run's page,
// which goes once Keeper.Stored says so; nil if the store does not take it, and
// then it stays in memory. It reports whether the run still wants it: false if it
// was settled meanwhile, and the shell drops what it stored.
func (e *Engine) Spilled(r *Run, stored any) bool {
	if r.Done() || !r.spilling || r.Stored != nil {
		return false
	}
	if stored == nil {
		r.spilling = false
		e.spilling -= weight(r.Page)
		return true
	}
	r.Stored = stored
	return true
}

// trimStrays drops pages that are in memory although Trim has passed their runs:
// read back for returned messages that have been handed out again, or made by
// joining or thinning. The run that is next to be handed out stays, or it would
// be read time and again.
func (l *log) trimStrays(limit uint64) {
	if l.q.Keeper == nil || len(l.strays) == 0 {
		return
	}
	var next *Run
	switch {
	case !l.returned.empty():
		next = l.dir.head.at(l.dir.head.find(l.returned.head().first, 0))
	case l.cursor < l.dir.head.len():
		next = l.dir.head.at(l.cursor)
	}
	l.strays = slices.DeleteFunc(l.strays, func(r *Run) bool {
		if r.Page != nil && l.q.resident > limit && r != next && l.q.Keeper.Stored(r) {
			l.q.dropPage(r)
		}
		return r.Page == nil
	})
}

// Rest drops and releases every page that can be read back, packs the runs and gives
// back what room is kept for more, for a queue that nothing has happened to for a while
// and nobody reads from. No effects may be left to carry out.
func (e *Engine) Rest() {
	if e.Keeper == nil || len(e.consumers) > 0 || len(e.getters) > 0 {
		return
	}
	for _, l := range e.levels {
		for i := range l.dir.hot() {
			if r := l.dir.at(i); r.Page != nil && e.Keeper.Stored(r) {
				e.dropPage(r)
			}
		}
		l.strays = slices.DeleteFunc(l.strays, func(r *Run) bool { return r.Page == nil })
		l.ahead, l.behind = sweep{}, sweep{}
		l.chillAll()
		l.dir.head.fit()
		l.dir.tail.fit()
		for _, s := range l.dir.cold {
			s.fit()
		}
	}
	e.ReleasePages()
	e.dropped = nil
}
