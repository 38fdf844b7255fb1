// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// dueModel is a queue in which messages become due, and what should be in it.
type dueModel struct {
	engine  Engine
	keeper  *keeper
	fx      Effects
	now     uint64
	ttl     int64
	stamps  []Stamp // of all messages, by number
	ready   map[uint64]bool
	delayed map[uint64]uint64 // until when
	unacked []uint64
	asked   []*Run
	loads   []*Run
	took    *Consumer
}

// end is when a message is due, 0 for never.
func (m *dueModel) end(number uint64) uint64 {
	s := m.stamps[number]
	if m.ttl < 0 {
		return s.Due
	}
	return earlier(s.Due, max(s.Arrived+uint64(m.ttl), 1))
}

// page is the page of a run, as the store has it.
func (m *dueModel) page(r *Run) *Page {
	p := newPage(r.First, int(r.Count), 8)
	p.arrived = m.stamps[r.First].Arrived
	for i := range r.Count {
		if s := m.stamps[r.First+uint64(i)]; s.Arrived != p.arrived || s.Due != 0 {
			for len(p.stamps) <= int(i) {
				p.stamps = append(p.stamps, Stamp{Arrived: p.arrived})
			}
			p.stamps[i] = s
		}
	}
	return p
}

// expire expels what is due, as the shell does it: until nothing more is.
func (m *dueModel) expire(t *rapid.T) {
	m.resume(t)
	for next := m.now; next != 0 && next <= m.now; {
		next = m.engine.Expire(m.now, Expired, 3, &m.fx)
		m.apply(t)
		if next != 0 && next <= m.now {
			continue
		}
		next = earlier(next, m.engine.Resume(m.now, 3, &m.fx))
		m.apply(t)
		if want := m.first(); want != 0 && (next == 0 || want < next) && len(m.asked) == 0 {
			t.Fatalf("at %d the next message is due at %d, Expire and Resume say %d", m.now, want, next)
		}
	}
}

// resume makes ready again what was delayed for long enough.
func (m *dueModel) resume(t *rapid.T) {
	for next := m.now; next != 0 && next <= m.now; {
		next = m.engine.Resume(m.now, 3, &m.fx)
		m.apply(t)
	}
	for number, until := range m.delayed {
		if until <= m.now {
			delete(m.delayed, number)
			m.ready[number] = true
		}
	}
}

// first is when the first ready or delayed message is due.
func (m *dueModel) first() (at uint64) {
	for number := range m.ready {
		at = earlier(at, m.end(number))
	}
	for number := range m.delayed {
		at = earlier(at, m.end(number))
	}
	return at
}

func (m *dueModel) apply(t *rapid.T) {
	for _, d := range m.fx.Deliveries {
		for i := range d.Count {
			number := d.Number(i)
			if end := m.end(number); end != 0 && end < m.now {
				t.Fatalf("message %d is handed out at %d, but was due at %d", number, m.now, end)
			}
			delete(m.ready, number)
			m.unacked = append(m.unacked, number)
		}
	}
	var gone []uint64
	for _, d := range m.fx.Dead {
		for number := range d.Numbers().each() {
			if end := m.end(number); end == 0 || end > m.now {
				t.Fatalf("message %d is expelled at %d, but is due at %d", number, m.now, end)
			}
			if !m.ready[number] && m.delayed[number] == 0 {
				t.Fatalf("message %d is expelled but was not ready", number)
			}
			delete(m.ready, number)
			delete(m.delayed, number)
			gone = append(gone, number)
		}
	}
	m.asked = append(m.asked, m.fx.Stamps...)
	m.loads = append(m.loads, m.fx.Loads...)
	m.fx.Reset()
	if err := m.engine.SettleLeaving(intervals(gone), &m.fx); err != nil {
		t.Fatal(err)
	}
	for _, r := range m.fx.Done {
		if d, ok := r.Stored.(*disk); ok {
			d.gone = true
		}
	}
	m.fx.Reset()
	m.engine.ReleasePages()
}

// answer feeds the stamps back that were asked for.
func (m *dueModel) answer(t *rapid.T) {
	for _, r := range m.asked {
		first := r.First
		m.engine.Stamped(r, func(i int) Stamp { return m.stamps[first+uint64(i)] })
	}
	m.asked = nil
	m.expire(t)
}

func (m *dueModel) dispatch(t *rapid.T) {
	for more := true; more; {
		more = m.engine.Dispatch(&m.fx)
		m.apply(t)
	}
}

