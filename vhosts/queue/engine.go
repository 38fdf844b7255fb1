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
	dir    directory
	cursor int    // position in dir of the first run with messages never handed out; dir.len() if none
	next   uint64 // number the next message gets

	returned         spans  // handed out and given back; all below the cursor
	redeliveredBelow uint64 // messages below it count as handed out before: set by recovery

	ready    uint64 // messages that wait: returned, and from the cursor on
	unacked  uint64 // messages handed out and neither settled nor returned
	bytes    uint64 // body bytes of ready and unacked messages, see Run.liveBytes
	resident uint64 // bytes of the pages the directory holds
	trimmed  uint64 // handed-out runs below this number were looked at by Trim
	kept     uint64 // runs below this number came when there was room, or were looked at by Trim

	reloaded []*Run  // behind the cursor and back in memory, as their messages were returned
	dropped  []*Page // let go of, to be released by ReleasePages

	consumers []*Consumer
	turn      int         // consumers[turn] is the next one served
	getters   []*Consumer // basic.gets that wait for a page, oldest first
	eligible  []*Consumer // scratch of share
}

// Ready is the number of messages that wait for a consumer.
func (e *Engine) Ready() uint64 { return e.ready }

// Unacked is the number of messages handed out and not settled yet.
func (e *Engine) Unacked() uint64 { return e.unacked }

// Bytes is the body bytes of ready and unacked messages together. Inside a
// partly settled run all messages are taken to be of one size.
func (e *Engine) Bytes() uint64 { return e.bytes }

// Resident is the bytes of message pages held in memory.
func (e *Engine) Resident() uint64 { return e.resident }

// Next is the number the next message will get.
func (e *Engine) Next() uint64 { return e.next }

// Runs calls visit for every run that has unsettled messages, oldest first.
func (e *Engine) Runs(visit func(*Run)) {
	for _, r := range e.dir.live() {
		if !r.Done() {
			visit(r)
		}
	}
}

// DeliveredUpTo is the number below which every message has been handed out at
// least once, and at or above which none has.
func (e *Engine) DeliveredUpTo() uint64 {
	if e.cursor < e.dir.len() {
		r := e.dir.at(e.cursor)
		return max(e.redeliveredBelow, r.First+uint64(r.sent))
	}
	return e.next
}

// Append puts the page's messages at the end of the queue as one run, which
// becomes a holder of the page. stored is the store's handle, nil for a run in
// memory only. The page must not be empty.
func (e *Engine) Append(page *Page, stored any) *Run {
	page.Hold()
	r := &Run{First: e.next, Count: uint32(page.Len()), Bytes: page.BodyBytes(), Page: page, Stored: stored}
	e.push(r)
	e.resident += uint64(page.Bytes())
	return r
}

// Restore puts a recovered run at the end of the queue: its page is on disk, and
// settled says which of its messages are gone. Runs come in order of their
// numbers, which may have gaps between runs.
func (e *Engine) Restore(first uint64, count uint32, bytes uint64, settled Bitmap, stored any) error {
	if first < e.next || count == 0 || count > MaxRunMessages {
		return fmt.Errorf("run of %d messages from number %d does not follow number %d", count, first, e.next)
	}
	if settled.NextSet(count, MaxRunMessages) != MaxRunMessages {
		return fmt.Errorf("run of %d messages from number %d has marks past its end", count, first)
	}
	e.push(&Run{First: first, Count: count, Bytes: bytes, Stored: stored, settled: settled, gone: settled.Count()})
	e.kept = e.next
	return nil
}

func (e *Engine) push(r *Run) {
	e.dir.push(r)
	e.next = r.end()
	e.ready += uint64(r.Count - r.gone)
	e.bytes += r.liveBytes()
	if r.Done() {
		e.dir.dead++
	}
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
		if at = max(0, e.dir.find(numbers[0], at)); at < e.dir.len() {
			n := e.settleIn(e.dir.at(at), numbers, fx)
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
		r.gone += uint32(n)
		e.bytes -= before - r.liveBytes()
		e.unacked -= uint64(n)
		e.settled(r, fx)
	}
	return n
}

// settled records in fx that some of r's messages have just gone.
func (e *Engine) settled(r *Run, fx *Effects) {
	if r.Done() {
		e.dir.dead++
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
// ones stay.
func (e *Engine) Purge(fx *Effects) uint64 {
	purged := e.ready
	for !e.returned.empty() {
		s := e.nextReady()
		e.settleDealt(s.run, s.from, 1, s.count)
		e.settled(s.run, fx)
		e.returned.take(uint64(s.count))
	}
	for ; e.cursor < e.dir.len(); e.cursor++ {
		r := e.dir.at(e.cursor)
		if r.Done() {
			continue
		}
		before := r.liveBytes()
		r.settled.SetRange(r.sent, r.Count)
		r.gone, r.sent = r.settled.Count(), r.Count
		e.bytes -= before - r.liveBytes()
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
	if e.dir.dead > 0 {
		e.cursor -= e.dir.compact(e.cursor)
	}
}

// Check verifies the engine's invariants at the cost of its size; tests call it
// after every step.
func (e *Engine) Check() error {
	var ready, live, dead uint64
	var resident, bytes uint64
	end := uint64(0)
	for i, r := range e.dir.live() {
		if r.First < end || r.end() > e.next {
			return fmt.Errorf("run %d..%d overlaps another or lies past %d", r.First, r.end(), e.next)
		}
		end = r.end()
		if r.gone != r.settled.Count() {
			return fmt.Errorf("run %d counts %d settled messages but marks %d", r.First, r.gone, r.settled.Count())
		}
		if r.Done() {
			dead++
		}
		if i < e.cursor && r.sent != r.Count && !r.Done() {
			return fmt.Errorf("run %d lies before the cursor but was not handed out", r.First)
		}
		if i > e.cursor && r.sent != 0 {
			return fmt.Errorf("run %d lies behind the cursor but was handed out", r.First)
		}
		for o := range r.Count {
			n := r.First + uint64(o)
			back := e.returned.has(n)
			if r.settled.Has(o) {
				if back {
					return fmt.Errorf("message %d is settled and returned", n)
				}
				continue
			}
			live++
			if back && o >= r.sent {
				return fmt.Errorf("message %d is returned but was never handed out", n)
			}
			if back || o >= r.sent {
				ready++
			}
		}
		bytes += r.liveBytes()
		if r.Page != nil {
			resident += uint64(r.Page.Bytes())
		}
	}
	switch {
	case dead != uint64(e.dir.dead):
		return fmt.Errorf("%d done runs, %d counted", dead, e.dir.dead)
	case ready != e.ready:
		return fmt.Errorf("%d messages ready, %d counted", ready, e.ready)
	case live != e.ready+e.unacked:
		return fmt.Errorf("%d messages live, %d ready and %d unacked counted", live, e.ready, e.unacked)
	case bytes != e.bytes:
		return fmt.Errorf("%d bytes, %d counted", bytes, e.bytes)
	case resident != e.resident:
		return fmt.Errorf("%d resident bytes, %d counted", resident, e.resident)
	}
	return nil
}
