// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// TestLettersWaitForDamaged: dead letters wait for room in a queue that has gone out of
// service, so that nobody makes room by consuming. It is shown that they do, and they go
// on when the queue is deleted or purged, and when a policy sends them elsewhere.
func TestLettersWaitForDamaged(t *testing.T) {
	t.Parallel()
	elsewhere := Policy{Name: "p", Pattern: "^q$", ApplyTo: "queues", Definition: wire.Table{
		arg("dead-letter-exchange", ""), arg("dead-letter-routing-key", "other"),
	}}
	toFull := elsewhere
	toFull.Definition = wire.Table{arg("dead-letter-exchange", ""), arg("dead-letter-routing-key", "full")}
	for _, test := range []struct {
		name                        string
		remedy                      func(t *testing.T, b *broker)
		leaving, lost, full, others uint64 // what becomes of the two letters, and the message that filled the queue
	}{
		{"delete", func(t *testing.T, b *broker) {
			_, _, err := b.DeleteQueue("full", false, false, 1, nil)
			wantError(t, err, 0, "")
		}, 0, 2, 1, 0},
		{"purge", func(t *testing.T, b *broker) {
			b.queue(t, "full").purge()
		}, 1, 0, 1, 0},
		{"policy", func(t *testing.T, b *broker) {
			b.setPolicy(t, UserPolicy, elsewhere)
		}, 0, 0, 1, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := openBroker(t, vfs.NewMem())
			full := b.declare(t, "full", "durable", 1, maxLength(1), arg("x-overflow", "reject-publish"))
			other := b.declare(t, "other", "durable", 1)
			b.setPolicy(t, UserPolicy, toFull)
			q := b.declare(t, "q", "durable", 1)
			b.post(t, "", "full", persistentMode(), "first")
			b.post(t, "", "q", persistentMode(), "a", "b")
			in := newInbox("c", false, 0)
			consume(t, q, in)
			q.Settle(in.Consumer, numbersOf(in.take(2)), true)
			full.mu.Lock()
			full.breakLocked(errors.New("a test"))
			full.mu.Unlock()
			b.until(t, "the letters wait", func() bool {
				s := q.Stats()
				return s.Leaving == 2 && slices.Equal(s.LettersWaitFor, []string{"full"})
			})

			test.remedy(t, b)
			b.until(t, "the letters go on", func() bool {
				s := q.Stats()
				return s.Leaving == test.leaving && s.Counters.LettersLost == test.lost && left(other) == test.others &&
					(s.LettersWaitFor != nil) == (test.leaving > 0)
			})
			if test.lost == 0 && left(full) != test.full {
				t.Errorf("%d messages are in the queue that was full, want %d", left(full), test.full)
			}
		})
	}
}

// TestLettersRoutedAnew: dead letters wait for room in a queue, and then the routes lead
// elsewhere, or nowhere. They go there, and wait no longer.
func TestLettersRoutedAnew(t *testing.T) {
	t.Parallel()
	toFull := Binding{Source: "dead", Destination: "full", Key: "q"}
	unbind := func(t *testing.T, b *broker, binding Binding) {
		_, err := b.Unbind(binding, 1, nil)
		wantError(t, err, 0, "")
	}
	for _, test := range []struct {
		name         string
		tookBefore   bool // another queue has their copies
		change       func(t *testing.T, b *broker)
		lost, others uint64
	}{
		{"unbound", false, func(t *testing.T, b *broker) { unbind(t, b, toFull) }, 2, 0},
		{"unbound, others took", true, func(t *testing.T, b *broker) { unbind(t, b, toFull) }, 0, 2},
		{"bound elsewhere", false, func(t *testing.T, b *broker) {
			b.bind(t, Binding{Source: "dead", Destination: "other", Key: "q"})
			unbind(t, b, toFull)
		}, 0, 2},
		{"exchange deleted", false, func(t *testing.T, b *broker) {
			_, err := b.DeleteExchange("dead", false, nil)
			wantError(t, err, 0, "")
		}, 2, 0},
		{"exchange made anew", true, func(t *testing.T, b *broker) {
			_, err := b.DeleteExchange("dead", false, nil)
			wantError(t, err, 0, "")
			b.declareExchange(t, exchanges.Declaration{Name: "dead", Type: "direct", Durable: true})
			b.bind(t, Binding{Source: "dead", Destination: "other", Key: "q"})
		}, 0, 2},
		{"alternate exchange", false, func(t *testing.T, b *broker) {
			b.setPolicy(t, UserPolicy, Policy{Name: "a", Pattern: "^dead$", ApplyTo: "exchanges", Definition: wire.Table{arg("alternate-exchange", "amq.fanout")}})
			b.bind(t, Binding{Source: "amq.fanout", Destination: "other"})
			unbind(t, b, toFull)
		}, 0, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := openBroker(t, vfs.NewMem())
			b.full(t, "full")
			other := b.declare(t, "other", "durable", 1)
			b.declareExchange(t, exchanges.Declaration{Name: "dead", Type: "direct", Durable: true})
			b.bind(t, toFull)
			if test.tookBefore {
				b.bind(t, Binding{Source: "dead", Destination: "other", Key: "q"})
			}
			q := b.declare(t, "q", "durable", 1, dlx("dead")...)
			b.post(t, "", "q", persistentMode(), "a", "b")
			rejectAll(t, q, 2)
			b.wantLeaving(t, "q", 2, "full")
			test.change(t, b)
			var s QueueStats
			defer func() {
				if t.Failed() {
					t.Errorf("%d letters are leaving, %d are lost, %d in the other queue, the others wait for %q; want none, %d and %d",
						s.Leaving, s.Counters.LettersLost, left(other), s.LettersWaitFor, test.lost, test.others)
				}
			}()
			b.until(t, "the letters go on", func() bool { // they are counted a moment after they have left
				s = q.Stats()
				return s.Leaving == 0 && s.Counters.LettersLost == test.lost && left(other) == test.others && s.LettersWaitFor == nil
			})
		})
	}
}

