// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "slices"

// Messages become due: they expire, by the queue's time to live or their own, or
// have been delayed long enough.
//
// One time to live for all needs no index, as the order of the queue is that in
// which its messages expire. Due times of single messages (see Stamp) are indexed
// in two steps. Each run knows when its first message is due, and so does each
// segment, which is a few bytes for up to 256 messages. What is due soon is in
// memory message by message, as a heap: every few seconds the runs are gone through
// and the stamps of those in which something comes near are looked at, in their
// pages or, by a Stamps effect, in the store. So ten million messages with due times
// of their own cost no more memory than others, however these are spread.

// The index looks window milliseconds ahead, and looks again when half of that is
// over.
const window = 16_000

// noTTL is the time to live of messages that do not expire by the queue's.
const noTTL = ^uint64(0)

// calendar is what an engine knows of due times. It exists only for a queue that
// has, or had, messages that become due.
type calendar struct {
	ttl     uint64 // milliseconds from arrival, noTTL for none
	old     uint64 // what arrived up to here had outlived ttl at the last Expire
	passed  uint64 // the latest time of an Expire: dates up to then have been taken out of near
	asking  int    // runs whose stamps were asked for
	near    agenda // messages that are due before horizon, and perhaps some that are gone
	horizon uint64 // of each run, messages due before it are in near, unless due says otherwise
	far     uint64 // the earliest due of all runs, or something earlier; 0 if nothing is due
}

// mostAsked is for how many runs' stamps an engine asks at a time.
const mostAsked = 4096

// date is neighbouring messages that are due at the same time.
type date struct {
	at    uint64
	first uint64
	count uint32
}

// Timed reports whether messages of the queue may become due, so that Expire is to
// be called before and after Dispatch.
func (e *Engine) Timed() bool { return e.calendar != nil }

// SetTTL sets the time to live of the queue's messages from their arrival, in
// milliseconds; a negative one is none. It holds for messages that are there too; of
// delayed ones Resume is to be told next.
func (e *Engine) SetTTL(milliseconds int64) {
	if milliseconds >= 0 {
		e.timed().ttl = uint64(milliseconds)
	} else if e.calendar != nil {
		e.calendar.ttl = noTTL
	}
	e.watchAll()
}

func (e *Engine) timed() *calendar {
	if e.calendar == nil {
		e.calendar = &calendar{ttl: noTTL}
	}
	return e.calendar
}

// Expire expels ready and delayed messages that are due at the time now, those that are due
// first before others, but not many more than most. It returns when it is to be
// called again: now if there is more to do at once, in which case some of what is
// ready may be due, 0 if nothing more becomes due.
//
// Dispatch is to follow if anything was expelled, as somebody may wait for its page.
//
// Between two calls with the same now it holds that no message whose page is in
// memory is ready and due, if the first of them did not return now.
func (e *Engine) Expire(now uint64, reason Reason, most int, fx *Effects) (next uint64) {
	c := e.calendar
	if c == nil {
		return 0
	}
	if e.Ready()+e.unacked+e.leaving+e.delayed == 0 {
		c.near, c.far = agenda{}, 0 // nothing is left of it
	}
	c.passed = max(c.passed, now)
	if e.looks(now) {
		e.lookAhead(now, fx)
	}
	expelled := e.expireNear(now, reason, most, fx)
	for e.looks(now) { // near was full, or the last look long ago
		e.lookAhead(now, fx)
		expelled += e.expireNear(now, reason, most-expelled, fx)
	}
	if c.ttl <= now { // after near, where stamps that were read are: what they hid may be old as well
		c.old = now - c.ttl
		for _, l := range e.levels {
			n, first := l.expireOld(c.old, most-expelled, reason, fx)
			if expelled += n; first != 0 {
				next = earlier(next, max(first+c.ttl, now))
			}
		}
	}
	if at := c.near.next(now); at != 0 {
		next = earlier(next, max(now, at))
	}
	if c.far != 0 && e.mayLook() {
		next = earlier(next, max(now+1, c.far-min(c.far, window/2)))
	}
	return next
}

