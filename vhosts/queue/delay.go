// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"slices"
)

// Messages that come back may be delayed: they are not handed out before a time. Such
// a message is neither ready nor unacked, keeps its number and its place, expires when
// it is due, and is purged with what is ready. What is known of it is in its run, as
// spans of neighbours, and stored beside how often it was delivered, so that the
// delay outlasts a restart. The engine keeps for each run with delayed messages when
// it is to look at them next.

// delay is neighbouring messages of a run that are not handed out before a time.
type delay struct {
	at          uint64 // in milliseconds since 1970
	from, count uint32 // their offsets
}

// Delayed is the number of delayed messages. They count as neither ready nor unacked.
func (e *Engine) Delayed() uint64 { return e.delayed }

// Delay puts unacked messages back to their places, to be delivered again at a time
// and not before, in milliseconds since 1970, once Resume has been called then. They
// have been given to Count in the same step, which has it stored. numbers may be in any
// order and are sorted in place. One that is not unacked is passed over and reported,
// as in Settle.
func (e *Engine) Delay(numbers []uint64, at uint64) (wrong error) {
	slices.Sort(numbers)
	at = max(at, 1)
	for len(numbers) > 0 {
		n := e.ofLevel(numbers)
		if l := e.find(Level(numbers[0])); l == nil {
			wrong = notUnacked(numbers[0])
		} else if err := l.delay(numbers[:n], at); err != nil {
			wrong = err
		}
		numbers = numbers[n:]
	}
	return wrong
}

func (l *log) delay(numbers []uint64, at uint64) (wrong error) {
	position := 0
	for len(numbers) > 0 {
		n := 0
		var r *Run
		if position = max(0, l.dir.head.find(numbers[0], position)); position < l.dir.head.len() {
			r = l.dir.head.at(position)
			for n < len(numbers) && l.holds(r, numbers[n]-r.First) {
				n++
			}
		}
		if n == 0 {
			wrong = fmt.Errorf("message %d is delayed but not unacked", numbers[0])
			numbers = numbers[1:]
			continue
		}
		if l.q.calendar != nil {
			l.q.back(numbers[:n])
		}
		l.delayIn(r, numbers[:n], at)
		numbers = numbers[n:]
	}
	return wrong
}

// delayIn delays unacked messages of run r.
func (l *log) delayIn(r *Run, numbers []uint64, at uint64) {
	if r.aside == nil {
		r.aside = new(aside)
	}
	if r.aside.tallies == nil {
		r.aside.tallies = make([]Tally, r.Count)
	}
	for _, number := range numbers {
		r.aside.delay(uint32(number-r.First), at)
	}
	l.q.unacked -= uint64(len(numbers))
	l.q.delayed += uint64(len(numbers))
	if watched := r.aside.watched; watched == 0 || at < watched || l.q.calendar != nil {
		l.q.watch(r)
	}
}

// delay delays the message at offset, which is not away.
func (a *aside) delay(offset uint32, at uint64) {
	a.away.Set(offset)
	i := a.position(offset)
	joins := func(j int) bool { return j >= 0 && j < len(a.delays) && a.delays[j].at == at }
	switch before, after := joins(i-1) && a.delays[i-1].end() == offset, joins(i) && a.delays[i].from == offset+1; {
	case before && after:
		a.delays[i-1].count += 1 + a.delays[i].count
		a.delays = slices.Delete(a.delays, i, i+1)
	case before:
		a.delays[i-1].count++
	case after:
		a.delays[i].from--
		a.delays[i].count++
	default:
		a.delays = slices.Insert(a.delays, i, delay{at, offset, 1})
	}
}

func (d *delay) end() uint32 { return d.from + d.count }

// position is that of the first span that ends above offset, which holds it if any
// does.
func (a *aside) position(offset uint32) int {
	i, _ := slices.BinarySearchFunc(a.delays, offset, func(d delay, offset uint32) int {
		if d.end() <= offset {
			return -1
		}
		return 1
	})
	return i
}

// isDelayed reports whether the message at offset is delayed, and not leaving.
func (a *aside) isDelayed(offset uint32) bool {
	i := a.position(offset)
	return i < len(a.delays) && a.delays[i].from <= offset
}

// undelay ends the delay of the message at offset, which stays away.
func (a *aside) undelay(offset uint32) {
	i := a.position(offset)
	d := a.delays[i]
	a.delays = slices.Delete(a.delays, i, i+1)
	if d.end() > offset+1 {
		a.delays = slices.Insert(a.delays, i, delay{d.at, offset + 1, d.end() - offset - 1})
	}
	if d.from < offset {
		a.delays = slices.Insert(a.delays, i, delay{d.at, d.from, offset - d.from})
	}
	if len(a.delays) == 0 {
		a.watched = 0 // Resume passes over the entry that is left
	}
}

// watch sees to it that Resume looks at a run's delayed messages in time.
func (e *Engine) watch(r *Run) {
	a := r.aside
	at := uint64(0)
	for i := range a.delays {
		at = earlier(at, a.delays[i].at)
	}
	if at == 0 {
		a.watched = 0
		return
	}
	if c := e.calendar; c != nil && c.ttl != noTTL && !r.asked { // else Stamped comes here
		at = earlier(at, max(1, r.firstDelayed()+c.ttl))
	}
	if at != a.watched {
		a.watched = at
		e.watches.push(date{at: at, first: r.First})
	}
}

