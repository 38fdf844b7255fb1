// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// TestRejectOrder rejects, at once, messages of which some are in memory and some
// on disk only: they keep the order in which they were rejected.
func TestRejectOrder(t *testing.T) {
	t.Parallel()
	b := openWith(t, vfs.NewMem(), Options{ResidentBytes: 1, PageReaders: 4})
	q := b.declare(t, "q", "durable", 1, dlx("", "target")...)
	target := b.declare(t, "target", "durable", 1)
	in := newInbox("c", false, 0)
	consume(t, q, in)
	const runs = 40
	var want []string
	for i := range runs {
		bodies := []string{fmt.Sprint(i, ".a"), fmt.Sprint(i, ".b")}
		want = append(want, bodies...)
		p := persistentMode()
		if i%3 == 2 {
			p.DeliveryMode = 1 // stays in memory
		}
		b.post(t, "", "q", p, bodies...)
		b.sync(t)
	}
	messages := in.take(2 * runs)
	if resident := q.Stats().Resident; resident == 0 || resident > 12_000 { // of 28,000
		t.Fatalf("%d bytes are in memory: this tests nothing", resident)
	}
	out := newInbox("out", false, 0)
	consume(t, target, out)
	q.Settle(in.Consumer, numbersOf(messages), true)
	if got := bodiesOf(out.take(2 * runs)); got != strings.Join(want, " ") {
		t.Errorf("dead letters are\n%s, want\n%s", got, strings.Join(want, " "))
	}
	wantCounts(t, q, 0, 0)
}

// TestRejectFromDisk rejects messages, after a restart, whose page is on disk.
func TestRejectFromDisk(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	b.declare(t, "q", "durable", 1, dlx("", "target")...)
	b.declare(t, "target", "durable", 1)
	b.post(t, "", "q", persistentMode(), "1", "2", "3")
	b.post(t, "", "q", persistentMode(), "4")
	b.stop(t)
	b = openWith(t, fs, Options{ResidentBytes: 1})
	q := b.queue(t, "q")
	in := newInbox("c", false, 0)
	consume(t, q, in)
	messages := in.take(4)
	// This one makes the queue let go of what it has handed out.
	b.post(t, "", "q", wire.Properties{}, "5")
	messages = append(messages, in.take(1)...)
	out := newInbox("out", false, 0)
	consume(t, b.queue(t, "target"), out)
	q.Settle(in.Consumer, numbersOf(messages), true)
	if got := bodiesOf(out.take(5)); got != "1 2 3 4 5" {
		t.Errorf("dead letters are %q", got)
	}
	wantCounts(t, q, 0, 0)
	b = b.restart(t, fs)
	if got := drain(t, b.queue(t, "target")); got != "1* 2* 3* 4*" {
		t.Errorf("after a restart dead letters are %q", got)
	}
}

// TestRejectManyBatches rejects more than one proposal holds.
func TestRejectManyBatches(t *testing.T) {
	t.Parallel()
	b := openWith(t, vfs.NewMem(), Options{})
	q := b.declare(t, "q", "durable", 1, dlx("", "target")...)
	target := b.declare(t, "target", "durable", 1)
	var want []string
	for i := range 3 {
		var bodies []string
		for k := range 200 {
			bodies = append(bodies, fmt.Sprintf("%d-%d", i, k))
		}
		b.post(t, "", "q", persistentMode(), bodies...)
		large := fmt.Sprint(i) + strings.Repeat("x", queue.MaxRunBytes)
		b.post(t, "", "q", persistentMode(), large)
		want = append(append(want, bodies...), large)
	}
	rejectAll(t, q, len(want))
	wantCounts(t, q, 0, 0)
	if got := strings.Fields(drain(t, target)); !slices.Equal(got, want) {
		t.Errorf("%d dead letters are there and not the %d that were rejected", len(got), len(want))
	}
}

// TestRejectDamaged rejects messages that cannot be read: they are dropped, the
// others go on.
func TestRejectDamaged(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "", 1, dlx("", "target")...)
	target := b.declare(t, "target", "", 1)
	route := NewRoutes(b.VHost).Find(publishView(t, "", "q"), nil, nil)
	page := b.pages.New()
	for _, header := range [][]byte{
		[]byte("header"), wire.AppendHeader(nil, 1, []byte{0xff, 0xff, 1}), wire.AppendHeader(nil, 1, []byte{0, 0}),
	} {
		page.Append([]byte("\x00\x01q"), header, []byte("b"))
	}
	b.Publish(route, page, false, nil)
	page.Release()
	rejectAll(t, q, 3)
	wantCounts(t, q, 0, 0)
	if got := drain(t, target); got != "b" {
		t.Errorf("dead letters are %q", got)
	}
}

