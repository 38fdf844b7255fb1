// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"encoding/binary"
	"errors"
	"math"
)

// A queue may count how often its messages were delivered. Only messages that came
// back have a count that matters, so only their runs keep any.

// Tally is how often a message was delivered before.
type Tally struct {
	Acquired uint16 // times that it came back, at most 65535
	Failed   uint16 // of these, times that it came back as a failure
}

// Tally is that of the i-th message of the delivery.
func (d *Delivery) Tally(i uint32) Tally { return d.Run.tally(d.Offset(i)) }

// Tallied reports whether some of the delivery's messages may have been delivered
// before to be counted.
func (d *Delivery) Tallied() bool { return d.Redelivered && d.Run.Tallied() }

// Tallied reports whether some of the run's messages have a count.
func (r *Run) Tallied() bool { return r.aside != nil && r.aside.tallies != nil }

func (r *Run) tally(offset uint32) Tally {
	if !r.Tallied() {
		return Tally{}
	}
	return r.aside.tallies[offset]
}

// Failures is how often the delivery of an unacked message failed.
func (e *Engine) Failures(number uint64) uint16 {
	if l := e.find(Level(number)); l != nil {
		if at := l.dir.head.find(number, 0); at >= 0 {
			r := l.dir.head.at(at)
			return r.tally(uint32(number - r.First)).Failed
		}
	}
	return 0
}

// Count counts that unacked messages come back, failed or unharmed. It moves those to
// the end of numbers that failed more often than limit, which may be negative for
// none, and returns how many are left. Those are then to be given to Return, the
// others to Expel.
func (e *Engine) Count(numbers []uint64, failed bool, limit int64, fx *Effects) (within int) {
	var over []uint64
	var r *Run
	for _, number := range numbers {
		if r == nil || number < r.First || number >= r.end() {
			l := e.find(Level(number))
			at := -1
			if l != nil {
				at = l.dir.head.find(number, 0)
			}
			if at < 0 { // Return tells
				numbers[within] = number
				within++
				continue
			}
			r = l.dir.head.at(at)
			fx.Counted = append(fx.Counted, r)
		}
		if r.aside == nil {
			r.aside = new(aside)
		}
		if r.aside.tallies == nil {
			r.aside.tallies = make([]Tally, r.Count)
		}
		t := &r.aside.tallies[number-r.First]
		t.Acquired = uint16(min(int(t.Acquired)+1, math.MaxUint16))
		if failed {
			t.Failed = uint16(min(int(t.Failed)+1, math.MaxUint16))
		}
		if failed && limit >= 0 && int64(t.Failed) > limit {
			over = append(over, number)
			continue
		}
		numbers[within] = number
		within++
	}
	copy(numbers[within:], over)
	return within
}

// empty reports whether nothing is known of single messages any more.
func (a *aside) empty() bool { return a.departs == 0 && a.tallies == nil }

// AppendTallies appends the stored form of the run's counts, until when messages
// are delayed and which of them wait to leave: for each message that has any of it, the
// first of each departure, its distance from the one before, Acquired, and twice Failed,
// plus 1 if it is delayed or 1<<17 if a departure begins. What follows is then the time
// as the difference from that of the one before that is delayed, or the departure. The
// difference is a varint, all else are uvarints.
func (r *Run) AppendTallies(to []byte) []byte {
	if !r.Tallied() {
		return to
	}
	last, at, delays := 0, uint64(0), r.aside.delays
	left, departures := &departure{}, r.aside.departures
	for i, t := range r.aside.tallies {
		for len(delays) > 0 && delays[0].end() <= uint32(i) {
			delays = delays[1:]
		}
		delayed := len(delays) > 0 && delays[0].from <= uint32(i)
		leaves := len(departures) > 0 && departures[0].from == uint32(i)
		if t == (Tally{}) && !delayed && !leaves || r.settled.Has(uint32(i)) {
			continue
		}
		to = binary.AppendUvarint(to, uint64(i-last))
		to = binary.AppendUvarint(to, uint64(t.Acquired))
		last = i
		switch failed := uint64(t.Failed) << 1; {
		case delayed:
			to = binary.AppendUvarint(to, failed|storedDelayed)
			to = binary.AppendVarint(to, int64(delays[0].at-at))
			at = delays[0].at
		case leaves:
			to = binary.AppendUvarint(to, failed|storedLeaving)
			to = departures[0].append(to, left)
			left, departures = &departures[0], departures[1:]
		default:
			to = binary.AppendUvarint(to, failed)
		}
	}
	return to
}

// What is stored with twice Failed.
const (
	storedDelayed = 1
	storedLeaving = 1 << 17
)

var errTallies = errors.New("delivery counts are malformed")

// parseTallies reads the stored form of the counts of a run, whose Count and settled
// are known; nil if there are none.
func parseTallies(b []byte, r *Run) (_ *aside, err error) {
	if len(b) == 0 {
		return nil, nil
	}
	a := &aside{tallies: make([]Tally, r.Count)}
	offset, at := uint64(0), uint64(0)
	var last departure
	for len(b) > 0 {
		var values [3]uint64
		for i := range values {
			v, n := binary.Uvarint(b)
			if n <= 0 {
				return nil, errTallies
			}
			values[i], b = v, b[n:]
		}
		state := values[2] & (storedDelayed | storedLeaving)
		failed := (values[2] - state) >> 1
		if values[0] >= uint64(r.Count) || values[1] > math.MaxUint16 || failed > math.MaxUint16 {
			return nil, errTallies
		}
		if offset += values[0]; offset >= uint64(r.Count) {
			return nil, errTallies
		}
		a.tallies[offset] = Tally{uint16(values[1]), uint16(failed)}
		switch {
		case state == 0:
		case uint32(offset) < last.end() || a.away.Has(uint32(offset)) || state == storedDelayed|storedLeaving:
			return nil, errTallies
		case state == storedDelayed:
			later, n := binary.Varint(b)
			if b = b[max(n, 0):]; n <= 0 || at+uint64(later)-1 >= maxTime {
				return nil, errTallies
			}
			if at += uint64(later); !r.settled.Has(uint32(offset)) {
				a.delay(uint32(offset), at)
			}
		default:
			if last, b, err = parseDeparture(b, &last); err != nil {
				return nil, err
			}
			if last.from = uint32(offset); last.end() > r.Count {
				return nil, errTallies
			}
			a.restoreDeparture(&last, &r.settled)
		}
	}
	return a, nil
}

// StoredAway reads from the stored form of the counts of a run, see [Run.AppendTallies], how
// many of its messages are leaving and how many are delayed. count is how many it has, and
// settled says which of these are gone.
func StoredAway(counts []byte, count uint32, settled Bitmap) (leaving, delayed uint32, err error) {
	if count > MaxRunMessages {
		return 0, 0, errTallies
	}
	a, err := parseTallies(counts, &Run{Count: count, settled: settled})
	if a == nil {
		return 0, 0, err
	}
	return a.departs, a.away.Count() - a.departs, nil
}

// restoreDeparture takes over a departure that was stored, but for what is settled.
func (a *aside) restoreDeparture(d *departure, settled *Bitmap) {
	for from := settled.NextClear(d.from, d.end()); from < d.end(); {
		end := settled.NextSet(from, d.end())
		a.away.SetRange(from, end)
		a.departs += end - from
		a.departures = appendDeparture(a.departures, d.within(from, end))
		from = settled.NextClear(end, d.end())
	}
}
