// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"slices"

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
					q.leaving = false
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
		"load leaving": func(t *rapid.T) {
			if m.keeper == nil {
				t.Skip("nothing is stored")
			}
			numbers := some(t)
			m.step(t, func() {
				for _, n := range numbers {
					if r := m.engine.find(Level(n)).locate(n); r.Stored != nil && (r.Page != nil || m.keeper.Stored(r)) {
						m.engine.Load(r, &m.fx)
					}
				}
			})
		},
	}
}
