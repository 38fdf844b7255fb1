// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq/amqp/wire"
)

// declareDead declares queue name with a dead letter exchange and key that lead
// to queue target, which it declares too.
func declareDead(t testing.TB, channel *amqp091.Channel, name, target string, durable bool) {
	t.Helper()
	args := amqp091.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": target}
	if _, err := channel.QueueDeclare(name, durable, false, false, false, args); err != nil {
		t.Fatal(err)
	}
	if _, err := channel.QueueDeclare(target, durable, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
}

// wantDeath checks the newest entry of x-death as RabbitMQ's Go client decodes
// it, and that there are entries in all.
func wantDeath(t testing.TB, d amqp091.Delivery, entries int, want amqp091.Table) {
	t.Helper()
	list, _ := d.Headers["x-death"].([]any)
	if len(list) != entries {
		t.Fatalf("x-death is %v: want %d entries", d.Headers["x-death"], entries)
	}
	entry, _ := list[0].(amqp091.Table)
	if at, ok := entry["time"].(time.Time); !ok || time.Since(at) > time.Hour || time.Until(at) > time.Hour {
		t.Errorf("time of the death is %v", entry["time"])
	}
	delete(entry, "time")
	if !reflect.DeepEqual(entry, want) {
		t.Errorf("death is\n%#v, want\n%#v", entry, want)
	}
}

// Each way to refuse a message for good dead-letters it.
func TestDeadLetter(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(amqp091.Delivery) error{
		"Reject": func(d amqp091.Delivery) error { return d.Reject(false) },
		"Nack":   func(d amqp091.Delivery) error { return d.Nack(false, false) },
		"NackUpTo": func(d amqp091.Delivery) error {
			d.DeliveryTag = 0
			return d.Nack(true, false)
		},
	} {
		for _, byGet := range []bool{false, true} {
			t.Run(fmt.Sprint(name, byGet), func(t *testing.T) {
				t.Parallel()
				channel := openChannel(t, dial(t, startBroker(t)))
				declareDead(t, channel, "q", "dead", false)
				must(t, channel.PublishWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{
					ContentType: "text/plain", Expiration: "60000", Priority: 3, Headers: amqp091.Table{"h": int32(1)}, Body: []byte("body"),
				}))
				dead := consume(t, channel, "dead")
				var d amqp091.Delivery
				if byGet {
					eventually(t, "a message is there", func() (ok bool) { d, ok, _ = channel.Get("q", false); return ok })
				} else {
					d = next(t, consume(t, channel, "q"))
				}
				must(t, refuse(d))
				d = next(t, dead)
				wantDeath(t, d, 1, amqp091.Table{
					"original-expiration": "60000", "count": int64(1), "reason": "rejected", "queue": "q",
					"exchange": "", "routing-keys": []any{"q"},
				})
				delete(d.Headers, "x-death")
				headers := amqp091.Table{
					"h": int32(1), "x-first-death-exchange": "", "x-first-death-queue": "q", "x-first-death-reason": "rejected",
					"x-last-death-exchange": "", "x-last-death-queue": "q", "x-last-death-reason": "rejected",
				}
				if !reflect.DeepEqual(d.Headers, headers) {
					t.Errorf("headers are %v, want %v", d.Headers, headers)
				}
				if d.Exchange != "" || d.RoutingKey != "dead" || d.Redelivered || d.Expiration != "" || d.ContentType != "text/plain" ||
					d.Priority != 3 || string(d.Body) != "body" {
					t.Errorf("dead letter is %+v", d)
				}
				must(t, d.Ack(false))
				for _, queue := range []string{"q", "dead"} {
					if n, err := channel.QueueDelete(queue, false, false, false); err != nil || n != 0 {
						t.Errorf("queue %s had %d messages, %v", queue, n, err)
					}
				}
			})
		}
	}
}

