// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// model is a queue as a list of messages in their order, each served by itself
// to the next in the circle who can take it.
type model struct {
	messages  []*modelMessage  // not settled, in the order in which they are served
	consumers []*modelConsumer // in the order they were added
	turns     map[int64]int    // by priority: which of its consumers is next
	single    SingleActive
	active    *modelConsumer // of a queue with a single active consumer
	getters   []*modelConsumer
}

type modelMessage struct {
	number      uint64
	holder      *modelConsumer // nil while it is ready
	redelivered bool
	leaving     bool
	waits       *departure // while it is leaving; of one message, nil if nothing is stored of it
	delayed     uint64     // until when, 0 if it is not
	tally       Tally
}

type modelConsumer struct {
	*Consumer
	held int
}

func (c *modelConsumer) takes() bool {
	return c.Sink.(*sink).grants() && (c.NoAck || c.Prefetch == 0 || c.held < int(c.Prefetch))
}

// place is where a message with that number is in the order of service: the highest
// level first, each by number.
func place(number uint64) uint64 { return number ^ 0xff<<levelShift }

// event is one message handed out.
type event struct {
	number      uint64
	consumer    string
	redelivered bool
	left        int // for a basic.get; -1 for consumers
	tally       Tally
}

// dispatch serves what can be served: inMemory says whose page is there.
func (m *model) dispatch(inMemory func(number uint64) bool) (events []event) {
	for {
		i := slices.IndexFunc(m.messages, func(q *modelMessage) bool { return q.isReady() })
		if i < 0 || !inMemory(m.messages[i].number) {
			return events
		}
		q := m.messages[i]
		e := event{q.number, "", q.redelivered, -1, q.tally}
		var c *modelConsumer
		if len(m.getters) > 0 {
			c, m.getters = m.getters[0], m.getters[1:]
			e.left = m.ready() - 1
		} else if c = m.next(); c == nil {
			return events
		} else {
			c.Sink.(*sink).reserve(1)
		}
		e.consumer = c.Tag
		events = append(events, e)
		if c.NoAck {
			m.messages = slices.Delete(m.messages, i, i+1)
		} else {
			q.holder, q.redelivered = c, true
			c.held++
		}
	}
}

// ofPriority lists the consumers of one priority.
func (m *model) ofPriority(priority int64) (list []*modelConsumer) {
	for _, c := range m.consumers {
		if c.Priority == priority {
			list = append(list, c)
		}
	}
	return list
}

// remove takes a consumer out; the turn stays with who has it.
func (m *model) remove(c *modelConsumer) {
	rank, turn := m.ofPriority(c.Priority), m.turns[c.Priority]
	if slices.Index(rank, c) < turn {
		turn--
	}
	if turn == len(rank)-1 {
		turn = 0
	}
	m.turns[c.Priority] = turn
	m.consumers = slices.DeleteFunc(m.consumers, func(other *modelConsumer) bool { return other == c })
	if m.active == c {
		m.active = nil
	}
}

// next is the consumer whose turn it is, nil if none can take a message.
func (m *model) next() *modelConsumer {
	if m.single != AllActive {
		if c := m.elect(); c != nil && c.takes() {
			return c
		}
		return nil
	}
	for priority := int64(highestPriority); priority >= -highestPriority; priority-- {
		rank := m.ofPriority(priority)
		for i := range rank {
			at := (m.turns[priority] + i) % len(rank)
			if c := rank[at]; c.takes() {
				m.turns[priority] = (at + 1) % len(rank)
				return c
			}
		}
	}
	return nil
}

// highestPriority is that of the model's consumers; the lowest is its negative.
const highestPriority = 1

// elect is the single active consumer that gets messages now, if there is one.
func (m *model) elect() *modelConsumer {
	var heir *modelConsumer
	for priority := int64(highestPriority); priority >= -highestPriority && heir == nil; priority-- {
		for _, c := range m.ofPriority(priority) {
			if c != m.active && heir == nil {
				heir = c
			}
		}
	}
	switch {
	case m.active == nil:
		m.active = heir
	case m.single != GivesWay || heir == nil || heir.Priority <= m.active.Priority:
	case m.active.held > 0:
		return nil
	default:
		m.active = heir
	}
	return m.active
}

