// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
)

// declareDelayed declares the delayed exchange "later" over a type.
func (b *broker) declareDelayed(t testing.TB, over string, durable bool) {
	t.Helper()
	b.declareExchange(t, exchanges.Declaration{Name: "later", Type: exchanges.TypeDelayed, Durable: durable, Arguments: wire.Table{
		{Name: "x-delayed-type", Value: over},
	}})
}

// delay publishes a message to "later" with headers.
func (b *broker) delay(t testing.TB, key, body string, persistent bool, w persistence.Waiter, headers ...wire.Field) {
	t.Helper()
	b.delayBy(t, "later", key, body, persistent, w, headers...)
}

// delayBy publishes a message to an exchange with headers.
func (b *broker) delayBy(t testing.TB, exchange, key, body string, persistent bool, w persistence.Waiter, headers ...wire.Field) {
	t.Helper()
	p := wire.Properties{Flags: wire.FlagHeaders | wire.FlagDeliveryMode, Headers: headers, DeliveryMode: 1}
	if persistent {
		p.DeliveryMode = wire.Persistent
	}
	encoded := wire.AppendTable(nil, headers)[4:]
	view := publishView(t, exchange, key)
	route, due, err := NewRoutes(b.VHost).Find(view, &wire.PropertyView{Headers: encoded}, ccOf(encoded)).Postpone(encoded, false)
	if err != nil {
		t.Fatal(err)
	}
	page := b.pages.New()
	page.Append(view.ExchangeAndKey, wire.AppendHeader(nil, uint64(len(body)), wire.AppendProperties(nil, &p)), []byte(body))
	page.Meet(due)
	b.Publish(route, page, persistent, w)
	page.Release()
}

func delayed(milliseconds int32) wire.Field { return wire.Field{Name: "x-delay", Value: milliseconds} }

