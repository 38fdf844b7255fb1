// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lagomq/lagomq/vhosts/queue"
)

// simClient is an application with queues and exchanges of its own, which does
// one thing after the other and knows what must come of it: its operations go to
// the model first and then to the broker, and whatever the broker hands out is
// compared with the model. It is one goroutine. What it does next depends on its
// random numbers and the model alone, so a seed replays it.
type simClient struct {
	prefix  string // of the names of all it has
	sim     *simulation
	rng     *rand.Rand
	model   simModel
	holders []*simConsumer         // consumers that have unacknowledged messages, or had
	sent    map[string]*simMessage // by id
	serial  int

	steps []*simState // what a crash must leave right after each step; step 0 is the start
	log   []string    // what was done

	transcript []string // what was received, also from the broker before a stop

	// Read when the power fails, at any time.
	issued  atomic.Int64 // the last step that may have reached the broker
	secured atomic.Int64 // the last step known to be on disk

	mu        sync.Mutex // taken under the broker's locks; none is taken under it
	changed   sync.Cond
	open      int                      // confirms not received
	arrivals  map[string][]*simArrival // of each queue, in order
	cancelled map[*simConsumer]bool
}

func newSimClient(s *simulation, prefix string, rng *rand.Rand, m simModel) *simClient {
	c := &simClient{
		prefix: prefix, sim: s, rng: rng, model: m, sent: map[string]*simMessage{},
		arrivals: map[string][]*simArrival{}, cancelled: map[*simConsumer]bool{},
	}
	c.changed.L = &c.mu
	c.steps = []*simState{c.model.state()}
	return c
}

// simConsumer is a consumer of a queue, or somebody who gets one message.
type simConsumer struct {
	queue.Consumer
	client  *simClient
	queue   *simQueue
	unacked []*simEntry // in the order of delivery
}

func (c *simClient) newConsumer(q *simQueue, noAck bool, prefetch uint32) *simConsumer {
	k := &simConsumer{client: c, queue: q, Consumer: queue.Consumer{NoAck: noAck, Prefetch: prefetch}}
	k.Sink = k
	return k
}

func (k *simConsumer) forget(e *simEntry) {
	i := slices.Index(k.unacked, e)
	k.unacked = slices.Delete(k.unacked, i, i+1)
	e.holder = nil
}

// simArrival is a message that was delivered, or with content nil the answer that
// there is none.
type simArrival struct {
	consumer *simConsumer
	content  *simContent
}

// Reserve implements [queue.Sink].
func (k *simConsumer) Reserve(n uint32) uint32 { return n }

// Release implements [queue.Sink].
func (k *simConsumer) Release(uint32) {}

// Waits implements [queue.Sink].
func (k *simConsumer) Waits() queue.Wait { return queue.WaitNot }

// Cancelled implements [queue.Sink].
func (k *simConsumer) Cancelled() {
	k.client.mu.Lock()
	defer k.client.mu.Unlock()
	k.client.cancelled[k] = true
	k.client.changed.Broadcast()
}

// Oldest implements [queue.Sink]: it may hold messages for ever.
func (k *simConsumer) Oldest() (uint64, bool) { return 0, false }

// TimeOut implements [queue.Sink].
func (k *simConsumer) TimeOut() []uint64 { return nil }

// Deliver implements [queue.Sink].
func (k *simConsumer) Deliver(d *queue.Delivery) bool {
	c := k.client
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, content := range contentsOf(d) {
		c.arrivals[k.queue.name] = append(c.arrivals[k.queue.name], &simArrival{k, content})
	}
	if d.Count == 0 {
		c.arrivals[k.queue.name] = append(c.arrivals[k.queue.name], &simArrival{consumer: k})
	}
	c.changed.Broadcast()
	return true
}

func contentsOf(d *queue.Delivery) (contents []*simContent) {
	for i := range d.Count {
		envelope, header, body := d.Page.Message(int(d.Offset(i)))
		contents = append(contents, &simContent{
			bytes.Clone(envelope), bytes.Clone(header), bytes.Clone(body), d.Redelivered, d.Number(i),
		})
	}
	return contents
}

// simConfirm waits for one answer of the store.
type simConfirm struct {
	client *simClient
	step   int
	origin *simPublication // nil: an answer means that step is on disk
}

// confirm makes the waiter of the last step. If none of origin's messages is
// left when the answer comes, they may never have been written.
func (c *simClient) confirm(origin *simPublication) *simConfirm {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	return &simConfirm{c, len(c.steps) - 1, origin}
}

// withdraw takes back a confirm that nobody will answer.
func (w *simConfirm) withdraw(waiting bool) {
	if !waiting {
		w.client.answered()
	}
}

// Durable implements [persistence.Waiter].
func (w *simConfirm) Durable(err error) {
	if err != nil {
		w.client.sim.storeFailed(err)
	} else if w.origin == nil || w.origin.live.Load() > 0 {
		w.client.secure(w.step)
	}
	w.client.answered()
}

// Flush implements [persistence.Waiter].
func (w *simConfirm) Flush() {}

func (c *simClient) secure(step int) {
	for {
		before := c.secured.Load()
		if before >= int64(step) || c.secured.CompareAndSwap(before, int64(step)) {
			return
		}
	}
}

func (c *simClient) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	c.changed.Broadcast()
}

// patience is how long a broker may take for what it owes before the test says
// that it hangs, and glance how often it is looked whether there is a reason to.
const (
	patience = time.Minute
	glance   = 50 * time.Millisecond
)

