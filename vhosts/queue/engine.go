// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"slices"
)

// Engine is one queue. It is not safe for concurrent use: its shell calls it
// under the queue's lock. The zero value is an empty queue.
type Engine struct {
	// Keeper knows the store's handles. It is set before use and then constant; nil
	// for a queue nothing of which is ever stored.
	Keeper Keeper

	dir    directory
	cursor int    // position in dir's head of the first run with messages never handed out; its length if it has none
	next   uint64 // number the next message gets

	returned         spans  // handed out and given back; all below the cursor
	redeliveredBelow uint64 // messages below it count as handed out before: set by recovery

	ready    uint64 // messages that wait: returned, and from the cursor on
	unacked  uint64 // messages handed out and neither settled nor returned
	bytes    uint64 // body bytes of ready and unacked messages, see Run.liveBytes
	resident uint64 // what the pages the directory holds cost, see weight
	spilling uint64 // of those, what pages on their way to the store cost

	residentMessages uint64 // of ready and unacked ones, those whose pages are in memory
	residentBodies   uint64 // their body bytes, see Run.liveBytes

	limit   uint64  // of the last Trim, on pages that can be read back
	behind  sweep   // Trim's way through the runs that were handed out
	ahead   sweep   // and through those that were not
	strays  []*Run  // in memory again, or still, although Trim has passed them
	dropped []*Page // let go of, to be released by ReleasePages

	joining    bool   // Scattered gave out runs that are neither gathered nor scattered yet
	pile       pile   // neighbouring small hot runs found so far
	quiet      bool   // nothing in pile is worth joining as it is
	joined     uint64 // segments that end below it were looked at for joining
	joinedWarm uint64 // and the runs below it, of the segment that is unpacked for it
	thinned    uint64 // the head's runs below it were looked at by Thin in this round

	consumers []*Consumer
	turn      int         // consumers[turn] is the next one served
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
}

func (e *Engine) limits() *limits {
	if e.tuned != nil {
		return e.tuned
	}
	return &standard
}

// Ready is the number of messages that wait for a consumer.
func (e *Engine) Ready() uint64 { return e.ready }

// Unacked is the number of messages handed out and not settled yet.
func (e *Engine) Unacked() uint64 { return e.unacked }

// Bytes is the body bytes of ready and unacked messages together. Inside a
// partly settled run all messages are taken to be of one size.
func (e *Engine) Bytes() uint64 { return e.bytes }

// Resident is the bytes of memory that message pages take: their contents and a
// flat rate for each page and each message in it.
func (e *Engine) Resident() uint64 { return e.resident }

// ResidentMessages is how many of the ready and unacked messages are in memory.
func (e *Engine) ResidentMessages() uint64 { return e.residentMessages }

// ResidentBodies is the body bytes of the messages in memory, in the sense of
// Bytes.
func (e *Engine) ResidentBodies() uint64 { return e.residentBodies }

// Next is the number the next message will get.
func (e *Engine) Next() uint64 { return e.next }

// Runs calls visit for every run that has unsettled messages and is not packed,
// oldest first. Cold tells of the others.
func (e *Engine) Runs(visit func(*Run)) {
	all := func(list []*Run) {
		for _, r := range list {
			if !r.Done() {
				visit(r)
			}
		}
	}
	all(e.dir.head.all())
	for _, s := range e.dir.cold {
		all(s.warm.all())
	}
	all(e.dir.tail.all())
}

// DeliveredUpTo is the number below which every message has been handed out at
// least once, and at or above which none has.
func (e *Engine) DeliveredUpTo() uint64 {
	switch {
	case e.cursor < e.dir.head.len():
		r := e.dir.head.at(e.cursor)
		return max(e.redeliveredBelow, r.First+uint64(r.sent))
	case len(e.dir.cold) > 0:
		return max(e.redeliveredBelow, e.dir.cold[0].first)
	}
	return e.next
}

// Append puts the page's messages at the end of the queue as one run, which
// becomes a holder of the page. stored is the store's handle, nil for a run in
// memory only, which is then Volatile. The page must not be empty.
func (e *Engine) Append(page *Page, stored any) *Run {
	r := &Run{
		First: e.next, Count: uint32(page.Len()), Bytes: page.BodyBytes(),
		Stored: stored, Volatile: stored == nil,
	}
	e.hold(r, page)
	e.dir.push(r)
	e.next = r.end()
	e.ready += uint64(r.Count)
	e.bytes += r.Bytes
	return r
}

// SkipTo raises the number the next message gets to at least n. Recovery calls
// it after an orderly stop, so that DeliveredUpTo does not run ahead of it.
func (e *Engine) SkipTo(n uint64) { e.next = max(e.next, n) }

// RedeliverBelow makes every message below number n count as handed out before,
// so that it is delivered with the redelivered flag. Recovery calls it with
// what an orderly stop recorded, or with Next after an unclean one.
func (e *Engine) RedeliverBelow(n uint64) { e.redeliveredBelow = n }