// A requeued message is no dead letter.
func TestDeadLetterNotRequeued(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareDead(t, channel, "q", "dead", false)
	deliveries, dead := consume(t, channel, "q"), consume(t, channel, "dead")
	publish(t, channel, "", "q", "body")
	must(t, next(t, deliveries).Reject(true))
	d := next(t, deliveries)
	if !d.Redelivered || d.Headers != nil {
		t.Errorf("delivery is %+v", d)
	}
	must(t, d.Nack(false, true))
	must(t, next(t, deliveries).Ack(false))
	waiting(t, channel, "q")
	nothing(t, dead)
}

// A client that publishes a dead letter again starts from the beginning: its
// x-death counts for nothing.
func TestDeadLetterPublishedAgain(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareDead(t, channel, "q", "dead", false)
	deliveries, dead := consume(t, channel, "q"), consume(t, channel, "dead")
	publish(t, channel, "", "q", "body")
	for range 3 {
		must(t, next(t, deliveries).Reject(false))
		d := next(t, dead)
		wantDeath(t, d, 1, amqp091.Table{
			"count": int64(1), "reason": "rejected", "queue": "q", "exchange": "", "routing-keys": []any{"q"},
		})
		must(t, d.Ack(false))
		must(t, channel.PublishWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{Headers: d.Headers, Body: d.Body}))
	}
}

// Messages of one nack go in the order of their delivery, and those in two queues
// that dead-letter to each other carry both names.
func TestDeadLetterThereAndBack(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	for from, to := range map[string]string{"a": "b", "b": "a"} {
		args := amqp091.Table{"x-dead-letter-exchange": "amq.direct", "x-dead-letter-routing-key": "to " + to}
		if _, err := channel.QueueDeclare(from, false, false, false, false, args); err != nil {
			t.Fatal(err)
		}
		must(t, channel.QueueBind(from, "to "+from, "amq.direct", false, nil))
	}
	a, b := consume(t, channel, "a"), consume(t, channel, "b")
	publish(t, channel, "", "a", numbers(300)...)
	from, to := a, b
	for hop := range 4 {
		var last amqp091.Delivery
		for i := range 300 {
			if last = next(t, from); string(last.Body) != fmt.Sprint(i) {
				t.Fatalf("on hop %d message %s comes as number %d", hop, last.Body, i)
			}
		}
		if hop > 0 {
			queue := []string{"b", "a"}[hop%2]
			keys := []any{"to " + queue}
			exchange := "amq.direct"
			if queue == "a" { // what is told is how it came there first
				keys, exchange = []any{"a"}, ""
			}
			wantDeath(t, last, min(hop, 2), amqp091.Table{
				"count": int64(hop+1) / 2, "reason": "rejected", "queue": queue, "exchange": exchange, "routing-keys": keys,
			})
		}
		must(t, last.Nack(true, false))
		from, to = to, from
	}
}

// A rejection counts when its transaction is committed, and not before; after a
// rollback the message is unacked as it was.
func TestDeadLetterTx(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	other := openChannel(t, connection)
	declareDead(t, other, "q", "dead", false)
	dead := consume(t, other, "dead")
	tx := openChannel(t, connection)
	must(t, tx.Tx())
	deliveries := consume(t, tx, "q")
	publish(t, other, "", "q", "1", "2", "3")
	held := []amqp091.Delivery{next(t, deliveries), next(t, deliveries), next(t, deliveries)}

	must(t, held[1].Nack(true, false))
	must(t, tx.TxRollback())
	waiting(t, other, "dead")
	nothing(t, dead)

	must(t, held[1].Reject(false))
	must(t, held[0].Ack(false))
	waiting(t, other, "dead")
	nothing(t, dead)
	must(t, tx.TxCommit())
	if got := next(t, dead); string(got.Body) != "2" {
		t.Errorf("dead letter is %s", got.Body)
	}

	must(t, held[2].Reject(false))
	must(t, tx.Close()) // a rollback
	eventually(t, "the message is back", func() bool { n, _ := waiting(t, other, "q"); return n == 1 })
	if d := next(t, consume(t, other, "q")); string(d.Body) != "3" || !d.Redelivered {
		t.Errorf("delivered is %s, redelivered %t", d.Body, d.Redelivered)
	}
	waiting(t, other, "dead")
	nothing(t, dead)
}

