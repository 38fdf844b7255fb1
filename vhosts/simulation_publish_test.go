// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// simOperations are what clients do, and how often.
var simOperations = []struct {
	weight int
	do     func(*simClient) bool // false if it could not be done now
}{
	{30, (*simClient).publish},
	{25, (*simClient).settle},
	{8, (*simClient).consume},
	{3, (*simClient).cancel},
	{6, (*simClient).get},
	{2, (*simClient).drainUnacknowledged},
	{2, (*simClient).purge},
	{6, (*simClient).transact},
	{6, (*simClient).declareQueue},
	{3, (*simClient).setPolicy},
	{2, (*simClient).deleteQueue},
	{3, (*simClient).declareExchange},
	{1, (*simClient).deleteExchange},
	{6, (*simClient).bind},
	{2, (*simClient).unbind},
	{4, (*simClient).barrier},
	{4, (*simClient).awaitConfirms},
}

// act does one thing, chosen at random from what can be done.
func (c *simClient) act() {
	total := 0
	for _, o := range simOperations {
		total += o.weight
	}
	for done := false; !done; {
		n := c.rng.IntN(total)
		for _, o := range simOperations {
			if n -= o.weight; n < 0 {
				done = o.do(c)
				break
			}
		}
	}
	c.settleDown()
}

func (c *simClient) sorted() (queues []*simQueue) {
	for _, q := range c.model.queues {
		queues = append(queues, q)
	}
	slices.SortFunc(queues, func(a, b *simQueue) int { return strings.Compare(a.name, b.name) })
	return queues
}

func (c *simClient) anyQueue() *simQueue {
	queues := c.sorted()
	if len(queues) == 0 {
		return nil
	}
	return queues[c.rng.IntN(len(queues))]
}

// chance is true once in n times.
func (c *simClient) chance(n int) bool { return c.rng.IntN(n) == 0 }

func (c *simClient) queueName() string    { return fmt.Sprint(c.prefix, ".q", c.rng.IntN(4)) }
func (c *simClient) exchangeName() string { return fmt.Sprint(c.prefix, ".x", c.rng.IntN(3)) }

// shell is the broker's queue.
func (c *simClient) shell(q *simQueue) *Queue {
	shell, err := c.sim.broker.Queue(q.name, 1)
	if err != nil {
		c.sim.problem("%s: %v", q.name, err)
		return &Queue{vhost: c.sim.broker.VHost, deleted: true}
	}
	return shell
}

// change carries out a change of what is declared, whose step has been noted,
// and waits for the answer, most of the time.
func (c *simClient) change(do func(w *simConfirm) (waiting bool, err *wire.Error)) bool {
	w := c.confirm(nil)
	waiting, err := do(w)
	w.withdraw(waiting && err == nil)
	if err != nil {
		c.sim.problem("%s: %v", c.prefix, err)
	}
	if !c.chance(3) {
		c.awaitConfirms()
	}
	return true
}

func (c *simClient) declareQueue() bool {
	name := c.queueName()
	if c.model.queues[name] != nil {
		return false
	}
	q := &simQueue{name: name, durable: c.sim.allDurable || !c.chance(5)}
	if c.chance(2) {
		q.kind = []simKind{simLevels, simQuorum}[c.rng.IntN(2)]
		q.durable = q.durable || q.kind == simQuorum
	}
	if c.chance(2) {
		q.own = &deadLetterTarget{exchange: c.exchangeName()}
		if c.chance(3) {
			q.own = &deadLetterTarget{key: c.queueName(), rekeyed: true}
		}
	}
	return c.declare(q)
}

func (c *simClient) declare(q *simQueue) bool {
	var args wire.Table
	switch d := q.own; {
	case d != nil && d.rekeyed:
		args = dlx(d.exchange, d.key)
	case d != nil:
		args = dlx(d.exchange)
	}
	args = append(args, q.kind.arguments()...)
	c.model.queues[q.name] = q
	c.model.policy()
	c.step()
	c.issue("declare %s, durable %t", q.describe(), q.durable)
	return c.change(func(w *simConfirm) (bool, *wire.Error) {
		_, waiting, err := c.sim.broker.DeclareQueue(QueueDeclaration{Name: q.name, Durable: q.durable, Arguments: args, Owner: 1}, w)
		return waiting, err
	})
}

