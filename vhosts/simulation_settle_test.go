// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"slices"
)

func (c *simClient) consume() bool {
	q := c.anyQueue()
	if q == nil || len(q.consumers) >= c.sim.consumersPerQueue {
		return false
	}
	k := c.newConsumer(q, false, []uint32{0, 1, 2, 5, 20}[c.rng.IntN(5)])
	q.consumers = append(q.consumers, k)
	c.holders = append(c.holders, k)
	c.issue("consume from %s with a prefetch of %d", q.name, k.Prefetch)
	if err := c.shell(q).Consume(&k.Consumer, false, func() {}); err != nil {
		c.sim.problem("%s: %v", q.name, err)
	}
	return true
}

// cancel ends a consumer; its messages go back, or it keeps them for a while.
func (c *simClient) cancel() bool {
	q := c.anyQueue()
	if q == nil || len(q.consumers) == 0 {
		return false
	}
	k := q.consumers[c.rng.IntN(len(q.consumers))]
	c.issue("cancel a consumer of %s", q.name)
	c.end(k)
	if !c.chance(3) {
		c.putBack(k, slices.Clone(k.unacked))
	}
	return true
}

func (c *simClient) end(k *simConsumer) {
	k.queue.consumers = slices.DeleteFunc(k.queue.consumers, func(other *simConsumer) bool { return other == k })
	c.shell(k.queue).Cancel(&k.Consumer)
}

// get asks for one message, with or without acknowledgement.
func (c *simClient) get() bool {
	q := c.anyQueue()
	if q == nil {
		return false
	}
	k := c.newConsumer(q, c.chance(2), 0)
	ready := q.ready()
	if k.NoAck && len(ready) > 0 {
		c.goneUnseen(q, ready[:1])
	}
	c.issue("get from %s, without acknowledgement %t", q.name, k.NoAck)
	if err := c.shell(q).Get(&k.Consumer); err != nil {
		c.sim.problem("%s: %v", q.name, err)
		return true
	}
	if !c.await("an answer to get from "+q.name, func() bool { return len(c.arrivals[q.name]) > 0 }) {
		return true
	}
	a := c.takeArrivals(q)[0]
	switch {
	case a.content == nil && len(ready) > 0:
		c.sim.problem("%s says it is empty and holds %s", q.name, ready[0].name())
	case a.content == nil:
	case k.NoAck:
		c.receivedUnseen(q, ready, []*simArrival{a})
	default:
		c.holders = append(c.holders, k)
		c.received(q, a)
	}
	return true
}

// drainUnacknowledged takes all that is ready without acknowledgement.
func (c *simClient) drainUnacknowledged() bool {
	q := c.anyQueue()
	if q == nil || len(q.consumers) > 0 {
		return false
	}
	c.drain(q)
	return true
}

// drain takes all that is ready in a queue without consumers.
func (c *simClient) drain(q *simQueue) {
	k := c.newConsumer(q, true, 0)
	ready := q.ready()
	c.goneUnseen(q, ready)
	c.issue("take all of %s without acknowledgement", q.name)
	shell := c.shell(q)
	if err := shell.Consume(&k.Consumer, false, func() {}); err != nil {
		c.sim.problem("%s: %v", q.name, err)
		return
	}
	if !c.await(fmt.Sprintf("%d messages of %s", len(ready), q.name), func() bool { return len(c.arrivals[q.name]) >= len(ready) }) {
		return
	}
	shell.Cancel(&k.Consumer)
	c.receivedUnseen(q, ready, c.takeArrivals(q))
}

// goneUnseen takes messages out of the model that are about to be handed out
// without acknowledgement, one by one.
func (c *simClient) goneUnseen(q *simQueue, entries []*simEntry) {
	for i, e := range entries {
		c.spare(entries[i : i+1])
		q.remove(e)
		c.step()
	}
}

// receivedUnseen checks what was handed out so.
func (c *simClient) receivedUnseen(q *simQueue, entries []*simEntry, arrived []*simArrival) {
	rest := q.entries
	q.entries = slices.Clone(entries)
	for _, a := range arrived {
		c.received(q, a)
		q.entries = q.entries[min(1, len(q.entries)):]
	}
	q.entries = rest
}

func (c *simClient) purge() bool {
	q := c.anyQueue()
	if q == nil {
		return false
	}
	ready := q.ready()
	c.spare(ready)
	for _, e := range ready {
		q.remove(e)
	}
	c.step()
	c.issue("purge %s of %d messages", q.name, len(ready))
	n, _, err := c.sim.broker.PurgeQueue(q.name, 1, nil)
	if err != nil || int(n) != len(ready) {
		c.sim.problem("%s: purged are %d messages, want %d: %v", q.name, n, len(ready), err)
	}
	return true
}

// holding picks somebody who has unacknowledged messages, and some of these.
func (c *simClient) holding() (k *simConsumer, some []*simEntry) {
	c.holders = slices.DeleteFunc(c.holders, func(k *simConsumer) bool {
		return len(k.unacked) == 0 && !slices.Contains(k.queue.consumers, k)
	})
	var with []*simConsumer
	for _, k := range c.holders {
		if len(k.unacked) > 0 {
			with = append(with, k)
		}
	}
	if len(with) == 0 {
		return nil, nil
	}
	k = with[c.rng.IntN(len(with))]
	if c.chance(2) { // as an acknowledgement with multiple does
		return k, slices.Clone(k.unacked[:1+c.rng.IntN(len(k.unacked))])
	}
	first := c.rng.IntN(len(k.unacked))
	for i, e := range k.unacked {
		if i == first || c.chance(3) {
			some = append(some, e)
		}
	}
	return k, some
}