func (m *model) ready() (n int) {
	for _, q := range m.messages {
		if q.isReady() {
			n++
		}
	}
	return n
}

func (q *modelMessage) isReady() bool { return q.holder == nil && !q.leaving && q.delayed == 0 }

func (m *model) delayed() (numbers []uint64) {
	for _, q := range m.messages {
		if q.delayed > 0 {
			numbers = append(numbers, q.number)
		}
	}
	return numbers
}

func (m *model) leaving() (numbers []uint64) {
	for _, q := range m.messages {
		if q.leaving {
			numbers = append(numbers, q.number)
		}
	}
	return numbers
}

// machine drives an engine and the model with the same random steps.
type machine struct {
	engine Engine
	fx     Effects
	model  model
	all    []*modelConsumer // also those that were removed
	loads  []*Run
	asked  []*Run // whose stamps are to be read
	pages  Pages  // what is used after its release is overwritten
	done   map[*Run]bool
	names  int
	levels []uint8 // those that are used

	messages messages
	places   uint64
	now      uint64 // milliseconds since 1970
	timed    bool   // messages may become due
	ttl      int64  // of the queue, negative for none

	keeper *keeper
	late   []*disk // on their way to the store
	spills []*Run
	group  []*Run // given out by Scattered
	thins  []thinning
}

// thinning is a run given out by Thin, and what was settled of it then.
type thinning struct {
	run     *Run
	settled Bitmap
}

// reserve takes n messages off the room for good, as the model has no turns that
// can be given back.
func (s *sink) reserve(n int) {
	if s.room > 0 {
		s.room -= n
	}
}

func (m *machine) step(t *rapid.T, change func()) {
	m.fx.Reset()
	change()
	m.resume(t)
	m.expire(t, m.now-1)
	m.dispatch(t)
	m.fx.Reset()
	if m.expire(t, m.now) {
		m.dispatch(t)
	} else {
		m.carryOut(t)
	}
	m.engine.ReleasePages()
	if err := checkDispatched(&m.engine); err != nil {
		t.Fatal(err)
	}
	if packed := m.packed(); m.keeper != nil && packed != len(m.keeper.cold) {
		t.Fatalf("%d runs are packed, the store knows of %d", packed, len(m.keeper.cold))
	}
	ready, leaving := uint64(m.model.ready()), uint64(len(m.model.leaving()))
	delayed := uint64(len(m.model.delayed()))
	unacked := uint64(len(m.model.messages)) - ready - leaving - delayed
	if m.engine.Delayed() != delayed {
		t.Fatalf("%d messages are delayed, want %d", m.engine.Delayed(), delayed)
	}
	if m.engine.Ready() != ready || m.engine.Unacked() != unacked || m.engine.Leaving() != leaving {
		t.Fatalf("%d ready, %d unacked and %d leaving, want %d, %d and %d",
			m.engine.Ready(), m.engine.Unacked(), m.engine.Leaving(), ready, unacked, leaving)
	}
	for _, c := range m.model.consumers {
		if !c.NoAck && c.Unacked() != uint32(c.held) {
			t.Fatalf("consumer %s holds %d messages, want %d", c.Tag, c.Unacked(), c.held)
		}
	}
}

// dispatch lets the engine and the model hand out what can be handed out.
func (m *machine) dispatch(t *rapid.T) {
	if m.engine.Dispatch(&m.fx) {
		t.Fatal("so few messages take more than one step")
	}
	if got, want := m.carryOut(t), m.expected(t); !slices.Equal(got, want) {
		t.Fatalf("handed out\n%v, want\n%v", got, want)
	}
}

