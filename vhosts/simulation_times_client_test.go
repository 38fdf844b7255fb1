// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// timesArrival is a delivery.
type timesArrival struct {
	place   timesPlace
	reasons []string // of the deaths in each queue of the path but the last
	at      uint64
	number  uint64
	n       int // it is the consumer's n-th delivery
}

// timesConsumer is a consumer of one queue.
type timesConsumer struct {
	simReader
	queue.Consumer
	shell *Queue
	clock *clock
	times []uint64 // of each of contents
	taken int      // by arrivals, before contents
	held  []timesArrival
	order *timesOrder
}

// Deliver implements [queue.Sink].
func (c *timesConsumer) Deliver(d *queue.Delivery) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, content := range contentsOf(d) {
		c.contents = append(c.contents, content)
		c.times = append(c.times, uint64(c.clock.now().UnixMilli()))
	}
	return true
}

// arrivals takes what has been delivered.
func (c *timesConsumer) arrivals() (arrived []timesArrival) {
	c.mu.Lock()
	contents, times, n := c.contents, c.times, c.taken
	c.contents, c.times = nil, nil
	c.taken += len(contents)
	c.mu.Unlock()
	for i, content := range contents {
		a := timesArrival{place: timesPlace{path: c.shell.name}, at: times[i], number: content.number, n: n + i}
		a.place.id, _, _ = strings.Cut(string(content.body), "|")
		for _, entry := range deathsIn(content.properties()) {
			table, _ := entry.(wire.Table)
			from, _ := table.Get("queue")
			reason, _ := table.Get("reason")
			a.place.path = fmt.Sprint(from, ">", a.place.path)
			a.reasons = append([]string{fmt.Sprint(reason)}, a.reasons...)
		}
		arrived = append(arrived, a)
	}
	return arrived
}

// deliveries is how many there have been.
func (c *timesConsumer) deliveries() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken + len(c.contents)
}

// step begins an operation that changes something.
func (s *timesRun) step(format string, args ...any) int {
	s.steps++
	s.log = append(s.log, fmt.Sprintf("%d: ", s.steps)+fmt.Sprintf(format, args...))
	s.issued.Store(int64(s.steps))
	return s.steps
}

// act does one thing.
func (s *timesRun) act() {
	switch n := s.rng.IntN(20); {
	case n < 7:
		s.publish(false)
	case n < 9:
		s.publish(true)
	case n < 14:
		s.settle()
	case n < 17:
		s.pass()
	case n < 18:
		s.janitor.look()
	default:
		w := &timesConfirm{s: s, step: s.steps}
		s.broker.store.Sync(w)
		s.broker.sync(s.t)
	}
	s.receive()
}

// pass lets time pass while nobody who has looked at the clock still acts on that.
func (s *timesRun) pass() {
	by := time.Duration(1+s.rng.IntN(120)) * time.Millisecond
	b := s.broker
	b.Hosts.tx.Lock()
	var unlock []func()
	for _, q := range b.appendQueues(nil) {
		q.mu.Lock()
		unlock = append(unlock, q.mu.Unlock)
	}
	s.clock.mu.Lock()
	s.clock.time = s.clock.time.Add(by)
	s.clock.mu.Unlock()
	for _, f := range unlock {
		f()
	}
	b.Hosts.tx.Unlock()
	s.log = append(s.log, fmt.Sprint(by, " pass, it is ", s.now()))
	if s.rng.IntN(4) > 0 {
		b.timers.fire()
	}
}

// timesConfirm waits for the store.
type timesConfirm struct {
	s        *timesRun
	step     int
	messages []*timesMessage
	refused  *queue.Bitmap
}

// Refused implements [RefusalWaiter].
func (w *timesConfirm) Refused(messages *queue.Bitmap) { w.refused = messages }

// Durable implements [persistence.Waiter].
func (w *timesConfirm) Durable(err error) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if err != nil {
		return // the store is closed
	}
	for i, m := range w.messages {
		if w.refused == nil || !w.refused.Has(uint32(i)) {
			w.s.confirmed = append(w.s.confirmed, m)
		}
	}
	w.s.secured.Store(max(w.s.secured.Load(), int64(w.step)))
}

// Flush implements [persistence.Waiter].
func (w *timesConfirm) Flush() {}

