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
	"pgregory.net/rapid"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/vhosts/queue"
)

var (
	once  = arg("x-message-deduplication", true)
	times = func(n int32) wire.Field { return arg("x-cache-size", n) }
)

// named is a content header of a message with the identifier id, nil for none.
func named(id any, persistent bool, more ...wire.Field) []byte {
	headers := wire.Table(more)
	if id != nil {
		headers = append(headers, arg("x-deduplication-header", id))
	}
	p := wire.Properties{Flags: wire.FlagHeaders | wire.FlagDeliveryMode, Headers: headers, DeliveryMode: 1}
	if persistent {
		p.DeliveryMode = wire.Persistent
	}
	return wire.AppendHeader(nil, 1, wire.AppendProperties(nil, &p))
}

// send publishes a burst of persistent messages with these identifiers, and waits
// until it is told that they are taken.
func (b *broker) send(t testing.TB, exchange, key string, ids ...any) {
	t.Helper()
	b.sendHeaders(t, exchange, key, true, headersOfAll(ids, true)...)
}

func headersOfAll(ids []any, persistent bool) (headers [][]byte) {
	for _, id := range ids {
		headers = append(headers, named(id, persistent))
	}
	return headers
}

func (b *broker) sendHeaders(t testing.TB, exchange, key string, persistent bool, headers ...[]byte) {
	t.Helper()
	route, page := b.pageOf(t, exchange, key, headers...)
	w := newResult()
	b.Publish(route, page, persistent, w)
	page.Release()
	if route.Waits(persistent) {
		w.want(t)
	}
}

func (b *broker) pageOf(t testing.TB, exchange, key string, headers ...[]byte) (*Route, *queue.Page) {
	t.Helper()
	p := publishView(t, exchange, key)
	route := NewRoutes(b.VHost).Find(p, nil, nil)
	if route.Err != nil {
		t.Fatal(route.Err)
	}
	page := b.pages.New()
	for _, header := range headers {
		page.Append(p.ExchangeAndKey, header, []byte("x"))
	}
	return route, page
}

// wantReady checks how many messages queues have.
func (b *broker) wantReady(t testing.TB, what string, ready map[string]uint64) {
	t.Helper()
	for name, want := range ready {
		if got := b.queue(t, name).Stats().Ready; got != want {
			t.Errorf("%s: queue %s has %d messages, want %d", what, name, got, want)
		}
	}
}

func TestDedupQueue(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "durable", 1, once, times(4))
	plain := b.declare(t, "plain", "durable", 1)
	for _, burst := range []struct {
		ids  []any
		want uint64 // messages in the queue then
	}{
		{[]any{"a", "b", "a", nil, nil, "b"}, 4},
		{[]any{"a"}, 4},
		{[]any{int32(1), int8(1), uint16(1), "1", 1.0}, 7}, // integers of any width are the same
		{[]any{"a"}, 8},                                    // too many since
		{[]any{int64(1), "1", 1.0, "a"}, 8},
		{[]any{int64(2), "2"}, 10},
		{[]any{int64(1)}, 11},
	} {
		b.send(t, "", "q", burst.ids...)
		b.wantReady(t, fmt.Sprint(burst.ids), map[string]uint64{"q": burst.want})
	}
	if n := q.Stats().Counters.Deduplicated; n != 9 {
		t.Errorf("%d duplicates are counted, want 9", n)
	}
	b.send(t, "", "plain", "a", "a")
	if plain.Stats().Ready != 2 {
		t.Error("a queue without deduplication drops duplicates")
	}
}

