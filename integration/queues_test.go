// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/amqp/wire"
)

func TestQueueDeclare(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	channel := openChannel(t, connection)
	for _, args := range []amqp091.Table{
		nil,
		{"x-queue-type": "classic"},
		{"x-unknown": int64(1)}, // stored and not compared
	} {
		if _, err := channel.QueueDeclare("q", true, false, false, false, args); err != nil {
			t.Fatalf("redeclare with %v: %v", args, err)
		}
	}
	if _, err := channel.QueueDeclare("sized", false, false, false, false, amqp091.Table{"x-max-length": int32(5), "x-expires": int64(60_000)}); err != nil {
		t.Fatal(err)
	}
	if _, err := channel.QueueDeclare("sized", false, false, false, false, amqp091.Table{"x-expires": int16(60_000 - 1<<15), "x-max-length": int64(5)}); err == nil {
		t.Error("a redeclaration with another x-expires succeeded")
	}
	channel = openChannel(t, connection)
	if _, err := channel.QueueDeclare("sized", false, false, false, false, amqp091.Table{"x-max-length": int8(5), "x-expires": int32(60_000)}); err != nil {
		t.Errorf("integers of other widths: %v", err)
	}
	if _, err := channel.QueueDeclare("quorum", true, false, false, false, amqp091.Table{"x-queue-type": "quorum"}); err != nil {
		t.Errorf("quorum queue: %v", err)
	}
	// The durable flag of an exclusive queue does not count.
	for _, durable := range []bool{true, false} {
		if _, err := channel.QueueDeclare("mine", durable, false, true, false, nil); err != nil {
			t.Errorf("exclusive queue, durable %t: %v", durable, err)
		}
	}
	// Carriage returns and line feeds are not part of names.
	if q, err := channel.QueueDeclare("\r\nq\n", true, false, false, false, nil); err != nil || q.Name != "q" {
		t.Errorf("got name %q, %v: want q", q.Name, err)
	}
}

// TestDefaultQueueType: queues of which nobody says what they are, and that can be, are
// of the type that the broker is set to.
func TestDefaultQueueType(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	quorum := func(o *lagomq.Options) { o.Hosts.DefaultQueueType = "quorum" }
	broker := newBroker(t, managed, onDisk(dir), quorum)
	must(t, broker.Start(t.Context()))
	connection := dial(t, broker)
	typeOf := func(name string) string {
		t.Helper()
		var q struct {
			Type      string
			Arguments map[string]any
		}
		must(t, json.Unmarshal([]byte(manage(t, broker, "GET", "/queues/%2F/"+name, "", 200)), &q))
		if q.Arguments["x-queue-type"] != q.Type {
			t.Errorf("%s is of type %s and has the arguments %v", name, q.Type, q.Arguments)
		}
		return q.Type
	}
	channel := openChannel(t, connection)
	for _, test := range []struct {
		name                           string
		durable, autoDelete, exclusive bool
		arguments                      amqp091.Table
		want                           string
	}{
		{"durable", true, false, false, nil, "quorum"},
		{"limited", true, false, false, amqp091.Table{"x-max-length": int64(5)}, "quorum"},
		{"named", true, false, false, amqp091.Table{"x-queue-type": "classic"}, "classic"},
		{"transient", false, false, false, nil, "classic"},
		{"autodelete", true, true, false, nil, "classic"},
		{"exclusive", true, false, true, nil, "classic"},
	} {
		for range 2 { // the second time it is there
			_, err := channel.QueueDeclare(test.name, test.durable, test.autoDelete, test.exclusive, false, test.arguments)
			must(t, err)
		}
		if got := typeOf(test.name); got != test.want {
			t.Errorf("%s is a %s queue, want %s", test.name, got, test.want)
		}
	}
	_, err := openChannel(t, connection).QueueDeclare("named", true, false, false, false, nil)
	wantException(t, err, amqp091.PreconditionFailed,
		"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'named' in vhost '/': received 'quorum' but current is 'classic'")
	_, err = openChannel(t, connection).QueueDeclare("", true, false, false, false, nil)
	wantException(t, err, amqp091.PreconditionFailed, "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue")
	if hosts := manage(t, broker, "GET", "/vhosts", "", 200); !strings.Contains(hosts, `"default_queue_type":"quorum"`) {
		t.Errorf("virtual hosts are %s", hosts)
	}
	shutDown(t, broker)

	broker = startBroker(t, managed, onDisk(dir)) // a type once chosen stays
	if got := typeOf("durable"); got != "quorum" {
		t.Errorf("after a restart it is a %s queue", got)
	}
}

