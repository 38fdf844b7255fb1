// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/amqp/wire"
)

// everyProperty has every basic property and every type of header value.
func everyProperty() wire.Properties {
	return wire.Properties{
		ContentType: "text/plain", ContentEncoding: "none", DeliveryMode: 1, Priority: 9,
		CorrelationID: "correlation", ReplyTo: "reply", Expiration: "60000", MessageID: "message",
		Timestamp: 1<<63 + 5, Type: "type", UserID: "guest", AppID: "app", ClusterID: "cluster",
		Headers: wire.Table{
			{Name: "S", Value: "text \x00 \xff"}, {Name: "x", Value: []byte{0, 1, 0xCE}}, {Name: "t", Value: true}, {Name: "t0", Value: false},
			{Name: "b", Value: int8(-1)}, {Name: "B", Value: uint8(255)}, {Name: "s", Value: int16(-2)}, {Name: "u", Value: uint16(65535)},
			{Name: "I", Value: int32(-3)}, {Name: "i", Value: uint32(4_000_000_000)}, {Name: "l", Value: int64(-4)},
			{Name: "f", Value: float32(1.5)}, {Name: "d", Value: 2.5}, {Name: "D", Value: wire.Decimal{Scale: 2, Value: 314}},
			{Name: "T", Value: wire.Timestamp(1_700_000_000)}, {Name: "V", Value: nil},
			{Name: "F", Value: wire.Table{{Name: "z", Value: "nested"}, {Name: "a", Value: wire.Table{}}}},
			{Name: "A", Value: wire.Array{"one", int64(2), wire.Array{}, nil}},
			{Name: "S", Value: "a name given twice"}, {Name: "", Value: "an empty name"},
		},
		Flags: wire.FlagContentType | wire.FlagContentEncoding | wire.FlagHeaders | wire.FlagDeliveryMode | wire.FlagPriority |
			wire.FlagCorrelationID | wire.FlagReplyTo | wire.FlagExpiration | wire.FlagMessageID | wire.FlagTimestamp |
			wire.FlagType | wire.FlagUserID | wire.FlagAppID | wire.FlagClusterID,
	}
}

// What is published comes out byte for byte: delivered, got, returned, and after
// it was read back from the disk.
func TestPropertiesAreUnchanged(t *testing.T) {
	t.Parallel()
	all := everyProperty()
	persistent := all
	persistent.DeliveryMode = wire.Persistent
	bare := wire.Properties{}
	headers := wire.Properties{Flags: wire.FlagHeaders}
	for name, p := range map[string]wire.Properties{"All": all, "Persistent": persistent, "None": bare, "EmptyHeaders": headers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := wire.AppendProperties(nil, &p)
			c := dialWire(t, startBroker(t))
			call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "q", Durable: true})
			check := func(what string) {
				t.Helper()
				if got, body := c.rawContent(1); !bytes.Equal(got, want) || string(body) != "body" {
					t.Errorf("%s:\ngot  %q, body %q\nwant %q", what, got, body, want)
				}
			}
			c.publish(1, wire.BasicPublish{RoutingKey: "q"}, p, "body")
			get := call[*wire.BasicGetOk](c, 1, &wire.BasicGet{Queue: "q"})
			check("got")
			if *get != (wire.BasicGetOk{DeliveryTag: 1, RoutingKey: "q"}) {
				t.Errorf("got %+v", *get)
			}
			c.send(1, &wire.BasicNack{DeliveryTag: 1, Requeue: true})
			call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{Queue: "q", ConsumerTag: "t"})
			deliver := expect[*wire.BasicDeliver](c, 1)
			check("delivered")
			if *deliver != (wire.BasicDeliver{ConsumerTag: "t", DeliveryTag: 2, Redelivered: true, RoutingKey: "q"}) {
				t.Errorf("delivered %+v", *deliver)
			}
			c.publish(1, wire.BasicPublish{Exchange: "amq.direct", RoutingKey: "nobody", Mandatory: true}, p, "body")
			returned := expect[*wire.BasicReturn](c, 1)
			check("returned")
			if *returned != (wire.BasicReturn{ReplyCode: 312, ReplyText: "NO_ROUTE", Exchange: "amq.direct", RoutingKey: "nobody"}) {
				t.Errorf("returned %+v", *returned)
			}
		})
	}
}