// Settle takes messages out of the queue for good: they were acknowledged,
// rejected or dropped. All must be unacked. A number that is not is passed over
// and reported, as it would mean that the channel and the queue disagree.
func (e *Engine) Settle(numbers []uint64, fx *Effects) error {
	var wrong error
	at := 0
	for len(numbers) > 0 {
		if at = max(0, e.dir.head.find(numbers[0], at)); at < e.dir.head.len() {
			n := e.settleIn(e.dir.head.at(at), numbers, fx)
			numbers = numbers[n:]
			if n > 0 {
				continue
			}
		}
		wrong = fmt.Errorf("message %d is settled but not unacked", numbers[0])
		numbers = numbers[1:]
	}
	e.compact()
	return wrong
}

// settleIn settles those of the leading numbers that are unacked messages of run
// r, and returns how many these are.
func (e *Engine) settleIn(r *Run, numbers []uint64, fx *Effects) (n int) {
	before := r.liveBytes()
	for _, number := range numbers {
		offset := number - r.First // huge if number lies below
		if offset >= uint64(r.sent) || r.settled.Has(uint32(offset)) || !e.returned.empty() && e.returned.has(number) {
			break
		}
		r.settled.Set(uint32(offset))
		n++
	}
	if n > 0 {
		e.countGone(r, uint32(n), before)
		e.unacked -= uint64(n)
		e.settled(r, fx)
	}
	return n
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

// settled records in fx that some of r's messages have just gone.
func (e *Engine) settled(r *Run, fx *Effects) {
	if r.Done() {
		e.dir.head.dead++
		e.dropPage(r)
		fx.Done = append(fx.Done, r)
	} else if r.Stored != nil && (len(fx.Marked) == 0 || fx.Marked[len(fx.Marked)-1] != r) {
		fx.Marked = append(fx.Marked, r)
	}
}

// Return puts unacked messages back to their places, to be delivered again with
// the redelivered flag. numbers may be in any order and are sorted in place.
func (e *Engine) Return(numbers []uint64) {
	slices.Sort(numbers)
	e.returned.add(numbers)
	e.ready += uint64(len(numbers))
	e.unacked -= uint64(len(numbers))
}

// Purge settles every ready message and returns how many there were; unacked
// ones stay. What is packed goes wholesale, as Forgotten effects.
func (e *Engine) Purge(fx *Effects) uint64 {
	purged := e.ready
	for !e.returned.empty() {
		s := e.nextReady()
		e.settleDealt(s.run, s.from, 1, s.count)
		e.settled(s.run, fx)
		e.returned.take(uint64(s.count))
	}
	fx.Forgotten = e.appendCold(fx.Forgotten)
	for len(e.dir.cold) > 0 {
		s := e.dir.takeCold()
		e.bytes -= s.bytes
		e.dir.head.join(s.warm)
	}
	e.dir.joinTail()
	for ; e.cursor < e.dir.head.len(); e.cursor++ {
		r := e.dir.head.at(e.cursor)
		if r.Done() {
			continue
		}
		before := r.liveBytes()
		r.settled.SetRange(r.sent, r.Count)
		r.sent = r.Count
		e.countGone(r, r.settled.Count()-r.gone, before)
		e.settled(r, fx)
	}
	e.ready = 0
	e.compact()
	e.answerGetters(fx)
	return purged
}

// AddConsumer lets c take part in the distribution of messages.
func (e *Engine) AddConsumer(c *Consumer) {
	e.consumers = append(e.consumers, c)
	c.added = true
}

// RemoveConsumer takes c out of the distribution; what it holds stays unacked
// until it is settled or returned. It reports whether c was there.
func (e *Engine) RemoveConsumer(c *Consumer) bool {
	i := slices.Index(e.consumers, c)
	if i < 0 {
		return false
	}
	e.consumers = slices.Delete(e.consumers, i, i+1)
	c.added = false
	if i < e.turn {
		e.turn--
	}
	if e.turn == len(e.consumers) {
		e.turn = 0
	}
	return true
}

// Consumers are the consumers in the order they were added. The slice is the
// engine's own.
func (e *Engine) Consumers() []*Consumer { return e.consumers }

// Credit tells that consumer c no longer holds n of its messages: they were
// settled or returned.
func (e *Engine) Credit(c *Consumer, n uint32) {
	c.unacked -= min(n, c.unacked)
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
	if e.ready == 0 && len(e.getters) > 0 {
		fx.Empty = append(fx.Empty, e.getters...)
		clear(e.getters)
		e.getters = e.getters[:0]
	}
}

// compact drops done runs and keeps the cursor at its run.
func (e *Engine) compact() {
	if e.dir.head.dead > 0 {
		e.cursor -= e.dir.head.compact(e.cursor)
	}
}
