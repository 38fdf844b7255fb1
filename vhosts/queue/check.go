// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
)

// census is what Check counts: of one level, then of all.
type census struct {
	end                      uint64
	ready, live, dead, bytes uint64
	leaving, delayed         uint64
	readyBytes               uint64
	resident, spilling       uint64
	messages, bodies         uint64 // in memory
	loose                    int
}

// Check verifies the engine's invariants at the cost of its size; tests call it
// after every step.
func (e *Engine) Check() error {
	var all census
	for i, l := range e.levels {
		if l.q != e || i > 0 && l.level >= e.levels[i-1].level || e.levels[0] != &e.plain && len(e.levels) == 1 {
			return fmt.Errorf("level %d is out of place", l.level)
		}
		c := census{end: uint64(l.level) << levelShift}
		if err := l.check(&c); err != nil {
			return err
		}
		if c.ready != l.ready {
			return fmt.Errorf("%d messages of level %d ready, %d counted", c.ready, l.level, l.ready)
		}
		all.add(&c)
	}
	return e.compare(&all)
}

func (c *census) add(other *census) {
	c.ready += other.ready
	c.live += other.live
	c.leaving += other.leaving
	c.delayed += other.delayed
	c.readyBytes += other.readyBytes
	c.bytes += other.bytes
	c.resident += other.resident
	c.spilling += other.spilling
	c.messages += other.messages
	c.bodies += other.bodies
	c.loose += other.loose
}

func (l *log) check(c *census) error {
	for i, r := range l.dir.head.all() {
		if i < l.cursor && r.sent != r.Count && !r.Done() {
			return fmt.Errorf("run %d lies before the cursor but was not handed out", r.First)
		}
		if i > l.cursor && r.sent != 0 {
			return fmt.Errorf("run %d lies behind the cursor but was handed out", r.First)
		}
		if err := l.checkRun(c, r); err != nil {
			return err
		}
	}
	if c.dead != uint64(l.dir.head.dead) {
		return fmt.Errorf("%d done runs, %d counted", c.dead, l.dir.head.dead)
	}
	c.dead = 0
	for _, s := range l.dir.cold {
		if err := l.checkSegment(c, s); err != nil {
			return err
		}
	}
	if len(l.dir.cold) == 0 && l.dir.tail.len() > 0 {
		return fmt.Errorf("%d runs in the tail and nothing cold before them", l.dir.tail.len())
	}
	for _, r := range l.dir.tail.all() {
		if err := l.checkUnsent(c, r); err != nil {
			return err
		}
	}
	if c.dead != uint64(l.dir.tail.dead) {
		return fmt.Errorf("%d done runs in the tail, %d counted", c.dead, l.dir.tail.dead)
	}
	c.dead = 0
	if l.ahead.bare > l.ahead.done {
		return fmt.Errorf("pages are gone from run %d on, but Trim came to %d only", l.ahead.bare, l.ahead.done)
	}
	return nil
}

// compare holds what was counted against what the engine counts.
func (e *Engine) compare(c *census) error {
	switch {
	case c.leaving != e.leaving:
		return fmt.Errorf("%d messages leaving, %d counted", c.leaving, e.leaving)
	case c.delayed != e.delayed:
		return fmt.Errorf("%d messages delayed, %d counted", c.delayed, e.delayed)
	case c.live != c.ready+e.unacked+e.leaving+e.delayed:
		return fmt.Errorf("%d messages live, %d ready, %d unacked, %d leaving and %d delayed counted",
			c.live, c.ready, e.unacked, e.leaving, e.delayed)
	case e.weighs && c.readyBytes != e.readyBytes:
		return fmt.Errorf("%d bytes ready, %d counted", c.readyBytes, e.readyBytes)
	case c.bytes != e.bytes:
		return fmt.Errorf("%d bytes, %d counted", c.bytes, e.bytes)
	case c.resident != e.resident:
		return fmt.Errorf("%d resident bytes, %d counted", c.resident, e.resident)
	case c.messages != e.residentMessages || c.bodies != e.residentBodies:
		return fmt.Errorf("%d messages of %d bytes in memory, %d of %d counted",
			c.messages, c.bodies, e.residentMessages, e.residentBodies)
	case c.spilling != e.spilling:
		return fmt.Errorf("%d bytes on their way out, %d counted", c.spilling, e.spilling)
	case c.loose > 0 && !e.joining:
		return fmt.Errorf("%d runs are marked to be joined, but none were given out", c.loose)
	}
	return nil
}

