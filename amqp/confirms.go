// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import "slices"

// confirmRange is consecutive publishes of a channel that are decided together.
type confirmRange struct {
	last    uint64 // the highest publish number of the range
	decided bool
}

// confirms is what a channel in confirm mode still owes its publisher. Publishes
// are numbered from 1; ranges follow each other without gaps. Confirms leave in
// order, so one with multiple covers only what is decided, and decided alike:
// neighbours that were all taken are one ack, those that were all refused one nack.
type confirms struct {
	ranges []confirmRange // ranges[at:] are undecided or wait behind such
	at     int
	gone   uint64 // ranges taken out of the list since the start: ranges[at] is the gone-th
	opened uint64 // highest publish number given to a range
	ready  uint64 // every publish up to here is decided
	acked  uint64 // and up to here the publisher has been told

	refused []publishes // of those that the publisher was not told about, in order, not touching
}

// publishes are publish numbers first..last.
type publishes struct{ first, last uint64 }

// decide adds the next count publishes as decided.
func (c *confirms) decide(count uint64) {
	c.opened += count
	if c.at == len(c.ranges) {
		c.ready = c.opened
		return
	}
	if last := &c.ranges[len(c.ranges)-1]; last.decided {
		last.last = c.opened
		return
	}
	c.ranges = append(c.ranges, confirmRange{c.opened, true})
}

// open adds the next count publishes as undecided and returns a handle for
// settle.
func (c *confirms) open(count uint64) (handle uint64) {
	c.opened += count
	c.ranges = append(c.ranges, confirmRange{c.opened, false})
	return c.gone + uint64(len(c.ranges)-c.at) - 1
}

// settle decides the range behind handle.
func (c *confirms) settle(handle uint64) {
	c.ranges[c.at+int(handle-c.gone)].decided = true
	for c.at < len(c.ranges) && c.ranges[c.at].decided {
		c.ready = c.ranges[c.at].last
		c.at++
		c.gone++
	}
	switch {
	case c.at == len(c.ranges):
		c.ranges, c.at = c.ranges[:0], 0
	case c.at > 64 && c.at > len(c.ranges)/2:
		c.ranges = append(c.ranges[:0], c.ranges[c.at:]...)
		c.at = 0
	}
}

// refuse notes that a publish that is not decided yet was refused. A run's are noted
// in their order.
func (c *confirms) refuse(number uint64) {
	i := len(c.refused)
	for i > 0 && c.refused[i-1].first > number { // only if runs of several priorities were open
		i--
	}
	if i > 0 && c.refused[i-1].last+1 == number {
		c.refused[i-1].last = number
		i--
	} else {
		c.refused = slices.Insert(c.refused, i, publishes{number, number})
	}
	if i+1 < len(c.refused) && c.refused[i].last+1 == c.refused[i+1].first {
		c.refused[i].last = c.refused[i+1].last
		c.refused = slices.Delete(c.refused, i+1, i+2)
	}
}

// take returns what the publisher can be told now, if anything: all publishes up to
// tag, more than one if multiple, were taken, or with nack refused. It is called
// until there is nothing.
func (c *confirms) take() (tag uint64, multiple, nack, ok bool) {
	if c.ready == c.acked {
		return 0, false, false, false
	}
	tag = c.ready
	if len(c.refused) > 0 {
		if next := c.refused[0]; next.first > c.acked+1 {
			tag = min(tag, next.first-1)
		} else {
			nack = true
			if tag >= next.last {
				tag = next.last
				c.refused = slices.Delete(c.refused, 0, 1)
			} else {
				c.refused[0].first = tag + 1
			}
		}
	}
	multiple = tag > c.acked+1
	c.acked = tag
	return tag, multiple, nack, true
}

// unconfirmed is how many publishes the publisher has not been told about.
func (c *confirms) unconfirmed() uint64 { return c.opened - c.acked }
