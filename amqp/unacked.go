// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

// delivery is one message a channel has delivered and not seen settled.
type delivery struct {
	sub    *subscription // nil: nothing is outstanding under this tag
	number uint64        // the message's number in its queue
	held   bool          // acknowledged inside a transaction that is not committed
}

// unackedWindow maps delivery tags to outstanding messages. Tags grow by one, so
// it is a ring indexed by tag; tags settled out of order leave holes, and the
// window starts at the lowest tag that is outstanding.
type unackedWindow struct {
	ring  []delivery // length is a power of two
	first uint64     // the tag of the window's first slot
	slots uint64     // slots in use, holes included
	live  uint64     // outstanding deliveries
}

// add makes the delivery outstanding under tag, which is higher than all before.
func (w *unackedWindow) add(tag uint64, d delivery) {
	if w.slots == 0 {
		w.first = tag
	}
	slots := tag - w.first + 1 // tags in between were delivered without acknowledgement
	if slots > uint64(len(w.ring)) {
		w.grow(slots)
	}
	w.slots = slots
	w.ring[tag&uint64(len(w.ring)-1)] = d
	w.live++
}

func (w *unackedWindow) grow(slots uint64) {
	size := max(16, uint64(len(w.ring)))
	for size < slots {
		size *= 2
	}
	ring := make([]delivery, size)
	for tag := w.first; tag < w.first+w.slots; tag++ {
		ring[tag&(size-1)] = *w.at(tag)
	}
	w.ring = ring
}

func (w *unackedWindow) at(tag uint64) *delivery {
	return &w.ring[tag&uint64(len(w.ring)-1)]
}

// outstanding reports whether tag can be settled.
func (w *unackedWindow) outstanding(tag uint64) bool {
	if tag < w.first || tag >= w.first+w.slots {
		return false
	}
	d := w.at(tag)
	return d.sub != nil && !d.held
}

// each calls visit for the outstanding delivery tag, or with multiple for all up
// to tag, or all there are if tag is 0. It reports false, without a call, if tag
// itself is not outstanding (AMQP 0-9-1, basic.ack; RabbitMQ 4.3, settling).
func (w *unackedWindow) each(tag uint64, multiple bool, visit func(tag uint64, d *delivery)) bool {
	switch {
	case multiple && tag == 0:
		tag = w.first + w.slots - 1
		if w.slots == 0 {
			return true
		}
	case !w.outstanding(tag):
		return false
	}
	from := tag
	if multiple {
		from = w.first
	}
	for ; from <= tag; from++ {
		if d := w.at(from); d.sub != nil && !d.held {
			visit(from, d)
		}
	}
	return true
}

// remove forgets the delivery, which visit of each, or the caller, has dealt
// with.
func (w *unackedWindow) remove(d *delivery) {
	*d = delivery{}
	w.live--
}

// trim moves the window's start over holes; to be called after removals.
func (w *unackedWindow) trim() {
	for w.slots > 0 && w.at(w.first).sub == nil {
		w.first++
		w.slots--
	}
	if w.slots == 0 && len(w.ring) > 4096 {
		w.ring = nil
	}
}

// rollback makes every delivery that was held for a transaction outstanding
// again.
func (w *unackedWindow) rollback() {
	for tag := w.first; tag < w.first+w.slots; tag++ {
		w.at(tag).held = false
	}
}
