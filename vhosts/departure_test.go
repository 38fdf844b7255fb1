// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// full declares a durable queue that is full with one message.
func (b *broker) full(t testing.TB, name string) *Queue {
	t.Helper()
	q := b.declare(t, name, "durable", 1, maxLength(1), arg("x-overflow", "reject-publish"))
	b.post(t, "", name, persistentMode(), "first")
	return q
}

// wantLeaving waits until so many messages of a queue wait for room, and none is ready.
func (b *broker) wantLeaving(t testing.TB, name string, leaving uint64, obstacle string) {
	t.Helper()
	q := b.queue(t, name)
	b.until(t, "the letters wait", func() bool {
		s := q.Stats()
		return s.Leaving == leaving && slices.Equal(s.LettersWaitFor, []string{obstacle})
	})
	if s := q.Stats(); s.Ready != 0 || s.Unacked != 0 {
		t.Errorf("%d messages are ready and %d unacked, want none", s.Ready, s.Unacked)
	}
}

// takeOne takes the next message of a queue that is full with one.
func (b *broker) takeOne(t testing.TB, q *Queue) mail {
	t.Helper()
	b.until(t, "a message comes", func() bool { return left(q) == 1 })
	in := newPostbox(1)
	consume(t, q, in.inbox)
	numbers := numbersOf(in.take(1))
	q.Cancel(in.Consumer)
	q.Settle(in.Consumer, numbers, false)
	return in.mail[0]
}

// TestLeavingSurvives: messages that have left their queue, for whatever reason, and wait
// for room elsewhere are leaving again after a restart or a crash, in the order in which
// they left, with the same reason.
func TestLeavingSurvives(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		crash bool
		bytes uint64 // in memory
	}{
		{"stop", false, 4 << 20},
		{"crash", true, 4 << 20},
		{"stop, on disk", false, 1},
		{"crash, on disk", true, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			fs := vfs.NewCrashableMem()
			var b *broker
			open := func() {
				b = openWith(t, fs, Options{Clock: c.now, ResidentBytes: test.bytes})
				b.timers.stop()
			}
			open()
			reopen := func() {
				b.sync(t)
				if test.crash {
					fs = fs.CrashClone(vfs.CrashCloneCfg{})
				} else {
					b.stop(t)
				}
				open()
			}
			b.full(t, "full")
			q := b.declare(t, "q", "durable", 1, append(dlx("", "full"), arg("x-delivery-limit", int32(0)))...)
			b.expiring(t, "q", true, nil, 100)
			c.pass(b, 200*time.Millisecond)
			b.wantLeaving(t, "q", 1, "full") // expired
			b.post(t, "", "q", persistentMode(), "a", "b", "c", "d")
			b.post(t, "", "q", wire.Properties{}, "transient")
			in := newInbox("c", false, 0)
			consume(t, q, in)
			numbers := numbersOf(in.take(5))
			q.Settle(in.Consumer, []uint64{numbers[2], numbers[0]}, true)
			q.Return(in.Consumer, numbers[3:4], true)
			q.Settle(in.Consumer, numbers[4:], true)
			q.Settle(in.Consumer, numbers[1:2], false)
			b.until(t, "all are leaving", func() bool { return q.Stats().Leaving == 5 })
			for range 2 {
				reopen()
				b.wantLeaving(t, "q", 4, "full")
			}
			full := b.queue(t, "full")
			full.purge()
			var got []string
			for range 4 {
				m := b.takeOne(t, full)
				reason, _ := m.properties.Headers.Get("x-first-death-reason")
				got = append(got, m.body+" "+reason.(string))
			}
			if want := []string{"100 expired", "c rejected", "a rejected", "d delivery_limit"}; !slices.Equal(got, want) {
				t.Errorf("dead letters are %q, want %q", got, want)
			}
			b.until(t, "nothing is left", func() bool { return left(b.queue(t, "q")) == 0 })
			b.sync(t)
			reopen()
			if s := b.queue(t, "q").Stats(); s.Ready+s.Leaving+left(b.queue(t, "full")) != 0 {
				t.Errorf("%d messages are ready and %d leaving, want none", s.Ready, s.Leaving)
			}
		})
	}
}

// TestOwedAfterRestart: of several targets of dead letters one is full. After a restart or
// a crash that one gets its copies when there is room, and the others no second one.
func TestOwedAfterRestart(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		fs := vfs.NewCrashableMem()
		b := openBroker(t, fs)
		b.full(t, "full")
		for _, name := range []string{"full", "one", "two"} {
			if name != "full" {
				b.declare(t, name, "durable", 1)
			}
			b.bind(t, Binding{Source: "amq.fanout", Destination: name})
		}
		q := b.declare(t, "q", "durable", 1, dlx("amq.fanout")...)
		b.post(t, "", "q", persistentMode(), "a", "b", "c")
		rejectAll(t, q, 3)
		b.wantLeaving(t, "q", 3, "full")
		b.sync(t)
		if crash {
			b = openBroker(t, fs.CrashClone(vfs.CrashCloneCfg{}))
		} else {
			b = b.restart(t, fs)
		}
		b.wantLeaving(t, "q", 3, "full")
		full := b.queue(t, "full")
		var got []string
		for range 4 {
			got = append(got, b.takeOne(t, full).body)
		}
		if want := "first a b c"; strings.Join(got, " ") != want {
			t.Errorf("after a crash (%t) full got %q, want %q", crash, got, want)
		}
		b.until(t, "nothing is leaving", func() bool { return left(b.queue(t, "q")) == 0 })
		for _, name := range []string{"one", "two"} {
			if got := strings.ReplaceAll(drain(t, b.queue(t, name)), "*", ""); got != "a b c" {
				t.Errorf("after a crash (%t) %s has %q", crash, name, got)
			}
		}
	}
}