// expireNear expels those of the messages in near that are ready or delayed and due at
// the time now, but not many more than most, and returns how many these are.
func (e *Engine) expireNear(now uint64, reason Reason, most int, fx *Effects) (expelled int) {
	near := &e.calendar.near
	var numbers []uint64
	for at := near.next(now); at != 0 && at <= now && expelled < most; at = near.next(now) {
		numbers = numbers[:0]
		for soon := &near.soon; len(*soon) > 0 && (*soon)[0].at == at && len(numbers) < MaxRunMessages; {
			d := soon.pop()
			for i := range d.count {
				numbers = append(numbers, d.first+uint64(i))
			}
		}
		slices.Sort(numbers)
		expelled += int(e.ExpelReady(slices.Compact(numbers), reason, fx))
	}
	return expelled
}

// looks says whether it is time to look ahead, and there is room for what is found.
func (e *Engine) looks(now uint64) bool {
	c := e.calendar
	return c.far != 0 && now+window/2 >= c.far && e.mayLook()
}

// mayLook says whether there is room for more dates, and for more runs to be asked for.
func (e *Engine) mayLook() bool {
	return e.calendar.asking < mostAsked/2 && e.calendar.near.len() < e.limits().nearDates
}

// expireOld expels ready messages that arrived up to the time old, oldest first. It
// returns how many these were, and when the first of the others arrived: 0 if there
// is none, or its stamp has to be read.
func (l *log) expireOld(old uint64, most int, reason Reason, fx *Effects) (n int, first uint64) {
	for l.ready > 0 {
		s := l.nextReady()
		r := s.run
		if r.Arrived > old || n >= most {
			return n, r.Arrived
		}
		count := s.count
		if r.stamped {
			if r.Page == nil {
				l.askOld(r, old, fx)
				return n, 0
			}
			for count = 0; count < s.count && r.Page.Stamp(int(s.from+count)).Arrived <= old; count++ {
			}
			if count == 0 {
				return n, r.Page.Stamp(int(s.from)).Arrived
			}
		}
		n += int(l.q.ExpelBelow(r.First+uint64(s.from+count), reason, fx))
	}
	return n, 0
}

// askOld asks for the stamps of run r, which is next to be handed out, and of those after
// it that may be as old.
func (l *log) askOld(r *Run, old uint64, fx *Effects) {
	if r.asked {
		return
	}
	l.q.askStamps(r, fx)
	for i := l.cursor; i < l.dir.head.len() && l.q.calendar.asking < mostAsked/2; i++ {
		switch r := l.dir.head.at(i); {
		case r.Done() || r.Page != nil || !r.stamped:
		case r.Arrived > old:
			return
		default:
			l.q.askStamps(r, fx)
		}
	}
}

// lookAhead takes what is due within the window into near.
func (e *Engine) lookAhead(now uint64, fx *Effects) {
	c := e.calendar
	if c.far >= c.horizon { // otherwise a look that has asked for as much as it may goes on
		c.horizon = now + window
	}
	c.far = 0
	full := e.limits().nearDates
	look := func(r *Run) { // what is in memory could be handed out, so it may not be late
		if r.due != 0 && r.due < c.horizon && !r.Done() && (r.Page != nil || c.near.len() < full) {
			e.lookAt(r, fx)
		}
		if !r.Done() && !r.asked {
			c.far = earlier(c.far, r.due)
		}
	}
	for _, l := range e.levels {
		for _, r := range l.dir.head.all() {
			look(r)
		}
		for _, s := range l.dir.cold {
			if s.due != 0 && s.due < c.horizon && c.asking < mostAsked && c.near.len() < full {
				s.unpack(e.Keeper)
			}
			c.far = earlier(c.far, s.due)
			for _, r := range s.warm.all() {
				look(r)
			}
		}
		for _, r := range l.dir.tail.all() {
			look(r)
		}
	}
}

// lookAt takes a run's messages that are due before the horizon into near, or asks
// for their stamps.
func (e *Engine) lookAt(r *Run, fx *Effects) {
	if r.Page == nil {
		e.askStamps(r, fx)
		return
	}
	e.enter(r, 0, r.Page.Stamp)
}

// askStamps asks for the stamps of a run that has no page.
func (e *Engine) askStamps(r *Run, fx *Effects) {
	if !r.asked {
		r.asked = true
		e.calendar.asking++
		fx.Stamps = append(fx.Stamps, r)
	}
}