// TestDedupFanOut publishes to queues and exchanges that remember different
// messages.
func TestDedupFanOut(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	b.declare(t, "all", "durable", 1)
	b.declare(t, "few", "durable", 1, once, times(2))
	b.declare(t, "many", "durable", 1, once, times(100))
	for _, d := range []exchanges.Declaration{
		{Name: "x", Type: "fanout", Durable: true},
		{Name: "dedup", Type: "fanout", Durable: true, Arguments: wire.Table{once, times(3)}},
	} {
		b.declareExchange(t, d)
		for _, q := range []string{"all", "few", "many"} {
			b.bind(t, Binding{Source: d.Name, Destination: q})
		}
	}
	b.send(t, "x", "", "a", "b", "c", "a", "c")
	b.wantReady(t, "first", map[string]uint64{"all": 5, "few": 3, "many": 3})
	b.send(t, "dedup", "", "a", "a", "d", "a") // new to the exchange, old to a queue
	b.wantReady(t, "exchange", map[string]uint64{"all": 7, "few": 5, "many": 4})
	if n := b.ExchangeDuplicates("dedup"); n != 2 {
		t.Errorf("the exchange counts %d duplicates, want 2", n)
	}
	b.send(t, "", "all", "a") // the default exchange remembers nothing
	b.wantReady(t, "default exchange", map[string]uint64{"all": 8})
	for range 2 {
		b = b.restart(t, fs)
		b.send(t, "dedup", "", "d", "a")
		b.wantReady(t, "after a restart", map[string]uint64{"all": 8, "few": 5, "many": 4})
	}
	// Deleted and declared again, they know nothing.
	for range 2 {
		if _, err := b.DeleteExchange("dedup", false, nil); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.DeleteQueue("many", false, false, 1, nil); err != nil {
			t.Fatal(err)
		}
		b = b.restart(t, fs)
		b.declareExchange(t, exchanges.Declaration{Name: "dedup", Type: "fanout", Durable: true, Arguments: wire.Table{once}})
		b.declare(t, "many", "durable", 1, once)
		b.bind(t, Binding{Source: "dedup", Destination: "many"})
		b.send(t, "dedup", "", "d", "a")
		b.wantReady(t, "declared again", map[string]uint64{"many": 2})
	}
}

// TestDedupWindow compares a queue with a list of what it took, over bursts of all
// kinds, and either changes of its settings or restarts: after a restart it may
// remember more than before, where transient messages or a smaller size had pushed
// out what was still in the store.
func TestDedupWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		fs := vfs.NewMem()
		now := time.UnixMilli(1_000_000)
		options := Options{Clock: func() time.Time { return now }}
		b := openWith(t, fs, options)
		type taken struct {
			id      string
			expires int64 // milliseconds since 1970, 0 for never
		}
		var window []taken
		size, ttl, ready := 1<<30, int64(0), uint64(0)
		restarts := rapid.Bool().Draw(rt, "restarts")
		b.declare(t, "q", "durable", 1)
		policy := func() {
			size = rapid.IntRange(1, 200).Draw(rt, "size")
			ttl = rapid.Int64Range(0, 50).Draw(rt, "ttl")
			definition := wire.Table{arg("message-deduplication", true), arg("cache-size", int64(size))}
			if ttl > 0 {
				definition = append(definition, arg("cache-ttl", ttl))
			}
			b.setPolicy(t, UserPolicy, Policy{Name: "p", Pattern: "q", Definition: definition})
		}
		policy()
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch step := rapid.IntRange(0, 11).Draw(rt, "step"); {
			case step == 0 && restarts:
				b.stop(t)
				b = openWith(t, fs, options)
			case step == 0:
				policy()
			case step == 1:
				now = now.Add(time.Duration(rapid.IntRange(0, 30).Draw(rt, "ms")) * time.Millisecond)
			default:
				persistent := restarts || rapid.IntRange(0, 4).Draw(rt, "persistent") > 0
				var headers [][]byte
				before := ready
				for range rapid.IntRange(1, 20).Draw(rt, "messages") {
					id, own := rapid.StringMatching("[a-z][a-d]").Draw(rt, "id"), rapid.Int64Range(-9, 9).Draw(rt, "own ttl")
					headers = append(headers, named(id, persistent, arg("x-cache-ttl", own)))
					life := ttl
					if own > 0 {
						life = own
					}
					m := taken{id, 0}
					if life > 0 {
						m.expires = now.UnixMilli() + life
					}
					if !slices.ContainsFunc(window, func(o taken) bool { return o.id == id && (o.expires == 0 || o.expires > now.UnixMilli()) }) {
						window = append(window, m)
						ready++
					}
				}
				b.sendHeaders(t, "", "q", persistent, headers...)
				// The oldest go when a burst that added something is over: first what has
				// expired, up to the first that has not, then what is too much.
				for ready > before && len(window) > 0 && (len(window) > size || window[0].expires != 0 && window[0].expires <= now.UnixMilli()) {
					window = window[1:]
				}
			}
			if got := b.queue(t, "q").Stats().Ready; got != ready {
				rt.Fatalf("the queue has %d messages, want %d", got, ready)
			}
		}
		stored := 0
		err := b.store.Config(func(key, value []byte) error {
			if key[0] == windowKind {
				stored++
			}
			return nil
		})
		if w := b.queue(t, "q").window.Load(); err != nil || stored > 2*partSize+w.count/partSize+1 {
			rt.Fatalf("%d messages are stored as %d parts: %v", w.count, stored, err)
		}
		b.stop(t)
	})
}