func TestQueueDeclareCounts(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareQueue(t, channel, "q")
	publish(t, channel, "", "q", "a", "b", "c")
	must(t, channel.Qos(1, 0, false))
	delivery := next(t, consume(t, channel, "q"))
	for _, declare := range []func(string, bool, bool, bool, bool, amqp091.Table) (amqp091.Queue, error){
		channel.QueueDeclare, channel.QueueDeclarePassive,
	} {
		q, err := declare("q", false, false, false, false, nil)
		if want := (amqp091.Queue{Name: "q", Messages: 2, Consumers: 1}); err != nil || q != want {
			t.Errorf("got %+v, %v: want %+v", q, err, want)
		}
	}
	must(t, delivery.Ack(false))
}

func TestServerNamedQueue(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	channel := openChannel(t, connection)
	form := regexp.MustCompile(`^amq\.gen-[A-Za-z0-9_-]{22}$`)
	seen := map[string]bool{}
	for range 10 {
		q, err := channel.QueueDeclare("", false, false, true, false, nil)
		if err != nil || !form.MatchString(q.Name) || seen[q.Name] {
			t.Fatalf("got name %q, %v", q.Name, err)
		}
		seen[q.Name] = true
		waiting(t, channel, q.Name)
		publish(t, channel, "", q.Name, "m")
		next(t, consume(t, channel, q.Name))
	}
	for name := range seen {
		_, err := openChannel(t, connection).QueueDeclare(name, false, false, true, false, nil)
		wantException(t, err, amqp091.AccessRefused, "ACCESS_REFUSED - queue name '"+name+"' contains reserved prefix 'amq.*'")
		return
	}
}

// Whatever another connection does with an exclusive queue is 405.
func TestExclusiveQueueOfAnother(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	owner := dialWire(t, broker)
	call[*wire.QueueDeclareOk](owner, 1, &wire.QueueDeclare{Queue: "mine", Exclusive: true})
	other := dialWire(t, broker)
	for _, m := range []wire.Method{
		&wire.QueueDeclare{Queue: "mine", Exclusive: true}, &wire.QueueDeclare{Queue: "mine"}, &wire.QueueDeclare{Queue: "mine", Passive: true},
		&wire.QueueBind{Queue: "mine", Exchange: "amq.direct"}, &wire.QueueUnbind{Queue: "mine", Exchange: "amq.direct"},
		&wire.QueuePurge{Queue: "mine"}, &wire.QueueDelete{Queue: "mine"},
		&wire.BasicConsume{Queue: "mine"}, &wire.BasicGet{Queue: "mine"},
	} {
		other.send(1, m)
		other.wantException(exception{wire.ResourceLocked, lockedText("mine"), m.ID()})
	}
	// Publishing is free to all, and the owner uses it on every channel.
	other.publish(1, wire.BasicPublish{RoutingKey: "mine"}, wire.Properties{}, "body")
	call[*wire.ChannelCloseOk](other, 1, &wire.ChannelClose{ReplyCode: wire.ReplySuccess})
	call[*wire.ChannelOpenOk](owner, 2, &wire.ChannelOpen{})
	if ok := call[*wire.QueueDeclareOk](owner, 2, &wire.QueueDeclare{Queue: "mine", Exclusive: true}); ok.MessageCount != 1 {
		t.Errorf("got %+v", *ok)
	}
}

