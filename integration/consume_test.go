// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"fmt"
	"regexp"
	"slices"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq/amqp/wire"
)

// numbers are n bodies, "0" and on.
func numbers(n int) []string {
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = fmt.Sprint(i)
	}
	return bodies
}

// Two workers get alternate messages, as RabbitMQ's second tutorial shows.
func TestWorkersAlternate(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	publisher := openChannel(t, dial(t, broker))
	declareQueue(t, publisher, "task_queue")
	one, two := consume(t, openChannel(t, dial(t, broker)), "task_queue"), consume(t, openChannel(t, dial(t, broker)), "task_queue")
	publish(t, publisher, "", "task_queue", numbers(20)...)
	var even, odd []string
	for i := range 20 {
		if i%2 == 0 {
			even = append(even, fmt.Sprint(i))
		} else {
			odd = append(odd, fmt.Sprint(i))
		}
	}
	if got := nextBodies(t, one, 10); !slices.Equal(got, even) {
		t.Errorf("the first worker got %v", got)
	}
	if got := nextBodies(t, two, 10); !slices.Equal(got, odd) {
		t.Errorf("the second worker got %v", got)
	}
}

// The prefetch is each new consumer's own; those that exist keep theirs.
func TestPrefetchPerConsumer(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	closed := channel.NotifyClose(make(chan *amqp091.Error, 1))
	for _, queue := range []string{"a", "b", "c"} {
		declareQueue(t, channel, queue)
		publish(t, channel, "", queue, numbers(10)...)
	}
	must(t, channel.Qos(2, 0, false))
	a := consume(t, channel, "a")
	b := consume(t, channel, "b")
	must(t, channel.Qos(0, 0, false))
	c := consume(t, channel, "c")
	first := next(t, a)
	nextBodies(t, a, 1)
	nextBodies(t, b, 2)
	nextBodies(t, c, 10)
	if messages, _ := waiting(t, channel, "a"); messages != 8 {
		t.Errorf("%d messages wait, want 8", messages)
	}
	nothing(t, a)
	nothing(t, b)
	must(t, first.Ack(false))
	nextBodies(t, a, 1)
	must(t, first.Nack(false, true)) // settled before
	wantException(t, next(t, closed), amqp091.PreconditionFailed, "PRECONDITION_FAILED - unknown delivery tag 1")
}

// With global the limit is shared by the channel's consumers.
func TestPrefetchGlobal(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	for _, queue := range []string{"a", "b"} {
		declareQueue(t, channel, queue)
	}
	must(t, channel.Qos(3, 0, true))
	deliveries := make(chan amqp091.Delivery, 20)
	for _, queue := range []string{"a", "b"} {
		from := consume(t, channel, queue)
		go func() {
			for d := range from {
				deliveries <- d
			}
		}()
		publish(t, channel, "", queue, numbers(5)...)
	}
	held := []amqp091.Delivery{next(t, deliveries), next(t, deliveries), next(t, deliveries)}
	ready := func() int {
		a, _ := waiting(t, channel, "a")
		b, _ := waiting(t, channel, "b")
		return a + b
	}
	for i := range 7 {
		if got := ready(); got != 7-i {
			t.Fatalf("%d messages wait, want %d", got, 7-i)
		}
		nothing(t, deliveries)
		must(t, held[0].Ack(false))
		held = append(held[1:], next(t, deliveries))
	}
}

// basic.get and consumers without acknowledgement are not limited.
func TestPrefetchDoesNotLimit(t *testing.T) {
	t.Parallel()
	for _, global := range []bool{false, true} {
		t.Run(fmt.Sprint(global), func(t *testing.T) {
			t.Parallel()
			channel := openChannel(t, dial(t, startBroker(t)))
			declareQueue(t, channel, "q")
			publish(t, channel, "", "q", numbers(20)...)
			must(t, channel.Qos(1, 0, global))
			for i := range 5 {
				if d, ok, err := channel.Get("q", false); err != nil || !ok || int(d.MessageCount) != 19-i {
					t.Fatalf("got %t, %v, %d left", ok, err, d.MessageCount)
				}
			}
			free, err := channel.Consume("q", "", true, false, false, false, nil)
			must(t, err)
			nextBodies(t, free, 15)
		})
	}
}