// TestLeavingUnread: messages that leave when the broker stops, before their page is read
// or their copies are made, are leaving after the start, and go on by themselves.
func TestLeavingUnread(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openWith(t, fs, Options{ResidentBytes: 1})
	b.declare(t, "target", "durable", 1)
	q := b.declare(t, "q", "durable", 1, dlx("", "target")...)
	for _, body := range []string{"a", "b", "c"} {
		b.post(t, "", "q", persistentMode(), body)
		b.sync(t)
	}
	in := newInbox("c", false, 0)
	consume(t, q, in)
	numbers := numbersOf(in.take(3))
	b.post(t, "", "q", wire.Properties{}, "d") // makes the queue let go of what it has handed out
	in.take(1)
	b.stopWorkers()
	q.Settle(in.Consumer, []uint64{numbers[1], numbers[0], numbers[2]}, true)
	if s := q.Stats(); s.Leaving != 3 {
		t.Fatalf("%d messages are leaving, want 3: this tests nothing", s.Leaving)
	}
	for _, v := range b.VHosts() {
		v.recordStop()
	}
	b.sync(t)
	b.store.Close(t.Context())
	b = openBroker(t, fs)
	q, target := b.queue(t, "q"), b.queue(t, "target")
	b.until(t, "the letters arrive", func() bool { return left(q) == 0 && left(target) == 3 })
	if got := drain(t, target); got != "b a c" {
		t.Errorf("dead letters are %q", got)
	}
}

// TestLettersBehindDamaged: of the messages that are leaving some cannot be read. What
// left before them goes on; they and what left after them stay, are never handed out,
// and go on with the start after a repair.
func TestLettersBehindDamaged(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openWith(t, fs, Options{ResidentBytes: 1})
	b.janitor.stop() // else it joins the runs
	target := b.declare(t, "target", "durable", 1)
	q := b.declare(t, "q", "durable", 1, dlx("", "target")...)
	for _, body := range []string{"a", "b", "c"} {
		b.post(t, "", "q", persistentMode(), body)
		b.sync(t)
	}
	in := newInbox("c", false, 0)
	consume(t, q, in)
	numbers := numbersOf(in.take(3))
	b.post(t, "", "q", wire.Properties{}, "d") // makes the queue let go of what it has handed out
	numbers = append(numbers, numbersOf(in.take(1))...)
	b.Hosts.pages.stop()
	q.Settle(in.Consumer, numbers, true)
	g := q.chosen()
	if g == nil || len(g.there) != 3 {
		t.Fatal("not 3 runs are gathered: this tests nothing")
	}
	g.there[1].err = persistence.ErrDamaged
	g.there = slices.Delete(g.there, 1, 2)
	g.begin()
	b.until(t, "the first letter arrives", func() bool { return left(target) == 1 })
	if s := q.Stats(); s.Leaving != 3 || s.Damaged == nil {
		t.Errorf("%d messages are leaving, want 3; damage is %v", s.Leaving, s.Damaged)
	}
	b = b.restart(t, fs)
	q, target = b.queue(t, "q"), b.queue(t, "target")
	b.until(t, "the others arrive", func() bool { return q.Stats().Leaving == 0 && left(target) == 3 })
	if got := drain(t, target); got != "a b c" {
		t.Errorf("dead letters are %q", got)
	}
	wantCounts(t, q, 0, 0)
}

// TestLeavingBeforeTheStart: what waited for room when the broker stopped left before what
// has to leave when it starts.
func TestLeavingBeforeTheStart(t *testing.T) {
	t.Parallel()
	c := newClock()
	fs := vfs.NewMem()
	b := c.open(t, fs)
	b.full(t, "full")
	q := b.declare(t, "q", "durable", 1, append(dlx("", "full"), ttl(1000), maxLength(1000))...)
	b.post(t, "", "q", persistentMode(), "a", "b")
	rejectAll(t, q, 2)
	b.wantLeaving(t, "q", 2, "full")
	b.post(t, "", "q", persistentMode(), "c")
	b.stop(t)
	c.pass(b, 2*time.Second)
	b = c.open(t, fs)
	full := b.queue(t, "full")
	full.purge()
	var got []string
	for range 3 {
		got = append(got, b.takeOne(t, full).body)
	}
	if want := "a b c"; strings.Join(got, " ") != want {
		t.Errorf("dead letters are %q, want %q", got, want)
	}
}

// TestStopLeavesLetters: letters that nobody has got to when the broker stops are not
// forwarded first, and not ready in their queue after the next start, but on their way.
func TestStopLeavesLetters(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	target := b.declare(t, "target", "durable", 1)
	q := b.declare(t, "q", "durable", 1, dlx("", "target")...)
	const pages = forwardBurst + 4
	for i := range pages {
		var bodies []string
		for n := range queue.MaxRunMessages {
			bodies = append(bodies, fmt.Sprint(i*queue.MaxRunMessages+n))
		}
		b.post(t, "", "q", persistentMode(), bodies...)
	}
	b.sync(t)
	b.forwarder.stop() // so that what is left to it is still there when the broker stops
	rejectAll(t, q, pages*queue.MaxRunMessages)
	if q.Stats().Leaving == 0 {
		t.Fatal("no letters are left: this tests nothing")
	}
	b = b.restart(t, fs)
	target, q = b.queue(t, "target"), b.queue(t, "q")
	b.until(t, "all letters arrive", func() bool { return left(target) == pages*queue.MaxRunMessages })
	wantCounts(t, q, 0, 0)
	for i, body := range takeBodies(t, target, pages*queue.MaxRunMessages) {
		if body != fmt.Sprint(i) {
			t.Fatalf("message %d has come as number %d", i, i)
		}
	}
}
