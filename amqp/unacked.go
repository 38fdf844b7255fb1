// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"cmp"
	"slices"
)

// delivery is one message a channel has delivered and not seen settled.
type delivery struct {
	tag    uint64        // its delivery tag
	sub    *subscription // nil: the delivery was settled
	number uint64        // the message's number in its queue
	// When it was delivered, see at; in two parts, beside held, as there are many of
	// these.
	atLow  uint32
	atHigh uint16
	held   bool // acknowledged inside a transaction that is not committed
}

// at is when the message was delivered, in milliseconds since 1970; 0 if that does
// not matter.
func (d *delivery) at() uint64 { return uint64(d.atHigh)<<32 | uint64(d.atLow) }

func (d *delivery) setAt(at uint64) { d.atHigh, d.atLow = uint16(at>>32), uint32(at) }

// unackedWindow maps delivery tags to outstanding messages. Tags only grow, so
// it is a list in their order. Settled ones stay in it as holes until they reach
// its start, or until holes are half of the list when it would have to grow: its
// memory follows the outstanding deliveries, not the range of their tags.
type unackedWindow struct {
	list []delivery // list[head:] is the window
	head int        // the lowest outstanding delivery, if there is one
	live uint64     // outstanding deliveries

	// timedOut is the highest tag that was taken back from a consumer that held a
	// message for too long. The client may not know of it yet: up to here, answers
	// about what is not outstanding are passed over. Its other mistakes about these
	// tags are, too, for which nothing has to be remembered of each.
	timedOut uint64
}

// add makes the delivery outstanding under its tag, which is higher than all
// before.
func (w *unackedWindow) add(d delivery) {
	if len(w.list) == cap(w.list) && len(w.list)/2 >= int(w.live) {
		w.compact()
	}
	w.list = append(w.list, d)
	w.live++
}

// compact drops the holes.
func (w *unackedWindow) compact() {
	w.list = slices.DeleteFunc(w.list, func(d delivery) bool { return d.sub == nil })
	w.head = 0
}

// at returns the delivery of that tag, nil if the window has none.
func (w *unackedWindow) at(tag uint64) *delivery {
	if i, ok := w.find(tag); ok {
		return &w.list[i]
	}
	return nil
}

func (w *unackedWindow) find(tag uint64) (int, bool) {
	window := w.list[w.head:]
	if len(window) == 0 || tag < window[0].tag {
		return 0, false
	}
	// No two tags are equal, so the delivery is here or, if tags are missing, before.
	if guess := tag - window[0].tag; guess < uint64(len(window)) {
		if window[guess].tag == tag {
			return w.head + int(guess), true
		}
		window = window[:guess]
	}
	i, ok := slices.BinarySearchFunc(window, tag, func(d delivery, tag uint64) int { return cmp.Compare(d.tag, tag) })
	return w.head + i, ok
}

// each calls visit for the outstanding delivery tag, or with multiple for all up
// to tag, or all there are if tag is 0. It reports false, without a call, if tag
// itself is not outstanding (AMQP 0-9-1, basic.ack; RabbitMQ 4.3, settling) and
// cannot have timed out.
func (w *unackedWindow) each(tag uint64, multiple bool, visit func(d *delivery)) bool {
	last := len(w.list) - 1
	if !multiple || tag != 0 {
		i, ok := w.find(tag)
		switch {
		case ok && w.list[i].outstanding():
			last = i
		case tag == 0 || tag > w.timedOut || ok && w.list[i].held:
			return false
		case !multiple:
			return true
		default:
			last = i - 1
		}
	}
	first := last
	if multiple {
		first = w.head
	}
	for i := first; i <= last; i++ {
		if d := &w.list[i]; d.outstanding() {
			visit(d)
		}
	}
	return true
}

// outstanding reports whether the delivery can be settled.
func (d *delivery) outstanding() bool { return d.sub != nil && !d.held }

// remove forgets the delivery, which visit of each, or the caller, has dealt
// with.
func (w *unackedWindow) remove(d *delivery) {
	d.sub = nil
	w.live--
}

// oldest returns the delivery that the subscription has held for longest, nil if
// it holds none.
func (w *unackedWindow) oldest(s *subscription) *delivery {
	for i := w.head; i < len(w.list); i++ {
		if w.list[i].sub == s {
			return &w.list[i]
		}
	}
	return nil
}

// timeOut removes all deliveries of a subscription, held ones too, and returns
// their numbers.
func (w *unackedWindow) timeOut(s *subscription) (numbers []uint64) {
	for i := w.head; i < len(w.list); i++ {
		if d := &w.list[i]; d.sub == s {
			numbers = append(numbers, d.number)
			w.timedOut = max(w.timedOut, d.tag)
			w.remove(d)
		}
	}
	w.trim()
	return numbers
}

// trim moves the window's start over holes; to be called after removals.
func (w *unackedWindow) trim() {
	for w.head < len(w.list) && w.list[w.head].sub == nil {
		w.head++
	}
	if w.head < len(w.list) {
		return
	}
	w.list, w.head = w.list[:0], 0
	if cap(w.list) > 4096 {
		w.list = nil
	}
}

// rollback makes every delivery that was held for a transaction outstanding
// again.
func (w *unackedWindow) rollback() {
	for i := range w.list {
		w.list[i].held = false
	}
}
