// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
)

func timeoutArgument(milliseconds int64) wire.Field {
	return wire.Field{Name: "x-consumer-timeout", Value: milliseconds}
}

func ofType(queueType string) wire.Field { return wire.Field{Name: "x-queue-type", Value: queueType} }

// timeouts are how often a consumer timed out.
func (in *inbox) timeouts() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.timedOut
}

// TestConsumerTimeout: which timeout holds, and that it is exact.
func TestConsumerTimeout(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		args     []wire.Field
		policy   int64 // 0 for none
		consumer uint64
		want     time.Duration // 0 for none
	}{
		{"classic queues have none", nil, 0, 0, 0},
		{"default of quorum queues", []wire.Field{ofType(TypeQuorum)}, 0, 0, 30 * time.Minute},
		{"argument", []wire.Field{timeoutArgument(1000)}, 0, 0, time.Second},
		{"argument of a quorum queue", []wire.Field{ofType(TypeQuorum), timeoutArgument(1000)}, 0, 0, time.Second},
		{"policy", nil, 2000, 0, 2 * time.Second},
		{"the lesser of argument and policy", []wire.Field{timeoutArgument(3000)}, 2000, 0, 2 * time.Second},
		{"consumer's", []wire.Field{timeoutArgument(1000)}, 2000, 5000, 5 * time.Second},
		{"consumer's alone", nil, 0, 100, 100 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			b := c.open(t, vfs.NewMem())
			q := b.declare(t, "q", "durable", 0, test.args...)
			if test.policy > 0 {
				b.setPolicy(t, UserPolicy, Policy{Name: "p", Pattern: "q", Definition: wire.Table{{Name: "consumer-timeout", Value: test.policy}}})
			}
			in := newInbox("c", false, 1)
			in.Timeout = test.consumer
			consume(t, q, in)
			c.pass(b, time.Hour) // holding nothing
			b.publish(t, "", "q", true, nil, "message")
			if test.want == 0 {
				c.pass(b, 100*24*time.Hour)
				if in.timeouts() != 0 || q.alarm.index != 0 {
					t.Errorf("timed out %d times, alarm %d", in.timeouts(), q.alarm.index)
				}
				return
			}
			c.pass(b, test.want-time.Millisecond)
			if in.timeouts() != 0 {
				t.Fatal("timed out too early")
			}
			c.pass(b, time.Millisecond)
			s := q.Stats()
			if in.timeouts() != 1 || s.Ready != 1 || s.Unacked != 0 || s.Consumers != 0 || s.Counters.TimedOut != 1 {
				t.Fatalf("timed out %d times; %d ready, %d unacked, %d consumers", in.timeouts(), s.Ready, s.Unacked, s.Consumers)
			}
			c.pass(b, 2*test.want)
			if in.timeouts() != 1 || q.alarm.index != 0 {
				t.Errorf("timed out %d times, alarm %d", in.timeouts(), q.alarm.index)
			}
		})
	}
}

// TestConsumerTimeoutOldest: the timeout is that of the message held for longest, it
// takes back all that one consumer holds, and others are left alone.
func TestConsumerTimeoutOldest(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	q := b.declare(t, "q", "durable", 0, ofType(TypeQuorum), timeoutArgument(1000), wire.Field{Name: "x-delivery-limit", Value: 0})
	slow, quick := newInbox("slow", false, 2), newInbox("quick", false, 3)
	slow.Priority = 1
	consume(t, q, slow)
	consume(t, q, quick)
	b.publish(t, "", "q", true, nil, "1")
	c.pass(b, 600*time.Millisecond)
	b.publish(t, "", "q", true, nil, "2", "3")
	first := slow.take(1)
	q.Settle(slow.Consumer, slow.settled(first...), false)
	c.pass(b, 600*time.Millisecond) // "2" and "3" are held for 600 ms now
	b.publish(t, "", "q", true, nil, "4")
	third := quick.take(1)
	q.Settle(quick.Consumer, quick.settled(third...), false)
	c.pass(b, 399*time.Millisecond)
	if slow.timeouts() != 0 {
		t.Fatal("timed out too early")
	}
	c.pass(b, time.Millisecond)
	if slow.timeouts() != 1 || quick.timeouts() != 0 {
		t.Fatalf("timed out %d and %d times, want 1 and 0", slow.timeouts(), quick.timeouts())
	}
	// A delivery limit of 0 would have dropped what counts as failed.
	if bodies := bodiesOf(quick.take(2)); bodies != "2* 4*" {
		t.Errorf("the other consumer got %q", bodies)
	}
}

// TestConsumerTimeoutCancelled: what a cancelled consumer holds goes back in time, too,
// and consumers that come and go leave nothing behind.
func TestConsumerTimeoutCancelled(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	q := b.declare(t, "q", "durable", 0, timeoutArgument(1000))
	b.publish(t, "", "q", true, nil, "message")
	for range 100 {
		in := newInbox("c", false, 1)
		consume(t, q, in)
		q.Cancel(in.Consumer)
		q.Return(in.Consumer, in.settled(in.take(1)...), false)
	}
	if n := len(q.timeouts.left); n > 2 {
		t.Errorf("%d consumers are kept", n)
	}
	in := newInbox("c", false, 1)
	consume(t, q, in)
	q.Cancel(in.Consumer)
	if s := q.Stats(); s.Unacked != 1 {
		t.Fatalf("%d unacked messages, want 1", s.Unacked)
	}
	c.pass(b, time.Second)
	if s := q.Stats(); s.Ready != 1 || in.timeouts() != 1 || len(q.timeouts.left) != 0 {
		t.Errorf("%d ready, timed out %d times, %d consumers are kept", s.Ready, in.timeouts(), len(q.timeouts.left))
	}
}