// settle acknowledges, rejects or puts back.
func (c *simClient) settle() bool {
	k, some := c.holding()
	if k == nil {
		return false
	}
	switch n := c.rng.IntN(10); {
	case n < 6:
		c.spare(some)
		c.gone(k, some)
		c.step()
		c.issue("acknowledge %v of %s", namesOf(some), k.queue.name)
		c.shell(k.queue).Settle(&k.Consumer, entryNumbers(some), false)
	case n < 8 || k.queue.deadLetters != nil && c.ordered():
		c.putBack(k, some)
	default:
		c.reject(k, some)
		c.issue("reject %v of %s", namesOf(some), k.queue.name)
		c.shell(k.queue).Settle(&k.Consumer, entryNumbers(some), true)
	}
	return true
}

// spare notes that messages are settled with the next step by nothing but that: if
// they are not written yet they never are.
func (c *simClient) spare(some []*simEntry) {
	for _, e := range some {
		e.spared = len(c.steps)
	}
}

func (c *simClient) gone(k *simConsumer, some []*simEntry) {
	for _, e := range some {
		k.queue.remove(e)
	}
}

func (c *simClient) putBack(k *simConsumer, some []*simEntry) {
	if len(some) == 0 {
		return
	}
	for _, e := range some {
		k.forget(e)
	}
	c.issue("put back %v of %s", namesOf(some), k.queue.name)
	c.shell(k.queue).Return(&k.Consumer, entryNumbers(some), false)
}

// reject takes messages out of the model, at once or, if they are dead-lettered,
// one after the other.
func (c *simClient) reject(k *simConsumer, some []*simEntry) {
	q := k.queue
	if q.deadLetters == nil {
		c.spare(some)
		c.gone(k, some)
		c.step()
		return
	}
	for _, e := range some {
		q.remove(e)
		key := e.key
		if q.deadLetters.rekeyed {
			key = q.deadLetters.key
		}
		died := e.deadLettered(q.name, q.deadLetters.exchange, key)
		if !slices.ContainsFunc(c.model.route(died.exchange, died.key), func(q *simQueue) bool { return q.durable }) {
			c.spare([]*simEntry{e}) // there is no copy that it would have to wait for
		}
		c.deliverTo(nil, died.exchange, died.key, died)
		c.step()
	}
}

// written says whether some of the messages are known to be on disk.
func (c *simClient) written(some []*simEntry) bool {
	return slices.ContainsFunc(some, func(e *simEntry) bool {
		return e.holder.queue.durable && e.persistent && int64(e.step) <= c.secured.Load()
	})
}

func entryNumbers(entries []*simEntry) (numbers []uint64) {
	for _, e := range entries {
		numbers = append(numbers, e.number)
	}
	return numbers
}

func namesOf(entries []*simEntry) (names []string) {
	for _, e := range entries {
		names = append(names, e.name())
	}
	return names
}

// transact publishes several runs and settles messages of several queues in one
// transaction.
func (c *simClient) transact() bool {
	var publications []TxPublication
	var settlements []Settlement
	var what []string
	origin := &simPublication{}
	ordered := c.ordered()
	priority := c.priority
	if ordered {
		priority = same(c.priority())
	}
	runs := c.rng.IntN(4)
	if c.chance(3) {
		runs = c.rng.IntN(40)
	}
	for range runs {
		exchange, key, ok := c.target()
		if !ok {
			break
		}
		persistent := c.sim.allDurable || !c.chance(5)
		messages := c.messages(exchange, key, persistent, priority)
		names := c.deliverTo(origin, exchange, key, messages...)
		route := c.shellRoute(exchange, key)
		for _, m := range messages {
			if len(names) > 0 {
				OpenPublication(&publications, route.For(m.priority), persistent, len(m.body)).Append(envelopeOf(exchange, key), m.header, m.body)
			}
		}
		what = append(what, fmt.Sprintf("publish %s to %s, persistent %t: %v", messages[0].id, messages[len(messages)-1].id, persistent, names))
	}
	var rejected []func()
	written := false // settled is what is on disk, so the transaction has to be
	taken := map[*simConsumer]bool{}
	for range c.rng.IntN(4) {
		k, some := c.holding()
		if k == nil || taken[k] {
			break
		}
		taken[k] = true
		s := Settlement{Queue: c.shell(k.queue), Consumer: &k.Consumer, Numbers: entryNumbers(some)}
		switch n := c.rng.IntN(4); {
		case n == 0 && len(k.queue.consumers) == 0: // else it matters who is served in between
			s.Requeue = true
			what = append(what, fmt.Sprintf("put back %v of %s", namesOf(some), k.queue.name))
			for _, e := range some {
				k.forget(e)
			}
		case n == 1 && (k.queue.deadLetters == nil || len(rejected) == 0 && !ordered):
			// Letters of one queue keep their order; those of another need not wait
			// until their messages are read back.
			s.Rejected = true
			what = append(what, fmt.Sprintf("reject %v of %s", namesOf(some), k.queue.name))
			if k.queue.deadLetters == nil {
				written = written || c.written(some)
				c.gone(k, some)
			} else {
				rejected = append(rejected, func() { c.reject(k, some) })
			}
		default:
			what = append(what, fmt.Sprintf("acknowledge %v of %s", namesOf(some), k.queue.name))
			written = written || c.written(some)
			c.gone(k, some)
		}
		settlements = append(settlements, s)
	}
	if len(what) == 0 {
		return false
	}
	c.step()
	if written {
		origin = nil
	}
	w := c.confirm(origin)
	for _, reject := range rejected { // dead letters follow the transaction
		reject()
	}
	c.issue("transaction: %v", what)
	c.sim.broker.CommitTx(publications, settlements, w)
	if c.chance(2) {
		c.awaitConfirms()
	}
	return true
}
