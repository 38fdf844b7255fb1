// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
)

// historyExchange makes a durable exchange "x" that remembers length messages.
func (b *broker) historyExchange(t testing.TB, length int64) {
	t.Helper()
	b.declareExchange(t, exchanges.Declaration{
		Name: "x", Type: exchanges.TypeRecentHistory, Durable: true,
		Arguments: wire.Table{arg("x-recent-history-length", length)},
	})
}

// follow binds a queue to x and waits until it has the history.
func (b *broker) follow(t testing.TB, q, key string) {
	t.Helper()
	w := newResult()
	waiting, err := b.Bind(Binding{Source: "x", Destination: q, Key: key}, 1, w)
	if err != nil {
		t.Fatal(err)
	}
	if waiting {
		w.want(t)
	}
}

// span is the bodies first to last, as drain returns them.
func span(first, last int) string {
	var bodies []string
	for n := first; n <= last; n++ {
		bodies = append(bodies, strconv.Itoa(n))
	}
	return strings.Join(bodies, " ")
}

func wantBodies(t testing.TB, q *Queue, want string) {
	t.Helper()
	if got := drain(t, q); strings.ReplaceAll(got, "*", "") != want {
		t.Errorf("%s has %s, want %s", q.name, got, want)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	for _, resident := range []uint64{1, 1 << 20} {
		for _, persistent := range []bool{false, true} {
			t.Run(fmt.Sprintf("resident=%d,persistent=%t", resident, persistent), func(t *testing.T) {
				t.Parallel()
				b := openWith(t, vfs.NewMem(), Options{ResidentBytes: resident})
				b.historyExchange(t, 10)
				n := 0
				publish := func(runs ...int) {
					for _, count := range runs {
						var bodies []string
						for range count {
							n++
							bodies = append(bodies, strconv.Itoa(n))
						}
						b.publish(t, "x", "k", persistent, nil, bodies...)
					}
				}
				one, two := b.declare(t, "one", "durable", 1), b.declare(t, "two", "", 1)
				publish(2, 1)
				b.follow(t, "one", "")
				wantBodies(t, one, span(1, 3))
				publish(4, 3, 7)
				wantBodies(t, one, span(1, 17))
				b.sync(t)
				b.follow(t, "two", "")
				wantBodies(t, two, span(8, 17))
				b.follow(t, "two", "") // no new binding
				publish(1)
				wantBodies(t, two, span(8, 18))
				b.follow(t, "two", "other")
				wantBodies(t, two, span(8, 18)+" "+span(9, 18))
				publish(1)
				wantBodies(t, two, span(8, 18)+" "+span(9, 19))
				if _, err := b.Unbind(Binding{Source: "x", Destination: "one"}, 1, nil); err != nil {
					t.Fatal(err)
				}
				publish(300)
				wantBodies(t, one, span(1, 19))
				b.PurgeQueue("one", 1, nil)
				b.follow(t, "one", "")
				wantBodies(t, one, span(n-9, n))

				if _, err := b.DeleteExchange("x", false, nil); err != nil {
					t.Fatal(err)
				}
				for _, q := range []string{"one", "two"} {
					if _, _, err := b.DeleteQueue(q, false, false, 1, nil); err != nil {
						t.Fatal(err)
					}
				}
				b.sync(t)
				if stored := b.store.Stats().StoredMessages; stored != 0 {
					t.Errorf("%d messages are left in the store", stored)
				}
				if bytes := b.Hosts.resident.Load(); bytes != 0 {
					t.Errorf("%d bytes are left in memory", bytes)
				}
			})
		}
	}
}

// What is bound behind a bound exchange gets the history by its own keys.
func TestHistoryThroughExchange(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.historyExchange(t, 4)
	q := b.declare(t, "q", "durable", 1)
	b.bind(t, Binding{Source: "amq.topic", Destination: "q", Key: "*.even"})
	for n := range 8 {
		b.post(t, "x", fmt.Sprintf("%d.%s", n, []string{"even", "odd"}[n%2]), persistentMode(), strconv.Itoa(n))
	}
	b.bind(t, Binding{Source: "x", Destination: "amq.topic", ToExchange: true})
	b.sync(t)
	wantBodies(t, q, "4 6")
	b.post(t, "x", "8.even", persistentMode(), "8")
	wantBodies(t, q, "4 6 8")
	// A history behind a history remembers what it gets of it.
	b.declareExchange(t, exchanges.Declaration{Name: "second", Type: exchanges.TypeRecentHistory})
	b.bind(t, Binding{Source: "x", Destination: "second", ToExchange: true})
	late := b.declare(t, "late", "", 1)
	b.bind(t, Binding{Source: "second", Destination: "late"})
	wantBodies(t, late, "5 6 7 8")
}

// A message that a transaction or the broker itself publishes is remembered too.
func TestHistoryOfDeadLetters(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.historyExchange(t, 2)
	source := b.declare(t, "source", "durable", 1, dlx("x")...)
	in := newInbox("c", false, 0)
	consume(t, source, in)
	for n := range 3 {
		b.post(t, "", "source", persistentMode(), strconv.Itoa(n))
		source.Settle(in.Consumer, numbersOf(in.take(1)), true)
	}
	b.declare(t, "q", "durable", 1)
	b.follow(t, "q", "")
	wantBodies(t, b.queue(t, "q"), "1 2")
}

// Copies come in as messages from publishers do: by priority, and without those
// that the queue has.
func TestHistoryOfOtherQueues(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.historyExchange(t, 6)
	publish := func(body string, priority uint8) {
		p := persistentMode()
		p.Flags |= wire.FlagPriority | wire.FlagHeaders
		p.Priority, p.Headers = priority, wire.Table{arg("id", body)}
		b.post(t, "x", "", p, body)
	}
	for n := range 6 {
		publish(strconv.Itoa(n), uint8(n%3))
	}
	b.declare(t, "ordered", "durable", 1, arg("x-max-priority", int32(2)))
	b.declare(t, "once", "durable", 1, arg("x-message-deduplication", true), arg("x-deduplication-header", "id"))
	for _, key := range []string{"", "again"} {
		b.follow(t, "ordered", key)
		b.follow(t, "once", key)
	}
	wantBodies(t, b.queue(t, "ordered"), "2 5 2 5 1 4 1 4 0 3 0 3")
	wantBodies(t, b.queue(t, "once"), span(0, 5))
	publish("6", 1)
	publish("4", 0)
	wantBodies(t, b.queue(t, "once"), span(0, 6))
}

// A history survives what its exchange and its messages do.
func TestHistoryRestart(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	b.historyExchange(t, 5)
	b.declareExchange(t, exchanges.Declaration{Name: "gone", Type: exchanges.TypeRecentHistory})
	b.declare(t, "bound", "durable", 1)
	b.follow(t, "bound", "")
	for n := 1; n <= 12; n++ {
		b.publish(t, "x", "", n != 10, nil, strconv.Itoa(n))
	}
	b = b.restart(t, fs)
	if _, err := b.Bind(Binding{Source: "gone", Destination: "bound"}, 1, nil); err == nil || err.Code != wire.NotFound {
		t.Errorf("a transient exchange: %v", err)
	}
	b.declare(t, "q", "durable", 1)
	b.follow(t, "q", "")
	wantBodies(t, b.queue(t, "q"), "8 9 11 12") // 10 was transient
	wantBodies(t, b.queue(t, "bound"), span(1, 9)+" 11 12")
	b.publish(t, "x", "", true, nil, "13", "14", "15")
	b.declare(t, "again", "", 1)
	b.follow(t, "again", "")
	wantBodies(t, b.queue(t, "again"), "11 12 13 14 15")
	b.follow(t, "bound", "second")
	b.unbindAll(t, "x")
	if _, err := b.DeleteExchange("x", false, nil); err != nil {
		t.Fatal(err)
	}
	b.historyExchange(t, 5) // another of that name remembers nothing
	b = b.restart(t, fs)
	b.declare(t, "empty", "", 1)
	b.follow(t, "empty", "")
	wantBodies(t, b.queue(t, "empty"), "")
}

func (b *broker) unbindAll(t *testing.T, source string) {
	t.Helper()
	for _, binding := range b.Bindings() {
		if binding.Source == source {
			if _, err := b.Unbind(binding, 1, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestHistoryUnderTraffic binds queues while several publishers, with routes they
// found before, are at work. Each queue has to get the publishers' messages from
// some point on, without a gap, a repetition or a change of order.
func TestHistoryUnderTraffic(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		b := openWith(t, vfs.NewMem(), Options{ResidentBytes: []uint64{1, 2000, 1 << 20}[seed%3]})
		length := []int64{1, 7, 50}[rng.IntN(3)]
		b.historyExchange(t, length)
		const publishers, messages, queues = 3, 400, 12
		var publishing sync.WaitGroup
		for p := range publishers {
			rng := rand.New(rand.NewPCG(seed, uint64(10+p)))
			publishing.Go(func() {
				routes := NewRoutes(b.VHost)
				view := publishView(t, "x", "")
				for n := 0; n < messages; {
					route := routes.Find(view, nil, nil)
					page := b.pages.New()
					for range min(1+rng.IntN(6), messages-n) {
						page.Append([]byte("\x00\x00"), []byte("header"), fmt.Appendf(nil, "%d:%d", p, n))
						n++
					}
					if rng.IntN(4) == 0 {
						route = routes.Find(view, nil, nil)
					}
					b.Publish(route, page, rng.IntN(2) == 0, nil)
					page.Release()
				}
			})
		}
		for i := range queues {
			q := fmt.Sprint("q", i)
			b.declare(t, q, []string{"durable", ""}[i%2], 1)
			b.follow(t, q, "")
			if i%5 == 4 { // come and go
				if _, err := b.Unbind(Binding{Source: "x", Destination: q}, 1, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		publishing.Wait()
		b.sync(t)
		for i := range queues {
			if i%5 != 4 {
				checkFollowed(t, b.queue(t, fmt.Sprint("q", i)), publishers, messages)
			}
		}
	}
}

// checkFollowed checks that a queue has the last messages of each publisher.
func checkFollowed(t *testing.T, q *Queue, publishers, messages int) {
	t.Helper()
	next := make([]int, publishers)
	for i := range next {
		next[i] = -1
	}
	all := drain(t, q)
	for _, body := range strings.Fields(all) {
		var p, n int
		if _, err := fmt.Sscanf(body, "%d:%d", &p, &n); err != nil {
			t.Fatal(err)
		}
		if next[p] >= 0 && n != next[p] {
			t.Fatalf("%s: message %d of publisher %d comes where %d should:\n%s", q.name, n, p, next[p], all)
		}
		next[p] = n + 1
	}
	for p, n := range next {
		if n >= 0 && n != messages {
			t.Fatalf("%s: the messages of publisher %d end before %d", q.name, p, n)
		}
	}
}

// TestHistoryCrash lets the power fail while a publisher waits for confirms now
// and then, and checks that the history is then the last of what was published,
// of which nothing confirmed is missing.
func TestHistoryCrash(t *testing.T) {
	t.Parallel()
	for seed := range seeds() {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 16))
			fs := vfs.NewCrashableMem()
			b := openWith(t, fs, Options{ResidentBytes: uint64(1 + rng.IntN(4000))})
			const length = 20
			b.historyExchange(t, length)
			b.declare(t, "bound", "durable", 1)
			b.follow(t, "bound", "")
			sent, confirmed := 0, 0
			for range 60 {
				var bodies []string
				for range 1 + rng.IntN(12) {
					sent++
					bodies = append(bodies, strconv.Itoa(sent))
				}
				w := newResult()
				b.publish(t, "x", "", true, w, bodies...)
				if rng.IntN(3) == 0 {
					w.want(t)
					confirmed = sent
				}
				if rng.IntN(6) == 0 {
					clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng})
					checkHistory(t, openBroker(t, clone), length, confirmed, sent)
				}
			}
			checkHistory(t, b.restart(t, fs), length, sent, sent)
		})
	}
}

// checkHistory checks the history of x, and that queue "bound" has no less.
func checkHistory(t *testing.T, b *broker, length, confirmed, sent int) {
	t.Helper()
	b.declare(t, "after", "", 1)
	b.follow(t, "after", "")
	bodies := strings.Fields(drain(t, b.queue(t, "after")))
	if len(bodies) == 0 {
		if confirmed > 0 {
			t.Fatalf("the history is empty, %d messages are confirmed", confirmed)
		}
		return
	}
	last, err := strconv.Atoi(bodies[len(bodies)-1])
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(bodies, " "), span(max(1, last-length+1), last); got != want || last < confirmed || last > sent {
		t.Fatalf("the history is %s, want %d messages that end at %d to %d", got, length, confirmed, sent)
	}
	wantBodies(t, b.queue(t, "bound"), span(1, last))
}

// TestHistoryOfRefused: a dead letter that is refused, and forwarded again, is
// remembered once.
func TestHistoryOfRefused(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.forwarder.stop() // nobody else forwards
	b.historyExchange(t, 10)
	b.declare(t, "full", "durable", 1, maxLength(1), arg("x-overflow", "reject-publish"))
	b.follow(t, "full", "")
	b.post(t, "", "full", persistentMode(), "0")
	q := b.declare(t, "q", "durable", 1, dlx("x")...)
	b.post(t, "", "q", persistentMode(), "1")
	rejectAll(t, q, 1)
	for range 3 {
		q.roomMade()
		q.forward()
	}
	if s := q.Stats(); s.Leaving != 1 {
		t.Errorf("%d messages are leaving", s.Leaving)
	}
	b.declare(t, "late", "durable", 1)
	b.follow(t, "late", "")
	wantBodies(t, b.queue(t, "late"), "1")
}

// TestHistoryBetween: a queue is bound after a letter was routed, and gets it all the same.
// As another one refuses the letter it is routed again, and the queue does not get it twice.
func TestHistoryBetween(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.historyExchange(t, 10)
	full := b.declare(t, "full", "durable", 1, maxLength(1), arg("x-overflow", "reject-publish"))
	b.follow(t, "full", "")
	b.post(t, "", "full", persistentMode(), "0")
	q := b.declare(t, "q", "durable", 1, dlx("x")...)
	b.post(t, "", "q", persistentMode(), "1")
	q.blocked.Store(true) // else it is forwarded here
	rejectAll(t, q, 1)
	q.blocked.Store(false)
	m := mailing{source: q, bundles: q.takeLetters(), target: q.settings.Load().deadLetters, version: q.vhost.version.Load()}
	m.address()
	late := b.declare(t, "late", "durable", 1)
	b.follow(t, "late", "")
	m.post()
	m.release()
	q.mu.Lock()
	q.putBackLocked(&m)
	q.mu.Unlock()
	b.until(t, "the letter is refused", func() bool { return q.Stats().Leaving == 1 && left(late) == 1 })
	full.purge()
	q.roomMade()
	b.until(t, "the letter comes", func() bool { return q.Stats().Leaving == 0 })
	wantBodies(t, full, "1")
	wantBodies(t, late, "1")
}

// What a history remembers is written in any case, so the store does not wait for
// consumers to settle it.
func TestHistoryIsNotFleeting(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.historyExchange(t, 10)
	q := b.declare(t, "q", "durable", 1)
	b.follow(t, "q", "")
	consume(t, q, newInbox("c", false, 0))
	b.publish(t, "x", "k", true, nil, "message")
	b.sync(t)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.haste.watched != nil {
		t.Error("a message that is remembered waits for its consumer")
	}
}