// An empty queue name means the queue declared last on the channel.
func TestEmptyQueueName(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t))
	name := call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Exclusive: true}).Queue
	call[*wire.QueueBindOk](c, 1, &wire.QueueBind{Exchange: "amq.direct"}) // with the queue's name as the key
	c.publish(1, wire.BasicPublish{Exchange: "amq.direct", RoutingKey: name}, wire.Properties{}, "by name")
	call[*wire.BasicGetOk](c, 1, &wire.BasicGet{NoAck: true})
	c.content(1)
	call[*wire.QueueUnbindOk](c, 1, &wire.QueueUnbind{Exchange: "amq.direct", RoutingKey: name})
	c.publish(1, wire.BasicPublish{Exchange: "amq.direct", RoutingKey: name}, wire.Properties{}, "nowhere")
	call[*wire.BasicGetEmpty](c, 1, &wire.BasicGet{})
	c.publish(1, wire.BasicPublish{RoutingKey: name}, wire.Properties{}, "default")
	if ok := call[*wire.QueuePurgeOk](c, 1, &wire.QueuePurge{}); ok.MessageCount != 1 {
		t.Errorf("purged %d messages", ok.MessageCount)
	}
	call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{ConsumerTag: "t"})
	call[*wire.BasicCancelOk](c, 1, &wire.BasicCancel{ConsumerTag: "t"})
	// A passive declaration counts too.
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "other"})
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: name, Passive: true})
	call[*wire.QueueDeleteOk](c, 1, &wire.QueueDelete{})
	if ok := call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "other", Passive: true}); ok.Queue != "other" {
		t.Errorf("got %+v", *ok)
	}
}

// With nowait there is no answer: the next one belongs to the next method.
func TestNoWait(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t))
	c.send(1,
		&wire.QueueDeclare{Queue: "q", Durable: true, NoWait: true},
		&wire.ExchangeDeclare{Exchange: "x", Type: "fanout", Durable: true, NoWait: true},
		&wire.ExchangeDeclare{Exchange: "y", Type: "direct", NoWait: true},
		&wire.ExchangeDeclare{Exchange: "y", Type: "direct", Passive: true, NoWait: true},
		&wire.QueueBind{Queue: "q", Exchange: "x", NoWait: true},
		&wire.ExchangeBind{Destination: "x", Source: "y", RoutingKey: "k", NoWait: true},
		&wire.ConfirmSelect{NoWait: true},
		&wire.QueuePurge{Queue: "q", NoWait: true},
	)
	c.publish(1, wire.BasicPublish{Exchange: "y", RoutingKey: "k"}, wire.Properties{}, "first")
	expect[*wire.BasicAck](c, 1)
	c.send(1, &wire.BasicConsume{Queue: "q", ConsumerTag: "t", NoAck: true, NoWait: true})
	if m := expect[*wire.BasicDeliver](c, 1); m.ConsumerTag != "t" {
		t.Errorf("delivered to %q", m.ConsumerTag)
	}
	c.content(1)
	c.send(1,
		&wire.BasicCancel{ConsumerTag: "t", NoWait: true},
		&wire.ExchangeUnbind{Destination: "x", Source: "y", RoutingKey: "k", NoWait: true},
		&wire.ExchangeDelete{Exchange: "y", NoWait: true},
		&wire.QueueDelete{Queue: "q", NoWait: true},
		&wire.QueueDelete{Queue: "missing", NoWait: true},
		&wire.QueueDeclare{Queue: "last"},
	)
	if m := expect[*wire.QueueDeclareOk](c, 1); m.Queue != "last" {
		t.Errorf("got %+v", *m)
	}
	c.send(1, &wire.QueueDeclare{Queue: "q", Passive: true})
	c.wantException(exception{wire.NotFound, "no queue 'q' in vhost '/'", wire.IDQueueDeclare})
	c.send(1, &wire.ExchangeDeclare{Exchange: "y", Passive: true})
	c.wantException(exception{wire.NotFound, "no exchange 'y' in vhost '/'", wire.IDExchangeDeclare})
}