// TestRoomByPages: a queue limits the bytes of its messages. As it lets go of a page it
// no longer knows their sizes, and those that wait for room try again.
func TestRoomByPages(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.janitor.stop()
	target := b.declare(t, "target", "durable", 1, arg("x-max-length-bytes", int64(100)), arg("x-overflow", "reject-publish"))
	q := b.declare(t, "q", "durable", 1, dlx("", "target")...)
	b.post(t, "", "target", persistentMode(), strings.Repeat("a", 10), strings.Repeat("b", 90))
	b.sync(t)
	in := newInbox("c", false, 1)
	consume(t, target, in)
	in.take(1)
	target.Cancel(in.Consumer)
	b.post(t, "", "q", persistentMode(), strings.Repeat("c", 40))
	rejectAll(t, q, 1)
	b.wantLeaving(t, "q", 1, "target")
	target.mu.Lock()
	before := target.engine.ReadyBytes()
	target.restLocked()
	after := target.engine.ReadyBytes()
	target.mu.Unlock()
	if before != 90 || after != 50 {
		t.Fatalf("%d bytes count as ready, and %d without the page: this tests nothing", before, after)
	}
	b.until(t, "the letter has room", func() bool { return q.Stats().Leaving == 0 && left(target) == 2 })
}

// TestElsewhereMeanwhile: dead letters are sent elsewhere while they are on their way to
// a queue that refuses them. They go on, and do not wait for room there.
func TestElsewhereMeanwhile(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	full := b.declare(t, "full", "durable", 1, maxLength(1), arg("x-overflow", "reject-publish"))
	other := b.declare(t, "other", "durable", 1)
	q := b.declare(t, "q", "durable", 1, dlx("", "full")...)
	b.post(t, "", "full", persistentMode(), "first")
	b.post(t, "", "q", persistentMode(), "a", "b")
	in := newInbox("c", false, 0)
	consume(t, q, in)
	full.mu.Lock()
	var rejecting sync.WaitGroup
	rejecting.Go(func() { q.Settle(in.Consumer, numbersOf(in.take(2)), true) })
	b.until(t, "the letters are on their way", func() bool {
		if !b.Hosts.tx.TryLock() {
			return true
		}
		b.Hosts.tx.Unlock()
		return false
	})
	q.mu.Lock()
	q.settingsChangedLocked(q.settings.Load(), settingsOf(dlx("", "other"), AppliedPolicies{}))
	q.dispatchLocked()
	q.unlock()
	full.mu.Unlock()
	rejecting.Wait()
	b.until(t, "the letters go on", func() bool { return q.Stats().Leaving == 0 && left(other) == 2 })
}

// BenchmarkLettersTryAgain: a batch of dead letters is refused once more by one queue of a
// thousand, the others of which have them already.
func BenchmarkLettersTryAgain(bench *testing.B) {
	b := openBroker(bench, vfs.NewMem())
	const targets, letters = 1000, queue.MaxRunMessages
	for i := range targets {
		var args []wire.Field
		if i == 0 {
			args = append(args, maxLength(0), arg("x-overflow", "reject-publish"))
		}
		name := fmt.Sprint("target", i)
		b.declare(bench, name, "", 1, args...)
		b.bind(bench, Binding{Source: "amq.fanout", Destination: name})
	}
	q := b.declare(bench, "q", "", 1, append(dlx("amq.fanout"), maxLength(letters))...)
	for range letters {
		b.post(bench, "", "q", wire.Properties{}, "a letter")
	}
	rejectAll(bench, q, letters)
	b.until(bench, "the letters wait", q.blocked.Load)
	bench.ReportAllocs()
	for bench.Loop() {
		q.blocked.Store(false)
		q.forward()
	}
}

// BenchmarkManyRefuse: a batch of dead letters is refused by all of their thousand
// targets.
func BenchmarkManyRefuse(bench *testing.B) {
	b := openBroker(bench, vfs.NewMem())
	const targets, letters = 1000, queue.MaxRunMessages
	for i := range targets {
		name := fmt.Sprint("target", i)
		b.declare(bench, name, "", 1, maxLength(0), arg("x-overflow", "reject-publish"))
		b.bind(bench, Binding{Source: "amq.fanout", Destination: name})
	}
	q := b.declare(bench, "q", "", 1, append(dlx("amq.fanout"), maxLength(letters))...)
	for range letters {
		b.post(bench, "", "q", wire.Properties{}, "a letter")
	}
	rejectAll(bench, q, letters)
	b.until(bench, "the letters wait", q.blocked.Load)
	bench.ReportAllocs()
	for bench.Loop() {
		q.blocked.Store(false)
		q.forward()
	}
}
