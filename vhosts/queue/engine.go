// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"slices"
)

// Engine is one queue. It is not safe for concurrent use: its shell calls it
// under the queue's lock. The zero value is an empty queue. It must not be copied
// after first use.
type Engine struct {
	// Keeper knows the store's handles. It is set before use and then constant; nil
	// for a queue nothing of which is ever stored.
	Keeper Keeper
	// Single says whether only one consumer gets messages at a time. It is set before
	// use and then constant.
	Single SingleActive

	levels []*log  // the levels that were ever used, highest first
	plain  log     // the first of them, so that a queue with one level is one object
	room   [1]*log // what levels is made of then

	unacked  uint64 // messages handed out and neither settled nor returned
	leaving  uint64 // messages on their way out, see Expel
	delayed  uint64 // messages that are not to be handed out yet, see Delay
	bytes    uint64 // body bytes of all unsettled messages, see Run.liveBytes
	resident uint64 // what the pages the directories hold cost, see weight
	spilling uint64 // of those, what pages on their way to the store cost

	residentMessages uint64 // of all unsettled ones, those whose pages are in memory
	residentBodies   uint64 // their body bytes, see Run.liveBytes

	weighs       bool   // readyBytes is kept, see Weigh
	readyBytes   uint64 // body bytes of ready messages
	leavingBytes int64  // body bytes of leaving ones, taking all of a run to be of one size

	limit   uint64  // of the last Trim, on pages that can be read back
	served  *log    // the level that had the first ready message then
	dropped []*Page // let go of, to be released by ReleasePages
	// thawed are numbers in segments that may be packed again then, but not before:
	// effects refer to the handles of their runs.
	thawed   []uint64
	thawedAt uint64 // calendar.passed when the first of them came
	joining  bool   // Scattered gave out runs that are neither gathered nor scattered yet

	calendar *calendar // nil if no message of the queue ever becomes due
	places   uint64    // the place of messages that wait next, see departure
	waiting  []uint64  // runs that Departures is to look at, by their first numbers
	watches  dates     // of runs with delayed messages, when Resume is to look at them; some may be over, see watched

	consumers []*Consumer // in the order they were added
	ranks     []rank      // those that messages are dealt to, the highest priority first
	active    *Consumer   // the single active consumer
	yielding  bool        // it gets nothing more, as another one is to follow
	getters   []*Consumer // basic.gets that wait for a page, oldest first
	eligible  []*Consumer // scratch of share

	tuned *limits // for tests; nil stands for standard
}

// limits are the engine's numbers that tests make small.
type limits struct {
	segmentRuns int    // most runs in a segment
	hotRuns     int    // runs that have lost their pages and are not packed yet, so that small ones are joined first
	aheadRuns   int    // runs after the cursor's that are neither packed nor joined while consumers are at work
	smallRuns   int    // small runs that make a segment worth unpacking for joining
	runMessages uint32 // most messages in a joined run
	runBytes    uint64 // most bytes in a joined run
	spillBytes  uint64 // most weight of pages on their way out of memory at a time
	thinBytes   uint64 // bodies of fewer bytes are not rewritten
	thinLooks   int    // runs that one Thin looks at
	nearDates   int    // dates in calendar.near from which on it costs no memory to be late: the engine looks ahead no further
}

var standard = limits{
	segmentRuns: 256,
	hotRuns:     512,
	aheadRuns:   64,
	smallRuns:   32,
	runMessages: MaxRunMessages,
	runBytes:    MaxRunBytes,
	spillBytes:  64 << 20,
	thinBytes:   16 << 10,
	thinLooks:   8192,
	nearDates:   1 << 20,
}

func (e *Engine) limits() *limits {
	if e.tuned != nil {
		return e.tuned
	}
	return &standard
}

// Ready is the number of messages that wait for a consumer.
func (e *Engine) Ready() (n uint64) {
	for _, l := range e.levels {
		n += l.ready
	}
	return n
}

// Unacked is the number of messages handed out and not settled yet.
func (e *Engine) Unacked() uint64 { return e.unacked }

// Leaving is the number of messages that were expelled and neither settled nor
// returned since. They count as neither ready nor unacked.
func (e *Engine) Leaving() uint64 { return e.leaving }

// Bytes is the body bytes of ready, unacked, leaving and delayed messages together. Inside
// a partly settled run all messages are taken to be of one size.
func (e *Engine) Bytes() uint64 { return e.bytes }

// Resident is the bytes of memory that message pages take: their contents and a
// flat rate for each page and each message in it.
func (e *Engine) Resident() uint64 { return e.resident }

// ResidentMessages is how many of the unsettled messages are in memory.
func (e *Engine) ResidentMessages() uint64 { return e.residentMessages }

// ResidentBodies is the body bytes of the messages in memory, in the sense of
// Bytes.
func (e *Engine) ResidentBodies() uint64 { return e.residentBodies }

// Runs calls visit for every run that has unsettled messages and is not packed,
// level by level, each from its oldest on. Cold tells of the others.
func (e *Engine) Runs(visit func(*Run)) {
	for _, l := range e.levels {
		l.visit(visit)
	}
}

// Lists returns the runs that Runs visits, and some that are done, without going over
// them: for one who gives up the engine. They are all there is of them then.
func (e *Engine) Lists() (lists [][]*Run) {
	for _, l := range e.levels {
		lists = l.dir.appendLists(lists)
	}
	return lists
}

// Next is the number the next message of a level will get.
func (e *Engine) Next(level uint8) uint64 {
	if l := e.find(level); l != nil {
		return l.next
	}
	return uint64(level) << levelShift
}

