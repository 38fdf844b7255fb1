// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "fmt"

// Messages leave a queue other than by an acknowledgement when they are rejected,
// expire, are too many, or were delivered too often. Where they are to go is for
// the shell to say, and getting there takes time. Until then such a message is
// leaving: it keeps its number and its place in its run, so that it is there after a
// crash (see Wait), but it is neither ready nor unacked, and nobody gets it.

// Reason says why messages leave.
type Reason uint8

// The reasons, in no order.
const (
	Rejected      Reason = iota // by reject or nack without requeue
	Expired                     // its time to live has run out
	Maxlen                      // the queue has more than it may have
	DeliveryLimit               // its deliveries failed too often
	Due                         // a delayed message has waited long enough

	// Reasons is how many there are.
	Reasons = 5
)

// String is the reason's name in headers (RabbitMQ 4.3, dead lettering).
func (r Reason) String() string {
	return [Reasons]string{"rejected", "expired", "maxlen", "delivery_limit", "due"}[r]
}

// Dead is neighbouring messages of one run that leave together: those at the
// offsets From..From+Count-1. The run stays the same as long as they are leaving.
type Dead struct {
	Run         *Run
	From, Count uint32
	Reason      Reason
}

// Numbers are the messages' numbers.
func (d *Dead) Numbers() Interval {
	first := d.Run.First + uint64(d.From)
	return Interval{first, first + uint64(d.Count)}
}

// Expel makes unacked messages leave, in the order of numbers. A number that is
// not unacked is passed over and reported, as in Settle.
func (e *Engine) Expel(numbers []uint64, reason Reason, fx *Effects) (wrong error) {
	for len(numbers) > 0 {
		n := e.ofLevel(numbers)
		if l := e.find(Level(numbers[0])); l == nil {
			wrong = cannotExpel(numbers[0])
		} else if err := l.expelUnacked(numbers[:n], reason, fx); err != nil {
			wrong = err
		}
		numbers = numbers[n:]
	}
	return wrong
}

func cannotExpel(number uint64) error {
	return fmt.Errorf("message %d is expelled but not unacked", number)
}

func (l *log) expelUnacked(numbers []uint64, reason Reason, fx *Effects) (wrong error) {
	for at := 0; len(numbers) > 0; {
		at = max(0, l.dir.head.find(numbers[0], at))
		n := 0
		if at < l.dir.head.len() {
			r := l.dir.head.at(at)
			offset := numbers[0] - r.First // huge if the number lies below
			for n < len(numbers) && numbers[n]-numbers[0] == uint64(n) && l.holds(r, offset+uint64(n)) {
				n++
			}
			if n > 0 {
				l.q.leave(r, uint32(offset), uint32(n), reason, fx)
				l.q.unacked -= uint64(n)
			}
		}
		if n == 0 {
			wrong = cannotExpel(numbers[0])
			n = 1
		}
		numbers = numbers[n:]
	}
	return wrong
}

// ExpelReady makes those of the messages leave that are ready or delayed, wherever in
// the queue they are, and returns how many these are. The numbers of one level must be
// together and sorted.
func (e *Engine) ExpelReady(numbers []uint64, reason Reason, fx *Effects) (n uint64) {
	for len(numbers) > 0 {
		count := e.ofLevel(numbers)
		if l := e.find(Level(numbers[0])); l != nil {
			n += l.expelReady(numbers[:count], reason, fx)
		}
		numbers = numbers[count:]
	}
	return n
}

func (l *log) expelReady(numbers []uint64, reason Reason, fx *Effects) (n uint64) {
	var back []uint64
	var r *Run
	before, undelayed := uint64(0), uint64(0)
	for _, number := range numbers {
		if r == nil || number >= r.end() {
			if r != nil {
				l.reweigh(r, before)
			}
			if r = l.locate(number); r != nil {
				before = l.weighed(r)
			}
		}
		if r == nil || number < r.First {
			continue
		}
		offset := uint32(number - r.First)
		switch {
		case r.settled.Has(offset) || r.isLeaving(offset):
			continue
		case r.isAway(offset):
			r.aside.undelay(offset)
			undelayed++
		case offset < r.sent:
			if l.returned.empty() || !l.returned.has(number) {
				continue
			}
			back = append(back, number)
		}
		l.q.leave(r, offset, 1, reason, fx)
		n++
	}
	if r != nil {
		l.reweigh(r, before)
	}
	l.returned.remove(back)
	l.ready -= n - undelayed
	l.q.delayed -= undelayed
	return n
}

