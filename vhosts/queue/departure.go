// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// Most leaving messages are gone in a moment, and nothing is stored of that: after a
// crash they are in their queue again. What has to wait is stored as leaving, beside
// the counts of its run, and is leaving after a restart too.

// Departure is what is stored of leaving messages that wait.
type Departure struct {
	Reason  Reason
	Refused bool     // they were refused where they are to go, by some at least
	Took    []uint64 // whatever the shell calls those that have taken them nevertheless; constant
}

func (d *Departure) equal(other *Departure) bool {
	return d.Reason == other.Reason && d.Refused == other.Refused && slices.Equal(d.Took, other.Took)
}

// departure is that of neighbouring messages of a run.
type departure struct {
	Departure
	place       uint64 // what waits is in the order of places, and of numbers
	from, count uint32 // offsets
}

func (d *departure) end() uint32 { return d.from + d.count }

// within is that of those of the messages that are at the offsets from..end-1.
func (d departure) within(from, end uint32) departure {
	end = max(from, min(end, d.end()))
	d.from = max(from, d.from)
	d.count = max(end, d.from) - d.from
	return d
}

// appendDeparture appends to a list in the order of offsets.
func appendDeparture(list []departure, d departure) []departure {
	if d.count == 0 {
		return list
	}
	if n := len(list); n > 0 {
		if last := &list[n-1]; last.end() == d.from && last.place == d.place && last.equal(&d.Departure) {
			last.count += d.count
			return list
		}
	}
	return append(list, d)
}

// Wait tells that leaving messages of one run have to wait, or have gone on waiting for
// others than before, and has that stored. Messages that wait for the first time do so
// behind all that wait already.
func (e *Engine) Wait(numbers Interval, d Departure, fx *Effects) error {
	l := e.find(Level(numbers.First))
	var r *Run
	if l != nil {
		r = l.locate(numbers.First)
	}
	if r == nil || numbers.End > r.end() {
		return fmt.Errorf("messages %d..%d are to wait, and are not in one run", numbers.First, numbers.End-1)
	}
	from, end := uint32(numbers.First-r.First), uint32(numbers.End-r.First)
	for offset := from; offset < end; offset++ {
		if r.settled.Has(offset) || !r.isLeaving(offset) {
			return fmt.Errorf("message %d is to wait, and is not leaving", r.First+uint64(offset))
		}
	}
	if r.Volatile {
		return nil
	}
	if r.aside.wait(from, end, departure{Departure: d, place: e.places}) {
		e.places++
		if r.aside.tallies == nil {
			r.aside.tallies = make([]Tally, r.Count)
		}
		if n := len(fx.Counted); n == 0 || fx.Counted[n-1] != r {
			fx.Counted = append(fx.Counted, r)
		}
	}
	return nil
}

// wait makes d that of the messages at the offsets from..end-1, but for the places of
// those that wait already. It reports whether that changes anything.
func (a *aside) wait(from, end uint32, d departure) (changed bool) {
	var list []departure
	at := from
	waitUntil := func(offset uint32) { // for the first time
		if d.from, d.count = at, offset-at; d.count > 0 {
			list, changed, at = appendDeparture(list, d), true, offset
		}
	}
	for _, old := range a.departures {
		list = appendDeparture(list, old.within(0, from))
		if known := old.within(from, end); known.count > 0 {
			waitUntil(known.from)
			changed = changed || !known.equal(&d.Departure)
			known.Departure, at = d.Departure, known.end()
			list = appendDeparture(list, known)
		}
		if rest := old.within(end, MaxRunMessages); rest.count > 0 {
			waitUntil(end)
			list = appendDeparture(list, rest)
		}
	}
	waitUntil(end)
	a.departures = list
	return changed
}

// stopWaiting forgets the departures of the messages at the offsets from..end-1.
func (a *aside) stopWaiting(from, end uint32) {
	if len(a.departures) == 0 {
		return
	}
	var list []departure
	for _, d := range a.departures {
		list = appendDeparture(appendDeparture(list, d.within(0, from)), d.within(end, MaxRunMessages))
	}
	a.departures = list
}

// Departures calls visit for the messages that wait, in their order: once all runs are
// restored the shell learns from it what is leaving. Then it has their runs unpacked,
// as they stay until they have left.
func (e *Engine) Departures(visit func(Dead, Departure)) {
	type waiting struct {
		*departure
		run *Run
	}
	var list []waiting
	for _, first := range e.waiting {
		r := e.find(Level(first)).locate(first)
		for i := range r.aside.departures {
			list = append(list, waiting{&r.aside.departures[i], r})
		}
	}
	e.waiting = nil
	slices.SortFunc(list, func(a, b waiting) int {
		return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.run.First, b.run.First), cmp.Compare(a.from, b.from))
	})
	for _, w := range list {
		visit(Dead{w.run, w.from, w.count, w.Reason}, w.Departure)
	}
}

// restoreDepartures takes over what a restored run has of them.
func (e *Engine) restoreDepartures(r *Run) {
	e.leaving += uint64(r.aside.departs)
	e.leavingBytes += int64(r.aside.departs) * r.averageBytes()
	for _, d := range r.aside.departures {
		e.places = max(e.places, d.place+1)
	}
	if r.aside.departs > 0 {
		e.waiting = append(e.waiting, r.First)
	}
}

// append appends the stored form of the departure, which follows the one of before: how
// many messages it is of, less 1; twice the reason, plus 1 if they were refused; the
// difference in place; and Took as its length plus 1 and its elements, or 0 if it is
// that of before. The place is a varint, all else are uvarints.
func (d *departure) append(to []byte, before *departure) []byte {
	to = binary.AppendUvarint(to, uint64(d.count-1))
	reason := uint64(d.Reason) << 1
	if d.Refused {
		reason |= 1
	}
	to = binary.AppendUvarint(to, reason)
	to = binary.AppendVarint(to, int64(d.place-before.place))
	if slices.Equal(d.Took, before.Took) {
		return append(to, 0)
	}
	to = binary.AppendUvarint(to, uint64(len(d.Took))+1)
	for _, id := range d.Took {
		to = binary.AppendUvarint(to, id)
	}
	return to
}

// parseDeparture reads what append wrote and returns the rest.
func parseDeparture(b []byte, before *departure) (d departure, rest []byte, err error) {
	uvarint := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			err = errTallies
			return 0
		}
		b = b[n:]
		return v
	}
	count, reason := uvarint(), uvarint()
	later, n := binary.Varint(b)
	if err != nil || n <= 0 || count >= MaxRunMessages || reason>>1 >= Reasons {
		return d, nil, errTallies
	}
	b = b[n:]
	d = departure{Departure{Reason(reason >> 1), reason&1 != 0, before.Took}, before.place + uint64(later), 0, uint32(count) + 1}
	if took := uvarint(); took > 0 {
		if took-1 > uint64(len(b)) {
			return d, nil, errTallies
		}
		d.Took = nil
		for range took - 1 {
			d.Took = append(d.Took, uvarint())
		}
	}
	if d.place >= maxPlace {
		err = errTallies
	}
	return d, b, err
}

// maxPlace is beyond all places that a queue comes to.
const maxPlace = 1 << 62