func (m *dueModel) check(t *rapid.T) {
	if err := m.engine.Check(); err != nil {
		t.Fatal(err)
	}
	if got := m.engine.Ready(); got != uint64(len(m.ready)) {
		t.Fatalf("%d messages ready, want %d", got, len(m.ready))
	}
	if got := m.engine.Delayed(); got != uint64(len(m.delayed)) {
		t.Fatalf("%d messages delayed, want %d", got, len(m.delayed))
	}
	if len(m.asked) == 0 {
		if first := m.first(); first != 0 && first <= m.now {
			t.Fatalf("a message is ready at %d that was due at %d", m.now, first)
		}
	}
}

// TestDue: each message leaves when it is due, wherever it is, and none before. One
// that is due is not handed out.
func TestDue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &dueModel{now: 1_700_000_000_000, ttl: -1, ready: map[uint64]bool{}, delayed: map[uint64]uint64{}}
		m.keeper = newKeeper(&m.engine)
		l := standard
		l.segmentRuns, l.hotRuns, l.aheadRuns, l.smallRuns, l.runMessages = 3, 2, 1, 1, 12
		m.engine.tuned = &l
		if rapid.Bool().Draw(t, "ttl") {
			m.ttl = rapid.Int64Range(0, 20_000).Draw(t, "milliseconds")
			m.engine.SetTTL(m.ttl)
		}
		m.took = &Consumer{Tag: "c", Sink: &sink{room: 0}}
		m.engine.AddConsumer(m.took)
		actions := map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				first := m.engine.Next(0)
				p := newPage(first, 0, 8)
				for i := range rapid.IntRange(1, 5).Draw(t, "count") {
					p.AppendFrom(newPage(first+uint64(i), 1, 8), 0)
					p.stamps = p.stamps[:0]
				}
				for i := range p.Len() {
					if rapid.IntRange(0, 2).Draw(t, "expires") > 0 {
						for len(p.stamps) < i {
							p.stamps = append(p.stamps, Stamp{})
						}
						p.stamps = append(p.stamps, Stamp{sinceArrival, rapid.Uint64Range(0, 30_000).Draw(t, "after")})
					}
				}
				p.Arrive(m.now)
				for i := range p.Len() {
					m.stamps = append(m.stamps, p.Stamp(i))
					m.ready[first+uint64(i)] = true
				}
				var stored any
				if rapid.IntRange(0, 9).Draw(t, "stored") > 0 {
					stored = m.keeper.put(first, p.Len())
				}
				m.engine.Append(0, p, stored)
				m.dispatch(t)
				m.expire(t)
			},
			"trim": func(t *rapid.T) {
				m.engine.Trim(0, 1<<62, &m.fx)
				m.apply(t)
			},
			"pass": func(t *rapid.T) {
				m.now += rapid.Uint64Range(0, 9_000).Draw(t, "milliseconds")
				m.expire(t)
			},
			"answer": m.answer,
			"consume": func(t *rapid.T) {
				m.expire(t)
				s := m.took.Sink.(*sink)
				s.room = s.reserved + rapid.IntRange(1, 9).Draw(t, "room")
				m.dispatch(t)
				for _, r := range m.loads {
					m.engine.Loaded(r, m.page(r))
				}
				m.loads = nil
				m.expire(t)
				m.dispatch(t)
				s.room = s.reserved
			},
			"return": func(t *rapid.T) {
				if len(m.unacked) == 0 {
					t.Skip("nothing is unacked")
				}
				n := rapid.IntRange(1, len(m.unacked)).Draw(t, "count")
				back := slices.Clone(m.unacked[:n])
				m.unacked = m.unacked[n:]
				m.engine.Return(back)
				for _, number := range back {
					m.ready[number] = true
				}
				m.expire(t)
			},
			"delay": func(t *rapid.T) {
				if len(m.unacked) == 0 {
					t.Skip("nothing is unacked")
				}
				n := rapid.IntRange(1, len(m.unacked)).Draw(t, "count")
				back, until := slices.Clone(m.unacked[:n]), m.now+rapid.Uint64Range(1, 30_000).Draw(t, "for")
				m.unacked = m.unacked[n:]
				m.engine.Count(back, true, -1, &m.fx)
				if err := m.engine.Delay(back, until); err != nil {
					t.Fatal(err)
				}
				for _, number := range back {
					m.delayed[number] = until
				}
				m.expire(t)
			},
			"change": func(t *rapid.T) {
				m.ttl = rapid.Int64Range(-1, 20_000).Draw(t, "milliseconds")
				m.engine.SetTTL(m.ttl)
				m.expire(t)
			},
			"settle": func(t *rapid.T) {
				if len(m.unacked) == 0 {
					t.Skip("nothing is unacked")
				}
				n := rapid.IntRange(1, len(m.unacked)).Draw(t, "count")
				if err := m.engine.Settle(m.unacked[:n], &m.fx); err != nil {
					t.Fatal(err)
				}
				m.unacked = m.unacked[n:]
				m.apply(t)
			},
			"join": func(t *rapid.T) {
				group := m.engine.Scattered(Idle)
				if group == nil {
					t.Skip("nothing to join")
				}
				r := &Run{First: group[0].First}
				for _, member := range group {
					r.Count += member.Count
				}
				var page *Page
				if rapid.Bool().Draw(t, "page") {
					page = m.page(r)
				}
				if _, ok := m.engine.Gather(group, page, m.keeper.put(r.First, int(r.Count))); ok {
					for _, member := range group {
						member.Stored.(*disk).gone = true
					}
				}
				m.engine.ReleasePages()
				m.expire(t)
			},
			"": m.check,
		}
		t.Repeat(actions)
		// In the end everything that is due goes.
		for range 5 {
			m.now += 60_000
			m.expire(t)
			for len(m.asked) > 0 {
				m.answer(t)
			}
		}
		m.check(t)
		if first := m.first(); first != 0 {
			t.Fatalf("a message that is due at %d is left at %d", first, m.now)
		}
	})
}