// Pipelined methods are answered in their order, also when some wait for the
// disk and some do not.
func TestAnswersKeepOrder(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t, onDisk(t.TempDir())))
	var methods, want []string
	var b []byte
	for i := range 50 {
		name := strings.Repeat("q", i+1)
		for _, m := range []wire.Method{
			&wire.QueueDeclare{Queue: name, Durable: i%2 == 0},
			&wire.QueueDeclare{Queue: name, Passive: true},
			&wire.QueueBind{Queue: name, Exchange: "amq.fanout"},
			&wire.BasicQos{PrefetchCount: 1},
			&wire.QueuePurge{Queue: name},
			&wire.QueueDelete{Queue: name},
		} {
			b = wire.AppendMethod(b, 1, m)
			want = append(want, (m.ID() + 1).String())
		}
	}
	c.write(b)
	for range want {
		_, m := c.method()
		methods = append(methods, m.ID().String())
	}
	if got, want := strings.Join(methods, " "), strings.Join(want, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Deleting and unbinding what does not exist is fine.
func TestMissingThings(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t))
	if ok := call[*wire.QueueDeleteOk](c, 1, &wire.QueueDelete{Queue: "no", IfUnused: true, IfEmpty: true}); ok.MessageCount != 0 {
		t.Errorf("got %+v", *ok)
	}
	call[*wire.ExchangeDeleteOk](c, 1, &wire.ExchangeDelete{Exchange: "no", IfUnused: true})
	call[*wire.QueueUnbindOk](c, 1, &wire.QueueUnbind{Queue: "no", Exchange: "no", RoutingKey: "k"})
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "q"})
	call[*wire.QueueUnbindOk](c, 1, &wire.QueueUnbind{Queue: "q", Exchange: "no", RoutingKey: "k"})
	call[*wire.QueueUnbindOk](c, 1, &wire.QueueUnbind{Queue: "q", Exchange: "amq.direct", RoutingKey: "k"})
	call[*wire.QueueUnbindOk](c, 1, &wire.QueueUnbind{Queue: "no", Exchange: "amq.direct", RoutingKey: "k"})
	call[*wire.ExchangeUnbindOk](c, 1, &wire.ExchangeUnbind{Destination: "no", Source: "amq.direct", RoutingKey: "k"})
	call[*wire.ExchangeUnbindOk](c, 1, &wire.ExchangeUnbind{Destination: "amq.direct", Source: "amq.fanout", RoutingKey: "k"})
	if ok := call[*wire.BasicCancelOk](c, 1, &wire.BasicCancel{ConsumerTag: "no"}); ok.ConsumerTag != "no" {
		t.Errorf("got %+v", *ok)
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareQueue(t, channel, "q")
	publish(t, channel, "", "q", "a", "b", "c", "d")
	unacked, _, err := channel.Get("q", false)
	must(t, err)
	if n, err := channel.QueuePurge("q", false); err != nil || n != 3 {
		t.Errorf("purged %d messages, %v: want 3", n, err)
	}
	if n, err := channel.QueuePurge("q", false); err != nil || n != 0 {
		t.Errorf("purged %d messages, %v: want 0", n, err)
	}
	must(t, unacked.Nack(false, true)) // what is unacked is not purged
	if delivery, _, err := channel.Get("q", true); err != nil || string(delivery.Body) != "a" {
		t.Errorf("got %q, %v: want a", delivery.Body, err)
	}
}

func TestQueueDelete(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareQueue(t, channel, "q")
	publish(t, channel, "", "q", "a", "b", "c")
	if _, _, err := channel.Get("q", false); err != nil {
		t.Fatal(err)
	}
	if n, err := channel.QueueDelete("q", true, false, false); err != nil || n != 2 {
		t.Errorf("deleted %d messages, %v: want the 2 ready ones", n, err)
	}
	declareQueue(t, channel, "q")
	if messages, _ := waiting(t, channel, "q"); messages != 0 {
		t.Errorf("a new queue has %d messages", messages)
	}
	must(t, channel.Ack(0, true)) // of a queue that is gone: nothing happens
	if n, err := channel.QueueDelete("q", true, true, false); err != nil || n != 0 {
		t.Errorf("deleted %d messages, %v", n, err)
	}
}

func TestAutoDeleteQueue(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	channel := openChannel(t, connection)
	exists := func(name string) bool {
		_, err := openChannel(t, connection).QueueDeclarePassive(name, false, true, false, false, nil)
		return err == nil
	}
	declare := func(name string) {
		t.Helper()
		if _, err := channel.QueueDeclare(name, false, true, false, false, nil); err != nil {
			t.Fatal(err)
		}
	}

	declare("never-consumed")
	if _, _, err := channel.Get("never-consumed", true); err != nil {
		t.Fatal(err)
	}
	if !exists("never-consumed") {
		t.Error("basic.get counted as a consumer")
	}

	declare("q")
	for _, tag := range []string{"a", "b"} {
		if _, err := channel.Consume("q", tag, true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	must(t, channel.Cancel("a", false))
	if !exists("q") {
		t.Fatal("the queue went before its last consumer")
	}
	must(t, channel.Cancel("b", false))
	if exists("q") {
		t.Error("the queue stayed after its last consumer")
	}

	declare("closed")
	consumer := openChannel(t, connection)
	consume(t, consumer, "closed")
	must(t, consumer.Close())
	if exists("closed") {
		t.Error("the queue stayed after its consumer's channel")
	}
}
