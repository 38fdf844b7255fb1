// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// delaying are the steps of messages that come back and are delayed.
func (m *machine) delaying() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"pass": func(t *rapid.T) {
			milliseconds := rapid.Uint64Range(0, 9_000).Draw(t, "milliseconds")
			m.step(t, func() { m.now += milliseconds })
		},
		"delay": func(t *rapid.T) {
			c, numbers := m.held(t)
			at := m.now + rapid.Uint64Range(0, 9_000).Draw(t, "for")
			failed := rapid.Bool().Draw(t, "failed")
			m.step(t, func() {
				for _, n := range numbers {
					q := m.model.find(n)
					q.holder, q.delayed = nil, at
					q.tally.count(failed)
				}
				m.engine.Count(numbers, failed, -1, &m.fx)
				if err := m.engine.Delay(rapid.Permutation(numbers).Draw(t, "order"), at); err != nil {
					t.Fatal(err)
				}
				m.engine.Credit(c.Consumer, uint32(len(numbers)))
			})
		},
		"delay wrong": func(t *rapid.T) {
			n := uint64(m.level(t))<<levelShift | rapid.Uint64Range(0, 100).Draw(t, "number")
			if q := m.model.find(n); q != nil && q.holder != nil {
				t.Skip("it is unacked")
			}
			m.step(t, func() {
				if err := m.engine.Delay([]uint64{n}, m.now); err == nil {
					t.Fatalf("message %d could be delayed", n)
				}
			})
		},
	}
}

// count counts a message that comes back.
func (t *Tally) count(failed bool) {
	t.Acquired++
	if failed {
		t.Failed++
	}
}

// resume has the engine and the model make ready again what was delayed until now.
func (m *machine) resume(t *rapid.T) {
	clear(m.fx.Dead)
	m.fx.Dead = m.fx.Dead[:0] // what the step itself has expelled is known
	next := m.engine.Resume(m.now, 1, &m.fx)
	for next == m.now {
		next = m.engine.Resume(m.now, 1, &m.fx)
	}
	m.takeExpired(t, m.now)
	earliest := uint64(0)
	for _, q := range m.model.messages {
		switch {
		case q.delayed == 0:
		case q.delayed <= m.now:
			q.delayed = 0
			// What the cursor has passed meanwhile counts as handed out.
			q.redelivered = q.redelivered || q.number < m.engine.find(Level(q.number)).deliveredUpTo()
		default:
			earliest = earlier(earliest, q.delayed)
			if m.ttl >= 0 && len(m.asked)+len(m.fx.Stamps) == 0 { // Expire looks after their own times
				earliest = earlier(earliest, m.messages.of(q.number).stamp.Arrived+uint64(m.ttl))
			}
		}
	}
	if earliest != 0 && (next == 0 || next > earliest) { // it may be early, for what has left meanwhile
		t.Fatalf("Resume is to be called again at %d, want %d", next, earliest)
	}
}

// TestStoredTallies checks that counts and delays are read back as they were stored,
// without those of settled messages.
func TestStoredTallies(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := Run{Count: rapid.Uint32Range(1, MaxRunMessages).Draw(t, "count")}
		r.aside = &aside{tallies: make([]Tally, r.Count)}
		want := aside{tallies: make([]Tally, r.Count)}
		for o := range r.Count {
			tally := Tally{rapid.Uint16().Draw(t, "acquired"), rapid.Uint16().Draw(t, "failed")}
			at := rapid.SampledFrom([]uint64{0, 0, 1, 2, 1_800_000_000_000, maxTime}).Draw(t, "until")
			settled := rapid.IntRange(0, 3).Draw(t, "settled") == 0
			r.aside.tallies[o] = tally
			if settled {
				r.settled.Set(o)
			} else {
				want.tallies[o] = tally
			}
			if at > 0 && !settled {
				r.aside.delay(o, at)
				want.delay(o, at)
			}
		}
		got, err := parseTallies(r.AppendTallies(nil), &r)
		if got == nil {
			got = &aside{tallies: make([]Tally, r.Count)}
		}
		if err != nil || !slices.Equal(got.tallies, want.tallies) || !slices.Equal(got.delays, want.delays) || got.away != want.away {
			t.Fatalf("read %+v and %v, want %+v", got, err, want)
		}
	})
}

// FuzzTallies: whatever the store has, reading it neither panics nor makes up messages.
func FuzzTallies(f *testing.F) {
	f.Add([]byte{0, 1, 3, 2}, uint32(4))
	f.Add([]byte{1, 0, 0x81, 0x80, 0x08, 2, 3, 4, 2, 9}, uint32(4))
	f.Add([]byte{0, 0, 0x80, 0x80, 0x08, 0, 0, 8, 0, 1, 0, 0x80, 0x80, 0x08, 1, 3, 1, 3, 1, 2}, uint32(4))
	f.Fuzz(func(t *testing.T, stored []byte, count uint32) {
		r := Run{Count: count%MaxRunMessages + 1}
		var err error
		if r.aside, err = parseTallies(stored, &r); err != nil || r.aside == nil {
			return
		}
		if err := checkAside(&r); err != nil {
			t.Fatal(err)
		}
		again, err := parseTallies(r.AppendTallies(nil), &r)
		if err != nil || again != nil && (!slices.Equal(again.delays, r.aside.delays) || !reflect.DeepEqual(again.departures, r.aside.departures)) {
			t.Fatalf("%v and %v after %v", again, err, r.aside)
		}
	})
}

// TestDelayedAgainForTheSameTime: a message is delayed until the time until which
// another one of its run was, which has left meanwhile. It is ready then.
func TestDelayedAgainForTheSameTime(t *testing.T) {
	t.Parallel()
	var e Engine
	var fx Effects
	c := &Consumer{Tag: "c", Sink: &sink{room: -1}}
	e.AddConsumer(c)
	e.Append(0, newPage(0, 2, 8), nil)
	e.Dispatch(&fx)
	must(t, e.Delay([]uint64{0}, 9))
	e.ExpelReady([]uint64{0}, Rejected, &fx)
	e.Resume(9, 1, &fx)
	must(t, e.Delay([]uint64{1}, 9))
	if e.Resume(9, 1, &fx); e.Ready() != 1 || e.Delayed() != 0 {
		t.Errorf("%d messages are ready and %d delayed", e.Ready(), e.Delayed())
	}
}