// TestDedupTx publishes duplicates in transactions, and checks that what is rolled
// back is not remembered.
func TestDedupTx(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	b.declare(t, "q", "durable", 1, once)
	b.declare(t, "other", "durable", 1, once)
	commit := func(ids ...any) {
		t.Helper()
		var publications []TxPublication
		for i, id := range ids {
			key := []string{"q", "other"}[i%2]
			p := publishView(t, "", key)
			route := NewRoutes(b.VHost).Find(p, nil, nil)
			OpenPublication(&publications, route, true, 1).Append(p.ExchangeAndKey, named(id, true), []byte("x"))
		}
		w := newResult()
		b.CommitTx(publications, nil, w)
		w.want(t)
	}
	commit("a", "a", "b", "a", "a", "b")
	b.wantReady(t, "first", map[string]uint64{"q": 2, "other": 2})
	b.send(t, "", "q", "a", "c")
	b.wantReady(t, "without a transaction", map[string]uint64{"q": 3})
	b = b.restart(t, fs)
	commit("c", "b", "b", "c")
	b.wantReady(t, "after a restart", map[string]uint64{"q": 3, "other": 3})
}

// TestDedupConfirm checks that a duplicate, even a transient one, is confirmed when
// its original is durable and not before.
func TestDedupConfirm(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.declare(t, "q", "durable", 1, once)
	for i := range 100 {
		id := fmt.Sprint(i)
		order := make(chan string, 2)
		route, page := b.pageOf(t, "", "q", named(id, true))
		b.Publish(route, page, true, announcer{"original", order})
		page.Release()
		_, page = b.pageOf(t, "", "q", named(id, false))
		b.Publish(route, page, false, announcer{"duplicate", order})
		page.Release()
		if first, second := <-order, <-order; first != "original <nil>" || second != "duplicate <nil>" {
			t.Fatalf("%s comes before %s", first, second)
		}
	}
}

// announcer is a persistence.Waiter that says a word when its messages are durable.
type announcer struct {
	word  string
	order chan<- string
}

func (a announcer) Durable(err error) { a.order <- fmt.Sprint(a.word, " ", err) }
func (a announcer) Flush()            {}

// TestDedupDeadLetters checks that a message may come back to the queue that it left.
func TestDedupDeadLetters(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "durable", 1, once, arg("x-dead-letter-exchange", ""), arg("x-dead-letter-routing-key", "q"))
	b.send(t, "", "q", "a")
	c := newInbox("c", false, 0)
	consume(t, q, c)
	q.Settle(c.Consumer, numbersOf(c.take(1)), true)
	c.take(1)
	b.send(t, "", "q", "a")
	if s := q.Stats(); s.Counters.Deduplicated != 1 || s.Ready != 0 || s.Unacked != 1 {
		t.Errorf("the queue has %d ready, %d unacked, and dropped %d duplicates", s.Ready, s.Unacked, s.Counters.Deduplicated)
	}
}