// firstDelayed is when the first of a run's delayed messages arrived, or something
// earlier if that is not known.
func (r *Run) firstDelayed() uint64 {
	if !r.stamped || r.Page == nil {
		return r.Arrived
	}
	first := ^uint64(0)
	for _, d := range r.aside.delays {
		for offset := d.from; offset < d.end(); offset++ {
			first = min(first, r.Page.Stamp(int(offset)).Arrived)
		}
	}
	return first
}

// watched returns the run of a watch and its level, nil if the watch is over.
func (e *Engine) watched(w date) (*log, *Run) {
	l := e.find(Level(w.first))
	r := l.locate(w.first)
	if r == nil || r.First != w.first || r.aside == nil || len(r.aside.delays) == 0 ||
		r.aside.watched != w.at && r.aside.watched != 0 { // 0 if it was packed meanwhile
		return nil, nil
	}
	return l, r
}

// Resume makes delayed messages ready again whose time has come, about most of them,
// and expels those that have outlived the queue's time to live. It returns when it is
// to be called again: now if there is more to do at once, 0 if nothing is delayed.
func (e *Engine) Resume(now uint64, most int, fx *Effects) (next uint64) {
	var ready resumed
	for done := 0; len(e.watches) > 0; {
		w := e.watches[0]
		if w.at > now {
			next = w.at
			break
		}
		if done >= most {
			next = now
			break
		}
		e.watches.pop()
		if l, r := e.watched(w); r != nil {
			done += l.resume(r, now, &ready, fx)
		}
	}
	ready.putBack(e)
	return next
}

// resumed is what is resumed in one step: it is added to the returned messages at once,
// as that takes time in proportion to how many these are.
type resumed struct {
	numbers []uint64
	weights []weighedRun // if bytes are counted
}

// weighedRun is a run and what it counted for in readyBytes before it was changed.
type weighedRun struct {
	l      *log
	r      *Run
	before uint64
}

// resume does what is due with a run's delayed messages and returns with how many.
func (l *log) resume(r *Run, now uint64, ready *resumed, fx *Effects) (done int) {
	a := r.aside
	ready.weigh(l, r)
	if old := l.expired(r, now, fx); old != nil {
		done = l.expireDelayed(r, old, fx)
	}
	left := a.delays[:0]
	for _, d := range a.delays {
		if d.at > now {
			left = append(left, d)
			continue
		}
		for offset := d.from; offset < d.end(); offset++ {
			l.resumeOne(r, offset, ready)
		}
		done += int(d.count)
	}
	l.q.delayed -= uint64(done)
	a.delays, a.watched = left, 0
	l.q.watch(r)
	l.settleDown(r)
	return done
}

// weigh notes what a run counts for that is to be changed.
func (s *resumed) weigh(l *log, r *Run) {
	if l.q.weighs {
		s.weights = append(s.weights, weighedRun{l, r, l.weight(r)})
	}
}

// resumeOne makes the delayed message at offset of run r ready. The caller takes it out
// of the delayed ones.
func (l *log) resumeOne(r *Run, offset uint32, ready *resumed) {
	r.aside.away.Clear(offset)
	l.ready++
	if offset < r.sent {
		ready.numbers = append(ready.numbers, r.First+uint64(offset))
	}
	if l.q.calendar != nil {
		l.q.ready(r, offset)
	}
}

// putBack completes what resumeOne has begun.
func (s *resumed) putBack(e *Engine) {
	slices.Sort(s.numbers)
	for numbers := s.numbers; len(numbers) > 0; {
		n := e.ofLevel(numbers)
		e.find(Level(numbers[0])).returned.add(numbers[:n])
		numbers = numbers[n:]
	}
	for _, w := range s.weights {
		w.l.reweigh(w.r, w.before)
	}
}

// expireDelayed expels those of a run's delayed messages that are old, and returns how
// many these are. The caller takes them off the count of delayed ones.
func (l *log) expireDelayed(r *Run, old func(offset uint32) bool, fx *Effects) (n int) {
	for _, d := range slices.Clone(r.aside.delays) {
		for offset := d.from; offset < d.end(); offset++ {
			if old(offset) {
				r.aside.undelay(offset)
				l.q.leave(r, offset, 1, Expired, fx)
				n++
			}
		}
	}
	return n
}

// expired returns a function that says which of a run's messages have outlived the
// queue's time to live, nil if none has. It asks for the run's stamps if it has to know
// them.
func (l *log) expired(r *Run, now uint64, fx *Effects) func(offset uint32) bool {
	c := l.q.calendar
	switch {
	case c == nil || c.ttl > now || r.Arrived > now-c.ttl:
		return nil
	case !r.stamped:
		return func(uint32) bool { return true }
	case r.Page == nil:
		l.q.askStamps(r, fx) // Stamped goes on with what is old
		return nil
	}
	return func(offset uint32) bool { return r.Page.Stamp(int(offset)).Arrived <= now-c.ttl }
}

// resumeAll makes all delayed messages ready, whatever their time.
func (e *Engine) resumeAll() {
	var ready resumed
	for _, w := range e.watches {
		l, r := e.watched(w)
		if r == nil {
			continue
		}
		ready.weigh(l, r)
		for _, d := range r.aside.delays {
			for offset := d.from; offset < d.end(); offset++ {
				l.resumeOne(r, offset, &ready)
			}
		}
		r.aside.delays, r.aside.watched = nil, 0
	}
	e.watches, e.delayed = nil, 0
	ready.putBack(e)
}

// watchAll looks anew when delayed messages are to be looked at: the time to live has
// changed.
func (e *Engine) watchAll() {
	watches := e.watches
	e.watches = nil
	for _, w := range watches {
		if _, r := e.watched(w); r != nil {
			r.aside.watched = 0
			e.watch(r)
		}
	}
}
