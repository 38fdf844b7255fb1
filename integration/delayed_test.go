// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

func declareDelayedExchange(t testing.TB, channel *amqp091.Channel, over string) {
	t.Helper()
	must(t, channel.ExchangeDeclare("later", "x-delayed-message", true, false, false, false, amqp091.Table{"x-delayed-type": over}))
}

// TestDelayedMessages: messages come when their delay is over, in the order of that,
// with RabbitMQ's headers.
func TestDelayedMessages(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareDelayedExchange(t, channel, "direct")
	declareQueue(t, channel, "q")
	must(t, channel.QueueBind("q", "k", "later", false, nil))
	deliveries := consume(t, channel, "q")
	begin := time.Now()
	for _, headers := range []amqp091.Table{
		{"x-delay": int32(2400)},
		{"x-deliver-at": begin.Add(1600 * time.Millisecond).UnixMilli()},
		{"x-delay": int64(800)},
		{"x-delay": int32(-7)},
	} {
		must(t, channel.PublishWithContext(t.Context(), "later", "k", true, false, amqp091.Publishing{Headers: headers}))
	}
	for i, want := range []struct {
		header string
		value  any
		after  time.Duration
	}{
		{"x-delay", int32(-7), 0},
		{"x-delay", int32(-800), 800 * time.Millisecond},
		{"x-deliver-at", begin.Add(1600 * time.Millisecond).UnixMilli(), 1600 * time.Millisecond},
		{"x-delay", int32(-2400), 2400 * time.Millisecond},
	} {
		d := next(t, deliveries)
		if d.Headers[want.header] != want.value || d.Exchange != "later" || d.RoutingKey != "k" || d.Redelivered {
			t.Errorf("message %d is %+v, want %s %v", i, d, want.header, want.value)
		}
		if passed := time.Since(begin); passed < want.after-time.Millisecond { // the broker counts whole ones
			t.Errorf("message %d came after %v, before its time", i, passed)
		}
		if _, died := d.Headers["x-death"]; died {
			t.Errorf("message %d has x-death", i)
		}
	}
}

// TestDelayedMandatory: whether a delayed message can be routed is judged when it is
// published.
func TestDelayedMandatory(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareDelayedExchange(t, channel, "direct")
	returns := channel.NotifyReturn(make(chan amqp091.Return, 1))
	must(t, channel.Confirm(false))
	confirms := channel.NotifyPublish(make(chan amqp091.Confirmation, 1))
	message := amqp091.Publishing{Headers: amqp091.Table{"x-delay": int32(60_000)}, DeliveryMode: amqp091.Persistent}
	must(t, channel.PublishWithContext(t.Context(), "later", "k", true, false, message))
	if r := next(t, returns); r.ReplyCode != amqp091.NoRoute || r.Headers["x-delay"] != int32(60_000) {
		t.Errorf("returned %+v", r)
	}
	if c := next(t, confirms); !c.Ack {
		t.Error("a returned message is not acked")
	}
	must(t, channel.PublishWithContext(t.Context(), "later", "k", false, false, message))
	if c := next(t, confirms); !c.Ack {
		t.Error("a delayed message is not acked")
	}
}

// TestDelayedBehindBinding: a delayed exchange delays what comes from another one, with all
// that publishers may ask for; the other ways of a message are not delayed.
func TestDelayedBehindBinding(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, managed)
	connection := dial(t, broker)
	channel := openChannel(t, connection)
	declareDelayedExchange(t, channel, "fanout")
	must(t, channel.ExchangeDeclare("in", "fanout", true, false, false, false, amqp091.Table{"x-message-deduplication": true}))
	must(t, channel.ExchangeBind("later", "", "in", false, nil))
	_, err := channel.QueueDeclare("q", true, false, false, false, amqp091.Table{"x-max-priority": int32(5)})
	must(t, err)
	declareQueue(t, channel, "at once")

	must(t, channel.Confirm(false))
	returns, confirms := channel.NotifyReturn(make(chan amqp091.Return, 1)), channel.NotifyPublish(make(chan amqp091.Confirmation, 1))
	send := func(body string, headers amqp091.Table) {
		t.Helper()
		must(t, channel.PublishWithContext(t.Context(), "in", "k", true, false, amqp091.Publishing{
			Headers: headers, DeliveryMode: amqp091.Persistent, Expiration: "600000", Priority: 3, Body: []byte(body)}))
		if c := next(t, confirms); !c.Ack {
			t.Errorf("%s is not acked", body)
		}
	}
	send("nowhere", amqp091.Table{"x-delay": int32(1)})
	if r := next(t, returns); string(r.Body) != "nowhere" {
		t.Errorf("returned %+v", r)
	}
	must(t, channel.QueueBind("q", "", "later", false, nil))
	must(t, channel.QueueBind("at once", "", "in", false, nil))
	for range 2 {
		send("once", amqp091.Table{"x-delay": int32(500), "x-deduplication-header": "id"})
	}
	tx := openChannel(t, connection)
	must(t, tx.Tx())
	for _, body := range []string{"rolled back", "committed"} {
		must(t, tx.PublishWithContext(t.Context(), "in", "k", true, false, amqp091.Publishing{
			Headers: amqp091.Table{"x-delay": int64(600_000)}, Body: []byte(body)}))
		if body == "rolled back" {
			must(t, tx.TxRollback())
		} else {
			must(t, tx.TxCommit())
		}
	}
	if bodies := nextBodies(t, consume(t, channel, "at once"), 2); bodies[0] != "once" || bodies[1] != "committed" {
		t.Errorf("at once came %q", bodies)
	}
	d := next(t, consume(t, channel, "q"))
	if string(d.Body) != "once" || d.Exchange != "in" || d.RoutingKey != "k" || d.Headers["x-delay"] != int32(-500) || d.Expiration != "600000" || d.Priority != 3 {
		t.Errorf("delayed came %+v", d)
	}
	eventually(t, "one message is delayed", func() bool {
		return strings.Contains(manage(t, broker, "GET", "/exchanges/%2F/later", "", 200), `"messages_delayed":1,`)
	})
	nothing(t, returns)

	closed := channel.NotifyClose(make(chan *amqp091.Error, 1))
	must(t, channel.PublishWithContext(t.Context(), "in", "k", false, false, amqp091.Publishing{Headers: amqp091.Table{"x-deliver-at": "noon"}}))
	wantException(t, next(t, closed), amqp091.PreconditionFailed, `PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"x-deliver-at",longstr}`)
}

