// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

// A queue keeps only a window of its pages in memory. Dispatch asks for pages
// with Loads effects, and Trim lets go of pages, see there.

// What a page in memory costs besides its contents, in bytes: the page with its
// run and their entries, each message's entry in the page, and its stamp.
const (
	pageOverhead    = 160
	messageOverhead = 16
	stampOverhead   = 16
)

// weight is what a page costs, in bytes of memory, its spare room included.
func weight(p *Page) uint64 {
	return uint64(cap(p.buf) + pageOverhead + messageOverhead*cap(p.messages) + stampOverhead*cap(p.stamps))
}

func (e *Engine) load(r *Run, fx *Effects) {
	if r.Page != nil || r.loading || r.Done() {
		return
	}
	r.loading = true
	fx.Loads = append(fx.Loads, r)
	for i := len(fx.Loads) - 1; i > 0 && fx.Loads[i-1].First > r.First; i-- {
		fx.Loads[i-1], fx.Loads[i] = fx.Loads[i], fx.Loads[i-1]
	}
}

// readAhead asks for the pages of the next runs from the cursor on, many at a time:
// not before half of those asked for are used up.
func (l *log) readAhead(fx *Effects) {
	if len(l.dir.cold) > 0 {
		l.refill()
	}
	if half := l.cursor + readAheadRuns/2; half < l.dir.head.len() && l.here(l.cursor, half) {
		return
	}
	ahead := uint64(0)
	for i := l.cursor; i < min(l.cursor+readAheadRuns, l.dir.head.len()) && ahead < readAheadBytes; i++ {
		r := l.dir.head.at(i)
		ahead += r.Bytes
		l.q.load(r, fx)
	}
}

// here says whether the pages of the head's runs from..to are in memory or asked
// for, looking at the ends and the middle: they come and go in order.
func (l *log) here(from, to int) bool {
	for _, i := range [...]int{from, from + 1, (from + to) / 2, to} {
		if r := l.dir.head.at(i); r.Page == nil && !r.loading && !r.Done() {
			return false
		}
	}
	return true
}

// Loaded feeds back the page of a run that a Loads effect asked for; the run
// becomes a holder of it. A page that nobody waits for any more, as its run was
// settled meanwhile, is not kept. Several runs may be fed back before the next
// Dispatch.
func (e *Engine) Loaded(r *Run, page *Page) {
	r.loading = false
	if r.Done() || r.Page != nil {
		return
	}
	l := e.find(Level(r.First))
	before := l.weighed(r)
	e.hold(r, page)
	l.reweigh(r, before)
	if r.due != 0 && r.due < e.calendar.horizon {
		e.enter(r, 0, page.Stamp)
	}
	if r.sent == r.Count || r.aside != nil {
		l.strays = append(l.strays, r)
	}
}

// LoadFailed tells that the page of a run that a Loads effect asked for could not
// be read; the next Dispatch asks again.
func (e *Engine) LoadFailed(r *Run) { r.loading = false }

// hold gives the run, which has none, its page.
func (e *Engine) hold(r *Run, page *Page) {
	page.Hold()
	r.Page = page
	e.resident += weight(page)
	e.residentMessages += uint64(r.live())
	e.residentBodies += r.liveBytes()
}

// Exchange gives a run that has its page another with the same messages.
func (e *Engine) Exchange(r *Run, page *Page) {
	page.Hold()
	e.resident += weight(page) - weight(r.Page)
	r.Page.Release()
	r.Page = page
}

// dropPage lets go of the run's page.
func (e *Engine) dropPage(r *Run) {
	if r.Page == nil {
		return
	}
	w := weight(r.Page)
	e.resident -= w
	e.residentMessages -= uint64(r.live())
	e.residentBodies -= r.liveBytes()
	if r.spilling {
		r.spilling = false
		e.spilling -= w
	}
	e.dropped = append(e.dropped, r.Page)
	if !e.weighs || r.Done() {
		r.Page = nil
		return
	}
	l := e.find(Level(r.First))
	before := l.weight(r)
	r.Page = nil
	l.reweigh(r, before)
}

// ReleasePages releases the pages that the engine has let go of since the last
// call. Called after the effects of those steps have been carried out, as their
// deliveries refer to pages.
func (e *Engine) ReleasePages() {
	e.packThawed()
	for i, p := range e.dropped {
		p.Release()
		e.dropped[i] = nil
	}
	if cap(e.dropped) > keptEffects {
		e.dropped = nil
	}
	e.dropped = e.dropped[:0]
}
