// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// inMemory says whether the page of the next ready message is there.
func (m *machine) inMemory(number uint64) bool {
	dir := &m.engine.find(Level(number)).dir
	lists := []*runs{&dir.head, &dir.tail}
	for _, s := range dir.cold {
		lists = append(lists, &s.warm)
	}
	for _, list := range lists {
		if i := list.find(number, 0); i >= 0 {
			return list.at(i).Page != nil
		}
	}
	return false
}

// leaving are the steps of messages that leave other than by acknowledgement.
func (m *machine) leaving() map[string]func(*rapid.T) {
	reason := func(t *rapid.T) Reason { return Reason(rapid.IntRange(0, Reasons-1).Draw(t, "reason")) }
	// expel checks that the engine names the messages that are to leave, in order.
	expel := func(t *rapid.T, change func(Reason)) {
		r := reason(t)
		m.step(t, func() {
			before := m.model.leaving()
			change(r)
			var dead []uint64
			for _, d := range m.fx.Dead {
				if d.Reason != r || d.Count == 0 {
					t.Fatalf("%d messages leave for reason %s, want %s", d.Count, d.Reason, r)
				}
				dead = slices.AppendSeq(dead, d.Numbers().each())
			}
			want := slices.DeleteFunc(m.model.leaving(), func(n uint64) bool { return slices.Contains(before, n) })
			if !slices.Equal(dead, want) {
				t.Fatalf("messages %d leave, want %d", dead, want)
			}
		})
	}
	some := func(t *rapid.T) []uint64 {
		all := m.model.leaving()
		if len(all) == 0 {
			t.Skip("nothing is leaving")
		}
		return rapid.SliceOfNDistinct(rapid.SampledFrom(all), 1, len(all), rapid.ID[uint64]).Draw(t, "numbers")
	}
	return map[string]func(*rapid.T){
		"expel": func(t *rapid.T) {
			c, numbers := m.held(t)
			expel(t, func(r Reason) {
				for _, q := range m.model.messages {
					if slices.Contains(numbers, q.number) {
						q.holder, q.leaving = nil, true
					}
				}
				if err := m.engine.Expel(numbers, r, &m.fx); err != nil {
					t.Fatal(err)
				}
				m.engine.Credit(c.Consumer, uint32(len(numbers)))
			})
		},
		"expel ready": func(t *rapid.T) {
			level := m.level(t)
			from := rapid.Uint64Range(uint64(level)<<levelShift, m.engine.Next(level)).Draw(t, "from")
			stride := rapid.Uint64Range(1, 5).Draw(t, "stride")
			expel(t, func(r Reason) {
				var numbers []uint64
				var want uint64
				for n := from; n < from+20; n += stride {
					numbers = append(numbers, n)
				}
				for _, q := range m.model.messages {
					if (q.isReady() || q.delayed > 0) && slices.Contains(numbers, q.number) {
						q.leaving, q.delayed = true, 0
						want++
					}
				}
				if n := m.engine.ExpelReady(numbers, r, &m.fx); n != want {
					t.Fatalf("%d messages leave, want %d", n, want)
				}
			})
		},
		"expel head": func(t *rapid.T) {
			n := rapid.IntRange(1, 12).Draw(t, "n")
			expel(t, func(r Reason) {
				left := n
				for _, q := range m.model.messages {
					if q.isReady() && left > 0 {
						// Having been passed over it counts as handed out, if it comes back.
						q.leaving, q.redelivered = true, true
						left--
					}
				}
				m.engine.ExpelHead(uint64(n), r, &m.fx)
			})
		},
		"expel below": func(t *rapid.T) {
			level := m.level(t)
			below := rapid.Uint64Range(uint64(level)<<levelShift, m.engine.Next(level)+1).Draw(t, "below")
			expel(t, func(r Reason) {
				want := uint64(0)
				for _, q := range m.model.messages {
					if q.isReady() && Level(q.number) == level && q.number < below {
						q.leaving, q.redelivered = true, true
						want++
					}
				}
				if n := m.engine.ExpelBelow(below, r, &m.fx); n != want {
					t.Fatalf("%d messages leave, want %d", n, want)
				}
			})
		},
		"expel over": func(t *rapid.T) {
			most := rapid.Int64Range(-1, 20).Draw(t, "most")
			mostBytes := int64(-1)
			if m.engine.weighs {
				mostBytes = rapid.Int64Range(-1, 200).Draw(t, "most bytes")
			}
			expel(t, func(r Reason) {
				over, overBytes, ready := 0, 0, m.model.ready()
				if most >= 0 {
					over = max(over, ready-int(most))
				}
				if mostBytes >= 0 {
					overBytes = max(over, ready-int(mostBytes/8)) // all bodies have 8 bytes
				}
				for _, q := range m.model.messages {
					if !q.isReady() || over <= 0 && overBytes <= 0 {
						continue
					}
					if over <= 0 && !m.inMemory(q.number) {
						break // it has to be read first
					}
					q.leaving, q.redelivered = true, true
					over--
					overBytes--
				}
				m.engine.ExpelOver(most, mostBytes, 1<<20, &m.fx)
				for i := range m.fx.Dead {
					if m.fx.Dead[i].Reason != Maxlen {
						t.Fatalf("messages are too many for reason %s", m.fx.Dead[i].Reason)
					}
					m.fx.Dead[i].Reason = r
				}
			})
		},
		"weigh": func(t *rapid.T) {
			on := rapid.Bool().Draw(t, "on")
			m.step(t, func() { m.engine.Weigh(on) })
			if want := uint64(8 * m.model.ready()); on && m.engine.ReadyBytes() != want {
				t.Fatalf("%d bytes are ready, want %d", m.engine.ReadyBytes(), want)
			}
		},
		"append held": func(t *rapid.T) {
			level := m.level(t)
			first, count := m.engine.Next(level), rapid.IntRange(1, 8).Draw(t, "count")
			var run *Run
			m.come(t, first, count)
			m.step(t, func() {
				run = m.engine.AppendHeld(level, m.messages.page(first, count), nil)
				m.add(first, count)
				for _, q := range m.model.messages {
					q.leaving = q.leaving || q.number >= first && q.number < first+uint64(count)
				}
			})
			for i := range uint32(count) {
				number := first + uint64(i)
				at := slices.IndexFunc(m.model.messages, func(q *modelMessage) bool { return q.number == number })
				m.step(t, func() {
					if rapid.Bool().Draw(t, "admit") {
						m.model.messages[at].leaving = false
						m.engine.Admit(run, i, 1)
					} else {
						m.model.messages = slices.Delete(m.model.messages, at, at+1)
						m.engine.Refuse(run, i, 1, false, &m.fx)
					}
				})
			}
		},
		"settle leaving": func(t *rapid.T) {
			numbers := some(t)
			m.model.messages = slices.DeleteFunc(m.model.messages, func(q *modelMessage) bool {
				return slices.Contains(numbers, q.number)
			})
			m.step(t, func() {
				if err := m.engine.SettleLeaving(intervals(numbers), &m.fx); err != nil {
					t.Fatal(err)
				}
			})
		},
		"return leaving": func(t *rapid.T) {
			numbers := some(t)
			for _, q := range m.model.messages {
				if slices.Contains(numbers, q.number) {
					q.leaving, q.waits = false, nil
					// What the cursor has passed meanwhile counts as handed out.
					q.redelivered = q.redelivered || q.number < m.engine.find(Level(q.number)).deliveredUpTo()
				}
			}
			m.step(t, func() {
				if err := m.engine.ReturnLeaving(intervals(numbers)); err != nil {
					t.Fatal(err)
				}
			})
		},
		"wait": func(t *rapid.T) {
			numbers := some(t)
			slices.Sort(numbers)
			r := m.engine.find(Level(numbers[0])).locate(numbers[0])
			n := 1
			for n < len(numbers) && numbers[n] == numbers[0]+uint64(n) && numbers[n] < r.end() {
				n++
			}
			d := drawDeparture(t)
			m.step(t, func() {
				first := false
				for _, n := range numbers[:n] {
					if q := m.model.find(n); !r.Volatile {
						waits := departure{d, m.places, 0, 1}
						if first = first || q.waits == nil || !q.waits.equal(&d); q.waits != nil {
							waits.place = q.waits.place
						}
						q.waits = &waits
					}
				}
				if first {
					m.places++
				}
				m.fx.Counted = m.fx.Counted[:0]
				if err := m.engine.Wait(Interval{numbers[0], numbers[n-1] + 1}, d, &m.fx); err != nil {
					t.Fatal(err)
				}
				if first != (len(m.fx.Counted) == 1) {
					t.Fatalf("it is stored that messages %d wait: %t, want %t", numbers[:n], !first, first)
				}
			})
		},
		"wait wrong": func(t *rapid.T) {
			n := uint64(m.level(t))<<levelShift | rapid.Uint64Range(0, 100).Draw(t, "number")
			if q := m.model.find(n); q != nil && q.leaving {
				t.Skip("it is leaving")
			}
			m.step(t, func() {
				if err := m.engine.Wait(Interval{n, n + 1}, Departure{}, &m.fx); err == nil {
					t.Fatalf("message %d can wait", n)
				}
			})
		},
		"load leaving": func(t *rapid.T) {
			if m.keeper == nil {
				t.Skip("nothing is stored")
			}
			numbers := some(t)
			m.step(t, func() {
				for _, n := range numbers {
					if r := m.engine.find(Level(n)).locate(n); r.Stored != nil && (r.Page != nil || m.keeper.Stored(r)) {
						m.engine.load(r, &m.fx)
					}
				}
			})
		},
	}
}

