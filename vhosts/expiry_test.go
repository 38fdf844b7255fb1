// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// expiring publishes messages to a queue, each with a time to live of its own, -1
// for none; their bodies are the times.
func (b *broker) expiring(t testing.TB, queueName string, persistent bool, w persistence.Waiter, ttls ...int) {
	t.Helper()
	view := publishView(t, "", queueName)
	route := NewRoutes(b.VHost).Find(view, nil, nil)
	mode := uint8(1)
	if persistent {
		mode = wire.Persistent
	}
	page := b.pages.New()
	for _, ttl := range ttls {
		p := wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: mode}
		if ttl >= 0 {
			p.Flags |= wire.FlagExpiration
			p.Expiration = fmt.Sprint(ttl)
		}
		body := fmt.Sprint(ttl)
		page.Append(view.ExchangeAndKey, wire.AppendHeader(nil, uint64(len(body)), wire.AppendProperties(nil, &p)), []byte(body))
		if ttl >= 0 {
			page.Meet(queue.After(uint64(ttl)))
		}
	}
	b.Publish(route, page, persistent, w)
	page.Release()
}

// left is what a queue has ready.
func left(q *Queue) uint64 { return q.Stats().Ready }

func ttl(milliseconds int) wire.Field {
	return wire.Field{Name: "x-message-ttl", Value: int32(milliseconds)}
}

func deadTo(name string) []wire.Field {
	return []wire.Field{
		{Name: "x-dead-letter-exchange", Value: ""},
		{Name: "x-dead-letter-routing-key", Value: name},
	}
}

// takeBodies takes all messages of a queue.
func takeBodies(t testing.TB, q *Queue, count int) (bodies []string) {
	t.Helper()
	in := newInbox("taker", true, 0)
	if err := q.Consume(in.Consumer, false, func() {}); err != nil {
		t.Fatal(err)
	}
	for _, m := range in.take(count) {
		bodies = append(bodies, m.body)
	}
	q.Cancel(in.Consumer)
	return bodies
}

// TestExpiry: messages expire by the queue's time to live or by their own, wherever
// they are in the queue, and not before.
func TestExpiry(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	dead := b.declare(t, "dead", "durable", 0)
	q := b.declare(t, "q", "durable", 0, append(deadTo("dead"), ttl(5000))...)
	b.expiring(t, "q", false, nil, -1, 9000, 200, 100, 4000)
	b.expiring(t, "q", true, nil, 300, 100)
	for _, step := range []struct {
		pass        time.Duration
		ready, dead uint64
	}{
		{99 * time.Millisecond, 7, 0},
		{time.Millisecond, 5, 2},
		{100 * time.Millisecond, 4, 3},
		{100 * time.Millisecond, 3, 4},
		{3 * time.Second, 3, 4},
		{time.Second, 2, 5},
		{699 * time.Millisecond, 2, 5},
		{time.Millisecond, 0, 7},
	} {
		c.pass(b, step.pass)
		if left(q) != step.ready || left(dead) != step.dead {
			t.Fatalf("%d ready and %d dead, want %d and %d", left(q), left(dead), step.ready, step.dead)
		}
	}
	if got, want := takeBodies(t, dead, 7), []string{"100", "100", "200", "300", "4000", "-1", "9000"}; !slices.Equal(got, want) {
		t.Errorf("dead letters %q, want %q", got, want)
	}
	if died := q.Stats().Counters.Died[queue.Expired]; died != 7 {
		t.Errorf("%d expired messages counted, want 7", died)
	}
}

// TestExpiryOnArrival: a message with no time to live is handed out as it comes, or
// never.
func TestExpiryOnArrival(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	dead := b.declare(t, "dead", "", 0)
	q := b.declare(t, "q", "", 0, append(deadTo("dead"), ttl(0))...)
	b.expiring(t, "q", false, nil, -1)
	if left(q) != 0 || left(dead) != 1 {
		t.Fatalf("%d ready and %d dead, want 0 and 1", left(q), left(dead))
	}
	in := newInbox("c", false, 1)
	consume(t, q, in)
	b.expiring(t, "q", false, nil, 1, 2, 0)
	if got := in.take(1); got[0].body != "1" {
		t.Errorf("the consumer got %q, want 1", got[0].body)
	}
	if left(q) != 0 || left(dead) != 3 {
		t.Errorf("%d ready and %d dead, want 0 and 3", left(q), left(dead))
	}
}