func TestAck(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	connection := dial(t, broker)
	tags := func(t *testing.T, queue string, count int) *amqp091.Channel {
		t.Helper()
		channel := openChannel(t, connection)
		declareQueue(t, channel, queue)
		publish(t, channel, "", queue, numbers(count)...)
		nextBodies(t, consume(t, channel, queue), count)
		return channel
	}
	// left closes the channel and says what goes back to the queue.
	left := func(t *testing.T, channel *amqp091.Channel, queue string) []string {
		t.Helper()
		must(t, channel.Close())
		return drain(t, openChannel(t, connection), queue)
	}
	for _, test := range []struct {
		name   string
		settle func(*amqp091.Channel) error
		want   []string
	}{
		{"One", func(c *amqp091.Channel) error { return c.Ack(3, false) }, []string{"0", "1", "3", "4"}},
		{"Multiple", func(c *amqp091.Channel) error { return c.Ack(3, true) }, []string{"3", "4"}},
		{"All", func(c *amqp091.Channel) error { return c.Ack(0, true) }, nil},
		{"AllTwice", func(c *amqp091.Channel) error { _ = c.Ack(0, true); return c.Ack(0, true) }, nil},
		{"MultipleOverHoles", func(c *amqp091.Channel) error { _ = c.Ack(2, false); return c.Ack(4, true) }, []string{"4"}},
		{"NackMultiple", func(c *amqp091.Channel) error { return c.Nack(2, true, false) }, []string{"2", "3", "4"}},
		{"NackAll", func(c *amqp091.Channel) error { return c.Nack(0, true, false) }, nil},
		{"Reject", func(c *amqp091.Channel) error { return c.Reject(5, false) }, []string{"0", "1", "2", "3"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			channel := tags(t, test.name, 5)
			must(t, test.settle(channel))
			if got := left(t, channel, test.name); !slices.Equal(got, test.want) {
				t.Errorf("left %v, want %v", got, test.want)
			}
		})
	}
	for _, test := range []struct {
		name   string
		settle func(*amqp091.Channel) error
		tag    int
	}{
		{"Twice", func(c *amqp091.Channel) error { _ = c.Ack(2, false); return c.Ack(2, false) }, 2},
		{"MultipleOfSettled", func(c *amqp091.Channel) error { _ = c.Ack(2, false); return c.Ack(2, true) }, 2},
		{"Unknown", func(c *amqp091.Channel) error { return c.Ack(6, false) }, 6},
		{"MultipleOfUnknown", func(c *amqp091.Channel) error { return c.Ack(6, true) }, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			channel := tags(t, test.name, 5)
			closed := channel.NotifyClose(make(chan *amqp091.Error, 1))
			must(t, test.settle(channel))
			wantException(t, next(t, closed), amqp091.PreconditionFailed, fmt.Sprintf("PRECONDITION_FAILED - unknown delivery tag %d", test.tag))
		})
	}
	t.Run("WithoutAcknowledgement", func(t *testing.T) {
		channel := openChannel(t, connection)
		closed := channel.NotifyClose(make(chan *amqp091.Error, 1))
		declareQueue(t, channel, "auto")
		publish(t, channel, "", "auto", "m")
		d, _, err := channel.Get("auto", true)
		must(t, err)
		must(t, channel.Ack(d.DeliveryTag, false))
		wantException(t, next(t, closed), amqp091.PreconditionFailed, "PRECONDITION_FAILED - unknown delivery tag 1")
	})
}

