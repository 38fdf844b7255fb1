// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// TestOldestMessage checks the age of the oldest message that has not left, also
// after a restart.
func TestOldestMessage(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	now := time.UnixMilli(1_000_000)
	options := Options{Clock: func() time.Time { return now }}
	b := openWith(t, fs, options)
	q := b.declare(t, "q", "durable", 1)
	want := func(what string, age time.Duration) {
		t.Helper()
		if got := b.queue(t, "q").Stats().Oldest; got != age {
			t.Errorf("%s: the oldest message is %s old, want %s", what, got, age)
		}
	}
	want("empty", 0)
	b.publish(t, "", "q", true, nil, "one")
	b.sync(t)
	now = now.Add(time.Second)
	b.publish(t, "", "q", true, nil, "two")
	want("two messages", time.Second)
	in := newInbox("c", false, 1)
	consume(t, q, in)
	first := in.take(1)
	now = now.Add(time.Second)
	want("the oldest is unacknowledged", 2*time.Second)
	q.Settle(in.Consumer, numbersOf(first), false)
	want("the oldest has gone", time.Second)
	b.stop(t)
	now = now.Add(time.Minute)
	b = openWith(t, fs, options)
	want("after a restart", time.Minute+time.Second)
	b.queue(t, "q").purge()
	want("purged", 0)
}

// TestTimeInQueue checks how long messages were in a queue before they were handed out:
// each counts once, with its wait since it arrived.
func TestTimeInQueue(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	now := time.UnixMilli(1_000_000)
	b := openWith(t, fs, Options{Clock: func() time.Time { return now }})
	q := b.declare(t, "q", "durable", 1)
	in := newInbox("c", false, 1)
	consume(t, q, in)
	b.publish(t, "", "q", true, nil, "at once", "soon", "late")
	now = now.Add(5 * time.Millisecond)
	q.Settle(in.Consumer, numbersOf(in.take(1)), false)
	q.Return(in.Consumer, numbersOf(in.take(1)), true)
	now = now.Add(90 * 24 * time.Hour)
	q.Settle(in.Consumer, numbersOf(in.take(1)), false)
	in.take(1)
	var want Waited
	want.Counts[0], want.Counts[2], want.Counts[waitedBounds] = 1, 1, 1
	want.Sum = 5 + 5 + 90*24*60*60*1000
	if got := q.Stats().Counters.Waited; got != want {
		t.Errorf("waits are counted as %v, want %v", got, want)
	}
	for i := range waitedBounds {
		bound, ok := WaitedBound(i)
		var w Waited
		for _, wait := range []uint64{bound/4 + 1, bound, bound + 1} {
			p := new(queue.Page)
			p.Append(nil, nil, nil)
			p.Arrive(1)
			w.observe(&queue.Delivery{Page: p, Count: 1, Stride: 1}, 1+wait)
		}
		if w.Counts[i] != 2 || w.Counts[i+1] != 1 || !ok {
			t.Errorf("waits around %d ms are counted as %v", bound, w.Counts)
		}
	}
	if _, ok := WaitedBound(waitedBounds); ok {
		t.Error("the last count has a bound")
	}
}

// TestReadyByPriority checks how many messages of each priority are told to be ready.
func TestReadyByPriority(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.declare(t, "classic", "durable", 0, wire.Field{Name: "x-max-priority", Value: int32(3)})
	b.declare(t, "quorum", "durable", 0, wire.Field{Name: "x-queue-type", Value: TypeQuorum})
	b.declare(t, "plain", "durable", 0)
	want := func(name string, want []uint64) {
		t.Helper()
		if got := b.queue(t, name).Stats().Priorities; !slices.Equal(got, want) {
			t.Errorf("%s: %v are ready, want %v", name, got, want)
		}
	}
	want("classic", []uint64{0, 0, 0, 0})
	for _, name := range []string{"classic", "quorum", "plain"} {
		b.publish(t, "", name, false, nil, "usual")
	}
	want("classic", []uint64{1, 0, 0, 0})
	want("quorum", nil)
	for _, name := range []string{"classic", "quorum", "plain"} {
		b.post(t, "", name, wire.Properties{Flags: wire.FlagPriority, Priority: 9}, "high", "high")
	}
	want("classic", []uint64{1, 0, 0, 2})
	quorum := make([]uint64, 32)
	quorum[4], quorum[9] = 1, 2
	want("quorum", quorum)
	want("plain", nil)
}
