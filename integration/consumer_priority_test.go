// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rabbitmq/amqp091-go"
)

// consumeWith starts a consumer with that tag and arguments on a channel of its own.
func consumeWith(t testing.TB, connection *amqp091.Connection, queue, tag string, prefetch int, args amqp091.Table) (*amqp091.Channel, <-chan amqp091.Delivery) {
	t.Helper()
	channel := openChannel(t, connection)
	must(t, channel.Qos(prefetch, 0, false))
	deliveries, err := channel.Consume(queue, tag, false, false, false, false, args)
	must(t, err)
	return channel, deliveries
}

// TestConsumerPriority: consumers of a higher priority get everything while they have
// credit, equal ones alternate, and lower ones get what is left.
func TestConsumerPriority(t *testing.T) {
	t.Parallel()
	for _, queueType := range []string{"classic", "quorum"} {
		t.Run(queueType, func(t *testing.T) {
			t.Parallel()
			connection := dial(t, startBroker(t))
			channel := openChannel(t, connection)
			_, err := channel.QueueDeclare("q", true, false, false, false, amqp091.Table{"x-queue-type": queueType})
			must(t, err)
			_, low := consumeWith(t, connection, "q", "low", 2, amqp091.Table{"x-priority": int64(-7)})
			_, one := consumeWith(t, connection, "q", "one", 2, nil)
			_, high := consumeWith(t, connection, "q", "high", 1, amqp091.Table{"x-priority": uint8(200)})
			_, two := consumeWith(t, connection, "q", "two", 2, amqp091.Table{"x-priority": int16(0)})
			publishConfirmed(t, channel, amqp091.Persistent, "", "q", numbers(8)...)
			first := next(t, high)
			got := [][]string{{string(first.Body)}, nextBodies(t, one, 2), nextBodies(t, two, 2), nextBodies(t, low, 2)}
			if fmt.Sprint(got) != "[[0] [1 3] [2 4] [5 6]]" {
				t.Errorf("high, one, two, low got %v", got)
			}
			must(t, first.Ack(false))
			if d := next(t, high); string(d.Body) != "7" {
				t.Errorf("high got %s then", d.Body)
			}
		})
	}
}

// TestConsumerPriorityInvalid: the argument is an integer of any width. It is
// looked at once there is a queue.
func TestConsumerPriorityInvalid(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	declareQueue(t, openChannel(t, connection), "q")
	for value, typeName := range map[any]string{"high": "longstr", 1.5: "double", true: "bool"} {
		_, err := openChannel(t, connection).Consume("q", "", false, false, false, false, amqp091.Table{"x-priority": value})
		wantException(t, err, amqp091.PreconditionFailed,
			fmt.Sprintf("PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, got %s\"", typeName))
	}
	_, err := openChannel(t, connection).Consume("missing", "", false, false, false, false, amqp091.Table{"x-priority": "high"})
	wantException(t, err, amqp091.NotFound, "NOT_FOUND - no queue 'missing' in vhost '/'")
}

// TestConsumerPriorityOrder: what a consumer of a higher priority gives back goes to
// it again while it has credit, and to others when it is gone, in its old place.
func TestConsumerPriorityOrder(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	channel := openChannel(t, connection)
	declareQueue(t, channel, "q")
	highChannel, high := consumeWith(t, connection, "q", "high", 3, amqp091.Table{"x-priority": int32(1)})
	publish(t, channel, "", "q", numbers(3)...)
	if got := nextBodies(t, high, 3); !slices.Equal(got, numbers(3)) {
		t.Fatalf("high got %v", got)
	}
	_, low := consumeWith(t, connection, "q", "low", 0, nil)
	must(t, highChannel.Nack(2, true, true))
	if got := nextBodies(t, high, 2); !slices.Equal(got, numbers(2)) {
		t.Errorf("high got %v again", got)
	}
	must(t, highChannel.Close())
	if got := nextBodies(t, low, 3); !slices.Equal(got, numbers(3)) {
		t.Errorf("low got %v", got)
	}
}
