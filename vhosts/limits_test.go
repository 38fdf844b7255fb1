// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts/queue"
)

func maxLength(n int) wire.Field { return wire.Field{Name: "x-max-length", Value: int64(n)} }

// TestDropCrash lets the power fail while messages leave a queue that is too long,
// fail too often or are rejected, each to two targets: then every confirmed message
// is in its queue or in both targets.
func TestDropCrash(t *testing.T) {
	t.Parallel()
	for seed := range seeds() {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			dropAndCrash(t, seed)
		})
	}
}

func dropAndCrash(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 77))
	fs := vfs.NewCrashableMem()
	b := openWith(t, fs, Options{ResidentBytes: uint64(1 + rng.IntN(4000))})
	q := b.declare(t, "q", "durable", 1, append(dlx("amq.fanout"), maxLength(20), wire.Field{Name: "x-delivery-limit", Value: int32(1)})...)
	for _, name := range []string{"one", "two"} {
		b.declare(t, name, "durable", 1)
		b.bind(t, Binding{Source: "amq.fanout", Destination: name})
	}
	b.sync(t)
	in := newInbox("c", false, 5)
	consume(t, q, in)
	var clones []*vfs.MemFS
	var confirmed []int // messages known to be on disk, by clone
	sent := 0
	for range 60 {
		var bodies []string
		for range 1 + rng.IntN(9) {
			bodies = append(bodies, fmt.Sprint(sent))
			sent++
		}
		b.post(t, "", "q", persistentMode(), bodies...)
		if n := in.waiting(); n > 0 && rng.IntN(2) == 0 {
			numbers := numbersOf(in.take(1 + rng.IntN(n)))
			if rng.IntN(3) == 0 {
				q.Settle(in.Consumer, numbers, true)
			} else {
				q.Return(in.Consumer, numbers, true)
			}
		}
		known := 0
		if rng.IntN(2) == 0 {
			b.sync(t)
			known = sent
		} else if len(confirmed) > 0 {
			known = confirmed[len(confirmed)-1]
		}
		if rng.IntN(8) == 0 {
			clones = append(clones, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng}))
			confirmed = append(confirmed, known)
		}
	}
	for i, clone := range clones {
		after := openBroker(t, clone)
		for after.queue(t, "q").Stats().Leaving > 0 { // what is too much now, with what was unacked
			after.sync(t)
		}
		places := map[string][]string{}
		for _, name := range []string{"q", "one", "two"} {
			seen := map[string]bool{}
			for _, message := range strings.Fields(drain(t, after.queue(t, name))) {
				body := strings.TrimSuffix(message, "*")
				if seen[body] {
					t.Errorf("%s has message %s twice", name, body)
				}
				seen[body] = true
				places[body] = append(places[body], name)
			}
		}
		for n := range confirmed[i] {
			if in := strings.Join(places[fmt.Sprint(n)], " "); in != "q" && in != "one two" {
				t.Errorf("message %d of %d confirmed ones is in queues %q", n, confirmed[i], in)
			}
		}
	}
}

// TestDeathCycles: a message that comes back to a queue where it died is dropped,
// unless somebody has rejected it on the way.
func TestDeathCycles(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	self := b.declare(t, "self", "durable", 1, append(dlx("", "self"), maxLength(0))...)
	b.post(t, "", "self", persistentMode(), "1", "2")
	wantCounts(t, self, 0, 0)
	if s := self.Stats(); s.Leaving != 0 || s.Counters.LettersLost != 2 || s.Counters.Published != 2 {
		t.Errorf("stats are %+v", s)
	}

	// a is full at once, b rejects: the way through b makes it no cycle.
	a := b.declare(t, "a", "durable", 1, append(dlx("", "b"), maxLength(0))...)
	rejects := b.declare(t, "b", "durable", 1, dlx("", "a")...)
	b.post(t, "", "a", persistentMode(), "1")
	for round := range 4 {
		wantCounts(t, rejects, 1, 0)
		if round == 3 {
			m := collect(t, rejects, 1)[0]
			want := wire.Array{entryOf(4, "maxlen", "a", 0, "", "a"), entryOf(3, "rejected", "b", 0, "", "b")}
			if got := m.deaths(t); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("deaths are\n%v, want\n%v", got, want)
			}
			break
		}
		rejectAll(t, rejects, 1)
	}
	wantCounts(t, a, 0, 0)

	// Two queues that are full at once.
	for from, to := range map[string]string{"x": "y", "y": "x"} {
		b.declare(t, from, "", 1, append(dlx("", to), maxLength(0))...)
	}
	b.post(t, "", "x", persistentMode(), "1")
	for _, name := range []string{"x", "y"} {
		if s := b.queue(t, name).Stats(); s.Ready+s.Leaving != 0 {
			t.Errorf("queue %s has %d ready and %d leaving messages", name, s.Ready, s.Leaving)
		}
	}
	if s := b.queue(t, "y").Stats(); s.Counters.LettersLost != 1 || s.Counters.Published != 1 {
		t.Errorf("stats are %+v", s)
	}
}