// TestDedupArguments checks the arguments of exchanges; those of queues are in
// TestArguments.
func TestDedupArguments(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	for _, test := range []struct {
		argument wire.Field
		want     string
	}{
		{arg("x-message-deduplication", "yes"), "x-message-deduplication' for exchange 'x' in vhost '/': {unacceptable_type,longstr}"},
		{arg("x-deduplication-header", int32(1)), "x-deduplication-header' for exchange 'x' in vhost '/': {unacceptable_type,signedint}"},
		{arg("x-cache-size", int32(0)), "x-cache-size' for exchange 'x' in vhost '/': {value_zero,0}"},
		{arg("x-cache-ttl", int32(-1)), "x-cache-ttl' for exchange 'x' in vhost '/': {value_negative,-1}"},
	} {
		d := exchanges.Declaration{Name: "x", Type: "fanout", Durable: true, Arguments: wire.Table{test.argument}}
		_, err := b.DeclareExchange(d, nil)
		wantError(t, err, wire.PreconditionFailed, "invalid arg '"+test.want)
	}
	d := exchanges.Declaration{Name: "x", Type: "fanout", Durable: true, Arguments: wire.Table{once, arg("x-deduplication-header", "id")}}
	b.declareExchange(t, d)
	if w := b.windows["x"]; w == nil || w.settings != (dedupSettings{"id", 128, unset}) {
		t.Errorf("the window is %+v", w)
	}
}

