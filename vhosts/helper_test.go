// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// broker is the virtual hosts on a store of their own.
type broker struct {
	*Hosts
	*VHost // "/"
	store  *persistence.Store
	pages  queue.Pages
}

func openBroker(t testing.TB, fs vfs.FS) *broker {
	t.Helper()
	return openWith(t, fs, Options{ResidentBytes: 4 << 10})
}

func openWith(t testing.TB, fs vfs.FS, o Options) *broker {
	t.Helper()
	b, err := tryOpen(t, fs, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tryOpen(t testing.TB, fs vfs.FS, o Options) (*broker, error) {
	log := slog.New(slog.DiscardHandler)
	store, err := persistence.Open(persistence.Options{
		Dir: "data", FS: fs, MemTableSize: 1 << 20, SettleDelay: time.Microsecond, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = store.Close(context.Background()) })
	o.Store, o.Users, o.Logger, o.Strict = store, NewUsers(), log, true
	hosts, err := Open(o)
	if err != nil {
		return nil, err
	}
	t.Cleanup(hosts.stopWorkers)
	v, _ := hosts.VHost("/")
	return &broker{Hosts: hosts, VHost: v, store: store}, nil
}

// stop is an orderly stop.
func (b *broker) stop(t testing.TB) {
	t.Helper()
	b.Close()
	if err := b.store.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// restart stops orderly and opens again.
func (b *broker) restart(t testing.TB, fs vfs.FS) *broker {
	t.Helper()
	b.stop(t)
	return openBroker(t, fs)
}

// result is a persistence.Waiter for one proposal.
type result chan error

func newResult() result { return make(result, 1) }

func (r result) Durable(err error) { r <- err }
func (r result) Flush()            {}

func (r result) want(t testing.TB) {
	t.Helper()
	if err := <-r; err != nil {
		t.Fatalf("Durable(%v), want nil", err)
	}
}

// settled waits until everything proposed so far is durable.
func (b *broker) sync(t testing.TB) {
	t.Helper()
	r := newResult()
	b.store.Sync(r)
	r.want(t)
}

// until waits until done, and for everything proposed before each look at it to be
// durable.
func (b *broker) until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); b.sync(t) {
		if time.Since(start) > patience {
			t.Fatalf("not in time: %s", what)
		}
		runtime.Gosched()
	}
}

// declare makes a queue; what are flags (durable, exclusive, autodelete) in any
// order.
func (b *broker) declare(t testing.TB, name, flags string, owner uint64, args ...wire.Field) *Queue {
	t.Helper()
	d, _, err := b.DeclareQueue(declaration(name, flags, owner, args...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return b.queue(t, d.Name)
}

func declaration(name, flags string, owner uint64, args ...wire.Field) QueueDeclaration {
	return QueueDeclaration{
		Name: name, Durable: strings.Contains(flags, "durable"), Exclusive: strings.Contains(flags, "exclusive"),
		AutoDelete: strings.Contains(flags, "autodelete"), Owner: owner, Arguments: args,
	}
}

// queue finds a queue, whoever owns it.
func (b *broker) queue(t testing.TB, name string) *Queue {
	t.Helper()
	b.VHost.mu.Lock()
	defer b.VHost.mu.Unlock()
	q, ok := b.queues[name]
	if !ok {
		t.Fatalf("no queue %q", name)
	}
	return q
}

func (b *broker) declareExchange(t testing.TB, d exchanges.Declaration) {
	t.Helper()
	if _, err := b.DeclareExchange(d, nil); err != nil {
		t.Fatal(err)
	}
}

func (b *broker) bind(t testing.TB, binding Binding) {
	t.Helper()
	if _, err := b.Bind(binding, 0, nil); err != nil {
		t.Fatal(err)
	}
}

func publishView(t testing.TB, exchange, key string) *wire.PublishView {
	t.Helper()
	args := wire.AppendShortString(wire.AppendShortString([]byte{0, 0}, exchange), key)
	v, err := wire.ParsePublish(append(args, 0))
	if err != nil {
		t.Fatal(err)
	}
	return &v
}

// publish puts messages with those bodies, as one run, where exchange and key
// lead to.
func (b *broker) publish(t testing.TB, exchange, key string, persistent bool, w persistence.Waiter, bodies ...string) {
	t.Helper()
	route := NewRoutes(b.VHost).Find(publishView(t, exchange, key), nil, nil)
	if route.Err != nil {
		t.Fatal(route.Err)
	}
	page := b.pages.New()
	fill(page, bodies)
	b.Publish(route, page, persistent, w)
	page.Release()
}

func fill(page *queue.Page, bodies []string) {
	for _, body := range bodies {
		page.Append([]byte("\x00\x00"), []byte("header"), []byte(body))
	}
}

// got is a message that a consumer was given.
type got struct {
	number      uint64
	body        string
	redelivered bool
}

// inbox is a consumer and its channel: it keeps what it is given.
type inbox struct {
	*queue.Consumer
	mu        sync.Mutex
	arrived   sync.Cond
	messages  []got
	held      []holding
	empty     int
	cancelled int
	timedOut  int
	closed    bool
}

// holding is a message that an inbox was given and has not forgotten.
type holding struct{ number, at uint64 }

func newInbox(tag string, noAck bool, prefetch uint32) *inbox {
	in := &inbox{}
	in.arrived.L = &in.mu
	in.Consumer = &queue.Consumer{Tag: tag, NoAck: noAck, Prefetch: prefetch, Sink: in}
	return in
}

func (in *inbox) Reserve(n uint32) uint32 {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return 0
	}
	return n
}

func (in *inbox) Release(uint32) {}

func (in *inbox) Waits() queue.Wait { return queue.WaitNot }

func (in *inbox) Cancelled() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.cancelled++
}

func (in *inbox) Oldest() (at uint64, some bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.held) == 0 {
		return 0, false
	}
	return in.held[0].at, true
}