// enter takes the messages of a run from the from-th on into the calendar: those due
// before the horizon into near, the others as the run's due time.
func (e *Engine) enter(r *Run, from uint32, stamp func(i int) Stamp) {
	c := e.calendar
	if from == 0 {
		r.due = 0
	}
	var d date
	for i := from; i < r.Count; i++ {
		s := stamp(int(i))
		if s.Due == 0 || r.settled.Has(i) {
			continue
		}
		if s.Due >= c.horizon {
			r.due = earlier(r.due, s.Due)
			continue
		}
		number := r.First + uint64(i)
		if d.count > 0 && d.at == s.Due && d.first+uint64(d.count) == number {
			d.count++
			continue
		}
		if d.count > 0 {
			c.near.push(d)
		}
		d = date{s.Due, number, 1}
	}
	if d.count > 0 {
		c.near.push(d)
	}
	c.far = earlier(c.far, r.due)
}

// appended takes the messages of a run's page from the from-th on into the calendar:
// they have just come, and some are due one day.
func (e *Engine) appended(r *Run, from uint32) {
	e.timed()
	e.enter(r, from, r.Page.Stamp)
}

// joined takes a run that was made of others into the calendar. What was in near
// still is, as numbers stay.
func (e *Engine) joined(r *Run) {
	if r.due == 0 {
		return
	}
	if c := e.calendar; r.Page != nil && r.due < c.horizon {
		e.enter(r, 0, r.Page.Stamp)
	} else {
		c.far = earlier(c.far, r.due)
	}
}

// Stamped feeds back the stamps of a run that a Stamps effect asked for: that of
// message i is stamp(i). Expire goes on with what is due of them.
func (e *Engine) Stamped(r *Run, stamp func(i int) Stamp) {
	c := e.calendar
	c.asking--
	r.asked = false
	if r.Done() {
		return
	}
	e.enter(r, 0, stamp)
	first, old := uint64(0), 0
	for i := range r.Count {
		switch s := stamp(int(i)); {
		case r.settled.Has(i):
		case c.ttl != noTTL && s.Arrived <= c.old:
			c.near.push(date{s.Arrived + c.ttl, r.First + uint64(i), 1})
			old++
		default:
			first = earlier(first, s.Arrived)
		}
	}
	if first != 0 {
		r.Arrived = first
	}
	if r.aside != nil {
		e.watch(r)
	}
	if old == 0 {
		e.level(Level(r.First)).packLater(r.First)
	}
}

// StampsFailed tells that the stamps of a run that a Stamps effect asked for could
// not be read; they are asked for again.
func (e *Engine) StampsFailed(r *Run) {
	r.asked = false
	e.calendar.asking--
	e.calendar.far = earlier(e.calendar.far, r.due)
	if r.aside != nil {
		e.watch(r)
	}
}

// back takes returned messages into the calendar again whose dates have passed while
// they were unacked.
func (e *Engine) back(numbers []uint64) {
	at := 0
	for _, number := range numbers {
		head := &e.level(Level(number)).dir.head
		if at = max(0, head.find(number, at)); at < head.len() {
			r := head.at(at)
			e.ready(r, uint32(number-r.First))
		}
	}
}

// ready takes a message that becomes ready again into the calendar if its date has
// passed meanwhile.
func (e *Engine) ready(r *Run, offset uint32) {
	c := e.calendar
	switch {
	case !r.stamped:
	case r.Page == nil:
		r.due, c.far = 1, 1 // not known: the next Expire looks at it
	default:
		s := r.Page.Stamp(int(offset))
		due := s.Due
		if c.ttl != noTTL && s.Arrived <= c.old { // the run may say by now when a later one arrived
			due = earlier(due, s.Arrived+c.ttl)
		}
		if due != 0 && due <= c.passed {
			c.near.push(date{due, r.First + uint64(offset), 1})
		}
	}
}

// dates is a heap by time, and number.
type dates []date

func (d dates) before(i, j int) bool {
	return d[i].at < d[j].at || d[i].at == d[j].at && d[i].first < d[j].first
}

func (d *dates) push(x date) {
	h := append(*d, x)
	for i := len(h) - 1; i > 0 && h.before(i, (i-1)/2); i = (i - 1) / 2 {
		h[i], h[(i-1)/2] = h[(i-1)/2], h[i]
	}
	*d = h
}

func (d *dates) pop() date {
	h := *d
	first, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && h.before(child+1, child) {
			child++
		}
		if !h.before(child, i) {
			break
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
	if cap(h) > 1024 && len(h) < cap(h)/4 {
		h = append(make(dates, 0, 2*len(h)), h...)
	}
	*d = h
	return first
}