// TestLimitLowered: a policy that lowers a limit applies to what is there, and the
// target of dead letters may be deleted meanwhile.
func TestLimitLowered(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "durable", 1, dlx("", "target")...)
	target := b.declare(t, "target", "durable", 1)
	for i := range 30 {
		b.post(t, "", "q", persistentMode(), fmt.Sprint(i), fmt.Sprint(i, "b"))
	}
	b.setPolicy(t, UserPolicy, Policy{Name: "p", Pattern: "^q$", Definition: wire.Table{{Name: "max-length", Value: int64(2)}}})
	out := newInbox("out", false, 0)
	consume(t, target, out)
	out.take(58)
	if got := drain(t, q); got != "29 29b" {
		t.Errorf("left are %q", got)
	}
	if _, _, err := b.DeleteQueue("target", false, false, 1, nil); err != nil {
		t.Fatal(err)
	}
	b.post(t, "", "q", persistentMode(), "30")
	wantCounts(t, q, 2, 0)
	if c := q.Stats().Counters; c.LettersLost != 1 || c.DeadLettered != [5]uint64{2: 58} || c.Died != [5]uint64{2: 59} {
		t.Errorf("counted are %+v", c)
	}
}

// TestLimitConcurrent publishes to, consumes from and dead-letters around a circle of
// bounded queues from several goroutines: nothing hangs, and nothing is left leaving.
func TestLimitConcurrent(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	names := []string{"q0", "q1", "q2"}
	var queues []*Queue
	for i, name := range names {
		overflow := wire.Field{Name: "x-overflow", Value: []string{"drop-head", "reject-publish", "reject-publish-dlx"}[i]}
		queues = append(queues, b.declare(t, name, "durable", 1, append(dlx("", names[(i+1)%3]), maxLength(10), overflow)...))
	}
	var work sync.WaitGroup
	for i, q := range queues {
		work.Go(func() {
			for n := range 100 {
				b.post(t, "", names[i], persistentMode(), fmt.Sprint(n), "x")
			}
		})
		work.Go(func() {
			in := newInbox("c", false, 3)
			consume(t, q, in)
			for range 100 {
				if n := in.waiting(); n > 0 {
					q.Settle(in.Consumer, numbersOf(in.take(n)), n%2 == 0)
				}
				b.sync(t)
			}
			q.Cancel(in.Consumer)
			q.Settle(in.Consumer, numbersOf(in.take(in.waiting())), false)
		})
	}
	work.Wait()
	b.until(t, "what waits for room goes on when there is some", func() bool {
		for _, name := range names {
			if _, _, err := b.PurgeQueue(name, 1, nil); err != nil {
				t.Fatal(err)
			}
		}
		return !slices.ContainsFunc(queues, func(q *Queue) bool { return q.Stats().Leaving > 0 || q.Stats().Ready > 0 })
	})
}