func (in *inbox) TimeOut() (numbers []uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, h := range in.held {
		numbers = append(numbers, h.number)
	}
	in.held = nil
	in.timedOut++
	return numbers
}

// settled takes messages out of what the inbox holds.
func (in *inbox) settled(messages ...got) (numbers []uint64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	numbers = numbersOf(messages)
	in.held = slices.DeleteFunc(in.held, func(h holding) bool { return slices.Contains(numbers, h.number) })
	return numbers
}

func (in *inbox) Deliver(d *queue.Delivery) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return false
	}
	for i := range d.Count {
		_, _, body := d.Page.Message(int(d.Offset(i)))
		in.messages = append(in.messages, got{d.Number(i), string(body), d.Redelivered})
		in.held = append(in.held, holding{d.Number(i), d.At})
	}
	if d.Count == 0 {
		in.empty++
	}
	in.arrived.Broadcast()
	return true
}

// close makes the channel refuse deliveries.
func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
}

// take waits for n messages and removes them from the inbox.
func (in *inbox) take(n int) []got {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.messages) < n {
		in.arrived.Wait()
	}
	taken := slices.Clone(in.messages[:n])
	in.messages = slices.Delete(in.messages, 0, n)
	return taken
}

// waiting is how many messages have come and were not taken.
func (in *inbox) waiting() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.messages)
}

func numbersOf(messages []got) (numbers []uint64) {
	for _, m := range messages {
		numbers = append(numbers, m.number)
	}
	return numbers
}

func bodiesOf(messages []got) string {
	var bodies []string
	for _, m := range messages {
		body := m.body
		if m.redelivered {
			body += "*"
		}
		bodies = append(bodies, body)
	}
	return strings.Join(bodies, " ")
}

func consume(t testing.TB, q *Queue, in *inbox) {
	t.Helper()
	if err := q.Consume(in.Consumer, false, func() {}); err != nil {
		t.Fatal(err)
	}
}

// drain consumes all ready messages of a queue without settling them and gives
// them back. A star marks redelivered ones.
func drain(t testing.TB, q *Queue) string {
	t.Helper()
	in := newInbox("drain", false, 0)
	ready := int(q.Stats().Ready)
	consume(t, q, in)
	messages := in.take(ready)
	q.Cancel(in.Consumer)
	q.Return(in.Consumer, numbersOf(messages), false)
	return bodiesOf(messages)
}

// wantError checks code and text of an error; "" stands for none.
func wantError(t testing.TB, err *wire.Error, code wire.ReplyCode, text string) {
	t.Helper()
	switch {
	case text == "" && err == nil:
	case text == "":
		t.Errorf("unexpected error: %v", err)
	case err == nil:
		t.Errorf("no error, want %d %s", code, text)
	case err.Code != code || err.Text != text:
		t.Errorf("error\n%d %s, want\n%d %s", err.Code, err.Text, code, text)
	}
}