// ExpelHead makes the first n ready messages leave, those that would be handed out
// first, or all if there are fewer.
func (e *Engine) ExpelHead(n uint64, reason Reason, fx *Effects) {
	for l := e.readiest(); l != nil && n > 0; l = e.readiest() {
		s := l.nextReady()
		count := uint32(min(n, uint64(s.count)))
		l.expel(s, count, reason, fx)
		n -= uint64(count)
	}
}

// ExpelBelow makes all ready messages leave that have numbers below number and are
// of its level, and returns how many these are.
func (e *Engine) ExpelBelow(number uint64, reason Reason, fx *Effects) (n uint64) {
	l := e.find(Level(number))
	for l != nil && l.ready > 0 {
		s := l.nextReady()
		first := s.run.First + uint64(s.from)
		if first >= number {
			break
		}
		count := uint32(min(number-first, uint64(s.count)))
		l.expel(s, count, reason, fx)
		n += uint64(count)
	}
	return n
}

// expel makes the first n messages of s, which are the next ready ones, leave.
func (l *log) expel(s stretch, n uint32, reason Reason, fx *Effects) {
	before := l.weighed(s.run)
	l.q.leave(s.run, s.from, n, reason, fx)
	l.reweigh(s.run, before)
	l.ready -= uint64(n)
	if s.returned {
		l.returned.take(uint64(n))
		return
	}
	s.run.sent = s.from + n
	if s.run.sent == s.run.Count {
		l.cursor++
	}
}

// leave marks messages as leaving and says so in fx.
func (e *Engine) leave(r *Run, from, count uint32, reason Reason, fx *Effects) {
	if r.aside == nil {
		r.aside = new(aside)
	}
	r.aside.away.SetRange(from, from+count)
	r.aside.departs += count
	e.leaving += uint64(count)
	e.leavingBytes += int64(count) * r.averageBytes()
	if n := len(fx.Dead); n > 0 {
		if d := &fx.Dead[n-1]; d.Run == r && d.Reason == reason && d.From+d.Count == from {
			d.Count += count
			return
		}
	}
	fx.Dead = append(fx.Dead, Dead{r, from, count, reason})
}

// SettleLeaving takes leaving messages out of the queue for good: where they were
// to go they are, or they go nowhere. A number that is not leaving is passed over
// and reported. The list, of intervals that are not empty, is used up.
func (e *Engine) SettleLeaving(numbers []Interval, fx *Effects) error {
	return e.stopLeaving(numbers, func(l *log, r *Run, stopped *Bitmap) {
		before := r.liveBytes()
		r.settled.SetAll(stopped)
		e.countGone(r, stopped.Count(), before)
		l.settled(r, fx)
	})
}

// ReturnLeaving makes leaving messages ready again, at their places. A number that
// is not leaving is passed over and reported. The list is used up, as by
// SettleLeaving.
func (e *Engine) ReturnLeaving(numbers []Interval) error {
	return e.stopLeaving(numbers, func(l *log, r *Run, stopped *Bitmap) {
		var back []uint64
		for o := stopped.NextSet(0, r.Count); o < r.Count; o = stopped.NextSet(o+1, r.Count) {
			if o < r.sent {
				back = append(back, r.First+uint64(o))
			}
			if e.calendar != nil {
				e.ready(r, o)
			}
		}
		l.returned.add(back)
		l.ready += uint64(stopped.Count())
	})
}