// carryOut turns the effects into events, in the order of numbers within each
// run of hand-outs.
func (m *machine) carryOut(t *rapid.T) (events []event) {
	for i := range m.fx.Deliveries {
		d := &m.fx.Deliveries[i]
		if err := checkDelivery(d); err != nil {
			t.Fatal(err)
		}
		left := -1
		if d.Get {
			left = int(d.Remaining)
		}
		for i := range d.Count {
			events = append(events, event{d.Number(i), d.Consumer.Tag, d.Redelivered, left, d.Tally(i)})
		}
		if !d.Get {
			d.Consumer.Sink.(*sink).reserved -= int(d.Count) // the model takes the room
		}
	}
	slices.SortFunc(events, func(a, b event) int { return cmp.Compare(place(a.number), place(b.number)) })
	m.checkCounts(t)
	for _, r := range m.fx.Done {
		if m.done[r] || !r.Done() || r.Page != nil {
			t.Fatalf("run %d is done twice, or not, or still has its page", r.First)
		}
		m.done[r] = true
	}
	for _, i := range m.fx.Forgotten {
		for first := range m.keeper.cold {
			if first >= i.First && first < i.End {
				delete(m.keeper.cold, first)
			}
		}
	}
	for _, r := range m.fx.Spills {
		if r.Stored != nil || r.Page == nil || slices.Contains(m.spills, r) {
			t.Fatalf("run %d is spilled without need", r.First)
		}
		m.spills = append(m.spills, r)
	}
	if !slices.IsSortedFunc(m.fx.Loads, func(a, b *Run) int { return cmp.Compare(a.First, b.First) }) {
		t.Fatal("loads are out of order")
	}
	for _, r := range m.fx.Loads {
		if r.Page != nil || r.Stored == nil || slices.Contains(m.loads, r) {
			t.Fatalf("run %d is loaded without need", r.First)
		}
		m.loads = append(m.loads, r)
	}
	return events
}

// expected lets the model do the same. Its messages whose page was in memory are
// those the engine has a page of, or had one until it handed them out.
func (m *machine) expected(t *rapid.T) []event {
	empty := slices.Clone(m.model.getters)
	m.model.elect()
	events := m.model.dispatch(func(number uint64) bool {
		dir := &m.engine.find(Level(number)).dir
		if i := dir.head.find(number, 0); i >= 0 {
			return dir.head.at(i).Page != nil || dir.head.at(i).Done()
		}
		return len(dir.cold) == 0 || number < dir.cold[0].first
	})
	if m.model.ready() > 0 {
		empty = nil
	} else {
		empty = empty[len(empty)-len(m.model.getters):]
		m.model.getters = nil
	}
	if len(empty) != len(m.fx.Empty) {
		t.Fatalf("%d basic.gets find nothing, want %d", len(m.fx.Empty), len(empty))
	}
	for i, c := range m.fx.Empty {
		if c != empty[i].Consumer {
			t.Fatalf("basic.get %s finds nothing, want %s", c.Tag, empty[i].Tag)
		}
	}
	return events
}

// packed counts the packed runs.
func (m *machine) packed() (n int) {
	for _, l := range m.engine.levels {
		for _, s := range l.dir.cold {
			n += s.count
		}
	}
	return n
}

// put makes a handle, which may be on its way for a while.
func (m *machine) put(t *rapid.T, first uint64, count int) *disk {
	d := m.keeper.put(first, count)
	if d.late = rapid.Bool().Draw(t, "late"); d.late {
		m.late = append(m.late, d)
	}
	return d
}

// held draws some of the messages that one consumer holds.
func (m *machine) held(t *rapid.T) (*modelConsumer, []uint64) {
	var holders []*modelConsumer
	for _, c := range m.all {
		if c.held > 0 {
			holders = append(holders, c)
		}
	}
	if len(holders) == 0 {
		t.Skip("nothing is unacked")
	}
	c := rapid.SampledFrom(holders).Draw(t, "holder")
	var numbers []uint64
	for _, q := range m.model.messages {
		if q.holder == c {
			numbers = append(numbers, q.number)
		}
	}
	from := rapid.IntRange(0, len(numbers)-1).Draw(t, "from")
	to := rapid.IntRange(from+1, len(numbers)).Draw(t, "to")
	stride := rapid.IntRange(1, 3).Draw(t, "stride")
	var drawn []uint64
	for i := from; i < to; i += stride {
		drawn = append(drawn, numbers[i])
	}
	c.held -= len(drawn)
	return c, drawn
}