func (c *simClient) deleteQueue() bool {
	q := c.anyQueue()
	if q == nil {
		return false
	}
	c.model.removeQueue(q)
	c.holders = slices.DeleteFunc(c.holders, func(k *simConsumer) bool { return k.queue == q })
	c.step()
	c.issue("delete %s", q.name)
	c.change(func(w *simConfirm) (bool, *wire.Error) {
		_, waiting, err := c.sim.broker.DeleteQueue(q.name, false, false, 1, w)
		return waiting, err
	})
	c.takeArrivals(q)
	return c.await("consumers of "+q.name+" their end", func() bool {
		return !slices.ContainsFunc(q.consumers, func(k *simConsumer) bool { return !c.cancelled[k] })
	})
}

// setPolicy gives a queue, which need not exist, a dead letter exchange, or takes the
// policy away.
func (c *simClient) setPolicy() bool {
	name := fmt.Sprint(c.prefix, ".p", c.rng.IntN(2))
	if _, set := c.model.policies[name]; set && c.chance(3) {
		delete(c.model.policies, name)
		c.model.policy()
		c.step()
		c.issue("clear policy %s", name)
		return c.change(func(w *simConfirm) (bool, *wire.Error) {
			_, waiting := c.sim.broker.ClearPolicy(UserPolicy, name, w)
			return waiting, nil
		})
	}
	p := simPolicy{c.queueName(), c.exchangeName()}
	c.model.policies[name] = p
	c.model.policy()
	c.step()
	c.issue("%s", p.describe(name))
	return c.change(func(w *simConfirm) (bool, *wire.Error) {
		_, waiting, err := c.sim.broker.SetPolicy(UserPolicy, Policy{
			Name: name, Pattern: "^" + regexp.QuoteMeta(p.queue) + "$", ApplyTo: "queues",
			Definition: wire.Table{{Name: "dead-letter-exchange", Value: p.exchange}},
		}, w)
		if err != nil {
			c.sim.problem("%s: %v", c.prefix, err)
		}
		return waiting, nil
	})
}

func (c *simClient) declareExchange() bool {
	name := c.exchangeName()
	if c.model.exchanges[name] != nil {
		return false
	}
	x := &simExchange{name: name, kind: []string{"fanout", "direct"}[c.rng.IntN(2)], durable: c.sim.allDurable || !c.chance(5)}
	c.model.exchanges[name] = x
	c.step()
	c.issue("declare %s exchange %s, durable %t", x.kind, name, x.durable)
	return c.change(func(w *simConfirm) (bool, *wire.Error) {
		return c.sim.broker.DeclareExchange(exchanges.Declaration{Name: name, Type: x.kind, Durable: x.durable}, w)
	})
}

func (c *simClient) deleteExchange() bool {
	name := c.exchangeName()
	if c.model.exchanges[name] == nil {
		return false
	}
	c.model.removeExchange(name)
	c.step()
	c.issue("delete exchange %s", name)
	return c.change(func(w *simConfirm) (bool, *wire.Error) { return c.sim.broker.DeleteExchange(name, false, w) })
}

func (c *simClient) bind() bool {
	q, x := c.anyQueue(), c.exchangeName()
	if q == nil || c.model.exchanges[x] == nil {
		return false
	}
	b := simBinding{x, q.name, c.key()}
	c.model.bindings[b] = true
	c.step()
	c.issue("%s", b.describe())
	return c.change(func(w *simConfirm) (bool, *wire.Error) {
		return c.sim.broker.Bind(Binding{Source: b.source, Destination: b.queue, Key: b.key}, 1, w)
	})
}

func (c *simClient) unbind() bool {
	q, x := c.anyQueue(), c.exchangeName()
	if q == nil || c.model.exchanges[x] == nil {
		return false
	}
	b := simBinding{x, q.name, c.key()}
	if !c.model.bindings[b] {
		return false
	}
	delete(c.model.bindings, b)
	c.step()
	c.issue("no more %s", b.describe())
	return c.change(func(w *simConfirm) (bool, *wire.Error) {
		return c.sim.broker.Unbind(Binding{Source: b.source, Destination: b.queue, Key: b.key}, 1, w)
	})
}

func (c *simClient) key() string { return []string{"a", "b"}[c.rng.IntN(2)] }

// target is an exchange and key to publish to.
func (c *simClient) target() (exchange, key string, ok bool) {
	if x := c.exchangeName(); c.model.exchanges[x] != nil && !c.chance(3) {
		return x, c.key(), true
	}
	if q := c.anyQueue(); q != nil {
		return "", q.name, true
	}
	return "", "", false
}

// priority makes up a priority: often none.
func (c *simClient) priority() Priority {
	if c.chance(2) {
		return NoPriority
	}
	return Priority(c.rng.IntN(8))
}