// TestExpiryOfReturned: a message that is given back keeps its time to live, and one
// that a consumer has does not expire.
func TestExpiryOfReturned(t *testing.T) {
	t.Parallel()
	for _, args := range [][]wire.Field{nil, {ttl(1000)}} {
		c := newClock()
		b := c.open(t, vfs.NewMem())
		q := b.declare(t, "q", "", 0, args...)
		in := newInbox("c", false, 0)
		consume(t, q, in)
		b.expiring(t, "q", false, nil, 1000, 1000)
		messages := in.take(2)
		q.Cancel(in.Consumer)
		c.pass(b, 500*time.Millisecond)
		q.Return(in.Consumer, []uint64{messages[0].number}, false)
		c.pass(b, 499*time.Millisecond)
		if left(q) != 1 {
			t.Fatalf("%d ready, want 1", left(q))
		}
		c.pass(b, time.Millisecond)
		if left(q) != 0 || q.Stats().Unacked != 1 {
			t.Fatalf("%d ready and %d unacked, want 0 and 1", left(q), q.Stats().Unacked)
		}
		q.Return(in.Consumer, []uint64{messages[1].number}, false)
		if left(q) != 0 {
			t.Fatalf("%d ready, want none", left(q))
		}
	}
}

// TestExpiredIsNotHandedOut: what is due when a consumer comes is not for it, even if
// no timer was there before.
func TestExpiredIsNotHandedOut(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	q := b.declare(t, "q", "", 0)
	b.expiring(t, "q", false, nil, 100, 200, 50)
	c.mu.Lock()
	c.time = c.time.Add(150 * time.Millisecond)
	c.mu.Unlock()
	in := newInbox("c", true, 0)
	consume(t, q, in)
	if got := in.take(1); got[0].body != "200" {
		t.Errorf("the consumer got %q, want 200", got[0].body)
	}
}

// TestExpiryAfterRestart: times to live go on while the broker is down, and are known
// without a look at the messages. One set by a policy holds for what is there.
func TestExpiryAfterRestart(t *testing.T) {
	t.Parallel()
	c, fs := newClock(), vfs.NewMem()
	b := c.open(t, fs)
	dead := b.declare(t, "dead", "durable", 0)
	q := b.declare(t, "q", "durable", 0, deadTo("dead")...)
	for _, persistent := range []bool{true, false} {
		b.expiring(t, "q", persistent, nil, 100_000, -1, 1000, 60_000)
	}
	b.sync(t)
	b.stop(t)
	c.time = c.time.Add(30 * time.Second)
	b = c.open(t, fs)
	dead, q = b.queue(t, "dead"), b.queue(t, "q")
	settle := func(ready, died uint64) {
		t.Helper()
		what := fmt.Sprintf("%d ready and %d dead", ready, died)
		c.until(t, b, what, func() bool { return left(q) == ready && left(dead) == died })
	}
	settle(3, 1)
	c.pass(b, 29_999*time.Millisecond)
	settle(3, 1)
	c.pass(b, time.Millisecond)
	settle(2, 2)
	policy := Policy{Name: "p", Pattern: "^q$", ApplyTo: "queues", Definition: wire.Table{{Name: "message-ttl", Value: int64(70_000)}}}
	if _, _, err := b.SetPolicy(UserPolicy, policy, nil); err != nil {
		t.Fatal(err)
	}
	settle(2, 2)
	c.pass(b, 10*time.Second)
	settle(0, 4)
}

// TestExpiryOfCopies: of a message that several queues have each copy expires, after a
// restart too.
func TestExpiryOfCopies(t *testing.T) {
	t.Parallel()
	c, fs := newClock(), vfs.NewMem()
	b := c.open(t, fs)
	for _, name := range []string{"one", "two"} {
		b.declare(t, name, "durable", 0)
		b.bind(t, Binding{Source: "amq.fanout", Destination: name})
	}
	route := NewRoutes(b.VHost).Find(publishView(t, "amq.fanout", ""), nil, nil)
	page := b.pages.New()
	fill(page, []string{"expires", "stays"})
	expires := b.pages.New()
	expires.AppendFrom(page, 0)
	expires.Meet(queue.After(1000))
	expires.AppendFrom(page, 1)
	w := newResult()
	b.Publish(route, expires, true, w)
	w.want(t)
	b.stop(t)
	b = c.open(t, fs)
	c.pass(b, 999*time.Millisecond)
	one, two := b.queue(t, "one"), b.queue(t, "two")
	if left(one) != 2 || left(two) != 2 {
		t.Errorf("%d and %d ready before the time has come, want 2 each", left(one), left(two))
	}
	c.pass(b, time.Millisecond)
	c.until(t, b, "one message left in each queue", func() bool { return left(one) == 1 && left(two) == 1 })
}
