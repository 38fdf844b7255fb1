// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// pagedOut declares a durable queue q whose letters go to the queue target, publishes so
// many full runs to it, and returns its messages, handed out to a consumer, in a random
// order. Their pages are on disk only.
func (b *broker) pagedOut(t testing.TB, runs int, target string, args ...wire.Field) (*Queue, *inbox, []got) {
	t.Helper()
	q := b.declare(t, "q", "durable", 1, append(dlx("", target), args...)...)
	for i := range runs {
		var bodies []string
		for n := range queue.MaxRunMessages {
			bodies = append(bodies, fmt.Sprint(i*queue.MaxRunMessages+n))
		}
		b.post(t, "", "q", persistentMode(), bodies...)
		b.sync(t)
	}
	in := newInbox("c", false, 0)
	consume(t, q, in)
	messages := in.take(runs * queue.MaxRunMessages)
	b.post(t, "", "q", wire.Properties{}, "last") // makes the queue let go of what it has handed out
	b.until(t, "the pages are let go of", func() bool { return in.waiting() == 1 && q.Stats().Resident < 100_000 })
	q.Settle(in.Consumer, numbersOf(in.take(1)), false)
	rand.Shuffle(len(messages), func(i, k int) { messages[i], messages[k] = messages[k], messages[i] })
	return q, in, messages
}

// wantNothingGathered checks that nothing counts as gathered, once all is at rest.
func (b *broker) wantNothingGathered(t testing.TB) {
	t.Helper()
	b.until(t, "nothing counts as gathered", func() bool { return b.Hosts.pages.gathered.Load() == 0 })
}

// TestGathering: messages of many runs that are on disk die in random order. Their letters
// come in that order, and each run is read a few times, not once for each letter.
func TestGathering(t *testing.T) {
	t.Parallel()
	b := openWith(t, vfs.NewMem(), Options{ResidentBytes: 1})
	target := b.declare(t, "target", "durable", 1)
	const runs = 20
	q, in, messages := b.pagedOut(t, runs, "target")
	before := b.store.Stats().Read
	q.Settle(in.Consumer, numbersOf(messages), true)
	b.until(t, "all letters come", func() bool { return left(target) == uint64(len(messages)) })
	// At first 256 letters are gathered, and twice as many each time.
	if reads := b.store.Stats().Read - before; reads < runs || reads > 8*runs {
		t.Errorf("%d runs were read %d times", runs, reads)
	}
	if got := takeBodies(t, target, len(messages)); strings.Join(got, " ") != bodiesOf(messages) {
		t.Error("the letters are not in the order of death")
	}
	wantCounts(t, q, 0, 0)
	b.wantNothingGathered(t)
}

// TestGatheringWaits: letters that wait for room do not take memory for what was gathered
// of those behind them, and keep their order; the queue may be deleted then.
func TestGatheringWaits(t *testing.T) {
	t.Parallel()
	for _, deleted := range []bool{false, true} {
		t.Run(fmt.Sprint("deleted ", deleted), func(t *testing.T) {
			t.Parallel()
			b := openWith(t, vfs.NewMem(), Options{ResidentBytes: 1})
			target := b.declare(t, "target", "durable", 1, maxLength(900), arg("x-overflow", "reject-publish"))
			q, in, messages := b.pagedOut(t, 10, "target")
			q.Settle(in.Consumer, numbersOf(messages), true)
			b.until(t, "the others wait", func() bool { return left(target) == 900 && q.Stats().LettersWaitFor != nil })
			b.wantNothingGathered(t)
			if deleted {
				_, _, err := b.DeleteQueue("q", false, false, 1, nil)
				wantError(t, err, 0, "")
				target.purge()
				b.wantNothingGathered(t)
				return
			}
			if got := takeBodies(t, target, len(messages)); strings.Join(got, " ") != bodiesOf(messages) {
				t.Error("the letters are not in the order of death")
			}
			b.wantNothingGathered(t)
			wantCounts(t, q, 0, 0)
		})
	}
}

// hold keeps the only page reader from work until the function that it returns is called.
func (p *pageReaders) hold() (release func()) {
	held := make(chan struct{})
	p.do(func() { <-held })
	return func() { close(held) }
}

// chosen is what is being gathered, once it is known what that is; nil if nothing is.
func (q *Queue) chosen() *gathering {
	q.mu.Lock()
	g := q.gathering
	q.mu.Unlock()
	for g != nil && g.choose() {
	}
	return g
}

// TestGatheringFails: of what is gathered a run cannot be read, or was rewritten meanwhile.
// It is read again, and nothing is out of order.
func TestGatheringFails(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{errors.New("disk"), persistence.ErrNotStored} {
		t.Run(failure.Error(), func(t *testing.T) {
			t.Parallel()
			b := openWith(t, vfs.NewMem(), Options{ResidentBytes: 1, PageReaders: 1})
			target := b.declare(t, "target", "durable", 1)
			q, in, messages := b.pagedOut(t, 3, "target")
			release := b.Hosts.pages.hold()
			q.Settle(in.Consumer, numbersOf(messages), true)
			g := q.chosen()
			if g == nil || len(g.there) != 3 {
				t.Fatal("not 3 runs are gathered: this tests nothing")
			}
			if g.there[1].err = failure; failure == persistence.ErrNotStored {
				g.there[1].share = nil
			}
			g.there = slices.Delete(g.there, 1, 2)
			release()
			b.until(t, "all letters come", func() bool { return left(target) == uint64(len(messages)) })
			if got := takeBodies(t, target, len(messages)); strings.Join(got, " ") != bodiesOf(messages) {
				t.Error("the letters are not in the order of death")
			}
			b.wantNothingGathered(t)
		})
	}
}

// TestGatheringLarge: messages have small bodies, and headers so large that what is
// gathered would take more memory than it may. Less is gathered then.
func TestGatheringLarge(t *testing.T) {
	t.Parallel()
	b := openWith(t, vfs.NewMem(), Options{ResidentBytes: 1})
	b.janitor.stop() // else it joins the runs
	target := b.declare(t, "target", "durable", 1)
	q := b.declare(t, "q", "durable", 1, dlx("", "target")...)
	const messages = 2 * lettersAhead
	var want []string
	for i := range messages {
		p := persistentMode()
		p.Flags |= wire.FlagHeaders
		p.Headers = wire.Table{arg("large", strings.Repeat(fmt.Sprint(i%10), 6000))}
		want = append(want, fmt.Sprint(i))
		b.post(t, "", "q", p, want[i])
	}
	b.sync(t)
	in := newInbox("c", false, 0)
	consume(t, q, in)
	numbers := numbersOf(in.take(messages))
	b.post(t, "", "q", wire.Properties{}, "last") // makes the queue let go of what it has handed out
	numbers = append(numbers, numbersOf(in.take(1))...)
	b.until(t, "the pages are let go of", func() bool { return q.Stats().Resident < 100_000 })
	b.Hosts.pages.gathered.Add(gatherBytes) // by others
	q.mu.Lock()
	q.appetite = 4 * lettersAhead
	q.mu.Unlock()
	q.Settle(in.Consumer, numbers, true)
	b.until(t, "all letters come", func() bool { return left(target) == messages+1 })
	if got := takeBodies(t, target, messages); !slices.Equal(got, want) {
		t.Error("the letters are not in the order of death")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.appetite != lettersAhead {
		t.Errorf("%d letters are gathered at a time", q.appetite)
	}
}
