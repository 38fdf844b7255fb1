// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"encoding/binary"
	"fmt"
)

// Stamp is when a message came to the broker, and when it is due: when it expires,
// or leaves a queue of delayed messages. Times are milliseconds since 1970; a Due
// of 0 is never.
type Stamp struct{ Arrived, Due uint64 }

// Times are those of messages that are kept together.
type Times struct {
	Arrived uint64 // when the first one did
	Due     uint64 // the earliest, 0 if none is ever due
	Stamped bool   // the messages have stamps of their own
}

// The messages of a page came together and have no due time, unless it has stamps.
// Until Arrive is called a due time may be told from that moment, which is then
// what Arrived says.
const (
	sinceEpoch uint64 = iota
	sinceArrival
)

// Deadline is when a message that is still to arrive will be due: never, for the zero
// value.
type Deadline struct {
	set  bool
	time Stamp
}

// After is the deadline a number of milliseconds after the message's arrival.
func After(milliseconds uint64) Deadline { return Deadline{true, Stamp{sinceArrival, milliseconds}} }

// At is the deadline at a time, in milliseconds since 1970.
func At(time uint64) Deadline { return Deadline{true, Stamp{sinceEpoch, time}} }

// Meet makes the message appended last due at a deadline.
func (p *Page) Meet(d Deadline) {
	if d.set {
		p.setStamp(d.time)
	}
}

// setStamp stamps the message appended last.
func (p *Page) setStamp(s Stamp) {
	for len(p.stamps) < len(p.messages) {
		p.stamps = append(p.stamps, Stamp{Arrived: p.arrived})
	}
	p.stamps[len(p.messages)-1] = s
}

// Arrive says when all messages of the page arrived. It is called once, when the
// page is filled and before a queue sees it.
func (p *Page) Arrive(now uint64) {
	p.arrived = now
	for i := range p.stamps {
		s := &p.stamps[i]
		if s.Arrived == sinceArrival {
			s.Due += now
		}
		s.Arrived = now
	}
}

// Arrived is when the page's first message arrived, 0 if that is not known.
func (p *Page) Arrived() uint64 { return p.arrived }

// Stamp is the times of message i.
func (p *Page) Stamp(i int) Stamp {
	if i < len(p.stamps) {
		return p.stamps[i]
	}
	return Stamp{Arrived: p.arrived}
}

// stamped says that not all messages came together or some are due.
func (p *Page) stamped() bool { return len(p.stamps) > 0 }

// Times are those of the page's messages.
func (p *Page) Times() Times {
	t := Times{Arrived: p.arrived}
	if !p.stamped() {
		return t
	}
	t.Stamped = true
	for _, s := range p.stamps {
		t.Due = earlier(t.Due, s.Due)
	}
	return t
}

// earlier is the earlier of two due times, of which 0 is never.
func earlier(a, b uint64) uint64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// stampLike gives the message appended last the times of a message of another page.
func (p *Page) stampLike(s Stamp) {
	if p.arrived == 0 {
		p.arrived = s.Arrived
	}
	if s.Arrived != p.arrived || s.Due != 0 {
		p.setStamp(s)
	}
}

// Stamps in their stored form are told from the page's time of arrival: a varint
// with the difference in arrival and an uvarint with the time from there until the
// message is due plus 1, or 0 if it never is. Messages without stamps come last and
// are left out.

// AppendStamps appends the stored form of the page's stamps to dst: nothing if it
// has none.
func (p *Page) AppendStamps(dst []byte) []byte {
	for _, s := range p.stamps {
		dst = binary.AppendVarint(dst, int64(s.Arrived-p.arrived))
		wait := uint64(0)
		if s.Due != 0 {
			wait = max(s.Due, s.Arrived) - s.Arrived + 1
		}
		dst = binary.AppendUvarint(dst, wait)
	}
	return dst
}

// ParseStamps calls visit for each stamp of a page in its stored form; arrived is
// the page's time of arrival. Messages that are not visited came then, and are
// never due.
func ParseStamps(b []byte, arrived uint64, visit func(i int, s Stamp)) error {
	for i := 0; len(b) > 0; i++ {
		late, n := binary.Varint(b)
		var wait uint64
		var m int
		if shortest(b, n) {
			wait, m = binary.Uvarint(b[n:])
		}
		s := Stamp{Arrived: arrived + uint64(late)}
		if m == 0 || !shortest(b[n:], m) || i >= MaxRunMessages || s.Arrived-1 >= maxTime || wait >= maxTime {
			return fmt.Errorf("%w: stamp %d", errPage, i)
		}
		b = b[n+m:]
		if wait > 0 {
			s.Due = s.Arrived + wait - 1
		}
		visit(i, s)
	}
	return nil
}

// maxTime is beyond all times that a broker meets, in milliseconds.
const maxTime = 1 << 60

// shortest says whether the n bytes that b begins with are the shortest form of a
// varint; an n that is not positive says that they are none.
func shortest(b []byte, n int) bool { return n == 1 || n > 1 && b[n-1] != 0 }

// stampsSize is the length of the stamps' stored form.
func (p *Page) stampsSize() (n int) {
	if len(p.stamps) == 0 {
		return 0
	}
	var room [2 * binary.MaxVarintLen64 * MaxRunMessages]byte
	return len(p.AppendStamps(room[:0]))
}