func TestLargeBodies(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 8183, 8184, 8185, 131064, 131065, 1 << 20, 16 << 20} {
		for _, mode := range []uint8{amqp091.Transient, amqp091.Persistent} {
			t.Run(fmt.Sprintf("%d/%d", size, mode), func(t *testing.T) {
				t.Parallel()
				broker := startBroker(t)
				frameSize := 131072
				if size < 1<<20 {
					frameSize = 8192
				}
				channel := openChannel(t, dialConfig(t, broker, amqp091.Config{FrameSize: frameSize}))
				if _, err := channel.QueueDeclare("q", true, false, false, false, nil); err != nil {
					t.Fatal(err)
				}
				must(t, channel.Confirm(false))
				confirms := channel.NotifyPublish(make(chan amqp091.Confirmation, 2))
				body := bytes.Repeat([]byte{0xCE, 1, 2, 3, 4}, size/5+1)[:size]
				deliveries := consume(t, channel, "q")
				for _, b := range [][]byte{body, []byte("after")} {
					must(t, channel.PublishWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{DeliveryMode: mode, Body: b}))
				}
				if got := next(t, deliveries); !bytes.Equal(got.Body, body) {
					t.Errorf("a body of %d bytes came back changed", size)
				}
				if got := next(t, deliveries); string(got.Body) != "after" {
					t.Errorf("got %q", got.Body)
				}
				for i := range 2 {
					if c := next(t, confirms); !c.Ack || c.DeliveryTag != uint64(i+1) {
						t.Errorf("confirmed %+v", c)
					}
				}
			})
		}
	}
}

func TestMessageTooLarge(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	channel := openChannel(t, connection)
	closed := channel.NotifyClose(make(chan *amqp091.Error, 1))
	declareQueue(t, channel, "q")
	must(t, channel.PublishWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{Body: make([]byte, 16<<20+1)}))
	wantException(t, next(t, closed), amqp091.PreconditionFailed,
		"PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216")
	if messages, _ := waiting(t, openChannel(t, connection), "q"); messages != 0 {
		t.Errorf("%d messages were taken", messages)
	}
}

// A mandatory message that reaches no queue comes back before it is confirmed.
func TestMandatory(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t))
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "q"})
	call[*wire.ConfirmSelectOk](c, 1, &wire.ConfirmSelect{})
	acked := uint64(0)
	wantAck := func(tag uint64) {
		t.Helper()
		for acked < tag {
			ack := expect[*wire.BasicAck](c, 1)
			if ack.DeliveryTag <= acked || ack.DeliveryTag > acked+1 && !ack.Multiple {
				t.Fatalf("ack %+v after %d", *ack, acked)
			}
			acked = ack.DeliveryTag
		}
	}
	// A queue without consumers is enough, and without mandatory nothing is.
	c.publish(1, wire.BasicPublish{RoutingKey: "q", Mandatory: true}, wire.Properties{}, "1")
	c.publish(1, wire.BasicPublish{RoutingKey: "nobody"}, wire.Properties{}, "2")
	wantAck(2)
	for tag := uint64(3); tag < 50; tag++ {
		c.publish(1, wire.BasicPublish{RoutingKey: "nobody", Mandatory: true}, wire.Properties{}, fmt.Sprint(tag))
		expect[*wire.BasicReturn](c, 1)
		if _, body := c.content(1); string(body) != fmt.Sprint(tag) {
			t.Errorf("returned %q, want %d", body, tag)
		}
		wantAck(tag)
	}
}