// Append puts the page's messages at the end of a level as one run, which
// becomes a holder of the page. stored is the store's handle, nil for a run in
// memory only, which is then Volatile. The page must not be empty.
func (e *Engine) Append(level uint8, page *Page, stored any) *Run {
	return e.level(level).append(page, stored)
}

// SkipTo raises the number the next message of a level gets to at least n, which
// tells the level. Recovery calls it after an orderly stop, so that Delivered does
// not run ahead of it.
func (e *Engine) SkipTo(n uint64) {
	l := e.level(Level(n))
	l.next = max(l.next, n)
}

// RedeliverBelow makes every message below number n, of n's level, count as handed
// out before, so that it is delivered with the redelivered flag. Recovery calls it
// with what an orderly stop recorded.
func (e *Engine) RedeliverBelow(n uint64) { e.level(Level(n)).redeliveredBelow = n }

// RedeliverAll makes every message that is in the queue count as handed out before.
// Recovery calls it after an unclean stop.
func (e *Engine) RedeliverAll() {
	for _, l := range e.levels {
		l.redeliveredBelow = l.next
	}
}

// Delivered returns for each level that was ever used the number below which every
// message of it has been handed out at least once, and at or above which none has.
func (e *Engine) Delivered() []uint64 {
	upTo := make([]uint64, len(e.levels))
	for i, l := range e.levels {
		upTo[i] = l.deliveredUpTo()
	}
	return upTo
}

// Settle takes messages out of the queue for good: they were acknowledged,
// rejected or dropped. All must be unacked. A number that is not is passed over
// and reported, as it would mean that the channel and the queue disagree.
func (e *Engine) Settle(numbers []uint64, fx *Effects) (wrong error) {
	for len(numbers) > 0 {
		n := e.ofLevel(numbers)
		l := e.find(Level(numbers[0]))
		if l == nil {
			wrong = notUnacked(numbers[0])
		} else if err := l.settle(numbers[:n], fx); err != nil {
			wrong = err
		}
		numbers = numbers[n:]
	}
	return wrong
}

// ofLevel returns how many of the leading numbers, of which there are some, are of
// one level.
func (e *Engine) ofLevel(numbers []uint64) int {
	if len(e.levels) == 1 {
		return len(numbers)
	}
	n := 1
	for level := Level(numbers[0]); n < len(numbers) && Level(numbers[n]) == level; {
		n++
	}
	return n
}

func notUnacked(number uint64) error {
	return fmt.Errorf("message %d is settled but not unacked", number)
}

// countGone counts n messages that have just been marked settled in r, whose
// liveBytes were before.
func (e *Engine) countGone(r *Run, n uint32, before uint64) {
	r.gone += n
	bytes := before - r.liveBytes()
	e.bytes -= bytes
	if r.Page != nil {
		e.residentMessages -= uint64(n)
		e.residentBodies -= bytes
	}
}

// settleSent marks messages handed out without acknowledgement as gone; take
// records the effect once for all of them.
func (e *Engine) settleSent(r *Run, from, stride, count uint32) {
	before := r.liveBytes()
	if stride == 1 {
		r.settled.SetRange(from, from+count)
	} else {
		for i := range count {
			r.settled.Set(from + i*stride)
		}
	}
	e.countGone(r, count, before)
}

// Return puts unacked messages back to their places, to be delivered again with
// the redelivered flag. numbers may be in any order and are sorted in place.
func (e *Engine) Return(numbers []uint64) {
	slices.Sort(numbers)
	if e.calendar != nil {
		e.back(numbers)
	}
	e.unacked -= uint64(len(numbers))
	for len(numbers) > 0 {
		n := e.ofLevel(numbers)
		l := e.level(Level(numbers[0]))
		l.giveBack(numbers[:n])
		l.ready += uint64(n)
		numbers = numbers[n:]
	}
}

// PurgeRuns settles what is ready of the next few runs, and returns how many messages
// these are. It returns false, having done nothing, if there are no more than so many in
// front of what is packed: then Purge has little to do.
func (e *Engine) PurgeRuns(few int, fx *Effects) (purged uint64, some bool) {
	for _, l := range e.levels {
		if l.dir.head.len()-l.cursor > few {
			purged = l.purgeRuns(l.cursor+few, fx)
			l.ready -= purged
			l.compact()
			return purged, true
		}
	}
	return 0, false
}

// Purge settles every ready or delayed message and returns how many there were;
// unacked and leaving ones stay. What is packed goes wholesale, as Forgotten effects.
func (e *Engine) Purge(fx *Effects) (purged uint64) {
	e.resumeAll()
	for _, l := range e.levels {
		purged += l.purge(fx)
	}
	e.readyBytes = 0
	e.answerGetters(fx)
	return purged
}

// Get asks for one message for c, a basic.get: it comes as a Delivery with Get
// set at the next Dispatch, or c comes as an Empty effect if nothing is ready.
func (e *Engine) Get(c *Consumer) { e.getters = append(e.getters, c) }

// ForgetGet withdraws a Get that was not answered yet.
func (e *Engine) ForgetGet(c *Consumer) {
	e.getters = slices.DeleteFunc(e.getters, func(g *Consumer) bool { return g == c })
}

// TakeGets withdraws every Get that was not answered yet and returns them: the
// queue goes away or out of service.
func (e *Engine) TakeGets() []*Consumer {
	gets := slices.Clone(e.getters)
	clear(e.getters)
	e.getters = e.getters[:0]
	return gets
}

func (e *Engine) answerGetters(fx *Effects) {
	if len(e.getters) > 0 && e.readiest() == nil {
		fx.Empty = append(fx.Empty, e.getters...)
		clear(e.getters)
		e.getters = e.getters[:0]
	}
}
