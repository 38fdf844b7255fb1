// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "slices"

// A queue keeps only a window of its pages in memory. Dispatch asks for pages
// with Loads effects and Trim lets go of those whose run can be read back.

func (e *Engine) load(r *Run, fx *Effects) {
	if r.Page == nil && !r.loading && !r.Done() {
		r.loading = true
		fx.Loads = append(fx.Loads, r)
	}
}

// readAhead asks for the pages of the next few runs from the cursor on.
func (e *Engine) readAhead(fx *Effects) {
	ahead := uint64(0)
	for i := e.cursor; i < min(e.cursor+readAheadRuns, e.dir.len()) && ahead < readAheadBytes; i++ {
		r := e.dir.at(i)
		ahead += r.Bytes
		e.load(r, fx)
	}
}

// Locate returns the run that holds an unsettled message, nil if none does, and
// asks for its page if that is not in memory: then it comes by Loaded.
func (e *Engine) Locate(number uint64, fx *Effects) *Run {
	at := e.dir.find(number, 0)
	if at < 0 {
		return nil
	}
	r := e.dir.at(at)
	if r.settled.Has(uint32(number - r.First)) {
		return nil
	}
	e.load(r, fx)
	return r
}

// Loaded feeds back the page of a run that a Loads effect asked for. A page that
// nobody waits for any more, as its run was settled meanwhile, is dropped.
func (e *Engine) Loaded(r *Run, page *Page) {
	r.loading = false
	if r.Done() || r.Page != nil {
		return
	}
	r.Page = page
	e.resident += uint64(page.Bytes())
	if r.sent == r.Count {
		e.reloaded = append(e.reloaded, r)
	}
}

// LoadFailed tells that the page of a run that a Loads effect asked for could not
// be read; the next Dispatch asks again.
func (e *Engine) LoadFailed(r *Run) { r.loading = false }

// dropPage lets go of the run's page.
func (e *Engine) dropPage(r *Run) {
	if r.Page != nil {
		e.resident -= uint64(r.Page.Bytes())
		e.dropped = append(e.dropped, r.Page)
		r.Page = nil
	}
}

// ReleasePages releases the pages that the engine has let go of since the last
// call. Called after the effects of those steps have been carried out, as their
// deliveries refer to pages.
func (e *Engine) ReleasePages() {
	for i, p := range e.dropped {
		p.Release()
		e.dropped[i] = nil
	}
	if cap(e.dropped) > keptEffects {
		e.dropped = nil
	}
	e.dropped = e.dropped[:0]
}

// Trim drops pages until at most limit bytes are resident: first of runs that
// were handed out whole, whose bytes are wanted again only if they come back,
// then of those that came when there was no room left, so that the head of the
// queue stays. Only what stored reports as readable from disk can go.
//
// The shell calls it after each Append and Loaded, with or without room. It
// looks at each run once, or until that is stored, so a call costs no more than
// what came since the last.
func (e *Engine) Trim(limit uint64, stored func(*Run) bool) {
	if e.resident <= limit {
		e.kept = e.next
		return
	}
	e.trimReloaded(limit, stored)
	for i := e.position(e.trimmed); i < e.cursor && e.resident > limit; i++ {
		if !e.trim(e.dir.at(i), stored) {
			break
		}
		e.trimmed = e.dir.at(i).end()
	}
	for i := max(e.cursor+1, e.position(e.kept)); i < e.dir.len() && e.resident > limit; i++ {
		if !e.trim(e.dir.at(i), stored) {
			break
		}
		e.kept = e.dir.at(i).end()
	}
}

// trimReloaded drops pages that were read back for returned messages and have
// been handed out again. The run that is next to be handed out stays, or it would
// be read time and again.
func (e *Engine) trimReloaded(limit uint64, stored func(*Run) bool) {
	next := uint64(0)
	if !e.returned.empty() {
		next = e.returned.head().first
	}
	e.reloaded = slices.DeleteFunc(e.reloaded, func(r *Run) bool {
		wanted := !e.returned.empty() && r.First <= next && next < r.end()
		if r.Page != nil && !wanted && e.resident > limit {
			e.trim(r, stored)
		}
		return r.Page == nil
	})
}

// trim drops the page of run r if it can be read back. It reports false if that
// is not so yet, as the run, and with it all later ones, is on its way to the
// store.
func (e *Engine) trim(r *Run, stored func(*Run) bool) bool {
	if r.Page == nil || r.Stored == nil {
		return true
	}
	if !stored(r) {
		return false
	}
	e.dropPage(r)
	return true
}

// position is the position of the first run at or above a number.
func (e *Engine) position(number uint64) int {
	if e.dir.len() == 0 || number <= e.dir.at(0).First {
		return 0
	}
	low, high := 0, e.dir.len()
	for low < high {
		middle := int(uint(low+high) >> 1)
		if e.dir.at(middle).First < number {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}
