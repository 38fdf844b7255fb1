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
func (e *Engine) Trim(limit, spill uint64, fx *Effects) {
	if limit < e.limit { // what could stay may have to go
		e.ahead, e.behind = sweep{}, sweep{}
	}
	e.limit = limit
	if e.resident > limit {
		e.trimStrays(limit)
		spills := e.resident > spill
		e.spill(&e.behind, 0, e.cursor, spill, fx)
		e.sweep(&e.behind, 0, e.cursor, limit, spills)
		e.spill(&e.ahead, e.cursor+1+sparedRuns, e.dir.hot(), spill, fx)
		e.sweep(&e.ahead, e.cursor+1, e.dir.hot(), limit, spills)
	} else if e.unbroken() {
		e.ahead.done, e.ahead.bare = e.next, e.next
	}
	e.chill()
}

// unbroken says whether every run from the cursor's on has its page: then what
// comes while there is room belongs to the head that stays. Otherwise it is the
// first to go when room gets short, as what lies before it has gone already.
func (e *Engine) unbroken() bool {
	if len(e.dir.cold) > 0 {
		return false
	}
	if e.ahead.bare >= e.ahead.done || e.cursor >= e.dir.head.len() {
		return true
	}
	return e.dir.head.at(e.cursor).First >= e.ahead.done
}

// sweep drops the pages of the runs at positions from..to-1, oldest first. If
// those in memory only are being spilled it waits for them, else it passes them.
func (e *Engine) sweep(s *sweep, from, to int, limit uint64, spills bool) {
	if e.Keeper == nil {
		s.done = e.next
		return
	}
	if from >= to {
		return
	}
	for i := max(from, e.dir.position(s.done)); i < to && e.resident > limit; i++ {
		r := e.dir.at(i)
		if r.Page != nil {
			switch {
			case r.Stored == nil && (r.spilling || spills && r.First >= s.asked):
				return
			case r.Stored == nil:
				s.bare = r.end() // it stays
			case !e.Keeper.Stored(r):
				return // and with it all later ones are on their way to the store
			default:
				e.dropPage(r)
			}
		}
		s.done = r.end()
	}
}

// spill asks for pages that are in memory only to be stored.
func (e *Engine) spill(s *sweep, from, to int, limit uint64, fx *Effects) {
	if e.Keeper == nil || e.resident <= limit || from >= to {
		return
	}
	if s.asked >= e.dir.at(to-1).end() {
		return
	}
	most := e.limits().spillBytes
	for i := max(from, e.dir.position(max(s.done, s.asked))); i < to; i++ {
		if e.spilling >= most || e.resident-e.spilling <= limit {
			return
		}
		r := e.dir.at(i)
		s.asked = r.end()
		if r.Stored == nil && r.Page != nil && !r.spilling {
			r.spilling = true
			e.spilling += weight(r.Page)
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
func (e *Engine) trimStrays(limit uint64) {
	if e.Keeper == nil || len(e.strays) == 0 {
		return
	}
	var next *Run
	switch {
	case !e.returned.empty():
		next = e.dir.head.at(e.dir.head.find(e.returned.head().first, 0))
	case e.cursor < e.dir.head.len():
		next = e.dir.head.at(e.cursor)
	}
	e.strays = slices.DeleteFunc(e.strays, func(r *Run) bool {
		if r.Page != nil && e.resident > limit && r != next && e.Keeper.Stored(r) {
			e.dropPage(r)
		}
		return r.Page == nil
	})
}

// Rest drops every page that can be read back, for a queue that nothing has
// happened to for a while and nobody reads from.
func (e *Engine) Rest() {
	if e.Keeper == nil || len(e.consumers) > 0 || len(e.getters) > 0 {
		return
	}
	for i := range e.dir.hot() {
		if r := e.dir.at(i); r.Page != nil && e.Keeper.Stored(r) {
			e.dropPage(r)
		}
	}
	e.strays = slices.DeleteFunc(e.strays, func(r *Run) bool { return r.Page == nil })
	e.ahead, e.behind = sweep{}, sweep{}
	e.chill()
}