// stopLeaving takes the leaving mark off messages and calls what with them, run by
// run.
func (e *Engine) stopLeaving(numbers []Interval, what func(l *log, r *Run, stopped *Bitmap)) (wrong error) {
	for len(numbers) > 0 {
		first := &numbers[0].First
		l := e.find(Level(*first))
		var r *Run
		if l != nil {
			r = l.locate(*first)
		}
		if r == nil || !r.isLeaving(uint32(*first-r.First)) {
			wrong = fmt.Errorf("message %d is not leaving", *first)
			if *first++; *first == numbers[0].End {
				numbers = numbers[1:]
			}
			continue
		}
		before := l.weighed(r)
		var stopped Bitmap
		numbers = r.stopLeaving(numbers, &stopped)
		n := stopped.Count()
		if r.aside.departs -= n; r.aside.empty() {
			r.aside = nil
		}
		e.leaving -= uint64(n)
		e.leavingBytes -= int64(n) * r.averageBytes()
		what(l, r, &stopped)
		l.reweigh(r, before)
		l.settleDown(r)
		l.compact()
	}
	return wrong
}

// settleDown has the segment of a run packed again, if it is in one, once none of the
// run's messages is away.
func (l *log) settleDown(r *Run) {
	if len(l.dir.cold) > 0 && !r.someAway() {
		l.packLater(r.First)
	}
}

// stopLeaving takes the mark off those of the leading numbers that are leaving
// messages of the run, notes them in stopped, and returns the others.
func (r *Run) stopLeaving(numbers []Interval, stopped *Bitmap) []Interval {
	for len(numbers) > 0 {
		i := &numbers[0]
		if i.First < r.First || i.First >= r.end() || !r.isLeaving(uint32(i.First-r.First)) {
			break
		}
		from := uint32(i.First - r.First)
		to, end := from+1, uint32(min(i.End, r.end())-r.First)
		for to < end && r.isLeaving(to) {
			to++
		}
		stopped.SetRange(from, to)
		r.aside.stopWaiting(from, to)
		r.aside.away.ClearAll(stopped)
		if i.First = r.First + uint64(to); i.First == i.End {
			numbers = numbers[1:]
		}
	}
	return numbers
}

// packLater has the segment that holds number packed again by ReleasePages, if it is in
// one.
func (l *log) packLater(number uint64) {
	i := l.dir.segmentOf(number)
	if i == len(l.dir.cold) || number < l.dir.cold[i].first || l.dir.cold[i].thawed {
		return
	}
	e := l.q
	if len(e.thawed) == 0 && e.calendar != nil {
		e.thawedAt = e.calendar.passed
	}
	l.dir.cold[i].thawed = true
	e.thawed = append(e.thawed, number)
}

// packThawed packs the segments that can be packed again. While messages expire all over
// the queue, most segments are needed again in a moment: then they stay for thawTime.
func (e *Engine) packThawed() {
	c := e.calendar
	if len(e.thawed) == 0 || c != nil && c.near.len() > 0 && c.passed-e.thawedAt < thawTime {
		return
	}
	for _, number := range e.thawed {
		e.level(Level(number)).repack(number)
	}
	e.thawed = nil
}

// thawTime is in milliseconds.
const thawTime = 1000

// locate returns the run that holds a number, nil if there is none; a packed one is
// unpacked with its segment.
func (l *log) locate(number uint64) *Run {
	if at := l.dir.head.find(number, 0); at >= 0 {
		return l.dir.head.at(at)
	}
	if i := l.dir.segmentOf(number); i < len(l.dir.cold) && number >= l.dir.cold[i].first {
		s := l.dir.cold[i]
		s.unpack(l.q.Keeper)
		if at := s.warm.find(number, 0); at >= 0 {
			return s.warm.at(at)
		}
		return nil
	}
	if at := l.dir.tail.find(number, 0); at >= 0 {
		return l.dir.tail.at(at)
	}
	return nil
}

// repack packs the segment that holds number, if there is one that was unpacked
// because some of its messages were away and none is any more. What cannot be
// packed now is packed when the janitor gets there, or stays as it is until the
// cursor does.
func (l *log) repack(number uint64) {
	i := l.dir.segmentOf(number)
	if i == len(l.dir.cold) || number < l.dir.cold[i].first {
		return
	}
	if l.dir.cold[i].thawed = false; l.q.joining {
		return
	}
	for _, r := range l.dir.cold[i].warm.all() {
		if r.someAway() {
			return
		}
	}
	l.cool(i, false)
}
