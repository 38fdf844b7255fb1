// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts/queue"
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

// retrying declares a durable queue whose returned messages wait for so many
// milliseconds.
func (b *broker) retrying(t testing.TB, name string, wait int32, args ...wire.Field) *Queue {
	t.Helper()
	return b.declare(t, name, "durable", 0, append(args, arg("x-delayed-retry-type", "all"), arg("x-delayed-retry-min", wait))...)
}

// wantHeld checks how many messages of a queue are ready, unacked and delayed.
func wantHeld(t testing.TB, q *Queue, ready, unacked, delayed uint64) {
	t.Helper()
	if s := q.Stats(); s.Ready != ready || s.Unacked != unacked || s.Delayed != delayed {
		t.Errorf("%d messages are ready, %d unacked and %d delayed, want %d, %d and %d", s.Ready, s.Unacked, s.Delayed, ready, unacked, delayed)
	}
}

// TestRetryExpires: messages that wait to be delivered again expire on time, by the
// queue's time to live, by one that a policy sets meanwhile, or by their own, and
// become dead letters.
func TestRetryExpires(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		own      int // the messages' time to live, -1 for none
		args     []wire.Field
		policy   bool
		residing uint64
	}{
		{"queue", -1, []wire.Field{ttl(150)}, false, 4 << 10},
		{"queue before message", 151, []wire.Field{ttl(150)}, false, 4 << 10},
		{"message", 150, nil, false, 4 << 10},
		{"message on disk", 150, nil, false, 1},
		{"queue, message on disk", 100_000, []wire.Field{ttl(150)}, false, 1},
		{"policy", -1, nil, true, 4 << 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			b := openWith(t, vfs.NewMem(), Options{Clock: c.now, ResidentBytes: test.residing})
			b.timers.stop()
			dead := b.declare(t, "dead", "durable", 0)
			q := b.retrying(t, "q", 1000, append(test.args, deadTo("dead")...)...)
			b.expiring(t, "q", true, nil, test.own, test.own)
			in := newInbox("c", false, 0)
			consume(t, q, in)
			messages := in.take(2)
			c.pass(b, 100*time.Millisecond)
			q.Return(in.Consumer, numbersOf(messages), true)
			if test.policy {
				b.setPolicy(t, UserPolicy, Policy{Name: "p", Pattern: "^q$", ApplyTo: "queues", Definition: wire.Table{arg("message-ttl", int64(150))}})
			}
			b.sync(t)
			c.pass(b, 49*time.Millisecond)
			wantHeld(t, q, 0, 0, 2)
			c.pass(b, time.Millisecond)
			c.until(t, b, "both are dead", func() bool { return left(dead) == 2 })
			wantHeld(t, q, 0, 0, 0)
		})
	}
}

// TestRetryUnread: the times of delayed messages, of which some may have expired, cannot
// be read at first. They are read again, and what has expired leaves before its delay ends.
func TestRetryUnread(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := openWith(t, vfs.NewMem(), Options{Clock: c.now, ResidentBytes: 1})
	b.timers.stop()
	dead := b.declare(t, "dead", "durable", 0)
	q := b.retrying(t, "q", 1_000_000, append(deadTo("dead"), ttl(150))...)
	b.expiring(t, "q", true, nil, 900_000, 900_000) // so each message has its time
	in := newInbox("c", false, 0)
	consume(t, q, in)
	messages := in.take(2)
	b.sync(t)
	q.Return(in.Consumer, numbersOf(messages), true)
	q.mu.Lock()
	q.trimLocked()
	q.mu.Unlock()
	b.Hosts.pages.stop()
	asked := func() (requests []pageRequest) {
		b.Hosts.pages.mu.Lock()
		defer b.Hosts.pages.mu.Unlock()
		requests, b.Hosts.pages.wanted = b.Hosts.pages.wanted, nil
		return requests
	}
	c.pass(b, 150*time.Millisecond)
	if n := len(asked()); n != 1 {
		t.Fatalf("stamps are asked for %d times, want once: this tests nothing", n)
	}
	var failed []loadedStamps
	q.mu.Lock()
	q.engine.Runs(func(r *queue.Run) { failed = append(failed, loadedStamps{run: r, err: errDisk}) })
	q.mu.Unlock()
	q.stamped(failed)
	var again []pageRequest
	b.until(t, "they are asked for again", func() bool {
		again = append(again, asked()...)
		return len(again) > 0
	})
	for _, request := range again {
		request.do()
	}
	b.until(t, "both are dead", func() bool {
		for _, request := range asked() {
			if request.do != nil {
				request.do()
			} else {
				request.queue.loaded(b.Hosts.pages.loadAll(nil, request.runs))
			}
		}
		b.timers.fire()
		c.pass(b, expirePace*time.Millisecond)
		return left(dead) == 2
	})
}