// TestHeldBackExpires: a message that was held back while it became due leaves when it
// is admitted.
func TestHeldBackExpires(t *testing.T) {
	t.Parallel()
	const now = 1_700_000_000_000
	var e Engine
	var fx Effects
	p := new(Page)
	for i := range uint64(2) {
		p.AppendFrom(newPage(i, 1, 8), 0)
		p.Meet(After(1000 * i))
	}
	p.Arrive(now)
	r := e.AppendHeld(0, p, nil)
	for _, at := range []uint64{now - 1, now, now + 1000, now + 999} {
		e.Expire(at, Expired, 9, &fx)
	}
	e.Admit(r, 0, 2)
	if e.Expire(now+1000, Expired, 9, &fx); e.Ready() != 0 || len(fx.Dead) != 1 || fx.Dead[0].Count != 2 {
		t.Errorf("%d messages are ready, %v left", e.Ready(), fx.Dead)
	}
}

// TestReturnedToLoadedRunExpires: a message that had outlived the queue's time when it
// came back leaves, also if its run counts as younger by then and is in memory again.
func TestReturnedToLoadedRunExpires(t *testing.T) {
	t.Parallel()
	const now = 1_700_000_000_000
	var e Engine
	var fx Effects
	keeper := newKeeper(&e)
	e.SetTTL(1000)
	p := new(Page)
	stamps := []Stamp{{Arrived: now}, {Arrived: now}, {Arrived: now + 500}}
	for i := range stamps {
		p.AppendFrom(newPage(uint64(i), 1, 8), 0)
	}
	p.Arrive(now)
	p.stamps = slices.Clone(stamps)
	s := &sink{room: 1}
	e.AddConsumer(&Consumer{Tag: "c", Sink: s})
	r := e.Append(0, p, keeper.put(0, 3))
	e.Dispatch(&fx)
	e.Trim(0, 1<<62, &fx)
	e.dropPage(r)
	fx.Reset()
	e.Expire(now+1200, Expired, 9, &fx) // asks for stamps
	for _, r := range fx.Stamps {
		e.Stamped(r, func(i int) Stamp { return stamps[i] })
	}
	e.Expire(now+1200, Expired, 9, &fx)
	e.Loaded(r, p)
	e.Return([]uint64{0})
	fx.Reset()
	if e.Expire(now+1300, Expired, 9, &fx); e.Ready() != 1 || len(fx.Dead) != 1 || fx.Dead[0].From != 0 {
		t.Errorf("%d messages are ready, %v left", e.Ready(), fx.Dead)
	}
}

// TestDatesAreOrdered: the heap gives dates back by time.
func TestDatesAreOrdered(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var heap dates
		times := rapid.SliceOf(rapid.Uint64Range(0, 50)).Draw(t, "times")
		for i, at := range times {
			heap.push(date{at, uint64(i), 1})
		}
		slices.Sort(times)
		for i, at := range times {
			if got := heap.pop(); got.at != at {
				t.Fatalf("date %d is at %d, want %d", i, got.at, at)
			}
		}
	})
}