// A reject makes room for the next message, in the consumer's prefetch and in the
// channel's.
func TestDeadLetterPrefetch(t *testing.T) {
	t.Parallel()
	for _, global := range []bool{false, true} {
		t.Run(fmt.Sprint(global), func(t *testing.T) {
			t.Parallel()
			connection := dial(t, startBroker(t))
			channel, other := openChannel(t, connection), openChannel(t, connection)
			declareDead(t, other, "q", "dead", false)
			dead := consume(t, other, "dead")
			publish(t, other, "", "q", numbers(10)...)
			must(t, channel.Qos(2, 0, global))
			deliveries := consume(t, channel, "q")
			held := next(t, deliveries)
			for i := range 8 {
				second := next(t, deliveries)
				if messages, _ := waiting(t, channel, "q"); messages != 8-i {
					t.Fatalf("%d messages wait, want %d", messages, 8-i)
				}
				nothing(t, deliveries)
				must(t, held.Reject(false))
				held = second
			}
			if got := nextBodies(t, dead, 8); !slices.Equal(got, numbers(8)) {
				t.Errorf("dead letters are %v", got)
			}
		})
	}
}

// Dead letters and what is known of them survive a restart.
func TestDeadLetterRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broker := startOnDisk(t, dir)
	channel := openChannel(t, dial(t, broker))
	declareDead(t, channel, "q", "retry", true)
	declareDead(t, channel, "retry2", "dead", true)
	publishConfirmed(t, channel, amqp091.Persistent, "", "q", numbers(10)...)
	deliveries := consume(t, channel, "q")
	for range 10 {
		must(t, next(t, deliveries).Reject(false))
	}
	eventually(t, "dead letters are there", func() bool { n, _ := waiting(t, channel, "retry"); return n == 10 })

	broker = restart(t, broker, dir)
	channel = openChannel(t, dial(t, broker))
	if messages, _ := waiting(t, channel, "q"); messages != 0 {
		t.Errorf("%d messages are back in their queue", messages)
	}
	retry := consume(t, channel, "retry")
	for i := range 10 {
		d := next(t, retry)
		wantDeath(t, d, 1, amqp091.Table{
			"count": int64(1), "reason": "rejected", "queue": "q", "exchange": "", "routing-keys": []any{"q"},
		})
		if string(d.Body) != fmt.Sprint(i) || d.DeliveryMode != amqp091.Persistent {
			t.Errorf("dead letter %d is %s with mode %d", i, d.Body, d.DeliveryMode)
		}
	}
}

// rawString is a short string, rawField the start of a field, rawLong a value of
// tag S, and rawSized what follows a length of four bytes: written out here, so
// that the product's encoder does not judge itself.
func rawString(s string) string { return string(rune(len(s))) + s }

func rawField(name string, tag byte) string { return rawString(name) + string(rune(tag)) }

func rawSized(s string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s }

func rawLong(name, value string) string { return rawField(name, 'S') + rawSized(value) }

