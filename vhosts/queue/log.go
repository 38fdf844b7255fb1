// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

// log is one level of a queue: its messages in the order they came. Each method
// leaves the counters of the queue right.
type log struct {
	q     *Engine // the queue
	level uint8

	dir    directory
	cursor int    // position in dir's head of the first run with messages never handed out; its length if it has none
	next   uint64 // number the next message gets
	ready  uint64 // messages that wait: returned, and from the cursor on

	returned         spans  // handed out and given back; all below the cursor
	redeliveredBelow uint64 // messages below it count as handed out before: set by recovery

	behind sweep  // Trim's way through the runs that were handed out
	ahead  sweep  // and through those that were not
	strays []*Run // in memory again, or still, although Trim has passed them

	pile       pile   // neighbouring small hot runs found so far
	quiet      bool   // nothing in pile is worth joining as it is
	looked     Zeal   // with which runs were looked at for joining last
	joined     uint64 // segments that end below it were looked at for joining
	joinedWarm uint64 // and the runs below it, of the segment that is unpacked for it
	thinned    uint64 // the head's runs below it were looked at by Thin in this round
}

// visit calls see for every run that has unsettled messages and is not packed,
// oldest first.
func (l *log) visit(see func(*Run)) {
	for _, list := range l.dir.appendLists(nil) {
		for _, r := range list {
			if !r.Done() {
				see(r)
			}
		}
	}
}

// deliveredUpTo is the number below which every message has been handed out at
// least once, and at or above which none has.
func (l *log) deliveredUpTo() uint64 {
	switch {
	case l.cursor < l.dir.head.len():
		r := l.dir.head.at(l.cursor)
		return max(l.redeliveredBelow, r.First+uint64(r.sent))
	case len(l.dir.cold) > 0:
		return max(l.redeliveredBelow, l.dir.cold[0].first)
	}
	return l.next
}

func (l *log) append(page *Page, stored any) *Run {
	r := &Run{
		First: l.next, Count: uint32(page.Len()), Bytes: page.BodyBytes(),
		Stored: stored, Volatile: stored == nil,
	}
	r.setTimes(page.Times())
	l.q.hold(r, page)
	l.dir.push(r)
	l.next = r.end()
	l.ready += uint64(r.Count)
	l.q.bytes += r.Bytes
	if r.due != 0 {
		l.q.appended(r, 0)
	}
	if l.q.weighs {
		l.q.readyBytes += r.Bytes
	}
	return r
}

func (l *log) settle(numbers []uint64, fx *Effects) (wrong error) {
	at := 0
	for len(numbers) > 0 {
		if at = max(0, l.dir.head.find(numbers[0], at)); at < l.dir.head.len() {
			n := l.settleIn(l.dir.head.at(at), numbers, fx)
			numbers = numbers[n:]
			if n > 0 {
				continue
			}
		}
		wrong = notUnacked(numbers[0])
		numbers = numbers[1:]
	}
	l.compact()
	return wrong
}

// settleIn settles those of the leading numbers that are unacked messages of run
// r, and returns how many these are.
func (l *log) settleIn(r *Run, numbers []uint64, fx *Effects) (n int) {
	before := r.liveBytes()
	for _, number := range numbers {
		offset := number - r.First // huge if number lies below
		if !l.holds(r, offset) {
			break
		}
		r.settled.Set(uint32(offset))
		n++
	}
	if n > 0 {
		l.q.countGone(r, uint32(n), before)
		l.q.unacked -= uint64(n)
		l.settled(r, fx)
	}
	return n
}

// holds reports whether the message at that offset of run r is unacked. The offset
// may lie beyond the run.
func (l *log) holds(r *Run, offset uint64) bool {
	return offset < uint64(r.sent) && !r.settled.Has(uint32(offset)) && !r.isAway(uint32(offset)) &&
		(l.returned.empty() || !l.returned.has(r.First+offset))
}

// settled records in fx that some of r's messages have just gone.
func (l *log) settled(r *Run, fx *Effects) {
	if r.Done() {
		l.dir.bury(r)
		l.q.dropPage(r)
		fx.Done = append(fx.Done, r)
	} else if r.Stored != nil && (len(fx.Marked) == 0 || fx.Marked[len(fx.Marked)-1] != r) {
		fx.Marked = append(fx.Marked, r)
	}
}