// BenchmarkDue has messages with a time to live of their own expire, all over a
// queue whose pages are on disk.
func BenchmarkDue(b *testing.B) {
	for _, spread := range []uint64{1, 60_000} {
		b.Run(fmt.Sprintf("spread=%dms", spread), func(b *testing.B) {
			b.ReportAllocs()
			var e Engine
			k := newKeeper(&e)
			stamps := map[uint64][]Stamp{}
			now := uint64(1_700_000_000_000)
			var fx Effects
			for n := 0; n < b.N; n += MaxRunMessages {
				first := e.Next(0)
				p := newPage(first, MaxRunMessages, 8)
				for i := range p.Len() {
					p.stamps = append(p.stamps, Stamp{sinceArrival, 10_000 + uint64(n+i)*7919%spread})
				}
				p.Arrive(now)
				stamps[first] = p.stamps
				e.Append(0, p, k.put(first, p.Len()))
				e.Trim(1<<20, 1<<62, &fx)
				fx.Reset()
				e.ReleasePages()
			}
			b.ResetTimer()
			for e.Ready() > 0 {
				now += 50
				for next := now; next != 0 && next <= now; {
					next = e.Expire(now, Expired, 8192, &fx)
					for _, r := range fx.Stamps {
						list := stamps[r.First]
						e.Stamped(r, func(i int) Stamp { return list[i] })
					}
					for _, d := range fx.Dead {
						if err := e.SettleLeaving([]Interval{d.Numbers()}, &fx); err != nil {
							b.Fatal(err)
						}
					}
					fx.Reset()
					e.ReleasePages()
				}
			}
		})
	}
}

// TestDueBehindStamps: what is too old behind messages whose stamps had to be read
// leaves together with these, before anything is handed out.
func TestDueBehindStamps(t *testing.T) {
	t.Parallel()
	var e Engine
	var fx Effects
	k := newKeeper(&e)
	e.SetTTL(100)
	p := newPage(0, 2, 8)
	p.stamps = []Stamp{{Arrived: 1000}, {Arrived: 1001}}
	p.Arrive(1000)
	e.Append(0, p, k.put(0, 2))
	e.Rest() // its page leaves memory
	behind := newPage(2, 1, 8)
	behind.Arrive(1002)
	e.Append(0, behind, k.put(2, 1))
	e.Expire(1200, Expired, 100, &fx)
	if len(fx.Stamps) != 1 {
		t.Fatalf("stamps of %d runs are asked for, want those of 1", len(fx.Stamps))
	}
	asked := fx.Stamps[0]
	fx.Reset()
	e.Stamped(asked, p.Stamp)
	if e.Expire(1200, Expired, 100, &fx); e.Ready() != 0 {
		t.Errorf("%d messages are ready and too old", e.Ready())
	}
}

// TestDueInMemory: what is in memory is expelled on time, or Expire says that there is more
// to do at once, though more dates are near than the engine wants to have.
func TestDueInMemory(t *testing.T) {
	t.Parallel()
	run := func(e *Engine, due ...uint64) *Run {
		p := newPage(e.Next(0), len(due), 8)
		p.arrived = 1
		for _, d := range due {
			p.stamps = append(p.stamps, Stamp{Arrived: 1, Due: d})
		}
		r := e.Append(0, p, nil)
		p.Release()
		return r
	}
	limits := standard
	limits.nearDates = 4
	expire := func(e *Engine, now uint64, fx *Effects) {
		for next := now; next != 0 && next <= now; {
			next = e.Expire(now, Expired, 100, fx)
		}
	}

	t.Run("near is full", func(t *testing.T) {
		e, fx := Engine{tuned: &limits}, Effects{}
		run(&e, 15_000, 15_001, 15_000, 15_001, 15_000)
		r := run(&e, 5_000)
		expire(&e, 1, &fx)
		if expire(&e, 5_000, &fx); e.Leaving() != 1 || !r.isLeaving(0) {
			t.Errorf("%d messages have expired, want the one that is due", e.Leaving())
		}
	})
	t.Run("late", func(t *testing.T) {
		e, fx := Engine{tuned: &limits}, Effects{}
		run(&e, 5_000, 5_001, 5_000, 5_001, 5_000)
		run(&e, 30_000)
		expire(&e, 1, &fx)
		if expire(&e, 60_000, &fx); e.Leaving() != 6 {
			t.Errorf("%d messages have expired, want all 6", e.Leaving())
		}
	})
}
