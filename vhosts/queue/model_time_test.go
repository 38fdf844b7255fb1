// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"reflect"
	"slices"

	"pgregory.net/rapid"
)

// Messages that expire, and those that are counted, in the model.

// come draws what messages are like that come now.
func (m *machine) come(t *rapid.T, first uint64, count int) {
	for i := range count {
		message := testMessage{8, Stamp{Arrived: m.now}}
		if m.timed && rapid.IntRange(0, 2).Draw(t, "expires") == 0 {
			message.stamp.Due = m.now + rapid.Uint64Range(0, 30_000).Draw(t, "after")
		}
		m.messages[first+uint64(i)] = message
	}
}

// end is when a message is due, 0 for never.
func (m *machine) end(number uint64) uint64 {
	s := m.messages.of(number).stamp
	if m.ttl < 0 {
		return s.Due
	}
	return earlier(s.Due, max(s.Arrived+uint64(m.ttl), 1))
}

// find is the message with that number, nil if it is gone.
func (m *model) find(number uint64) *modelMessage {
	at, found := slices.BinarySearchFunc(m.messages, place(number), func(q *modelMessage, p uint64) int {
		switch at := place(q.number); {
		case at < p:
			return -1
		case at > p:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return m.messages[at]
}

// expire has the engine expel what is due at a time, and the model what the engine
// says: that has to be due, and everything that is, unless stamps are to be read. It
// reports whether anything was expelled.
func (m *machine) expire(t *rapid.T, now uint64) (some bool) {
	clear(m.fx.Dead)
	m.fx.Dead = m.fx.Dead[:0] // what the step itself has expelled is known
	next := m.engine.Expire(now, Expired, 1<<20, &m.fx)
	m.takeExpired(t, now)
	some = len(m.fx.Dead) > 0
	for _, r := range m.fx.Stamps {
		if d, ok := r.Stored.(*disk); !ok || d.late || d.gone || r.Page != nil || slices.Contains(m.asked, r) {
			t.Fatalf("stamps of run %d are asked for without need", r.First)
		}
		m.asked = append(m.asked, r)
	}
	m.fx.Stamps = m.fx.Stamps[:0]
	if len(m.asked) > 0 {
		return some
	}
	first := uint64(0)
	for _, q := range m.model.messages {
		switch {
		case q.isReady():
			first = earlier(first, m.end(q.number))
		case q.delayed > 0: // Resume looks after the queue's time to live
			first = earlier(first, m.messages.of(q.number).stamp.Due)
		}
	}
	if first != 0 && (first <= now || next == 0 || next > first) {
		t.Fatalf("at %d the next message is due at %d, Expire says %d", now, first, next)
	}
	return some
}

// takeExpired takes it from the engine which messages have expired.
func (m *machine) takeExpired(t *rapid.T, now uint64) {
	for _, d := range m.fx.Dead {
		for number := range d.Numbers().each() {
			q, end := m.model.find(number), m.end(number)
			if q == nil || !q.isReady() && q.delayed == 0 || end == 0 || end > now || d.Reason != Expired {
				t.Fatalf("at %d message %d expires, which is due at %d: %+v", now, number, end, q)
			}
			q.leaving, q.delayed = true, 0
		}
	}
}

// timing are the steps of messages that become due.
func (m *machine) timing() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"ttl": func(t *rapid.T) {
			m.ttl = -1
			if rapid.IntRange(0, 2).Draw(t, "none") > 0 {
				m.ttl = rapid.Int64Range(0, 30_000).Draw(t, "milliseconds")
			}
			m.step(t, func() { m.engine.SetTTL(m.ttl) })
		},
		"stamps": func(t *rapid.T) {
			if len(m.asked) == 0 {
				t.Skip("no stamps are to be read")
			}
			n := rapid.IntRange(1, len(m.asked)).Draw(t, "runs")
			read := m.asked[:n]
			m.asked = slices.Clone(m.asked[n:])
			fails := rapid.IntRange(0, 5).Draw(t, "fails") == 0
			m.step(t, func() {
				for _, r := range read {
					if fails {
						m.engine.StampsFailed(r)
						continue
					}
					first := r.First
					m.engine.Stamped(r, func(i int) Stamp { return m.messages.of(first + uint64(i)).stamp })
				}
			})
		},
	}
}

// counting are the steps of messages whose deliveries are counted.
func (m *machine) counting() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"return counted": func(t *rapid.T) {
			c, numbers := m.held(t)
			m.comeBack(t, numbers, c, func(*rapid.T) {})
		},
		"time out": func(t *rapid.T) {
			if len(m.model.consumers) == 0 {
				t.Skip("no consumer")
			}
			c := rapid.SampledFrom(m.model.consumers).Draw(t, "which")
			var numbers []uint64
			for _, q := range m.model.messages {
				if q.holder == c {
					numbers = append(numbers, q.number)
				}
			}
			c.held = 0
			m.comeBack(t, numbers, c, func(*rapid.T) {
				m.model.remove(c)
				m.engine.RemoveConsumer(c.Consumer)
			})
		},
	}
}

