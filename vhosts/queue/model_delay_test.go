// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// delaying are the steps of messages that come back and are delayed. The time is the
// highest that was asked for so far.
func (m *machine) delaying() map[string]func(*rapid.T) {
	now := uint64(1)
	return map[string]func(*rapid.T){
		"delay": func(t *rapid.T) {
			c, numbers := m.held(t)
			at := now + rapid.Uint64Range(0, 5).Draw(t, "for")
			for _, q := range m.model.messages {
				if slices.Contains(numbers, q.number) {
					q.holder, q.delayed = nil, at
				}
			}
			m.step(t, func() {
				m.engine.Count(numbers, rapid.Bool().Draw(t, "failed"), -1, &m.fx)
				if err := m.engine.Delay(rapid.Permutation(numbers).Draw(t, "order"), at); err != nil {
					t.Fatal(err)
				}
				m.engine.Credit(c.Consumer, uint32(len(numbers)))
			})
		},
		"delay wrong": func(t *rapid.T) {
			n := uint64(m.level(t))<<levelShift | rapid.Uint64Range(0, 100).Draw(t, "number")
			if slices.ContainsFunc(m.model.messages, func(q *modelMessage) bool { return q.number == n && q.holder != nil }) {
				t.Skip("it is unacked")
			}
			m.step(t, func() {
				if err := m.engine.Delay([]uint64{n}, now); err == nil {
					t.Fatalf("message %d could be delayed", n)
				}
			})
		},
		"resume": func(t *rapid.T) {
			now += rapid.Uint64Range(0, 4).Draw(t, "later")
			earliest := uint64(0)
			for _, q := range m.model.messages {
				switch {
				case q.delayed == 0:
				case q.delayed <= now:
					q.delayed = 0
					// What the cursor has passed meanwhile counts as handed out.
					q.redelivered = q.redelivered || q.number < m.engine.find(Level(q.number)).deliveredUpTo()
				default:
					earliest = earlier(earliest, q.delayed)
				}
			}
			m.step(t, func() {
				next := m.engine.Resume(now, 1, &m.fx)
				for next == now {
					next = m.engine.Resume(now, 1, &m.fx)
				}
				if earliest != 0 && (next == 0 || next > earliest) { // it may be early, for what has left meanwhile
					t.Fatalf("Resume is to be called again at %d, want %d", next, earliest)
				}
			})
		},
	}
}

// delayStored delays some messages of a run that is to be recovered, and returns what
// the store has of that.
func (m *machine) delayStored(t *rapid.T, first uint64, count int) []byte {
	r := Run{First: first, Count: uint32(count), aside: &aside{tallies: make([]Tally, count)}}
	for _, q := range m.model.messages {
		offset := q.number - first
		if offset >= uint64(count) || rapid.IntRange(0, 3).Draw(t, "delayed") > 0 {
			continue
		}
		q.delayed = rapid.Uint64Range(1, 5).Draw(t, "until")
		r.aside.tallies[offset] = Tally{1, uint16(rapid.IntRange(0, 1).Draw(t, "failed"))}
		r.aside.delay(uint32(offset), q.delayed)
	}
	return r.AppendTallies(nil)
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
		if err != nil || again != nil && !slices.Equal(again.delays, r.aside.delays) {
			t.Fatalf("%v and %v after %v", again, err, r.aside)
		}
	})
}