// Every publish is confirmed once, whichever way it goes.
func TestConfirms(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, onDisk(t.TempDir()))
	channel := openChannel(t, dial(t, broker))
	for _, durable := range []bool{true, false} {
		if _, err := channel.QueueDeclare(fmt.Sprint(durable), durable, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	must(t, channel.QueueBind("true", "", "amq.fanout", false, nil))
	must(t, channel.QueueBind("false", "", "amq.fanout", false, nil))
	must(t, channel.Confirm(false))
	must(t, channel.Confirm(false)) // again changes nothing
	const count = 3000
	confirms := channel.NotifyPublish(make(chan amqp091.Confirmation, count))
	for i := range count {
		exchange, key := "", "true"
		switch i % 4 {
		case 1:
			key = "false"
		case 2:
			key = "nobody"
		case 3:
			exchange = "amq.fanout"
		}
		mode := uint8(i/4%2 + 1)
		must(t, channel.PublishWithContext(t.Context(), exchange, key, false, false, amqp091.Publishing{DeliveryMode: mode, Body: []byte(fmt.Sprint(i))}))
	}
	for i := range count {
		if c := next(t, confirms); !c.Ack || c.DeliveryTag != uint64(i+1) {
			t.Fatalf("confirmed %+v, want %d", c, i+1)
		}
	}
	for _, queue := range []string{"true", "false"} {
		if messages, _ := waiting(t, channel, queue); messages != count/2 {
			t.Errorf("queue %s has %d messages, want %d", queue, messages, count/2)
		}
	}
}

// Publishes that arrive together are confirmed together.
func TestConfirmMultiple(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t))
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "q", Durable: true})
	call[*wire.ConfirmSelectOk](c, 1, &wire.ConfirmSelect{})
	const count = 1000
	var b []byte
	for range count {
		b = wire.AppendMethod(b, 1, &wire.BasicPublish{RoutingKey: "q"})
		p := wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: wire.Persistent}
		b = wire.AppendContent(b, 1, 0, wire.AppendHeader(nil, 1, wire.AppendProperties(nil, &p)), []byte("m"))
	}
	c.write(b)
	acks, last := 0, uint64(0)
	for last < count {
		ack := expect[*wire.BasicAck](c, 1)
		if ack.DeliveryTag <= last || ack.Multiple != (ack.DeliveryTag > last+1) {
			t.Fatalf("ack %+v after %d", *ack, last)
		}
		acks, last = acks+1, ack.DeliveryTag
	}
	if acks == count || last != count {
		t.Errorf("%d acks up to %d", acks, last)
	}
}

func TestTransactions(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, onDisk(t.TempDir()))
	connection := dial(t, broker)
	tx, other := openChannel(t, connection), openChannel(t, connection)
	if _, err := tx.QueueDeclare("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	send := func(bodies ...string) {
		t.Helper()
		for _, body := range bodies {
			must(t, tx.PublishWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: []byte(body)}))
		}
	}
	must(t, tx.Tx())
	send("a", "b", "c")
	if _, err := tx.QueueDeclarePassive("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if messages, _ := waiting(t, other, "q"); messages != 0 {
		t.Errorf("%d messages before the commit", messages)
	}
	must(t, tx.TxCommit())
	if messages, _ := waiting(t, other, "q"); messages != 3 {
		t.Errorf("%d messages after the commit", messages)
	}

	send("dropped")
	must(t, tx.TxRollback())
	must(t, tx.TxCommit())
	if messages, _ := waiting(t, other, "q"); messages != 3 {
		t.Errorf("%d messages after a rollback", messages)
	}

	// An acknowledgement that is rolled back leaves the delivery unacked.
	first, _, err := tx.Get("q", false)
	must(t, err)
	must(t, first.Ack(false))
	must(t, tx.TxRollback())
	must(t, first.Ack(false))
	must(t, tx.TxCommit())
	second, _, err := tx.Get("q", false)
	must(t, err)
	if string(second.Body) != "b" {
		t.Errorf("got %q, want b", second.Body)
	}
	must(t, second.Nack(false, true))
	if messages, _ := waiting(t, other, "q"); messages != 1 {
		t.Errorf("%d messages before a requeue is committed", messages)
	}
	must(t, tx.TxCommit())
	if got := drain(t, other, "q"); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("got %v", got)
	}

	// Closing the channel rolls back.
	send("dropped")
	must(t, tx.Close())
	if messages, _ := waiting(t, other, "q"); messages != 0 {
		t.Errorf("%d messages of a channel that was closed", messages)
	}
}