// checkSegment checks a segment by unpacking it.
func (l *log) checkSegment(c *census, s *segment) error {
	var live, bytes uint64
	if s.runs() == 0 || s.runs() > l.q.limits().segmentRuns {
		return fmt.Errorf("segment %d..%d has %d runs", s.first, s.end, s.runs())
	}
	u := unpacker{packed: s.packed}
	for i := range s.count {
		var r Run
		u.next(&r)
		if i == 0 && r.First < s.first {
			return fmt.Errorf("segment %d..%d begins with run %d", s.first, s.end, r.First)
		}
		if r.Done() {
			return fmt.Errorf("run %d is done and packed", r.First)
		}
		live += uint64(r.live())
		bytes += r.liveBytes()
		if err := l.checkRun(c, &r); err != nil {
			return err
		}
	}
	if len(u.packed) > 0 || u.last != s.last || live != s.live || bytes != s.bytes {
		return fmt.Errorf("segment %d..%d holds %d messages of %d bytes, %d of %d counted; %d bytes left over",
			s.first, s.end, live, bytes, s.live, s.bytes, len(u.packed))
	}
	for _, r := range s.warm.all() {
		if r.Done() {
			return fmt.Errorf("run %d is done and in segment %d..%d", r.First, s.first, s.end)
		}
		if err := l.checkUnsent(c, r); err != nil {
			return err
		}
	}
	if c.end > s.end {
		return fmt.Errorf("segment %d..%d has a run that ends at %d", s.first, s.end, c.end)
	}
	return nil
}

func (l *log) checkUnsent(c *census, r *Run) error {
	if r.sent > 0 {
		return fmt.Errorf("run %d far behind the cursor was handed out", r.First)
	}
	return l.checkRun(c, r)
}

// checkRun checks a run by itself and against the one before it, and counts it.
func (l *log) checkRun(c *census, r *Run) error {
	if r.First < c.end || r.end() > l.next {
		return fmt.Errorf("run %d..%d overlaps another or lies past %d", r.First, r.end(), l.next)
	}
	c.end = r.end()
	if r.gone != r.settled.Count() {
		return fmt.Errorf("run %d counts %d settled messages but marks %d", r.First, r.gone, r.settled.Count())
	}
	if r.Done() {
		c.dead++
	}
	if r.loose {
		c.loose++
	}
	if r.Page != nil {
		c.resident += weight(r.Page)
		c.messages += uint64(r.live())
		c.bodies += r.liveBytes()
		if r.spilling {
			c.spilling += weight(r.Page)
		}
	} else if r.spilling {
		return fmt.Errorf("run %d is on its way out without its page", r.First)
	}
	c.bytes += r.liveBytes()
	c.readyBytes += l.weight(r)
	for o := range r.Count {
		n := r.First + uint64(o)
		back := l.returned.has(n)
		if r.settled.Has(o) {
			if back {
				return fmt.Errorf("message %d is settled and returned", n)
			}
			continue
		}
		c.live++
		if r.isAway(o) {
			if r.isLeaving(o) {
				c.leaving++
			} else {
				c.delayed++
			}
			if back {
				return fmt.Errorf("message %d is away and returned", n)
			}
			continue
		}
		if back && o >= r.sent {
			return fmt.Errorf("message %d is returned but was never handed out", n)
		}
		if back || o >= r.sent {
			c.ready++
		}
	}
	if err := checkAside(r); err != nil {
		return err
	}
	if n := r.settled.NextSet(r.Count, MaxRunMessages); r.Count < MaxRunMessages && n < MaxRunMessages {
		return fmt.Errorf("run %d marks message %d of %d", r.First, n, r.Count)
	}
	return nil
}

// checkAside checks what is known of single messages of a run.
func checkAside(r *Run) error {
	if r.aside == nil {
		return nil
	}
	delayed, end := uint32(0), uint32(0)
	for _, d := range r.aside.delays {
		if d.count == 0 || d.from < end || d.end() > r.Count {
			return fmt.Errorf("run %d has messages %d..%d delayed behind %d", r.First, d.from, d.end(), end)
		}
		delayed, end = delayed+d.count, d.end()
	}
	waits := uint32(0)
	for i, d := range r.aside.departures {
		if d.count == 0 || d.from < waits || d.end() > r.Count || r.aside.tallies == nil {
			return fmt.Errorf("run %d has messages %d..%d waiting to leave behind %d", r.First, d.from, d.end(), waits)
		}
		for o := d.from; o < d.end(); o++ {
			if r.settled.Has(o) || !r.isLeaving(o) {
				return fmt.Errorf("message %d waits to leave and is not leaving", r.First+uint64(o))
			}
		}
		if waits = d.end(); i > 0 && len(appendDeparture(r.aside.departures[i-1:i:i], d)) == 1 {
			return fmt.Errorf("run %d has one departure in two", r.First)
		}
	}
	if r.aside.empty() || r.aside.departs+delayed != r.aside.away.Count() {
		return fmt.Errorf("run %d counts %d leaving and %d delayed messages but marks %d", r.First, r.aside.departs, delayed, r.aside.away.Count())
	}
	return nil
}
