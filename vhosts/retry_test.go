// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
)

// TestRetry: messages that come back wait, longer with each failure; which ones do is a
// setting.
func TestRetry(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		kind   string
		failed bool
		waits  []time.Duration // milliseconds, for each time it comes back
	}{
		{"all", true, []time.Duration{100, 200, 250, 250}},
		{"all", false, []time.Duration{100, 100, 100}},
		{"failed", true, []time.Duration{100, 200}},
		{"failed", false, []time.Duration{0, 0}},
		{"returned", true, []time.Duration{0, 0}},
		{"returned", false, []time.Duration{100, 100}},
		{"disabled", true, []time.Duration{0, 0}},
	} {
		for _, kind := range []string{TypeClassic, TypeQuorum} {
			c := newClock()
			b := c.open(t, vfs.NewMem())
			q := b.declare(t, "q", "durable", 0, wire.Field{Name: "x-queue-type", Value: kind},
				wire.Field{Name: "x-delayed-retry-type", Value: test.kind},
				wire.Field{Name: "x-delayed-retry-min", Value: int32(100)}, wire.Field{Name: "x-delayed-retry-max", Value: int32(250)})
			b.publish(t, "", "q", true, nil, "message")
			in := newInbox("c", false, 0)
			consume(t, q, in)
			for i, wait := range test.waits {
				m := in.take(1)[0]
				q.Return(in.Consumer, []uint64{m.number}, test.failed)
				if wait == 0 {
					continue
				}
				c.pass(b, (wait-1)*time.Millisecond)
				if s := q.Stats(); s.Ready != 0 || s.Unacked != 0 {
					t.Fatalf("%s, failed %t, time %d: %d ready and %d unacked before %dms", test.kind, test.failed, i, s.Ready, s.Unacked, wait)
				}
				c.pass(b, time.Millisecond)
			}
			if m := in.take(1)[0]; !m.redelivered {
				t.Errorf("%s, failed %t: the message is not marked as redelivered", test.kind, test.failed)
			}
		}
	}
}

// TestRetryOfExpired: a message whose time to live is over when it is ready again is not
// delivered.
func TestRetryOfExpired(t *testing.T) {
	t.Parallel()
	for _, args := range [][]wire.Field{nil, {ttl(150)}} {
		c := newClock()
		b := c.open(t, vfs.NewMem())
		q := b.declare(t, "q", "", 0, append(args, wire.Field{Name: "x-delayed-retry-type", Value: "all"},
			wire.Field{Name: "x-delayed-retry-min", Value: int32(100)})...)
		b.expiring(t, "q", false, nil, 150)
		in := newInbox("c", false, 0)
		consume(t, q, in)
		m := in.take(1)[0]
		c.pass(b, 100*time.Millisecond)
		q.Return(in.Consumer, []uint64{m.number}, true)
		c.pass(b, 100*time.Millisecond)
		if s := q.Stats(); s.Ready != 0 || s.Unacked != 0 {
			t.Errorf("%d ready and %d unacked, want none", s.Ready, s.Unacked)
		}
	}
}

// TestRetryIsNoLetter: messages that wait to be delivered again do not count among the
// dead letters that a queue's limit allows to wait for room.
func TestRetryIsNoLetter(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.declare(t, "full", "durable", 1, maxLength(0), arg("x-overflow", "reject-publish"))
	q := b.declare(t, "q", "durable", 1, append(dlx("", "full"), maxLength(2), arg("x-max-length-bytes", int64(6)),
		arg("x-delayed-retry-type", "all"), arg("x-delayed-retry-min", int32(1_000_000)))...)
	in := newInbox("c", false, 0)
	consume(t, q, in)
	for range 4 {
		b.post(t, "", "q", persistentMode(), "m1", "m2")
	}
	numbers := numbersOf(in.take(8))
	q.Return(in.Consumer, numbers[:5], true)
	q.Settle(in.Consumer, numbers[5:7], true)
	if s := q.Stats(); s.Leaving != 7 || s.Counters.LettersLost != 0 {
		t.Errorf("%d messages are leaving, %d are lost", s.Leaving, s.Counters.LettersLost)
	}
	q.Settle(in.Consumer, numbers[7:], true)
	if s := q.Stats(); s.Leaving != 7 || s.Counters.LettersLost != 1 {
		t.Errorf("%d messages are leaving, %d are lost, want one", s.Leaving, s.Counters.LettersLost)
	}
}
