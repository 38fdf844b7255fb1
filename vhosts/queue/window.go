// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

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

// Loaded feeds back the page of a run that a Loads effect asked for. A page that
// nobody waits for any more, as its run was settled meanwhile, is dropped.
func (e *Engine) Loaded(r *Run, page *Page) {
	r.loading = false
	if r.Done() || r.Page != nil {
		return
	}
	r.Page = page
	e.resident += uint64(page.Bytes())
}

// dropPage lets go of the run's page.
func (e *Engine) dropPage(r *Run) {
	if r.Page != nil {
		e.resident -= uint64(r.Page.Bytes())
		r.Page = nil
	}
}

// Trim drops pages until at most limit bytes are resident: first of runs that
// were handed out whole, whose bytes are wanted again only if they come back,
// then from the end of the queue, which is wanted last. Only runs that stored
// reports as readable from disk can go; the run at the cursor always stays.
func (e *Engine) Trim(limit uint64, stored func(*Run) bool) {
	if e.resident <= limit {
		return
	}
	for i := e.firstUntrimmed(); i < e.cursor && e.resident > limit; i++ {
		r := e.dir.at(i)
		if r.Page != nil && !stored(r) {
			break
		}
		e.dropPage(r)
		e.trimmed = r.end()
	}
	for i := e.dir.len() - 1; i > e.cursor && e.resident > limit; i-- {
		r := e.dir.at(i)
		if r.Page == nil && !r.Done() {
			break // from here to the window at the head everything is on disk
		}
		if r.Page != nil && stored(r) {
			e.dropPage(r)
		}
	}
}

// firstUntrimmed is the position of the first run at or above the number up to
// which Trim has come.
func (e *Engine) firstUntrimmed() int {
	if e.dir.len() == 0 || e.trimmed <= e.dir.at(0).First {
		return 0
	}
	low, high := 0, e.dir.len()
	for low < high {
		middle := int(uint(low+high) >> 1)
		if e.dir.at(middle).First < e.trimmed {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}