// TestDedupPolicy gives queues and exchanges that have messages windows, and takes
// them away.
func TestDedupPolicy(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	b.declare(t, "q", "durable", 1)
	b.bind(t, Binding{Source: "amq.fanout", Destination: "q"})
	routes := NewRoutes(b.VHost) // remembers routes across the changes
	send := func(exchange string) {
		t.Helper()
		p := publishView(t, exchange, "q")
		route, page := routes.Find(p, nil, nil), b.pages.New()
		page.Append(p.ExchangeAndKey, named("a", true), nil)
		w := newResult()
		b.Publish(route, page, true, w)
		page.Release()
		w.want(t)
	}
	for _, name := range []string{"q", "amq.fanout"} {
		exchange := strings.TrimPrefix(name, "q")
		start := b.queue(t, "q").Stats().Ready
		want := func(what string, n uint64) {
			t.Helper()
			b.wantReady(t, name+" "+what, map[string]uint64{"q": start + n})
		}
		send(exchange)
		send(exchange)
		want("without a policy", 2)
		b.setPolicy(t, UserPolicy, Policy{Name: "p", Pattern: "^" + name + "$", Definition: wire.Table{arg("message-deduplication", true)}})
		send(exchange)
		send(exchange)
		want("with a policy", 3)
		b = b.restart(t, fs)
		routes = NewRoutes(b.VHost)
		send(exchange)
		want("after a restart", 3)
		b.ClearPolicy(UserPolicy, "p", nil)
		send(exchange)
		send(exchange)
		want("without the policy", 5)
		b.setPolicy(t, UserPolicy, Policy{Name: "p", Pattern: "^" + name + "$", Definition: wire.Table{arg("message-deduplication", true)}})
		send(exchange)
		want("with the policy again, which remembers nothing", 6)
		b.ClearPolicy(UserPolicy, "p", nil)
	}
	b.sync(t)
	if err := b.store.Config(func(key, value []byte) error {
		if key[0] == windowKind {
			return fmt.Errorf("%q is left", key)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// BenchmarkDedup publishes bursts to a queue that remembers many messages.
func BenchmarkDedup(bench *testing.B) {
	b := openBroker(bench, vfs.NewMem())
	b.declare(bench, "q", "", 1, once, times(100_000))
	const burst = 64
	headers := make([][]byte, burst)
	n := 0
	bench.ReportAllocs()
	for bench.Loop() {
		for i := range headers {
			n++
			headers[i] = named(fmt.Sprintf("message %d", n), false)
		}
		b.sendHeaders(bench, "", "q", false, headers...)
	}
	bench.ReportMetric(float64(bench.Elapsed().Nanoseconds())/float64(n), "ns/msg")
}

// TestDedupExpiry: of a burst from which duplicates are taken out, the others keep
// their times to live; a message that has expired is still remembered.
func TestDedupExpiry(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	q := b.declare(t, "q", "durable", 1, once)
	ids, ttls := []string{"a", "a", "b", "a", "c"}, []uint64{1000, 9000, 2000, 9000, 3000}
	route, page := b.pageOf(t, "", "q")
	for i, id := range ids {
		page.Append([]byte("\x00\x01q"), named(id, true), []byte(id))
		page.Meet(queue.After(ttls[i]))
	}
	w := newResult()
	b.Publish(route, page, true, w)
	page.Release()
	w.want(t)
	for _, want := range []uint64{3, 2, 1, 0} {
		if got := left(q); got != want {
			t.Fatalf("%d messages are left, want %d", got, want)
		}
		c.pass(b, time.Second)
	}
	b.send(t, "", "q", "a", "b", "c", "d")
	if got := left(q); got != 1 {
		t.Errorf("%d messages were taken again, want 1", got)
	}
}

// TestDedupRefused: what a full queue refuses is not remembered, and its duplicates
// in the same burst are refused too.
func TestDedupRefused(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	limits := []wire.Field{once, arg("x-max-length", int32(1)), arg("x-overflow", "reject-publish")}
	q := b.declare(t, "q", "durable", 1, limits...)
	send := func(what, refused string, ids ...any) {
		t.Helper()
		route, page := b.pageOf(t, "", "q", headersOfAll(ids, true)...)
		found := b.Publish(route, page, true, nil)
		page.Release()
		marks := make([]byte, len(ids))
		for i := range marks {
			marks[i] = '+'
			if found != nil && found.Has(uint32(i)) {
				marks[i] = '-'
			}
		}
		if string(marks) != refused {
			t.Errorf("%s: taken and refused are %s, want %s", what, marks, refused)
		}
	}
	send("room for one", "+-+--", "a", "b", "a", "b", "c")
	send("full", "+-+", "a", "b", "a")
	q.purge()
	send("room again", "++-", "a", "b", "c")
	if n := q.Stats().Counters.Deduplicated; n != 4 {
		t.Errorf("%d duplicates are counted, want 4", n)
	}
}

// TestDedupDelayed: an exchange that delays messages judges them as they are published.
func TestDedupDelayed(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	b.declareExchange(t, exchanges.Declaration{Name: "later", Type: exchanges.TypeDelayed, Durable: true, Arguments: wire.Table{
		arg("x-delayed-type", "fanout"), once,
	}})
	q := b.declare(t, "q", "durable", 1)
	b.bind(t, Binding{Source: "later", Destination: "q"})
	for _, id := range []string{"a", "b", "a", "b"} {
		w := newResult()
		b.delay(t, "", id, true, w, delayed(1000), arg("x-deduplication-header", id))
		w.want(t)
	}
	if n := b.Delayed("later"); n != 2 || b.ExchangeDuplicates("later") != 2 {
		t.Errorf("%d messages are delayed and %d were duplicates, want 2 and 2", n, b.ExchangeDuplicates("later"))
	}
	c.pass(b, time.Second)
	b.delay(t, "", "again", true, newResult(), delayed(0), arg("x-deduplication-header", "a"))
	if got := left(q); got != 2 {
		t.Errorf("the queue has %d messages, want 2", got)
	}
}

// TestDedupFollower: what is published to a history while a queue with deduplication
// catches up reaches that queue, once, and what is a duplicate there is remembered all
// the same.
func TestDedupFollower(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.historyExchange(t, 10)
	b.declare(t, "q", "durable", 1, once)
	b.send(t, "x", "", "a", "b")
	h, f, _, err := b.VHost.bind(Binding{Source: "x", Destination: "q"}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.send(t, "x", "", "b", "c", "c", "d")
	h.copy(f, nil)
	b.wantReady(t, "caught up", map[string]uint64{"q": 4})
	b.send(t, "x", "", "d", "e")
	b.wantReady(t, "afterwards", map[string]uint64{"q": 5})
	b.declare(t, "late", "durable", 1)
	b.follow(t, "late", "")
	b.wantReady(t, "late", map[string]uint64{"late": 8})
}