// Requeued messages go back to their places and are marked as redelivered.
func TestRequeue(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	for name, requeue := range map[string]func(*amqp091.Channel) error{
		"Nack":         func(c *amqp091.Channel) error { _ = c.Nack(2, false, true); return c.Nack(4, false, true) },
		"NackReversed": func(c *amqp091.Channel) error { _ = c.Nack(4, false, true); return c.Nack(2, false, true) },
		"Reject":       func(c *amqp091.Channel) error { _ = c.Reject(4, true); return c.Reject(2, true) },
		"Recover": func(c *amqp091.Channel) error {
			for _, tag := range []uint64{1, 3, 5} {
				_ = c.Ack(tag, false)
			}
			//lint:ignore SA1019 clients still send it
			return c.Recover(true)
		},
		"Close": func(c *amqp091.Channel) error {
			for _, tag := range []uint64{1, 3, 5} {
				_ = c.Ack(tag, false)
			}
			return c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			channel := openChannel(t, connection)
			declareQueue(t, channel, name)
			publish(t, channel, "", name, numbers(8)...)
			for range 5 {
				if d, _, err := channel.Get(name, false); err != nil || d.Redelivered {
					t.Fatalf("got %q, redelivered %t, %v", d.Body, d.Redelivered, err)
				}
			}
			must(t, requeue(channel))
			other := openChannel(t, connection)
			eventually(t, "the messages are back", func() bool { n, _ := waiting(t, other, name); return n == 5 })
			for _, want := range []string{"1r", "3r", "5", "6", "7"} {
				d, _, err := other.Get(name, true)
				must(t, err)
				got := string(d.Body)
				if d.Redelivered {
					got += "r"
				}
				if got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		})
	}
}

// Requeueing to a consumer that is there gives it the message again, before the
// ones after it.
func TestRequeueToConsumer(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareQueue(t, channel, "q")
	must(t, channel.Qos(1, 0, false))
	deliveries := consume(t, channel, "q")
	publish(t, channel, "", "q", "a", "b")
	first := next(t, deliveries)
	must(t, first.Reject(true))
	again := next(t, deliveries)
	if string(again.Body) != "a" || !again.Redelivered || again.DeliveryTag != 2 {
		t.Errorf("got %q, redelivered %t, tag %d", again.Body, again.Redelivered, again.DeliveryTag)
	}
	must(t, again.Ack(false))
	if d := next(t, deliveries); string(d.Body) != "b" || d.Redelivered {
		t.Errorf("got %q, redelivered %t", d.Body, d.Redelivered)
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t))
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "q"})
	call[*wire.BasicGetEmpty](c, 1, &wire.BasicGet{Queue: "q"})
	for _, body := range []string{"a", "b", "c"} {
		c.publish(1, wire.BasicPublish{Exchange: "", RoutingKey: "q"}, wire.Properties{}, body)
	}
	for i, want := range []wire.BasicGetOk{
		{DeliveryTag: 1, RoutingKey: "q", MessageCount: 2},
		{DeliveryTag: 2, RoutingKey: "q", MessageCount: 1},
		{DeliveryTag: 3, RoutingKey: "q"},
	} {
		got := call[*wire.BasicGetOk](c, 1, &wire.BasicGet{Queue: "q", NoAck: i == 1})
		c.content(1)
		if *got != want {
			t.Errorf("got %+v, want %+v", *got, want)
		}
	}
	call[*wire.BasicGetEmpty](c, 1, &wire.BasicGet{Queue: "q"})
	// Deliveries and gets share one sequence of tags.
	c.send(1, &wire.BasicNack{DeliveryTag: 3, Requeue: true})
	call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{Queue: "q"})
	if m := expect[*wire.BasicDeliver](c, 1); m.DeliveryTag != 4 || !m.Redelivered {
		t.Errorf("delivered %+v", *m)
	}
	c.content(1)
	// An exclusive consumer does not keep others from basic.get.
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "x"})
	call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{Queue: "x", Exclusive: true})
	call[*wire.BasicGetEmpty](c, 1, &wire.BasicGet{Queue: "x"})
}