// TestConsumerTimeoutPolicy: a policy applies to messages that are held already; those
// delivered while there was no timeout count from then.
func TestConsumerTimeoutPolicy(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	q := b.declare(t, "q", "durable", 0)
	in := newInbox("c", false, 0)
	consume(t, q, in)
	b.publish(t, "", "q", true, nil, "message")
	c.pass(b, time.Hour)
	set := func(timeout int64) {
		b.setPolicy(t, UserPolicy, Policy{Name: "p", Pattern: "q", Definition: wire.Table{{Name: "consumer-timeout", Value: timeout}}})
		c.pass(b, 0)
	}
	set(10_000)
	c.pass(b, 5*time.Second)
	set(6000)
	c.pass(b, 999*time.Millisecond)
	if in.timeouts() != 0 {
		t.Fatal("timed out too early")
	}
	c.pass(b, time.Millisecond)
	if in.timeouts() != 1 {
		t.Error("not timed out")
	}
}

// TestConsumerTimeoutSuccession: after the single active consumer comes the next one,
// with the messages in their places; after an exclusive one others may; and an
// auto-delete queue goes with its last one. basic.get has no timeout.
func TestConsumerTimeoutSuccession(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	for _, queueType := range []string{TypeClassic, TypeQuorum} {
		name := queueType + "-single"
		single := b.declare(t, name, "durable", 0, ofType(queueType), timeoutArgument(1000),
			wire.Field{Name: "x-single-active-consumer", Value: true})
		first, second := newInbox("first", false, 2), newInbox("second", false, 0)
		consume(t, single, first)
		consume(t, single, second)
		b.publish(t, "", name, true, nil, "1", "2", "3")
		c.pass(b, time.Second)
		if bodies := bodiesOf(second.take(3)); bodies != "1* 2* 3" {
			t.Errorf("%s: the next consumer got %q", queueType, bodies)
		}
	}

	exclusive := b.declare(t, "exclusive", "", 0, timeoutArgument(1000))
	b.publish(t, "", "exclusive", false, nil, "1", "2")
	getter := newInbox("getter", false, 0)
	if err := exclusive.Get(getter.Consumer); err != nil {
		t.Fatal(err)
	}
	alone, next := newInbox("alone", false, 0), newInbox("next", false, 0)
	if err := exclusive.Consume(alone.Consumer, true, func() {}); err != nil {
		t.Fatal(err)
	}
	c.pass(b, time.Second)
	consume(t, exclusive, next)
	if bodies := bodiesOf(next.take(1)); bodies != "2*" || getter.timeouts() != 0 {
		t.Errorf("the next consumer got %q; basic.get timed out %d times", bodies, getter.timeouts())
	}

	last := b.declare(t, "last", "autodelete", 0, timeoutArgument(1000))
	in := newInbox("c", false, 0)
	consume(t, last, in)
	b.publish(t, "", "last", false, nil, "message")
	c.pass(b, time.Second)
	if b.exists("last") {
		t.Error("the queue has outlived its last consumer")
	}
}

// TestConsumerArguments: what a consumer may say.
func TestConsumerArguments(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "", 0)
	argument := func(name string, value any) wire.Table { return wire.Table{{Name: name, Value: value}} }
	for _, test := range []struct {
		arguments wire.Table
		priority  int64
		timeout   uint64
		text      string
	}{
		{},
		{arguments: argument("x-unknown", "accepted")},
		{arguments: argument("x-cancel-on-ha-failover", true)},
		{arguments: argument("x-priority", int8(-7)), priority: -7},
		{arguments: argument("x-priority", "7"), text: `'x-priority' for queue 'q' in vhost '/': "expected integer, got longstr"`},
		{arguments: argument("x-consumer-timeout", int32(1)), timeout: 1},
		{arguments: argument("x-consumer-timeout", int64(maxMilliseconds)), timeout: maxMilliseconds},
		{arguments: argument("x-consumer-timeout", int64(maxMilliseconds+1)), text: "'x-consumer-timeout' for queue 'q' in vhost '/': {value_too_large,315360000001}"},
		{arguments: argument("x-consumer-timeout", int32(0)), text: "'x-consumer-timeout' for queue 'q' in vhost '/': {value_zero,0}"},
		{arguments: argument("x-consumer-timeout", int32(-1)), text: "'x-consumer-timeout' for queue 'q' in vhost '/': {value_negative,-1}"},
		{arguments: argument("x-consumer-timeout", "1"), text: `'x-consumer-timeout' for queue 'q' in vhost '/': "expected integer, got longstr"`},
		{arguments: argument("x-stream-offset", "first"), text: "'x-stream-offset' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"},
		{arguments: argument("x-stream-filter", "f"), text: "'x-stream-filter' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"},
		{arguments: argument("x-stream-match-unfiltered", true), text: "'x-stream-match-unfiltered' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"},
	} {
		if test.text != "" {
			test.text = "invalid arg " + test.text
		}
		priority, timeout, err := q.ConsumerArguments(test.arguments)
		wantError(t, err, wire.PreconditionFailed, test.text)
		if priority != test.priority || timeout != test.timeout {
			t.Errorf("%v: priority %d, timeout %d ms", test.arguments, priority, timeout)
		}
	}
}
