// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
)

func TestDeleteQueue(t *testing.T) {
	t.Parallel()
	const notEmpty, inUse = "queue 'q' in vhost '/' not empty", "queue 'q' in vhost '/' in use"
	for _, test := range []struct {
		name              string
		ready, consumers  int
		ifUnused, ifEmpty bool
		want              string
	}{
		{"anyhow", 2, 1, false, false, ""},
		{"empty", 0, 0, false, true, ""},
		{"unused", 2, 0, true, false, ""},
		{"not empty", 1, 0, false, true, notEmpty},
		{"in use", 0, 1, true, false, inUse},
		{"empty is tested first", 1, 1, true, true, notEmpty},
		{"both hold", 0, 0, true, true, ""},
		{"empty but in use", 0, 1, true, true, inUse},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := openBroker(t, vfs.NewMem())
			q := b.declare(t, "q", "durable", 1)
			in := newInbox("c", false, 1)
			if test.consumers > 0 {
				b.publish(t, "", "q", true, nil, "taken")
				consume(t, q, in)
			}
			for range test.ready {
				b.publish(t, "", "q", true, nil, "waits")
			}
			ready, _, err := b.DeleteQueue("q", test.ifUnused, test.ifEmpty, 1, nil)
			wantError(t, err, wire.PreconditionFailed, test.want)
			if test.want != "" {
				b.queue(t, "q")
				return
			}
			if ready != uint32(test.ready) {
				t.Errorf("%d messages went with it, want %d", ready, test.ready)
			}
			if in.cancelled != test.consumers {
				t.Errorf("%d consumers were told, want %d", in.cancelled, test.consumers)
			}
			if _, err := b.DeclareQueuePassive("q", 1); err == nil {
				t.Error("the queue is still there")
			}
			// What comes too late is without effect.
			q.Settle(in.Consumer, []uint64{0}, false)
			q.Return(in.Consumer, []uint64{0}, false)
			wantError(t, q.Consume(in.Consumer, false, func() {}), wire.NotFound, "no queue 'q' in vhost '/'")
			wantError(t, q.Get(in.Consumer), wire.NotFound, "no queue 'q' in vhost '/'")
		})
	}
}

func TestDeleteMissing(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	ready, waiting, err := b.DeleteQueue("missing", true, true, 1, newResult())
	if ready != 0 || waiting || err != nil {
		t.Errorf("deleting what is missing answers %d, %t, %v", ready, waiting, err)
	}
	_, _, err = b.PurgeQueue("missing", 1, nil)
	wantError(t, err, wire.NotFound, "no queue 'missing' in vhost '/'")
}

func TestDeleteQuorum(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.declare(t, "q", "durable", 1, quorumType)
	_, _, err := b.DeleteQueue("q", true, false, 1, nil)
	wantError(t, err, wire.NotImplemented, "cannot delete queue 'q' in vhost '/'. queue.delete operations with if-unused flag set are not supported by quorum queues")
	_, _, err = b.DeleteQueue("q", false, true, 1, nil)
	wantError(t, err, wire.NotImplemented, "cannot delete queue 'q' in vhost '/'. queue.delete operations with if-empty flag set are not supported by quorum queues")
	_, _, err = b.DeleteQueue("q", false, false, 1, nil)
	wantError(t, err, 0, "")
}

func TestPurge(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	q := b.declare(t, "q", "durable", 1)
	in := newInbox("c", false, 2)
	b.publish(t, "", "q", true, nil, "1", "2", "3", "4", "5")
	consume(t, q, in)
	if n, _, err := b.PurgeQueue("q", 1, nil); n != 3 || err != nil {
		t.Errorf("purged %d, %v, want 3", n, err)
	}
	if s := q.Stats(); s.Ready != 0 || s.Unacked != 2 {
		t.Errorf("%d ready and %d unacked, want 0 and 2", s.Ready, s.Unacked)
	}
	b = b.restart(t, fs)
	if got := drain(t, b.queue(t, "q")); got != "1* 2*" {
		t.Errorf("after a restart there are %q", got)
	}
}

// TestPurgeInSteps checks that a purge of many runs lets others have the queue in
// between, and leaves nothing.
func TestPurgeInSteps(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "durable", 1, wire.Field{Name: "x-max-length", Value: int64(1 << 30)})
	in := newInbox("c", false, 3)
	consume(t, q, in)
	const count = 2*purgeRuns + 10
	route := NewRoutes(b.VHost).Find(publishView(t, "", "q"), nil, nil)
	for range count {
		page := b.pages.New()
		page.Append(publishView(t, "", "q").ExchangeAndKey, wire.AppendHeader(nil, 0, nil), nil)
		b.Publish(route, page, false, nil)
		page.Release()
	}
	steps := q.steps
	if n, _, err := b.PurgeQueue("q", 1, nil); n != count-3 || err != nil {
		t.Errorf("purged %d, %v, want %d", n, err, count-3)
	}
	if took := q.steps - steps; took != 3 {
		t.Errorf("it took %d steps, want 3", took)
	}
	if s := q.Stats(); s.Ready != 0 || s.Unacked != 3 || q.engine.RunCount() > 3 {
		t.Errorf("%d ready and %d unacked in %d runs, want 0 and 3", s.Ready, s.Unacked, q.engine.RunCount())
	}
}