// newMessage makes up a message.
func (c *simClient) newMessage(exchange, key string, persistent bool, priority Priority) *simMessage {
	id := fmt.Sprint(c.prefix, "/", c.serial)
	c.serial++
	p := wire.Properties{Flags: wire.FlagDeliveryMode | wire.FlagMessageID, DeliveryMode: 1, MessageID: id}
	if persistent {
		p.DeliveryMode = wire.Persistent
	}
	if priority != NoPriority {
		p.Flags, p.Priority = p.Flags|wire.FlagPriority, uint8(priority)
	}
	if c.chance(3) {
		p.Flags |= wire.FlagHeaders | wire.FlagContentType
		p.ContentType = "text/plain"
		p.Headers = wire.Table{{Name: "attempt", Value: int32(c.serial)}, {Name: "from", Value: c.prefix}}
	}
	body := bodyOf(id, c.bodySize())
	m := &simMessage{
		id: id, exchange: exchange, key: key, persistent: persistent, priority: priority, body: body,
		header: wire.AppendHeader(nil, uint64(len(body)), wire.AppendProperties(nil, &p)),
	}
	c.sent[id] = m
	return m
}

func (c *simClient) bodySize() int {
	switch {
	case c.chance(20):
		return c.rng.IntN(c.sim.largeBody)
	case c.chance(3):
		return c.rng.IntN(1000)
	}
	return 0
}

func (c *simClient) runLength() int {
	if c.chance(15) {
		return 1 + c.rng.IntN(queue.MaxRunMessages/4)
	}
	return 1 + c.rng.IntN(5)
}

// messages makes up messages of a priority.
func (c *simClient) messages(exchange, key string, persistent bool, priority func() Priority) (messages []*simMessage) {
	for range c.runLength() {
		messages = append(messages, c.newMessage(exchange, key, persistent, priority()))
	}
	return messages
}

// same is the same priority over and over.
func same(p Priority) func() Priority { return func() Priority { return p } }

// ordered says whether consumers are at queues that order by priority: when messages
// of several priorities come then, or dead letters, which they get depends on when.
func (c *simClient) ordered() bool {
	for _, q := range c.model.queues {
		if q.kind != simPlain && len(q.consumers) > 0 {
			return true
		}
	}
	return false
}

// deliverTo puts messages into the queues of a route, and counts them as origin's.
func (c *simClient) deliverTo(origin *simPublication, exchange, key string, messages ...*simMessage) (names []string) {
	for _, q := range c.model.route(exchange, key) {
		q.put(origin, len(c.steps), messages...)
		names = append(names, q.name)
	}
	return names
}

// shellRoute is the broker's route.
func (c *simClient) shellRoute(exchange, key string) *Route {
	return NewRoutes(c.sim.broker.VHost).Find(&wire.PublishView{ExchangeAndKey: envelopeOf(exchange, key)}, nil, nil)
}

func envelopeOf(exchange, key string) []byte {
	return wire.AppendShortString(wire.AppendShortString(nil, exchange), key)
}

// publish publishes a run of messages.
func (c *simClient) publish() bool {
	exchange, key, ok := c.target()
	if !ok {
		return false
	}
	return c.publishTo(exchange, key, c.sim.allDurable || !c.chance(5))
}

func (c *simClient) publishTo(exchange, key string, persistent bool) bool {
	messages := c.messages(exchange, key, persistent, same(c.priority()))
	origin := &simPublication{}
	names := c.deliverTo(origin, exchange, key, messages...)
	c.step()
	c.issue("publish %s to %s, to exchange %q key %q, persistent %t: %v",
		messages[0].id, messages[len(messages)-1].id, exchange, key, persistent, names)
	route := c.shellRoute(exchange, key).For(messages[0].priority)
	page := c.sim.broker.pages.New()
	defer page.Release()
	for _, m := range messages {
		page.Append(envelopeOf(exchange, key), m.header, m.body)
	}
	if !persistent || !route.Durable || c.chance(4) {
		c.sim.broker.Publish(route, page, persistent, nil)
		return true
	}
	c.sim.broker.Publish(route, page, persistent, c.confirm(origin))
	if c.chance(4) {
		c.awaitConfirms()
	}
	return true
}

// awaitConfirms waits for all that is open.
func (c *simClient) awaitConfirms() bool {
	return c.await("confirms", func() bool { return c.open == 0 })
}

// barrier waits until everything so far is on disk.
func (c *simClient) barrier() bool {
	c.issue("barrier")
	c.sim.broker.store.Sync(c.confirm(nil))
	c.awaitConfirms()
	return true
}