// publish publishes some messages to a queue, after a delay or at once.
func (s *timesRun) publish(delays bool) {
	q := s.queues[s.rng.IntN(3)]
	exchange, priority, persistent := "", Priority(s.rng.IntN(4)), s.rng.IntN(8) > 0
	var headers []byte
	var delay uint64
	if delays {
		exchange, delay = "later", uint64(20+s.rng.IntN(300))
		headers = wire.AppendTable(nil, wire.Table{delayed(int32(delay))})[4:]
	}
	view := publishView(s.t, exchange, q.name)
	route, due, err := NewRoutes(s.broker.VHost).Find(view, &wire.PropertyView{Headers: headers}, nil).Postpone(headers, false)
	if err != nil {
		s.t.Fatal(err)
	}
	route = route.For(priority)
	page := s.broker.pages.New()
	defer page.Release()
	var messages []*timesMessage
	for range 1 + s.rng.IntN(6) {
		m := &timesMessage{id: fmt.Sprint("m", len(s.messages)), root: q.name, persistent: persistent, index: len(s.messages), level: q.kind.level(priority), at: s.now(), delay: delay, expiration: unset}
		p := wire.Properties{Flags: wire.FlagDeliveryMode | wire.FlagPriority, DeliveryMode: 1, Priority: uint8(priority)}
		if persistent {
			p.DeliveryMode = wire.Persistent
		}
		if delays {
			p.Flags, p.Headers = p.Flags|wire.FlagHeaders, wire.Table{delayed(int32(delay))}
		}
		if s.rng.IntN(3) == 0 {
			m.expiration = int64(20 + s.rng.IntN(200))
			p.Flags, p.Expiration = p.Flags|wire.FlagExpiration, fmt.Sprint(m.expiration)
		}
		body := bodyOf(m.id, s.rng.IntN(3)*s.rng.IntN(200))
		page.Append(view.ExchangeAndKey, wire.AppendHeader(nil, uint64(len(body)), wire.AppendProperties(nil, &p)), body)
		switch {
		case delays:
			page.Meet(due)
		case m.expiration != unset:
			page.Meet(queue.After(uint64(m.expiration)))
		}
		s.messages, s.byID[m.id] = append(s.messages, m), m
		messages = append(messages, m)
	}
	s.step("publish %s to %s to %s, persistent %t, delay %d", messages[0].id, messages[len(messages)-1].id, q.name, persistent, delay)
	for _, c := range s.consumers {
		for _, m := range messages {
			if c.shell.name == q.name && s.orders(m) {
				c.order.ready[m] = 0
			}
		}
	}
	var refused *queue.Bitmap
	if w := (&timesConfirm{s: s, messages: messages}); persistent && s.rng.IntN(3) > 0 {
		refused = s.broker.Publish(route, page, persistent, w)
	} else {
		refused = s.broker.Publish(route, page, persistent, nil)
	}
	for i, m := range messages {
		m.refused = refused != nil && refused.Has(uint32(i))
	}
}

// settle acknowledges, rejects or gives back what some consumer has.
func (s *timesRun) settle() {
	if len(s.consumers) == 0 {
		return
	}
	c := s.consumers[s.rng.IntN(len(s.consumers))]
	n := min(len(c.held), 1+s.rng.IntN(3))
	if n == 0 {
		return
	}
	some, q := c.held[:n], s.queue(c.shell.name)
	c.held = slices.Clone(c.held[n:])
	var numbers []uint64
	var places []timesPlace
	for _, a := range some {
		numbers = append(numbers, a.number)
		places = append(places, a.place)
		s.fact(a.place).held = false
	}
	slices.Sort(numbers)
	what := s.rng.IntN(4)
	failed := s.rng.IntN(3) > 0
	step := s.step("%s %v, failed %t", []string{"acknowledge", "reject", "give back", "give back"}[what], places, failed)
	for _, p := range places {
		f := s.fact(p)
		switch {
		case what == 0 || what == 1 && q.targets == nil:
			f.settled = step
		case what == 1:
			f.rejected = step
		case failed:
			f.failures++
			fallthrough
		default:
			f.returned, f.notBefore = step, 0
			if q.limit == unset || f.failures <= q.limit { // else it leaves
				f.notBefore = s.now() + q.retry
			}
			f.waits = f.waits || q.retry > 0
		}
	}
	switch what {
	case 0, 1:
		c.shell.Settle(&c.Consumer, numbers, what == 1)
	default:
		c.shell.Return(&c.Consumer, numbers, failed)
		s.returned(c, places)
	}
}

// receive takes what was delivered and checks it.
func (s *timesRun) receive() {
	for _, c := range s.consumers {
		for _, a := range c.arrivals() {
			s.check(&a, math.MaxInt, math.MaxInt)
			s.inOrder(c, &a)
			f := s.fact(a.place)
			switch {
			case f.held:
				s.problem("%v is delivered again while it is unacked", a.place)
			case f.settled > 0 || f.gone:
				s.problem("%v is delivered again after it was settled", a.place)
			case a.at < f.notBefore:
				s.problem("%v is delivered again %d ms early", a.place, f.notBefore-a.at)
			}
			if f.arrived == 0 {
				f.arrived, f.arrivedStep = a.at, s.steps+1
			}
			f.held = true
			c.held = append(c.held, a)
			s.log = append(s.log, fmt.Sprint("delivered ", a.place))
		}
	}
}