// TestAutoDelete checks that a queue goes with its last consumer, never before
// it had one, and that basic.get does not count.
func TestAutoDelete(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "autodelete durable", 1)
	get := newInbox("get", true, 0)
	wantError(t, q.Get(get.Consumer), 0, "")
	if get.empty != 1 {
		t.Error("basic.get of an empty queue is not answered")
	}
	one, two := newInbox("one", false, 0), newInbox("two", false, 0)
	consume(t, q, one)
	consume(t, q, two)
	q.Cancel(one.Consumer)
	q.Cancel(one.Consumer)
	b.queue(t, "q")
	q.Cancel(two.Consumer)
	if _, err := b.DeclareQueuePassive("q", 1); err == nil {
		t.Error("the queue outlives its last consumer")
	}
	if two.cancelled != 0 {
		t.Error("the consumer that left is told")
	}
}

func TestAutoDeleteExchanges(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	for _, name := range []string{"a", "b"} {
		b.declareExchange(t, exchanges.Declaration{Name: name, Type: "fanout", Durable: true, AutoDelete: true})
	}
	b.declare(t, "q", "durable", 1)
	b.bind(t, Binding{Source: "a", Destination: "b", ToExchange: true})
	b.bind(t, Binding{Source: "b", Destination: "q"})
	b = b.restart(t, fs)
	if err := b.DeclareExchangePassive("a"); err != nil {
		t.Fatal("before the queue goes:", err)
	}
	if _, _, err := b.DeleteQueue("q", false, false, 1, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, name := range []string{"a", "b"} {
			wantError(t, b.DeclareExchangePassive(name), wire.NotFound, "no exchange '"+name+"' in vhost '/'")
		}
		b = b.restart(t, fs)
	}
}

func TestDeleteExclusive(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	mine := b.declare(t, "mine", "exclusive", 1)
	b.declare(t, "theirs", "exclusive", 2)
	b.declare(t, "shared", "durable", 1)
	in := newInbox("c", false, 0)
	consume(t, mine, in)
	b.DeleteExclusive(1)
	if names := queueNames(b); names != "shared theirs" {
		t.Errorf("left are %q", names)
	}
	if in.cancelled != 1 {
		t.Error("the consumer is not told")
	}
}

func TestExclusiveConsumer(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "", 1)
	one, two := newInbox("one", false, 0), newInbox("two", false, 0)
	const text = "queue 'q' in vhost '/' in exclusive use"
	wantError(t, q.Consume(one.Consumer, true, func() {}), 0, "")
	wantError(t, q.Consume(two.Consumer, false, func() {}), wire.AccessRefused, text)
	wantError(t, q.Consume(two.Consumer, true, func() {}), wire.AccessRefused, text)
	q.Cancel(one.Consumer)
	wantError(t, q.Consume(two.Consumer, false, func() {}), 0, "")
	wantError(t, q.Consume(one.Consumer, true, func() {}), wire.AccessRefused, text)
	quorum := b.declare(t, "quorum", "durable", 1, quorumType)
	wantError(t, quorum.Consume(one.Consumer, true, func() {}), 0, "")
	wantError(t, quorum.Consume(two.Consumer, false, func() {}), 0, "")
}

// TestRefusedDelivery checks that messages a closed channel refuses go to others.
func TestRefusedDelivery(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "", 1)
	b.publish(t, "", "q", false, nil, "1", "2")
	get, other := newInbox("get", false, 0), newInbox("other", false, 0)
	get.close()
	wantError(t, q.Get(get.Consumer), 0, "")
	q.ForgetGet(get.Consumer)
	consume(t, q, other)
	if got := bodiesOf(other.take(2)); got != "1* 2" {
		t.Errorf("the other gets %q", got)
	}
	// A get is refused while the page was read for it: its message goes to the
	// consumer that has credit.
	late := newInbox("late", false, 0)
	late.close()
	other.close()
	q.Return(other.Consumer, []uint64{0}, false)
	wantError(t, q.Get(late.Consumer), 0, "")
	other.mu.Lock()
	other.closed = false
	other.mu.Unlock()
	q.ForgetGet(late.Consumer)
	if got := bodiesOf(other.take(1)); got != "1*" {
		t.Errorf("the other gets %q", got)
	}
	if s := q.Stats(); s.Ready != 0 || s.Unacked != 2 {
		t.Errorf("%d ready and %d unacked, want 0 and 2", s.Ready, s.Unacked)
	}
}

// TestDeleteLarge: of a large queue that is deleted the runs are dropped later, in steps, so
// that nobody waits for it: by the janitor, or by the next start.
func TestDeleteLarge(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			b := openWith(t, fs, Options{})
			b.janitor.stop() // else it joins them
			b.declare(t, "q", "durable", 1)
			b.declare(t, "other", "durable", 1)
			b.declareExchange(t, exchanges.Declaration{Name: "both", Type: "fanout", Durable: true})
			for _, name := range []string{"q", "other"} {
				b.bind(t, Binding{Source: "both", Destination: name})
			}
			const count = 2*dropRuns + 10
			for range count {
				b.post(t, "both", "", persistentMode(), "body") // a run of its own, as two queues get it
			}
			b.sync(t)
			if _, _, err := b.DeleteQueue("q", false, false, 1, nil); err != nil {
				t.Fatal(err)
			}
			b.sync(t)
			if stored := b.store.Stats().StoredMessages; stored != 2*count {
				t.Fatalf("%d messages are stored, want %d: this tests nothing", stored, 2*count)
			}
			if restarted {
				b = b.restart(t, fs)
			} else {
				j := newJanitor(b.Hosts)
				j.left = b.janitor.left
				b.janitor = j
				j.start()
			}
			b.until(t, "the messages are dropped", func() bool { return b.store.Stats().StoredMessages == count })
			if got := len(takeBodies(t, b.queue(t, "other"), count)); got != count {
				t.Errorf("the other queue has %d messages", got)
			}
		})
	}
}