// TestDeadLetterBytes checks the content header of a dead letter byte for byte.
func TestDeadLetterBytes(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t))
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "q", Arguments: wire.Table{
		{Name: "x-dead-letter-exchange", Value: "amq.fanout"},
	}})
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "dead"})
	call[*wire.QueueBindOk](c, 1, &wire.QueueBind{Queue: "dead", Exchange: "amq.fanout"})
	c.publish(1, wire.BasicPublish{RoutingKey: "q"}, wire.Properties{
		Flags:      wire.FlagContentType | wire.FlagHeaders | wire.FlagDeliveryMode | wire.FlagExpiration | wire.FlagMessageID,
		Expiration: "5000", ContentType: "text/plain", DeliveryMode: 2, MessageID: "id",
		Headers: wire.Table{
			{Name: "z", Value: int16(-2)}, {Name: "x-death", Value: "mine"}, {Name: "CC", Value: wire.Array{"other"}}, {Name: "a", Value: true},
		},
	}, "body")
	call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{Queue: "q", ConsumerTag: "in"})
	d := expect[*wire.BasicDeliver](c, 1)
	c.content(1)
	c.send(1, &wire.BasicReject{DeliveryTag: d.DeliveryTag}, &wire.BasicConsume{Queue: "dead", ConsumerTag: "out", NoAck: true})
	expect[*wire.BasicConsumeOk](c, 1)
	d = expect[*wire.BasicDeliver](c, 1)
	if d.Exchange != "amq.fanout" || d.RoutingKey != "q" || d.Redelivered || d.ConsumerTag != "out" {
		t.Errorf("delivery is %+v", d)
	}
	got, body := c.rawContent(1)
	if string(body) != "body" {
		t.Errorf("body is %q", body)
	}
	// The time is the one thing that is not known.
	before, _, _ := bytes.Cut(got, []byte(rawField("exchange", 'S')))
	if len(before) < 8 {
		t.Fatalf("properties %q", got)
	}
	at := string(before[len(before)-8:])
	if ago := time.Since(time.Unix(int64(binary.BigEndian.Uint64([]byte(at))), 0)).Abs(); ago > time.Hour {
		t.Errorf("time of the death is %v away", ago)
	}
	entry := rawLong("original-expiration", "5000") +
		rawField("count", 'l') + "\x00\x00\x00\x00\x00\x00\x00\x01" +
		rawLong("reason", "rejected") +
		rawLong("queue", "q") +
		rawField("time", 'T') + at +
		rawLong("exchange", "") +
		rawField("routing-keys", 'A') + rawSized("S"+rawSized("q")+"S"+rawSized("other"))
	headers := rawField("CC", 'A') + rawSized("S"+rawSized("other")) +
		rawField("a", 't') + "\x01" +
		rawField("x-death", 'A') + rawSized("F"+rawSized(entry)) +
		rawLong("x-first-death-exchange", "") +
		rawLong("x-first-death-queue", "q") +
		rawLong("x-first-death-reason", "rejected") +
		rawLong("x-last-death-exchange", "") +
		rawLong("x-last-death-queue", "q") +
		rawLong("x-last-death-reason", "rejected") +
		rawField("z", 's') + "\xff\xfe"
	// Content type, headers, delivery mode, message id.
	want := "\xb0\x80" + rawString("text/plain") + rawSized(headers) + "\x02" + rawString("id")
	if string(got) != want {
		t.Errorf("properties are\n%q, want\n%q", got, want)
	}
}

// TestDeadLetterNackMultiple nacks part of what is outstanding, frame by frame.
func TestDeadLetterNackMultiple(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t))
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "q", Arguments: wire.Table{
		{Name: "x-dead-letter-exchange", Value: ""}, {Name: "x-dead-letter-routing-key", Value: "dead"},
	}})
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "dead"})
	for _, body := range numbers(5) {
		c.publish(1, wire.BasicPublish{RoutingKey: "q"}, wire.Properties{}, body)
	}
	call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{Queue: "q"})
	for range 5 {
		expect[*wire.BasicDeliver](c, 1)
		c.content(1)
	}
	c.send(1, &wire.BasicAck{DeliveryTag: 2}, &wire.BasicNack{DeliveryTag: 4, Multiple: true},
		&wire.BasicConsume{Queue: "dead", NoAck: true})
	expect[*wire.BasicConsumeOk](c, 1)
	for i, want := range []string{"0", "2", "3"} {
		d := expect[*wire.BasicDeliver](c, 1)
		p, body := c.content(1)
		if string(body) != want || d.DeliveryTag != uint64(6+i) || p.Flags != wire.FlagHeaders {
			t.Errorf("dead letter %d is %q with tag %d and flags %b", i, body, d.DeliveryTag, p.Flags)
		}
	}
	// The fifth is still outstanding; the others are not.
	c.send(1, &wire.BasicNack{DeliveryTag: 5})
	expect[*wire.BasicDeliver](c, 1)
	c.content(1)
	c.send(1, &wire.BasicReject{DeliveryTag: 3})
	c.wantException(exception{wire.PreconditionFailed, "unknown delivery tag 3", wire.IDBasicReject})
}