// comeBack counts that messages come back from a consumer; those that failed too often
// leave. before is done in the same step.
func (m *machine) comeBack(t *rapid.T, numbers []uint64, c *modelConsumer, before func(*rapid.T)) {
	failed := rapid.Bool().Draw(t, "failed")
	limit := rapid.Int64Range(-1, 3).Draw(t, "limit")
	m.step(t, func() {
		before(t)
		var back, over []uint64
		for _, n := range numbers {
			q := m.model.find(n)
			q.holder = nil
			q.tally.count(failed)
			if q.leaving = failed && limit >= 0 && int64(q.tally.Failed) > limit; q.leaving {
				over = append(over, n)
			} else {
				back = append(back, n)
			}
		}
		within := m.engine.Count(numbers, failed, limit, &m.fx)
		if !slices.Equal(numbers[:within], back) || !slices.Equal(numbers[within:], over) {
			t.Fatalf("messages %d come back and %d leave, want %d and %d", numbers[:within], numbers[within:], back, over)
		}
		m.engine.Return(slices.Clone(back))
		if err := m.engine.Expel(over, DeliveryLimit, &m.fx); err != nil {
			t.Fatal(err)
		}
		m.engine.Credit(c.Consumer, uint32(len(numbers)))
	})
}

// checkCounts checks what would be stored of counts and delays.
func (m *machine) checkCounts(t *rapid.T) {
	for _, r := range m.fx.Counted {
		stored := Run{Count: r.Count, settled: r.settled}
		var err error
		if stored.aside, err = parseTallies(r.AppendTallies(nil), &stored); err != nil {
			t.Fatal(err)
		}
		for i := range r.Count {
			q := m.model.find(r.First + uint64(i))
			if q == nil || r.settled.Has(i) {
				continue
			}
			if got := stored.waitsAt(i); !reflect.DeepEqual(got, q.waits) {
				t.Fatalf("message %d is stored as waiting %+v, want %+v", q.number, got, q.waits)
			}
			until := uint64(0)
			if stored.isAway(i) && q.waits == nil {
				until = stored.aside.delays[stored.aside.position(i)].at
			}
			if got := stored.tally(i); got != q.tally || until != q.delayed {
				t.Fatalf("message %d is counted as %v and delayed until %d, want %v and %d", q.number, got, until, q.tally, q.delayed)
			}
		}
	}
	for i := range m.fx.Deliveries {
		d := &m.fx.Deliveries[i]
		for i := range d.Count {
			if d.Tally(i) != (Tally{}) && !d.Tallied() {
				t.Fatalf("message %d has a count that nobody is told", d.Number(i))
			}
		}
	}
}

// countsStored counts and delays some messages of a run that is to be recovered, and has
// some leave, and returns what the store has of that. handedOut says that there are some.
func (m *machine) countsStored(t *rapid.T, first uint64, count int) (stored []byte, handedOut bool) {
	r := Run{First: first, Count: uint32(count), aside: &aside{tallies: make([]Tally, count)}}
	for i := range uint64(count) {
		q := m.model.find(first + i)
		if q == nil || rapid.IntRange(0, 2).Draw(t, "came back") > 0 {
			continue
		}
		handedOut = true
		q.tally.Failed = rapid.Uint16Range(0, 3).Draw(t, "failed")
		q.tally.Acquired = q.tally.Failed + rapid.Uint16Range(1, 3).Draw(t, "unharmed")
		r.aside.tallies[i] = q.tally
		switch rapid.IntRange(0, 2).Draw(t, "away") {
		case 1:
			q.delayed = m.now + rapid.Uint64Range(0, 9_000).Draw(t, "for")
			r.aside.delay(uint32(i), q.delayed)
		case 2:
			q.leaving = true
			q.waits = &departure{drawDeparture(t), rapid.Uint64Range(0, 9).Draw(t, "place"), 0, 1}
			stored := *q.waits
			stored.from = uint32(i)
			r.aside.departures = appendDeparture(r.aside.departures, stored)
			m.places = max(m.places, stored.place+1)
		}
	}
	return r.AppendTallies(nil), handedOut
}