// Clients that understand it are told when their consumers' queue goes.
func TestConsumerCancelNotification(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	channel, other := openChannel(t, dial(t, broker)), openChannel(t, dial(t, broker))
	declareQueue(t, channel, "q")
	cancelled := channel.NotifyCancel(make(chan string, 2))
	deliveries, err := channel.Consume("q", "tag", false, false, false, false, nil)
	must(t, err)
	if _, err := other.QueueDelete("q", false, false, false); err != nil {
		t.Fatal(err)
	}
	if tag := next(t, cancelled); tag != "tag" {
		t.Errorf("cancelled %q", tag)
	}
	for range deliveries {
		t.Error("a delivery from a queue that is gone")
	}
	declareQueue(t, channel, "q") // the channel goes on, and the tag is free
	if _, err := channel.Consume("q", "tag", false, false, false, false, nil); err != nil {
		t.Error(err)
	}

	c := connectWire(t, broker)
	c.login(wireLogin{properties: wire.Table{}})
	call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "silent"})
	call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{Queue: "silent"})
	if _, err := other.QueueDelete("silent", false, false, false); err != nil {
		t.Fatal(err)
	}
	call[*wire.BasicQosOk](c, 1, &wire.BasicQos{}) // nothing before the answer
}

func TestConsumerTags(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t))
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "q"})
	form := regexp.MustCompile(`^amq\.ctag-[A-Za-z0-9_-]{22}$`)
	if ok := call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{Queue: "q"}); !form.MatchString(ok.ConsumerTag) {
		t.Errorf("server-named tag %q", ok.ConsumerTag)
	}
	// Tags are the channel's own, and free again after basic.cancel.
	call[*wire.ChannelOpenOk](c, 2, &wire.ChannelOpen{})
	for range 2 {
		for _, channel := range []uint16{1, 2} {
			if ok := call[*wire.BasicConsumeOk](c, channel, &wire.BasicConsume{Queue: "q", ConsumerTag: "t"}); ok.ConsumerTag != "t" {
				t.Errorf("tag %q", ok.ConsumerTag)
			}
		}
		for _, channel := range []uint16{1, 2} {
			call[*wire.BasicCancelOk](c, channel, &wire.BasicCancel{ConsumerTag: "t"})
		}
	}
}

// After basic.cancel nothing more comes, and what was delivered can be settled.
func TestCancel(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareQueue(t, channel, "q")
	must(t, channel.Qos(2, 0, false))
	deliveries, err := channel.Consume("q", "t", false, false, false, false, nil)
	must(t, err)
	publish(t, channel, "", "q", "a", "b", "c")
	a, b := next(t, deliveries), next(t, deliveries)
	must(t, channel.Cancel("t", false))
	must(t, a.Ack(false))
	must(t, b.Nack(false, true))
	if messages, consumers := waiting(t, channel, "q"); messages != 2 || consumers != 0 {
		t.Errorf("%d messages, %d consumers", messages, consumers)
	}
	if d, open := <-deliveries; open {
		t.Errorf("got %q after the cancel", d.Body)
	}
}

// consume-ok comes before the consumer's first message, on any backlog.
func TestConsumeOkComesFirst(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	publisher := openChannel(t, dial(t, broker))
	declareQueue(t, publisher, "q")
	publish(t, publisher, "", "q", numbers(1000)...)
	waiting(t, publisher, "q")
	c := dialWire(t, broker)
	call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{Queue: "q", ConsumerTag: "t", NoAck: true})
	for i := range 1000 {
		m := expect[*wire.BasicDeliver](c, 1)
		if _, body := c.content(1); string(body) != fmt.Sprint(i) || m.DeliveryTag != uint64(i+1) {
			t.Fatalf("delivery %d is %q with tag %d", i, body, m.DeliveryTag)
		}
	}
}

// A consumer that does not read keeps nobody else from getting messages.
func TestSlowConsumerHurtsNobody(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	publisher := openChannel(t, dial(t, broker))
	declareQueue(t, publisher, "q")
	stuck := dialWire(t, broker)
	call[*wire.BasicConsumeOk](stuck, 1, &wire.BasicConsume{Queue: "q", NoAck: true})
	body := make([]byte, 1<<20)
	const count = 40 // more than sockets and buffers hold
	for range count {
		must(t, publisher.PublishWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{Body: body}))
	}
	other, err := openChannel(t, dial(t, broker)).Consume("q", "", true, false, false, false, nil)
	must(t, err)
	if d := next(t, other); len(d.Body) != len(body) {
		t.Errorf("got %d bytes", len(d.Body))
	}
}