func (m *machine) consumer(t *rapid.T) *modelConsumer {
	m.names++
	c := &modelConsumer{Consumer: &Consumer{
		Tag:      fmt.Sprint("c", m.names),
		NoAck:    rapid.IntRange(0, 3).Draw(t, "no ack") == 0,
		Prefetch: rapid.Uint32Range(0, 4).Draw(t, "prefetch"),
		Priority: rapid.Int64Range(-highestPriority, highestPriority).Draw(t, "priority"),
		Sink:     &sink{room: rapid.IntRange(-3, 6).Draw(t, "room")},
	}}
	m.all = append(m.all, c)
	return c
}

func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{done: map[*Run]bool{}, messages: messages{}, now: scriptStart, ttl: -1}
		m.timed = rapid.Bool().Draw(t, "timed")
		m.levels = rapid.SampledFrom([][]uint8{{0}, {0}, {4}, {0, 1}, {2, 7, 255}}).Draw(t, "levels")
		m.model.turns = map[int64]int{}
		m.model.single = rapid.SampledFrom([]SingleActive{AllActive, AllActive, Stays, GivesWay}).Draw(t, "single")
		m.engine.Single = m.model.single
		m.engine.tuned = &limits{
			segmentRuns: rapid.IntRange(1, 4).Draw(t, "segment"),
			hotRuns:     rapid.IntRange(1, 4).Draw(t, "hot"),
			aheadRuns:   rapid.IntRange(0, 2).Draw(t, "ahead"),
			smallRuns:   rapid.IntRange(1, 3).Draw(t, "small"),
			runMessages: rapid.Uint32Range(8, 20).Draw(t, "messages"),
			runBytes:    rapid.Uint64Range(100, 1000).Draw(t, "bytes"),
			spillBytes:  rapid.Uint64Range(1, 1000).Draw(t, "spill"),
			thinLooks:   rapid.IntRange(1, 4).Draw(t, "looks"),
			nearDates:   standard.nearDates,
		}
		if rapid.IntRange(0, 4).Draw(t, "keeper") > 0 {
			m.keeper = newKeeper(&m.engine)
			if rapid.Bool().Draw(t, "recovered") {
				m.recover(t)
			}
		}
		actions := m.storing()
		maps.Copy(actions, m.leaving())
		maps.Copy(actions, m.delaying())
		maps.Copy(actions, m.counting())
		if m.timed {
			maps.Copy(actions, m.timing())
		}
		maps.Copy(actions, map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				var stored any
				level := m.level(t)
				first, count := m.engine.Next(level), rapid.IntRange(1, 8).Draw(t, "count")
				if m.keeper != nil && rapid.IntRange(0, 3).Draw(t, "stored") > 0 {
					stored = m.put(t, first, count)
				}
				m.come(t, first, count)
				m.step(t, func() {
					page := m.messages.fill(m.pages.New(), first, count, Bitmap{})
					m.engine.Append(level, page, stored)
					page.Release()
					m.add(first, count)
				})
			},
			"extend": func(t *rapid.T) {
				level := m.level(t)
				r := m.engine.Extensible(level)
				count := rapid.IntRange(1, 8).Draw(t, "count")
				if r == nil || !r.Stored.(*disk).late {
					t.Skip("the store has taken the newest run")
				}
				first, before := m.engine.Next(level), r.Page.Weight()
				m.come(t, first, count)
				page := m.messages.page(first, count)
				if m.ttl >= 0 {
					page.KeepTimes(r.Page)
				}
				if !r.Page.Take(page) {
					t.Skip("it is full, or too old")
				}
				for i := range count { // when a message came is known only if that matters
					n := first + uint64(i)
					m.messages[n] = testMessage{8, r.Page.Stamp(int(n - r.First))}
				}
				r.Stored.(*disk).count += uint32(count)
				m.step(t, func() {
					m.engine.Extended(r, before)
					m.add(first, count)
				})
			},
			"consume": func(t *rapid.T) {
				c := m.consumer(t)
				m.model.consumers = append(m.model.consumers, c)
				m.step(t, func() { m.engine.AddConsumer(c.Consumer) })
			},
			"cancel": func(t *rapid.T) {
				if len(m.model.consumers) == 0 {
					t.Skip("no consumer")
				}
				c := rapid.SampledFrom(m.model.consumers).Draw(t, "which")
				m.model.remove(c)
				m.step(t, func() { m.engine.RemoveConsumer(c.Consumer) })
			},
			"room": func(t *rapid.T) {
				if len(m.model.consumers) == 0 {
					t.Skip("no consumer")
				}
				c := rapid.SampledFrom(m.model.consumers).Draw(t, "which")
				room := rapid.IntRange(-1, 9).Draw(t, "room")
				m.step(t, func() { c.Sink.(*sink).room = room })
			},
			"settle": func(t *rapid.T) {
				c, numbers := m.held(t)
				m.model.messages = slices.DeleteFunc(m.model.messages, func(q *modelMessage) bool {
					return slices.Contains(numbers, q.number)
				})
				m.step(t, func() {
					if err := m.engine.Settle(numbers, &m.fx); err != nil {
						t.Fatal(err)
					}
					m.engine.Credit(c.Consumer, uint32(len(numbers)))
				})
			},
			"return": func(t *rapid.T) {
				c, numbers := m.held(t)
				for _, q := range m.model.messages {
					if slices.Contains(numbers, q.number) {
						q.holder = nil
					}
				}
				m.step(t, func() { m.engine.Return(numbers); m.engine.Credit(c.Consumer, uint32(len(numbers))) })
			},
			"settle wrong": func(t *rapid.T) {
				n := uint64(m.level(t))<<levelShift | rapid.Uint64Range(0, 100).Draw(t, "number")
				if slices.ContainsFunc(m.model.messages, func(q *modelMessage) bool { return q.number == n && q.holder != nil }) {
					t.Skip("it is unacked")
				}
				m.step(t, func() {
					if err := m.engine.Settle([]uint64{n}, &m.fx); err == nil {
						t.Fatalf("message %d could be settled", n)
					}
				})
			},
			"get": func(t *rapid.T) {
				c := m.consumer(t)
				m.model.getters = append(m.model.getters, c)
				m.step(t, func() { m.engine.Get(c.Consumer) })
			},
			"forget": func(t *rapid.T) {
				if len(m.model.getters) == 0 {
					t.Skip("nobody waits")
				}
				i := rapid.IntRange(0, len(m.model.getters)-1).Draw(t, "which")
				c := m.model.getters[i]
				m.model.getters = slices.Delete(slices.Clone(m.model.getters), i, i+1)
				m.step(t, func() { m.engine.ForgetGet(c.Consumer) })
			},
			"purge": func(t *rapid.T) {
				gone := func(q *modelMessage) bool { return q.isReady() || q.delayed > 0 }
				ready := uint64(m.model.ready() + len(m.model.delayed()))
				m.model.messages = slices.DeleteFunc(m.model.messages, gone)
				few := rapid.IntRange(0, 5).Draw(t, "runs at a time")
				m.step(t, func() {
					n := uint64(0)
					for few > 0 {
						purged, some := m.engine.PurgeRuns(few, &m.fx)
						if err := m.engine.Check(); err != nil {
							t.Fatalf("after %d messages were purged: %v", purged, err)
						}
						if !some {
							break
						}
						n += purged
					}
					if n += m.engine.Purge(&m.fx); n != ready {
						t.Fatalf("purged %d messages, want %d", n, ready)
					}
				})
			},
			"load": func(t *rapid.T) {
				if len(m.loads) == 0 {
					t.Skip("nothing is being loaded")
				}
				i := rapid.IntRange(0, len(m.loads)-1).Draw(t, "which")
				r := m.loads[i]
				m.loads = slices.Delete(m.loads, i, i+1)
				if d := r.Stored.(*disk); d.late || d.gone {
					t.Fatalf("run %d is read before it is stored or after it is dropped", r.First)
				}
				if rapid.IntRange(0, 5).Draw(t, "fails") == 0 {
					m.step(t, func() { m.engine.LoadFailed(r) })
					return
				}
				m.step(t, func() {
					m.engine.Loaded(r, m.messages.pageWithout(r.First, int(r.Count), r.Stored.(*disk).nothing))
				})
			},
			"append many": func(t *rapid.T) {
				if m.keeper == nil {
					t.Skip("nothing is stored")
				}
				limit := rapid.Uint64Range(0, 2000).Draw(t, "limit")
				m.step(t, func() {
					for range rapid.IntRange(2, 20).Draw(t, "runs") {
						level := m.level(t)
						first := m.engine.Next(level)
						m.come(t, first, 1)
						m.engine.Append(level, m.messages.page(first, 1), m.keeper.put(first, 1))
						m.engine.Trim(limit, limit, &m.fx)
						m.add(first, 1)
					}
				})
			},
			"trim": func(t *rapid.T) {
				limit := rapid.Uint64Range(0, m.engine.Resident()).Draw(t, "limit")
				trim := m.engine.Trim
				if rapid.Bool().Draw(t, "unread") {
					trim = m.engine.TrimUnread
				}
				m.step(t, func() { trim(limit, limit, &m.fx) })
			},
		})
		t.Repeat(actions)
	})
}