// TestRetryPurge: what waits is purged with what is ready, and a queue that has such
// messages is not empty.
func TestRetryPurge(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	q := b.retrying(t, "q", 100)
	b.post(t, "", "q", persistentMode(), "a", "b", "c")
	in := newInbox("c", false, 3)
	consume(t, q, in)
	messages := in.take(3)
	q.Return(in.Consumer, numbersOf(messages[:2]), false)
	wantHeld(t, q, 0, 1, 2)
	_, _, err := b.DeleteQueue("q", false, true, 0, nil)
	wantError(t, err, wire.PreconditionFailed, "queue 'q' in vhost '/' not empty")
	if n := q.purge(); n != 2 {
		t.Errorf("%d messages were purged, want 2", n)
	}
	c.pass(b, time.Second)
	wantHeld(t, q, 0, 1, 0)
}

// TestRetrySurvives: messages wait on after a restart, for as long as was left, in their
// places; and after a crash.
func TestRetrySurvives(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		c := newClock()
		fs := vfs.NewCrashableMem()
		b := c.open(t, fs)
		reopen := func() *Queue {
			b.sync(t)
			if crash {
				fs = fs.CrashClone(vfs.CrashCloneCfg{})
			} else {
				b.stop(t)
			}
			b = c.open(t, fs)
			return b.queue(t, "q")
		}
		q := b.retrying(t, "q", 100)
		b.post(t, "", "q", persistentMode(), "a", "b", "c", "d", "e")
		in := newInbox("c", false, 0)
		consume(t, q, in)
		messages := in.take(5)
		q.Return(in.Consumer, numbersOf(messages[1:2]), true)
		c.pass(b, 50*time.Millisecond)
		q.Return(in.Consumer, numbersOf(messages[3:]), true)
		q.Settle(in.Consumer, numbersOf(messages[2:3]), false)
		q.Cancel(in.Consumer)

		q = reopen()
		wantHeld(t, q, 1, 0, 3)
		c.pass(b, 49*time.Millisecond)
		wantHeld(t, q, 1, 0, 3)
		q = reopen()
		c.pass(b, time.Millisecond)
		wantHeld(t, q, 2, 0, 2)
		if got := drain(t, q); got != "a* b*" {
			t.Errorf("messages %s are ready, want a* b*", got)
		}
		c.pass(b, 50*time.Millisecond)
		c.until(t, b, "all are back", func() bool { return q.Stats().Delayed == 2 }) // a and b, which drain gave back
		b.sync(t)
		c.pass(b, time.Hour)
		q = reopen()
		wantHeld(t, q, 4, 0, 0)
		if got := drain(t, q); got != "a* b* d* e*" {
			t.Errorf("messages %s are ready, want a* b* d* e*", got)
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
	if s := q.Stats(); s.Delayed != 5 || s.Leaving != 2 || s.Counters.LettersLost != 0 {
		t.Errorf("%d messages are delayed, %d are leaving, %d are lost", s.Delayed, s.Leaving, s.Counters.LettersLost)
	}
	q.Settle(in.Consumer, numbers[7:], true)
	if s := q.Stats(); s.Leaving != 2 || s.Counters.LettersLost != 1 {
		t.Errorf("%d messages are leaving, %d are lost, want one", s.Leaving, s.Counters.LettersLost)
	}
}
