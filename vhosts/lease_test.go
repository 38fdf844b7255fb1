// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
)

// clock is a clock that tests set.
type clock struct {
	mu   sync.Mutex
	time time.Time
}

func newClock() *clock { return &clock{time: time.Unix(1_700_000_000, 0)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

// open opens a broker for which time passes by pass alone.
func (c *clock) open(t testing.TB, fs vfs.FS) *broker {
	t.Helper()
	b := openWith(t, fs, Options{Clock: c.now, ResidentBytes: 4 << 10})
	b.timers.stop()
	return b
}

// pass lets time pass for a broker, and all that is due then happen.
func (c *clock) pass(b *broker, d time.Duration) {
	c.mu.Lock()
	c.time = c.time.Add(d)
	c.mu.Unlock()
	b.timers.fire()
}

// until fires what is due by now, again and again, until done: what the broker has asked
// the disk for comes in its own time.
func (c *clock) until(t testing.TB, b *broker, what string, done func() bool) {
	t.Helper()
	b.until(t, what, func() bool {
		c.pass(b, 0)
		return done()
	})
}

func (b *broker) exists(name string) bool {
	b.VHost.mu.Lock()
	defer b.VHost.mu.Unlock()
	return b.queues[name] != nil
}

func TestLease(t *testing.T) {
	t.Parallel()
	lease := wire.Field{Name: "x-expires", Value: int32(1000)}
	for _, test := range []struct {
		name  string
		args  []wire.Field
		use   func(t *testing.T, b *broker, q *Queue)
		alive bool // after use and half a lease, when a whole one has passed since the declaration
	}{
		{"unused", nil, func(*testing.T, *broker, *Queue) {}, false},
		{"declared again", nil, func(t *testing.T, b *broker, _ *Queue) {
			b.declare(t, "q", "durable", 0, lease)
		}, true},
		{"declared again, passively", nil, func(t *testing.T, b *broker, _ *Queue) {
			if _, err := b.DeclareQueuePassive("q", 0); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"quorum queue declared again", []wire.Field{{Name: "x-queue-type", Value: "quorum"}}, func(t *testing.T, b *broker, _ *Queue) {
			b.declare(t, "q", "durable", 0, lease, wire.Field{Name: "x-queue-type", Value: "quorum"})
		}, false},
		{"asked for a message", nil, func(t *testing.T, _ *broker, q *Queue) {
			if err := q.Get(newInbox("get", false, 0).Consumer); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"published to", nil, func(t *testing.T, b *broker, _ *Queue) {
			b.publish(t, "", "q", false, nil, "message")
		}, false},
		{"consumed from", nil, func(t *testing.T, _ *broker, q *Queue) {
			in := newInbox("c", true, 0)
			if err := q.Consume(in.Consumer, false, func() {}); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"consumed from until now", nil, func(t *testing.T, _ *broker, q *Queue) {
			in := newInbox("c", true, 0)
			if err := q.Consume(in.Consumer, false, func() {}); err != nil {
				t.Fatal(err)
			}
			q.Cancel(in.Consumer)
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			b := c.open(t, vfs.NewMem())
			q := b.declare(t, "q", "durable", 0, append(test.args, lease)...)
			c.pass(b, 500*time.Millisecond)
			test.use(t, b, q)
			c.pass(b, 499*time.Millisecond)
			if !b.exists("q") {
				t.Fatal("the queue is gone before its lease has run out")
			}
			c.pass(b, time.Millisecond)
			if got := b.exists("q"); got != test.alive {
				t.Fatalf("exists is %t when a whole lease has passed since the declaration, want %t", got, test.alive)
			}
		})
	}
}

// TestLeaseEndsAfterTheLastConsumer: a lease does not run while there are
// consumers.
func TestLeaseEndsAfterTheLastConsumer(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	q := b.declare(t, "q", "", 0, wire.Field{Name: "x-expires", Value: int32(1000)})
	in := newInbox("c", true, 0)
	if err := q.Consume(in.Consumer, false, func() {}); err != nil {
		t.Fatal(err)
	}
	c.pass(b, time.Hour)
	q.Cancel(in.Consumer)
	c.pass(b, 999*time.Millisecond)
	if !b.exists("q") {
		t.Fatal("the queue is gone before its lease has run out")
	}
	c.pass(b, time.Millisecond)
	if b.exists("q") {
		t.Fatal("the queue is still there after its lease")
	}
	if len(b.timers.alarms) != 0 {
		t.Fatalf("%d alarms are left, want none", len(b.timers.alarms))
	}
}

// TestLeaseBeginsAnewWithTheBroker: after a restart the whole lease has to pass.
func TestLeaseBeginsAnewWithTheBroker(t *testing.T) {
	t.Parallel()
	c, fs := newClock(), vfs.NewMem()
	b := c.open(t, fs)
	b.declare(t, "q", "durable", 0, wire.Field{Name: "x-expires", Value: int32(1000)})
	c.pass(b, 900*time.Millisecond)
	b.stop(t)
	b = c.open(t, fs)
	c.pass(b, 999*time.Millisecond)
	if !b.exists("q") {
		t.Fatal("the queue is gone before its lease has run out")
	}
	c.pass(b, time.Millisecond)
	if b.exists("q") {
		t.Fatal("the queue is still there after its lease")
	}
	b.stop(t)
	if b = c.open(t, fs); b.exists("q") {
		t.Fatal("the queue is back after a restart")
	}
}