// await waits until done, called with mu held, or the client has to stop, and
// reports the former.
func (c *simClient) await(what string, done func() bool) bool {
	start := time.Now()
	tick := time.AfterFunc(glance, c.wake)
	defer tick.Stop()
	c.mu.Lock()
	for !done() && !c.sim.halted() && time.Since(start) < patience {
		c.changed.Wait()
		c.sim.heal(start)
		tick.Reset(glance)
	}
	ok := done()
	c.mu.Unlock()
	if !ok && !c.sim.halted() {
		c.sim.problem("%s: the broker owes %s", c.prefix, what)
	}
	return ok
}

func (c *simClient) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed.Broadcast()
}

// step notes what a crash must leave once what the model has just been through
// has happened. It comes before the operation itself.
func (c *simClient) step() { c.steps = append(c.steps, c.model.state()) }

// issue says what is about to be done, after its steps.
func (c *simClient) issue(format string, args ...any) {
	c.log = append(c.log, fmt.Sprintf("%s step %d: ", c.prefix, len(c.steps)-1)+fmt.Sprintf(format, args...))
	c.issued.Store(int64(len(c.steps) - 1))
}

// settleDown waits until the broker has handed out what consumers have credit
// for, and compares that with the model.
func (c *simClient) settleDown() {
	if c.sim.halted() {
		return
	}
	for _, q := range c.sorted() {
		due := q.due()
		if !c.await(fmt.Sprintf("%d deliveries from %s", due, q.name), func() bool { return len(c.arrivals[q.name]) >= due }) {
			return
		}
		arrived := c.takeArrivals(q)
		if slices.ContainsFunc(arrived, func(a *simArrival) bool { return a.content == nil }) {
			c.sim.problem("%s says it is empty and was not asked", q.name)
			return
		}
		c.sortArrivals(q, arrived)
		for _, a := range arrived {
			c.received(q, a)
		}
	}
	for _, q := range c.sorted() {
		c.awaitCounts(q)
	}
}

// sortArrivals checks that each consumer was served in order. Those of several
// consumers it brings into the order of the queue: they are served by turns, but
// a turn may be told together with later ones.
func (c *simClient) sortArrivals(q *simQueue, arrived []*simArrival) {
	last := map[*simConsumer]*simContent{}
	for _, a := range arrived {
		if before := last[a.consumer]; before != nil && servedAt(before.number) >= servedAt(a.content.number) {
			c.sim.problem("%s delivers %s after %s", q.name, a.content.name(), before.name())
		}
		last[a.consumer] = a.content
	}
	slices.SortFunc(arrived, func(a, b *simArrival) int { return cmp.Compare(servedAt(a.content.number), servedAt(b.content.number)) })
}

// servedAt is where a message with that number is in the order of service: the
// highest level first.
func servedAt(number uint64) uint64 {
	const sequence = 1<<56 - 1
	return ^uint64(queue.Level(number))<<56 | number&sequence
}

func (c *simClient) takeArrivals(q *simQueue) []*simArrival {
	c.mu.Lock()
	defer c.mu.Unlock()
	arrived := c.arrivals[q.name]
	delete(c.arrivals, q.name)
	return arrived
}

// received checks a delivery: it is the first ready message, as it was
// published, and rightly marked as redelivered or not.
func (c *simClient) received(q *simQueue, a *simArrival) {
	ready := q.ready()
	switch {
	case len(ready) == 0:
		c.sim.problem("%s delivers %s and must be empty", q.name, a.content.name())
		return
	case a.content.name() != ready[0].name():
		c.sim.problem("%s delivers %s, want %s", q.name, a.content.name(), ready[0].name())
		return
	}
	e := ready[0]
	if differs := a.content.differs(e.simMessage); differs != "" {
		c.sim.problem("%s delivers %s altered: %s", q.name, e.name(), differs)
	}
	if !e.mark().allows(a.content.redelivered) {
		c.sim.problem("%s delivers %s with redelivered %t", q.name, e.name(), a.content.redelivered)
	}
	c.log = append(c.log, fmt.Sprintf("%s received %s from %s, redelivered %t", c.prefix, e.name(), q.name, a.content.redelivered))
	c.transcript = append(c.transcript, c.log[len(c.log)-1])
	e.number = a.content.number
	e.since = len(c.steps)
	if a.consumer.NoAck {
		return
	}
	e.holder = a.consumer
	a.consumer.unacked = append(a.consumer.unacked, e)
	if p := a.consumer.Prefetch; p > 0 && len(a.consumer.unacked) > int(p) {
		c.sim.problem("%s delivers %d messages to a consumer with a prefetch of %d", q.name, len(a.consumer.unacked), p)
	}
}

// awaitCounts waits until the queue counts what the model counts: at once,
// unless dead letters have to be read from disk first.
func (c *simClient) awaitCounts(q *simQueue) {
	ready := uint64(len(q.ready()))
	unacked := uint64(len(q.entries)) - ready
	for start := time.Now(); ; runtime.Gosched() {
		c.sim.heal(start)
		s, ok := c.sim.broker.QueueStatsOf(q.name)
		switch {
		case c.sim.halted() || ok && s.Ready == ready && s.Unacked == unacked && s.Leaving == 0:
			return
		case !ok:
			c.sim.problem("%s does not exist", q.name)
			return
		case time.Since(start) > patience:
			c.sim.problem("%s has %d ready, %d unacked and %d leaving messages, want %d, %d and none", q.name, s.Ready, s.Unacked, s.Leaving, ready, unacked)
			return
		}
	}
}