// level draws one of the levels that are used.
func (m *machine) level(t *rapid.T) uint8 { return rapid.SampledFrom(m.levels).Draw(t, "level") }

// add puts messages at the end of their level.
func (m *machine) add(first uint64, count int) {
	at, _ := slices.BinarySearchFunc(m.model.messages, place(first), func(q *modelMessage, p uint64) int {
		return cmp.Compare(place(q.number), p)
	})
	for i := range count {
		m.model.messages = slices.Insert(m.model.messages, at+i, &modelMessage{number: first + uint64(i)})
	}
}

// recover starts with runs found in a store, some of their messages settled.
func (m *machine) recover(t *rapid.T) {
	for _, level := range m.levels {
		m.recoverLevel(t, level)
	}
	m.recoverWaiting(t)
	if err := m.engine.Check(); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) recoverLevel(t *rapid.T, level uint8) {
	e := &m.engine
	least := uint64(level) << levelShift
	for range rapid.IntRange(0, 4).Draw(t, "runs") {
		first := e.Next(level) + rapid.Uint64Range(0, 3).Draw(t, "gap")
		count := rapid.IntRange(1, 8).Draw(t, "count")
		var settled Bitmap
		m.come(t, first, count)
		m.add(first, count)
		for i := range count {
			if rapid.IntRange(0, 2).Draw(t, "settled") == 0 {
				settled.Set(uint32(i))
			}
		}
		m.model.messages = slices.DeleteFunc(m.model.messages, func(q *modelMessage) bool {
			return q.number-first < uint64(count) && settled.Has(uint32(q.number-first))
		})
		stored, handedOut := m.countsStored(t, first, count)
		if handedOut {
			least = first + uint64(count)
		}
		times := m.messages.page(first, count).Times()
		if err := e.Restore(first, uint32(count), uint64(8*count), settled, m.keeper.restore(first, count), times, stored); err != nil {
			t.Fatal(err)
		}
		if int(settled.Count()) == count {
			delete(m.keeper.cold, first) // nothing of it is kept
		}
	}
	below := rapid.Uint64Range(least, e.Next(level)+2).Draw(t, "delivered")
	e.RedeliverBelow(below)
	e.SkipTo(below)
	for _, q := range m.model.messages {
		q.redelivered = q.redelivered || Level(q.number) == level && q.number < below
	}
}
