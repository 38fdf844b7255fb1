// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

// confirmRange is consecutive publishes of a channel that are decided together.
type confirmRange struct {
	last    uint64 // the highest publish number of the range
	decided bool
}

// confirms is what a channel in confirm mode still owes its publisher. Publishes
// are numbered from 1; ranges follow each other without gaps. Confirms leave in
// order, so an acknowledgement with multiple covers only what is decided.
type confirms struct {
	ranges []confirmRange // ranges[at:] are undecided or wait behind such
	at     int
	gone   uint64 // ranges taken out of the list since the start: ranges[at] is the gone-th
	opened uint64 // highest publish number given to a range
	ready  uint64 // every publish up to here is decided
	acked  uint64 // and up to here the publisher has been told
}

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

// take returns what can be acknowledged now, if anything: all publishes up to
// tag, more than one if multiple.
func (c *confirms) take() (tag uint64, multiple, ok bool) {
	if c.ready == c.acked {
		return 0, false, false
	}
	multiple = c.ready > c.acked+1
	c.acked = c.ready
	return c.ready, multiple, true
}

// unconfirmed is how many publishes the publisher has not been told about.
func (c *confirms) unconfirmed() uint64 { return c.opened - c.acked }