func drawDeparture(t *rapid.T) Departure {
	return Departure{
		Reason:  Reason(rapid.IntRange(0, Reasons-1).Draw(t, "reason")),
		Refused: rapid.Bool().Draw(t, "refused"),
		Took:    rapid.SampledFrom([][]uint64{nil, {1}, {1, 1 << 40}, {0, ^uint64(0), 7}}).Draw(t, "took"),
	}
}

// waitsAt is the departure of the message at offset alone, nil if it has none.
func (r *Run) waitsAt(offset uint32) *departure {
	if r.aside != nil {
		for _, d := range r.aside.departures {
			if d.from <= offset && offset < d.end() {
				d.from, d.count = 0, 1
				return &d
			}
		}
	}
	return nil
}

// recoverWaiting checks what the shell learns of recovered messages that wait to leave.
func (m *machine) recoverWaiting(t *rapid.T) {
	last := departure{}
	n := 0
	m.engine.Departures(func(dead Dead, d Departure) {
		for number := range dead.Numbers().each() {
			q := m.model.find(number)
			if q == nil || q.waits == nil || !q.waits.equal(&d) || dead.Reason != d.Reason || q.waits.place < last.place {
				t.Fatalf("message %d waits as %+v, want %+v behind place %d", number, d, q, last.place)
			}
			last = *q.waits
			n++
		}
	})
	if want := len(m.model.leaving()); n != want {
		t.Fatalf("%d messages wait to leave, want %d", n, want)
	}
}