func (l *log) purge(fx *Effects) uint64 {
	purged := l.ready
	for !l.returned.empty() {
		s := l.nextReady()
		l.q.settleSent(s.run, s.from, 1, s.count)
		l.settled(s.run, fx)
		l.returned.take(uint64(s.count))
	}
	fx.Forgotten = l.appendCold(fx.Forgotten)
	for len(l.dir.cold) > 0 {
		s := l.dir.takeCold()
		l.q.bytes -= s.bytes
		l.dir.head.join(s.warm)
	}
	l.dir.joinTail()
	l.purgeRuns(l.dir.head.len(), fx)
	l.ready = 0
	l.compact()
	return purged
}

// purgeRuns settles what is ready of runs from the cursor on, up to one position, and
// returns how many messages these are.
func (l *log) purgeRuns(to int, fx *Effects) (purged uint64) {
	for ; l.cursor < to; l.cursor++ {
		r := l.dir.head.at(l.cursor)
		if r.Done() {
			continue
		}
		before, weighed := r.liveBytes(), l.weighed(r)
		for from := r.nextStaying(r.sent); from < r.Count; from = r.nextStaying(from) {
			to := r.nextAway(from)
			r.settled.SetRange(from, to)
			from = to
		}
		r.sent = r.Count
		n := r.settled.Count() - r.gone
		l.q.countGone(r, n, before)
		l.settled(r, fx)
		l.reweigh(r, weighed)
		purged += uint64(n)
	}
	return purged
}

// stretch is neighbouring ready messages of one run that go out with the same
// redelivered flag.
type stretch struct {
	run         *Run
	from, count uint32
	redelivered bool
	returned    bool // taken from the set returned, not from the cursor
}

// nextReady is the lowest ready messages; there must be one.
func (l *log) nextReady() stretch {
	if !l.returned.empty() {
		h := l.returned.head()
		r := l.dir.head.at(l.dir.head.find(h.first, 0))
		from := uint32(h.first - r.First)
		return stretch{r, from, uint32(min(h.last+1, r.end()) - h.first), true, true}
	}
	for {
		if len(l.dir.cold) > 0 {
			l.refill()
		}
		r := l.dir.head.at(l.cursor)
		// Recovered messages at or above sent may be settled, and expelled ones too.
		from := r.nextStaying(r.sent)
		if from == r.Count {
			r.sent = r.Count
			l.cursor++
			continue
		}
		r.sent = from
		to := r.nextAway(from)
		first := r.First + uint64(from)
		if first < l.redeliveredBelow && l.redeliveredBelow < r.First+uint64(to) {
			to = uint32(l.redeliveredBelow - r.First)
		}
		return stretch{r, from, to - from, first < l.redeliveredBelow, false}
	}
}

// giveBack adds to the returned messages, by sorted numbers.
func (l *log) giveBack(numbers []uint64) {
	if !l.q.weighs {
		l.returned.add(numbers)
		return
	}
	for len(numbers) > 0 {
		r := l.dir.head.at(l.dir.head.find(numbers[0], 0))
		n := 1
		for n < len(numbers) && numbers[n] < r.end() {
			n++
		}
		before := l.weight(r)
		l.returned.add(numbers[:n])
		l.reweigh(r, before)
		numbers = numbers[n:]
	}
}

// take removes the first n messages of s from the ready ones.
func (l *log) take(s stretch, n uint32, fx *Effects) {
	l.ready -= uint64(n)
	if l.q.weighs {
		l.q.readyBytes -= s.run.bodyBytes(s.from, n)
	}
	gone := s.run.settled.NextSet(s.from, s.from+n) < s.from+n
	if s.returned {
		l.returned.take(uint64(n))
	} else {
		s.run.sent = s.from + n
		if s.run.sent == s.run.Count {
			l.cursor++
		}
		l.readAhead(fx)
	}
	if gone {
		l.settled(s.run, fx)
		l.compact()
	}
}

// compact drops done runs and keeps the cursor at its run.
func (l *log) compact() {
	if l.dir.head.dead > 0 {
		l.cursor -= l.dir.head.compact(l.cursor)
	}
}