// TestDelayedDeclarations: what is no exchange type cannot be delayed.
func TestDelayedDeclarations(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	for _, c := range []struct {
		arguments amqp091.Table
		reason    string
	}{
		{nil, "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type"},
		{amqp091.Table{"x-delayed-type": int32(1)}, "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type"},
		{amqp091.Table{"x-delayed-type": "round"}, "PRECONDITION_FAILED - unknown exchange type 'round'"},
		{amqp091.Table{"x-delayed-type": "x-delayed-message"}, "PRECONDITION_FAILED - Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'"},
	} {
		err := openChannel(t, connection).ExchangeDeclare("later", "x-delayed-message", true, false, false, false, c.arguments)
		if e := (*amqp091.Error)(nil); !errors.As(err, &e) || e.Code != amqp091.PreconditionFailed || e.Reason != c.reason {
			t.Errorf("%v: %v, want %s", c.arguments, err, c.reason)
		}
	}
}

// TestDelayedRetry: a dead letter exchange may delay, which makes a retry with a pause.
func TestDelayedRetryByDeadLetters(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareDelayedExchange(t, channel, "fanout")
	_, err := channel.QueueDeclare("q", false, false, false, false, amqp091.Table{"x-dead-letter-exchange": "later"})
	must(t, err)
	must(t, channel.QueueBind("q", "", "later", false, nil))
	deliveries := consume(t, channel, "q")
	must(t, channel.PublishWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{Headers: amqp091.Table{"x-delay": int32(50)}}))
	begin := time.Now()
	must(t, next(t, deliveries).Reject(false))
	d := next(t, deliveries)
	if d.Headers["x-delay"] != int32(-50) || d.Headers["x-first-death-reason"] != "rejected" || time.Since(begin) < 49*time.Millisecond {
		t.Errorf("after %v: %+v", time.Since(begin), d)
	}
}

// TestDelayedExpiration: the time to live begins when the delay is over, also if it is
// written with a sign, and management counts what is held back.
func TestDelayedExpiration(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, managed)
	channel := openChannel(t, dial(t, broker))
	declareDelayedExchange(t, channel, "direct")
	must(t, channel.ExchangeDeclare("history", "x-recent-history", true, false, false, false, nil))
	declareDead(t, channel, "q", "dead", false)
	must(t, channel.QueueBind("q", "k", "later", false, nil))
	const delay = int32(300)
	must(t, channel.Confirm(false))
	for _, expiration := range []string{"10", "+10"} {
		confirm, err := channel.PublishWithDeferredConfirmWithContext(t.Context(), "later", "k", false, false,
			amqp091.Publishing{Expiration: expiration, Headers: amqp091.Table{"x-delay": delay}})
		must(t, err)
		confirm.Wait()
		must(t, channel.PublishWithContext(t.Context(), "history", "", false, false, amqp091.Publishing{Expiration: expiration}))
	}
	if shown := manage(t, broker, "GET", "/exchanges/%2F/later?columns=messages_delayed", "", 200); shown != "{\"messages_delayed\":2}\n" {
		t.Errorf("held back: %s", shown)
	}
	must(t, channel.QueueBind("q", "", "history", false, nil))
	deliveries := consume(t, channel, "dead")
	for range 4 {
		if d := next(t, deliveries); d.Headers["x-first-death-reason"] != "expired" {
			t.Errorf("got %v", d.Headers)
		}
	}
}