func TestDelayed(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	b.declareDelayed(t, exchanges.TypeTopic, true)
	q := b.declare(t, "q", "durable", 0)
	b.bind(t, Binding{Source: "later", Destination: "q", Key: "a.*"})
	b.delay(t, "a.1", "3 s", true, nil, delayed(3000))
	b.delay(t, "a.2", "1 s", false, nil, delayed(1000))
	b.delay(t, "b.1", "elsewhere", true, nil, delayed(1000))
	b.delay(t, "b.1", "copied", true, nil, delayed(1500), wire.Field{Name: "CC", Value: wire.Array{"a.c"}})
	b.delay(t, "a.3", "now", true, nil, delayed(0))
	b.delay(t, "a.3", "at", true, nil, wire.Field{Name: "x-deliver-at", Value: c.now().UnixMilli() + 2000}, delayed(1))
	b.delay(t, "a.3", "past", true, nil, wire.Field{Name: "x-deliver-at", Value: int64(5)})
	if n := b.Delayed("later"); left(q) != 2 || n != 5 {
		t.Fatalf("%d ready and %d delayed, want 2 and 5", left(q), n)
	}
	for _, step := range []struct {
		pass  time.Duration
		ready uint64
	}{{999, 2}, {1, 3}, {499, 3}, {1, 4}, {499, 4}, {1, 5}, {999, 5}, {1, 6}} {
		c.pass(b, step.pass*time.Millisecond)
		if left(q) != step.ready {
			t.Fatalf("%d ready, want %d", left(q), step.ready)
		}
	}
	if got, want := takeBodies(t, q, 6), []string{"now", "past", "1 s", "copied", "at", "3 s"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := b.Delayed("later"); n != 0 {
		t.Errorf("%d delayed, want none", n)
	}
}

// TestDelayedBehindBinding: a message that comes to a delayed exchange from another one is
// delayed there, and only there.
func TestDelayedBehindBinding(t *testing.T) {
	t.Parallel()
	for _, persistent := range []bool{true, false} {
		c, fs := newClock(), vfs.NewMem()
		b := c.open(t, fs)
		b.declareDelayed(t, exchanges.TypeFanout, true)
		b.declareExchange(t, exchanges.Declaration{Name: "in", Type: exchanges.TypeFanout, Durable: true})
		b.declareExchange(t, exchanges.Declaration{Name: "only", Type: exchanges.TypeFanout, Durable: true})
		b.bind(t, Binding{Source: "in", Destination: "later", ToExchange: true})
		b.bind(t, Binding{Source: "only", Destination: "in", ToExchange: true})
		atOnce, q := b.declare(t, "at once", "", 0), b.declare(t, "q", "durable", 0)
		b.bind(t, Binding{Source: "in", Destination: "at once"})
		b.bind(t, Binding{Source: "later", Destination: "q"})

		w := newResult()
		b.delayBy(t, "only", "k", "1", persistent, w, delayed(2000))
		if persistent {
			w.want(t)
		}
		b.delayBy(t, "in", "k", "2", persistent, nil, delayed(1000))
		b.delayBy(t, "in", "k", "3", persistent, nil, delayed(-1000))
		b.delayBy(t, "in", "k", "4", persistent, nil)
		if bodies := takeBodies(t, atOnce, 4); !slices.Equal(bodies, []string{"1", "2", "3", "4"}) {
			t.Errorf("at once came %q", bodies)
		}
		if n := b.Delayed("later"); left(q) != 2 || n != 2 {
			t.Fatalf("%d ready and %d delayed, want 2 of each", left(q), n)
		}
		if persistent {
			b.stop(t)
			b = c.open(t, fs)
			q = b.queue(t, "q")
		}
		c.pass(b, 999*time.Millisecond)
		if left(q) != 2 {
			t.Errorf("%d ready before the time, want 2", left(q))
		}
		c.pass(b, time.Millisecond)
		c.until(t, b, "the first is in its queue", func() bool { return left(q) == 3 })
		c.pass(b, time.Second)
		c.until(t, b, "both are in their queue", func() bool { return left(q) == 4 })
		if bodies := takeBodies(t, q, 4); !slices.Equal(bodies, []string{"3", "4", "2", "1"}) {
			t.Errorf("delayed came %q", bodies)
		}
	}
}

// TestDelayedBehindBindingLetters: dead letters are delayed in the same way, each with its
// own delay, and those that expire here do not there.
func TestDelayedBehindBindingLetters(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	b.declareDelayed(t, exchanges.TypeFanout, true)
	b.declareExchange(t, exchanges.Declaration{Name: "dead", Type: exchanges.TypeFanout, Durable: true})
	b.bind(t, Binding{Source: "dead", Destination: "later", ToExchange: true})
	q := b.declare(t, "q", "durable", 0)
	b.bind(t, Binding{Source: "later", Destination: "q"})
	b.declare(t, "source", "durable", 0, ttl(100), wire.Field{Name: "x-dead-letter-exchange", Value: "dead"})
	b.delayBy(t, "", "source", "slow", true, nil, delayed(2000))
	b.delayBy(t, "", "source", "fast", true, nil, delayed(1000))
	b.delayBy(t, "", "source", "now", true, nil)
	c.pass(b, 100*time.Millisecond)
	c.until(t, b, "dead letters are delayed", func() bool { return left(q) == 1 && b.Delayed("later") == 2 })
	c.pass(b, 999*time.Millisecond)
	if left(q) != 1 {
		t.Errorf("%d ready before the time, want 1", left(q))
	}
	c.pass(b, time.Millisecond)
	c.until(t, b, "the first is in its queue", func() bool { return left(q) == 2 })
	c.pass(b, time.Second)
	c.until(t, b, "all are in their queue", func() bool { return left(q) == 3 })
	if bodies := takeBodies(t, q, 3); !slices.Equal(bodies, []string{"now", "fast", "slow"}) {
		t.Errorf("got %q", bodies)
	}
}

// TestDelayedSurvives: what is delayed comes back after a restart, if it is persistent,
// and goes with its exchange.
func TestDelayedSurvives(t *testing.T) {
	t.Parallel()
	c, fs := newClock(), vfs.NewMem()
	b := c.open(t, fs)
	b.declareDelayed(t, exchanges.TypeDirect, true)
	b.declare(t, "q", "durable", 0)
	b.bind(t, Binding{Source: "later", Destination: "q", Key: "k"})
	for _, persistent := range []bool{true, false} {
		w := newResult()
		b.delay(t, "k", "message", persistent, w, delayed(60_000))
		if persistent {
			w.want(t)
		}
	}
	b.stop(t)
	b = c.open(t, fs)
	if n := b.Delayed("later"); n != 1 {
		t.Fatalf("%d delayed after the restart, want 1", n)
	}
	b.stop(t)
	c.time = c.time.Add(time.Hour)
	b = c.open(t, fs)
	c.until(t, b, "the message is in its queue", func() bool { return left(b.queue(t, "q")) == 1 })
	b.delay(t, "k", "message", true, nil, delayed(1000))
	if _, err := b.DeleteExchange("later", false, nil); err != nil {
		t.Fatal(err)
	}
	c.pass(b, time.Hour)
	if n := left(b.queue(t, "q")); n != 1 {
		t.Errorf("%d ready after the exchange was deleted, want 1", n)
	}
	b.stop(t)
	b = c.open(t, fs)
	if len(b.delayers) != 0 {
		t.Errorf("%d queues of delayed messages are left", len(b.delayers))
	}
}

// TestDelayedTTL: the time to live of a delayed message begins when it is routed, and
// x-delay is negative then.
func TestDelayedTTL(t *testing.T) {
	t.Parallel()
	c := newClock()
	b := c.open(t, vfs.NewMem())
	b.declareDelayed(t, exchanges.TypeFanout, false)
	q := b.declare(t, "q", "", 0)
	b.bind(t, Binding{Source: "later", Destination: "q"})
	p := wire.Properties{Flags: wire.FlagHeaders | wire.FlagExpiration, Headers: wire.Table{delayed(1000)}, Expiration: "500"}
	view := publishView(t, "later", "")
	headers := wire.AppendTable(nil, p.Headers)[4:]
	route, due, err := NewRoutes(b.VHost).Find(view, &wire.PropertyView{Headers: headers}, nil).Postpone(headers, true)
	if err != nil {
		t.Fatal(err)
	}
	page := b.pages.New()
	page.Append(view.ExchangeAndKey, wire.AppendHeader(nil, 0, wire.AppendProperties(nil, &p)), nil)
	page.Meet(due)
	b.Publish(route, page, false, nil)
	page.Release()
	c.pass(b, time.Second)
	if left(q) != 1 {
		t.Fatalf("%d ready, want 1", left(q))
	}
	c.pass(b, 499*time.Millisecond)
	if left(q) != 1 {
		t.Fatalf("%d ready, want 1", left(q))
	}
	c.pass(b, time.Millisecond)
	if left(q) != 0 {
		t.Fatalf("%d ready, want none", left(q))
	}
}

func TestDeadlines(t *testing.T) {
	t.Parallel()
	const now = 1_700_000_000_000
	for _, test := range []struct {
		header  string
		value   any
		delayed bool
		refused string
	}{
		{"x-delay", int32(1), true, ""},
		{"x-delay", int64(maxMilliseconds), true, ""},
		{"x-delay", int8(1), true, ""},
		{"x-delay", uint16(1), true, ""},
		{"x-delay", int32(0), false, ""},
		{"x-delay", int32(-5), false, ""},
		{"x-delay", "10", true, ""},
		{"x-delay", "ten", false, ""},
		{"x-delay", 10.5, true, ""},
		{"x-delay", 0.5, false, ""},
		{"x-delay", math.NaN(), false, ""},
		{"x-delay", true, false, ""},
		{"x-delay", int64(maxMilliseconds + 1), false, "{value_too_large,315360000001}"},
		{"x-delay", math.Inf(1), false, "{value_too_large,315360000001}"},
		{"x-deliver-at", int64(now + 1), true, ""},
		{"x-deliver-at", int64(now), false, ""},
		{"x-deliver-at", int64(-1), false, ""},
		{"x-deliver-at", wire.Timestamp(now/1000 + 1), true, ""},
		{"x-deliver-at", wire.Timestamp(1), false, ""},
		{"x-deliver-at", "tomorrow", false, `{unacceptable_type_in_header,"x-deliver-at",longstr}`},
		{"x-deliver-at", int64(now + maxMilliseconds + 1), false, "{value_too_large,"},
	} {
		_, delayed, err := deadlineOf(wire.AppendTable(nil, wire.Table{{Name: test.header, Value: test.value}})[4:], now)
		switch {
		case test.refused != "":
			if err == nil || err.Code != wire.PreconditionFailed || !strings.Contains(err.ReplyText(), test.refused) {
				t.Errorf("%s %v: %v, want 406 with %s", test.header, test.value, err, test.refused)
			}
		case err != nil || delayed != test.delayed:
			t.Errorf("%s %v: delayed is %t, error %v, want %t", test.header, test.value, delayed, err, test.delayed)
		}
	}
}

// TestDelayedWhileWaiting: a letter that was delayed on one way and refused on another goes
// where it was refused when there is room, and not once more where it was delayed to,
// although its time has come meanwhile.
func TestDelayedWhileWaiting(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		c, fs := newClock(), vfs.NewMem()
		b := c.open(t, fs)
		b.declareDelayed(t, exchanges.TypeFanout, true)
		b.declareExchange(t, exchanges.Declaration{Name: "dead", Type: exchanges.TypeFanout, Durable: true})
		b.bind(t, Binding{Source: "dead", Destination: "later", ToExchange: true})
		b.declare(t, "q", "durable", 1)
		b.bind(t, Binding{Source: "later", Destination: "q"})
		b.full(t, "full")
		b.bind(t, Binding{Source: "dead", Destination: "full"})
		source := b.declare(t, "source", "durable", 1, dlx("dead")...)
		at := c.now().UnixMilli() + 1000
		b.delayBy(t, "", "source", "letter", true, nil, arg("x-deliver-at", at))
		rejectAll(t, source, 1)
		b.wantLeaving(t, "source", 1, "full")
		if n := b.Delayed("later"); n != 1 {
			t.Fatalf("%d messages are delayed, want 1", n)
		}
		if restarted {
			b.stop(t)
			b = c.open(t, fs)
			b.wantLeaving(t, "source", 1, "full")
		}
		c.pass(b, time.Second)
		q := b.queue(t, "q")
		c.until(t, b, "the delay is over", func() bool { return left(q) == 1 })
		b.queue(t, "full").purge()
		b.until(t, "the letter comes", func() bool { return b.queue(t, "source").Stats().Leaving == 0 })
		if full := b.queue(t, "full"); left(full) != 1 || left(q) != 1 {
			t.Errorf("restarted %t: %d and %d copies have come, want 1 and 1", restarted, left(full), left(q))
		}
	}
}
