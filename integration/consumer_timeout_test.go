// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq/amqp/wire"
)

// TestConsumerTimeout: a consumer that does not answer is cancelled, the channel goes
// on, and so do the other consumers of it; late answers are passed over.
func TestConsumerTimeout(t *testing.T) {
	t.Parallel()
	for _, queueType := range []string{"classic", "quorum"} {
		t.Run(queueType, func(t *testing.T) {
			t.Parallel()
			channel := openChannel(t, dial(t, startBroker(t)))
			cancelled := channel.NotifyCancel(make(chan string, 1))
			arguments := amqp091.Table{"x-queue-type": queueType, "x-consumer-timeout": int32(60_000)}
			_, err := channel.QueueDeclare("q", true, false, false, false, arguments)
			must(t, err)
			must(t, channel.Qos(2, 0, true))
			slow, err := channel.Consume("q", "slow", false, false, false, false, amqp091.Table{"x-consumer-timeout": int32(1000)})
			must(t, err)
			publish(t, channel, "", "q", "1", "2", "3")
			first, second := next(t, slow), next(t, slow)
			if tag := next(t, cancelled); tag != "slow" {
				t.Fatalf("consumer %q was cancelled", tag)
			}
			if _, open := <-slow; open {
				t.Error("a message came after the end")
			}
			// The room of the prefetch is there again, and the messages are where they were.
			patient := consume(t, channel, "q")
			again := next(t, patient)
			if string(again.Body) != "1" || !again.Redelivered {
				t.Errorf("got %q, redelivered %t", again.Body, again.Redelivered)
			}
			must(t, first.Ack(false))
			must(t, first.Nack(false, true))
			must(t, second.Ack(true))
			must(t, again.Ack(false))
			for _, body := range []string{"2", "3"} {
				d := next(t, patient)
				if string(d.Body) != body || d.Headers["x-delivery-count"] != nil {
					t.Errorf("got %q with %v, want %q", d.Body, d.Headers, body)
				}
				must(t, d.Ack(false))
			}
			if messages, consumers := waiting(t, channel, "q"); messages != 0 || consumers != 1 {
				t.Errorf("%d messages and %d consumers are left", messages, consumers)
			}
		})
	}
}

// TestConsumerTimeoutTransaction: acknowledgements that are not committed do not
// count, and those of messages that went back are passed over in a commit.
func TestConsumerTimeoutTransaction(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	cancelled := channel.NotifyCancel(make(chan string, 1))
	declareQueue(t, channel, "q")
	publish(t, channel, "", "q", "message")
	must(t, channel.Tx())
	deliveries, err := channel.Consume("q", "slow", false, false, false, false, amqp091.Table{"x-consumer-timeout": int32(50)})
	must(t, err)
	must(t, next(t, deliveries).Ack(false))
	next(t, cancelled)
	must(t, channel.TxCommit())
	if messages, _ := waiting(t, channel, "q"); messages != 1 {
		t.Errorf("%d messages are left, want 1", messages)
	}
}

// TestConsumerTimeoutChannel: a client that does not understand that its consumer is
// cancelled loses the channel, and its connection goes on.
func TestConsumerTimeoutChannel(t *testing.T) {
	t.Parallel()
	c := connectWire(t, startBroker(t))
	c.login(wireLogin{properties: wire.Table{}})
	call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
	for _, cancel := range []bool{false, true} {
		call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "q"})
		c.publish(1, wire.BasicPublish{RoutingKey: "q"}, wire.Properties{}, "message")
		methods := []wire.Method{&wire.BasicConsume{Queue: "q", ConsumerTag: "slow", Arguments: wire.Table{
			{Name: "x-consumer-timeout", Value: int32(500)},
		}}}
		if cancel { // with it, so that it comes well before the time is over
			methods = append(methods, &wire.BasicCancel{ConsumerTag: "slow"})
		}
		c.send(1, methods...)
		expect[*wire.BasicConsumeOk](c, 1)
		expect[*wire.BasicDeliver](c, 1)
		c.content(1)
		if cancel {
			expect[*wire.BasicCancelOk](c, 1)
		}
		c.wantException(exception{wire.PreconditionFailed, "delivery acknowledgement on channel 1 timed out. " +
			"Timeout value used: -1 ms. This timeout value can be configured, see consumers doc guide to learn more", 0})
		if got := call[*wire.QueueDeleteOk](c, 1, &wire.QueueDelete{Queue: "q"}); got.MessageCount != 1 {
			t.Errorf("the queue had %d messages, want 1", got.MessageCount)
		}
	}
}