// TestRefusedByItself: a letter that its own queue has no room for waits until there is
// some, and so do letters that two queues refuse each other.
func TestRefusedByItself(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.forwarder.stop() // nobody else forwards
	bounded := func(name, target string) *Queue {
		return b.declare(t, name, "durable", 1, append(dlx("", target),
			wire.Field{Name: "x-max-length-bytes", Value: int64(10)}, wire.Field{Name: "x-overflow", Value: "reject-publish"})...)
	}
	queues := []*Queue{bounded("self", "self"), bounded("a", "b"), bounded("b", "a")}
	inboxes := make([]*inbox, len(queues))
	for i, q := range queues {
		inboxes[i] = newInbox("c", false, 1)
		consume(t, q, inboxes[i])
		b.post(t, "", q.name, persistentMode(), "letter")
		b.post(t, "", q.name, persistentMode(), "stays")
		q.Cancel(inboxes[i].Consumer)
	}
	for i, q := range queues {
		q.Settle(inboxes[i].Consumer, numbersOf(inboxes[i].take(1)), true)
	}
	for _, q := range queues {
		if s := q.Stats(); !q.blocked.Load() || s.Leaving != 1 {
			t.Errorf("queue %s has %d leaving messages, and waits: %t", q.name, s.Leaving, q.blocked.Load())
		}
	}
	if n := len(b.forwarder.queues); n > 0 {
		t.Errorf("%d queues are to try again", n)
	}
	for _, q := range queues {
		if _, _, err := b.PurgeQueue(q.name, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	b.forwarder.forward(b.forwarder.queues...)
	for _, q := range queues {
		wantCounts(t, q, 1, 0)
	}
}

// TestRoomMadeMeanwhile: who was refused does not wait if there is room by the time he
// is about to.
func TestRoomMadeMeanwhile(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	source := b.declare(t, "source", "durable", 1)
	target := b.declare(t, "target", "durable", 1, maxLength(1), wire.Field{Name: "x-overflow", Value: "reject-publish"})
	for what, makeRoom := range map[string]func(){
		"purge": func() { _, _, _ = b.PurgeQueue("target", 1, nil) },
		"limit": func() {
			target.mu.Lock()
			defer target.mu.Unlock()
			target.boundLocked(settingsOf(nil, AppliedPolicies{}))
		},
	} {
		b.post(t, "", "target", persistentMode(), "1")
		target.mu.Lock()
		r := refusal{queue: target, steps: target.steps}
		target.mu.Unlock()
		makeRoom()
		source.waitForRoom(&r)
		target.mu.Lock()
		if len(target.waiting) > 0 {
			t.Errorf("%s: source waits", what)
		}
		target.waiting = nil
		target.boundLocked(target.settings.Load())
		target.mu.Unlock()
	}
}

// A dead letter that a full queue with reject-publish-dlx refuses goes on to that
// queue's own dead letter exchange, once, and has left where it came from.
func TestDeadLetterPassesOn(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	final := b.declare(t, "final", "durable", 1)
	target := b.declare(t, "target", "durable", 1, append(dlx("", "final"),
		wire.Field{Name: "x-max-length", Value: int32(1)}, wire.Field{Name: "x-overflow", Value: "reject-publish-dlx"})...)
	source := b.declare(t, "source", "durable", 1, dlx("", "target")...)
	b.publish(t, "", "target", true, nil, "there")
	b.post(t, "", "source", persistentMode(), "letter")
	rejectAll(t, source, 1)
	mail := collect(t, final, 1)
	if m := &mail[0]; m.body != "letter" || len(m.deaths(t)) != 2 {
		t.Errorf("%q has died %d times", m.body, len(m.deaths(t)))
	}
	collect(t, target, 1) // makes room, for what must not wait for it
	wantCounts(t, target, 0, 0)
	wantCounts(t, source, 0, 0)
	wantCounts(t, final, 0, 0)
	if s := source.Stats(); s.Leaving != 0 {
		t.Errorf("%d messages are leaving", s.Leaving)
	}
}

// TestLimitInSteps: when a policy lowers the limits of a long queue, what is too much
// leaves in steps that others can come between, in order, by number or bytes, whether it
// becomes dead letters or not.
func TestLimitInSteps(t *testing.T) {
	t.Parallel()
	const all, kept = 3*limitStep + 100, 10
	for _, test := range []struct {
		name    string
		setting wire.Field
		args    []wire.Field
	}{
		{"messages", arg("max-length", int64(kept)), nil},
		{"bytes", arg("max-length-bytes", int64(5*kept)), nil},
		{"dead letters", arg("max-length", int64(kept)), dlx("", "dead")},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			b := openWith(t, vfs.NewMem(), Options{Clock: c.now})
			b.timers.stop()
			dead := b.declare(t, "dead", "", 1)
			q := b.declare(t, "q", "", 1, test.args...)
			bodies := make([]string, 0, queue.MaxRunMessages)
			for n := 0; n < all; bodies = bodies[:0] {
				for len(bodies) < cap(bodies) && n < all {
					bodies = append(bodies, fmt.Sprintf("%05d", n))
					n++
				}
				b.post(t, "", "q", wire.Properties{}, bodies...)
			}
			b.setPolicy(t, UserPolicy, Policy{Name: "p", Pattern: "^q$", Definition: wire.Table{test.setting}})
			// Whoever forwards dead letters makes further steps.
			if n := left(q); test.args == nil && (n > all-limitStep || n < all-2*limitStep) {
				t.Errorf("%d messages are left after the first step of %d", n, limitStep)
			}
			c.until(t, b, "the rest has left", func() bool { return left(q) == kept })
			if got := takeBodies(t, q, kept); got[0] != fmt.Sprintf("%05d", all-kept) {
				t.Errorf("message %s is the first of those that are left", got[0])
			}
			if test.args == nil {
				return
			}
			c.until(t, b, "the dead letters have come", func() bool { return left(dead) == all-kept })
			for n, body := range takeBodies(t, dead, all-kept) {
				if body != fmt.Sprintf("%05d", n) {
					t.Fatalf("dead letter %d is %s", n, body)
				}
			}
		})
	}
}