// A mandatory message of a transaction comes back at its commit, and what cannot
// be accepted fails when it is published.
func TestTransactionChecks(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t, func(o *lagomq.Options) { o.AMQP.MaxTxBytes = 1000 }))
	call[*wire.TxSelectOk](c, 1, &wire.TxSelect{})
	call[*wire.TxSelectOk](c, 1, &wire.TxSelect{})
	c.publish(1, wire.BasicPublish{RoutingKey: "nobody", Mandatory: true}, wire.Properties{}, "lost")
	call[*wire.BasicQosOk](c, 1, &wire.BasicQos{})
	c.send(1, &wire.TxCommit{})
	expect[*wire.BasicReturn](c, 1)
	if _, body := c.content(1); string(body) != "lost" {
		t.Errorf("returned %q", body)
	}
	expect[*wire.TxCommitOk](c, 1)
	c.publish(1, wire.BasicPublish{Exchange: "x"}, wire.Properties{}, "")
	c.wantException(exception{wire.NotFound, "no exchange 'x' in vhost '/'", wire.IDBasicPublish})

	call[*wire.TxSelectOk](c, 1, &wire.TxSelect{})
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "q"})
	c.publish(1, wire.BasicPublish{RoutingKey: "q"}, wire.Properties{}, strings.Repeat("x", 900))
	c.publish(1, wire.BasicPublish{RoutingKey: "q"}, wire.Properties{}, strings.Repeat("x", 900))
	tooLarge := exception{wire.PreconditionFailed, "transaction is larger than configured max size 1000", wire.IDBasicPublish}
	c.wantException(tooLarge)

	// What is kept of a message though nobody gets to see it counts, too.
	call[*wire.TxSelectOk](c, 1, &wire.TxSelect{})
	key := strings.Repeat("k", 250)
	blind := wire.Properties{Flags: wire.FlagHeaders, Headers: wire.Table{{Name: "BCC", Value: wire.Array{key, key, key}}}}
	c.publish(1, wire.BasicPublish{RoutingKey: "q"}, blind, "")
	c.publish(1, wire.BasicPublish{RoutingKey: "q"}, blind, "")
	c.wantException(tooLarge)
}

func TestDirectReplyTo(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	requester, responder := openChannel(t, dial(t, broker)), openChannel(t, dial(t, broker))
	declareQueue(t, responder, "rpc")
	requests := consume(t, responder, "rpc")
	replies, err := requester.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil)
	must(t, err)
	var address string
	for i := range 10 {
		id := fmt.Sprint(i)
		must(t, requester.PublishWithContext(t.Context(), "", "rpc", false, false, amqp091.Publishing{
			CorrelationId: id, ReplyTo: "amq.rabbitmq.reply-to", Headers: amqp091.Table{"h": id}, Body: []byte("question " + id),
		}))
		request := next(t, requests)
		if !strings.HasPrefix(request.ReplyTo, "amq.rabbitmq.reply-to.") || request.CorrelationId != id || request.Headers["h"] != id {
			t.Fatalf("request with reply-to %q, correlation %q, headers %v", request.ReplyTo, request.CorrelationId, request.Headers)
		}
		address = request.ReplyTo
		must(t, responder.PublishWithContext(t.Context(), "", address, true, false, amqp091.Publishing{
			CorrelationId: request.CorrelationId, Body: []byte("answer " + id),
		}))
		if reply := next(t, replies); reply.CorrelationId != id || string(reply.Body) != "answer "+id {
			t.Errorf("reply %q to %q", reply.Body, reply.CorrelationId)
		}
		must(t, request.Ack(false))
	}

	// The responder sees by a declaration whether the requester still waits.
	for _, declare := range []func(string, bool, bool, bool, bool, amqp091.Table) (amqp091.Queue, error){
		responder.QueueDeclare, responder.QueueDeclarePassive,
	} {
		q, err := declare(address, false, false, false, false, nil)
		if err != nil || q.Messages != 0 || q.Consumers != 1 {
			t.Errorf("declared %+v, %v", q, err)
		}
	}
	must(t, requester.Close())
	returns := responder.NotifyReturn(make(chan amqp091.Return, 1))
	must(t, responder.PublishWithContext(t.Context(), "", address, true, false, amqp091.Publishing{}))
	if r := next(t, returns); r.RoutingKey != address || r.ReplyCode != amqp091.NoRoute {
		t.Errorf("returned %+v", r)
	}
	_, err = responder.QueueDeclarePassive(address, false, false, false, false, nil)
	wantException(t, err, amqp091.NotFound, "NOT_FOUND - no queue '"+address+"' in vhost '/'")
}