// TestStoredDepartures: what waits to leave is read back as it was stored, but for what
// was settled meanwhile.
func TestStoredDepartures(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := Run{Count: rapid.Uint32Range(1, MaxRunMessages).Draw(t, "count")}
		r.aside = &aside{tallies: make([]Tally, r.Count)}
		for at := uint32(0); at < r.Count; {
			count := rapid.Uint32Range(1, r.Count-at).Draw(t, "neighbours")
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				r.aside.restoreDeparture(&departure{drawDeparture(t), rapid.Uint64Range(0, maxPlace-1).Draw(t, "place"), at, count}, &Bitmap{})
			case 1:
				r.aside.delay(at, 9)
			}
			r.aside.tallies[at].Acquired = rapid.Uint16().Draw(t, "acquired")
			at += count
		}
		stored := r.AppendTallies(nil)
		back := Run{Count: r.Count}
		for o := range r.Count {
			if rapid.IntRange(0, 5).Draw(t, "settled") == 0 {
				back.settled.Set(o)
			}
		}
		back.gone = back.settled.Count()
		var err error
		if back.aside, err = parseTallies(stored, &back); err != nil {
			t.Fatal(err)
		}
		if err := checkAside(&back); err != nil {
			t.Fatal(err)
		}
		for o := range r.Count {
			want := r.waitsAt(o)
			if back.settled.Has(o) {
				want = nil
			}
			if got := back.waitsAt(o); !reflect.DeepEqual(got, want) || want != nil && !back.isLeaving(o) {
				t.Fatalf("message %d waits as %+v, want %+v", o, got, want)
			}
		}
	})
}