// TestRejectInTransaction checks that a rejection of a transaction dead-letters
// after the transaction's own publications.
func TestRejectInTransaction(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	q := b.declare(t, "q", "durable", 1, dlx("", "target")...)
	target := b.declare(t, "target", "durable", 1)
	b.post(t, "", "q", persistentMode(), "1", "2", "3", "4")
	in := newInbox("c", false, 0)
	consume(t, q, in)
	in.take(4)
	p := persistentMode()
	view := publishView(t, "", "target")
	var publications []TxPublication
	OpenPublication(&publications, NewRoutes(b.VHost).Find(view, nil, nil), true, 1).Append(view.ExchangeAndKey,
		wire.AppendHeader(nil, 1, wire.AppendProperties(nil, &p)), []byte("5"))
	w := newResult()
	b.CommitTx(publications, []Settlement{
		{Queue: q, Consumer: in.Consumer, Numbers: []uint64{2, 0}, Rejected: true},
		{Queue: q, Consumer: in.Consumer, Numbers: []uint64{1}},
	}, w)
	w.want(t)
	if got := drain(t, target); got != "5 3 1" {
		t.Errorf("target has %q", got)
	}
	wantCounts(t, q, 0, 1)
	if c := q.Stats().Counters; c.Rejected != 2 || c.Acknowledged != 1 {
		t.Errorf("counted are %+v", c)
	}
	b = b.restart(t, fs)
	if source, target := drain(t, b.queue(t, "q")), drain(t, b.queue(t, "target")); source != "4*" || target != "5* 3* 1*" {
		t.Errorf("after a restart source has %q and target %q", source, target)
	}
}

// TestRejectWhileDeleted deletes the source, the target or the exchange while
// letters are forwarded, some of them from disk.
func TestRejectWhileDeleted(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"q", "target", "exchange"} {
		for round := range 10 {
			t.Run(fmt.Sprint(victim, round), func(t *testing.T) {
				t.Parallel()
				fs := vfs.NewMem()
				b := openWith(t, fs, Options{ResidentBytes: 1})
				q := b.declare(t, "q", "durable", 1, dlx("dead")...)
				b.declareExchange(t, exchanges.Declaration{Name: "dead", Type: "fanout", Durable: true})
				for _, name := range []string{"target", "other"} {
					b.declare(t, name, "durable", 1)
					b.bind(t, Binding{Source: "dead", Destination: name})
				}
				in := newInbox("c", false, 0)
				consume(t, q, in)
				const count = 60
				for i := range count {
					b.post(t, "", "q", persistentMode(), fmt.Sprint(i))
				}
				b.sync(t)
				messages := in.take(count)
				var work sync.WaitGroup
				work.Go(func() {
					for i := range count / 5 {
						q.Settle(in.Consumer, numbersOf(messages[5*i:5*i+5]), true)
					}
				})
				work.Go(func() {
					for range round {
						b.sync(t)
					}
					var err *wire.Error
					if victim == "exchange" {
						_, err = b.DeleteExchange("dead", false, nil)
					} else {
						_, _, err = b.DeleteQueue(victim, false, false, 1, nil)
					}
					wantError(t, err, 0, "")
				})
				work.Wait()
				b = b.restart(t, fs)
				b.until(t, "letters that were on their way arrive", func() bool {
					return !slices.ContainsFunc(b.appendQueues(nil), func(q *Queue) bool { return q.Stats().Leaving > 0 })
				})
				// What a queue still has is in order, and nothing of it is twice there. A
				// queue beside the deleted one gets everything.
				there := map[string]bool{}
				for name, left := range maps.Clone(b.queues) {
					last := -1
					for _, body := range strings.Fields(strings.ReplaceAll(drain(t, left), "*", "")) {
						var n int
						if _, err := fmt.Sscan(body, &n); err != nil || n <= last {
							t.Errorf("%s: %s comes after %d", name, body, last)
						}
						last = n
						there[body] = true
					}
				}
				if victim == "target" && len(there) != count {
					t.Errorf("%d of %d messages are left", len(there), count)
				}
				if _, found := b.queues[victim]; found {
					t.Errorf("queue %s is back", victim)
				}
			})
		}
	}
}
