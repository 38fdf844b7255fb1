// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rabbitmq/amqp091-go"
)

// orderedQueues are queues with the order in which they hand out what
// publishPriorities publishes.
var orderedQueues = []struct {
	name string
	args amqp091.Table
	want string
}{
	{"classic 10 levels", amqp091.Table{"x-max-priority": uint8(9)}, "2 4 6 8 5 3 9 0 1 7"},
	{"classic 255", amqp091.Table{"x-max-priority": int32(255)}, "4 8 2 6 5 3 9 0 1 7"},
	{"classic 0 acts as 1", amqp091.Table{"x-max-priority": int32(0)}, "2 3 4 5 6 8 9 0 1 7"},
	{"classic without", nil, "0 1 2 3 4 5 6 7 8 9"},
	{"quorum", amqp091.Table{"x-queue-type": "quorum"}, "4 8 2 6 0 1 5 7 3 9"},
}

// publishPriorities publishes the messages 0 to 9 with several priorities, and waits
// until they are confirmed. The client sends a priority of 0 as none.
func publishPriorities(t testing.TB, channel *amqp091.Channel, exchange, key string) {
	t.Helper()
	must(t, channel.Confirm(false))
	var last *amqp091.DeferredConfirmation
	for i, priority := range []uint8{0, 0, 9, 3, 255, 4, 9, 0, 31, 3} {
		confirmation, err := channel.PublishWithDeferredConfirmWithContext(t.Context(), exchange, key, false, false,
			amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: fmt.Append(nil, i), Priority: priority})
		must(t, err)
		last = confirmation
	}
	if ok, err := last.WaitContext(t.Context()); err != nil || !ok {
		t.Fatalf("not confirmed: %v", err)
	}
}

// TestPriority: the highest priority is served first, each level in its order, also
// after a restart, and requeued messages are back at their places.
func TestPriority(t *testing.T) {
	t.Parallel()
	for _, q := range orderedQueues {
		t.Run(q.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			broker := startOnDisk(t, dir)
			channel := openChannel(t, dial(t, broker))
			_, err := channel.QueueDeclare("q", true, false, false, false, q.args)
			must(t, err)
			publishPriorities(t, channel, "", "q")
			for range 3 {
				_, ok, err := channel.Get("q", false)
				if err != nil || !ok {
					t.Fatalf("get: %t, %v", ok, err)
				}
			}
			must(t, channel.Nack(0, true, true))
			channel = openChannel(t, dial(t, restart(t, broker, dir)))
			var got, again []string
			for _, d := range drainAll(t, channel, "q") {
				got = append(got, string(d.Body))
				if d.Redelivered {
					again = append(again, string(d.Body))
				}
			}
			if order := strings.Join(got, " "); order != q.want {
				t.Errorf("got %s, want %s", order, q.want)
			}
			if !slices.Equal(again, got[:3]) {
				t.Errorf("redelivered are %v, want the first three", again)
			}
		})
	}
}

// drainAll gets all messages of a queue.
func drainAll(t testing.TB, channel *amqp091.Channel, queue string) (all []amqp091.Delivery) {
	t.Helper()
	for {
		d, ok, err := channel.Get(queue, true)
		must(t, err)
		if !ok {
			return all
		}
		all = append(all, d)
	}
}

// TestPriorityOfMixedRoute: a queue that does not order by priority gets messages of
// all priorities in the order of their publishes, next to one that does.
func TestPriorityOfMixedRoute(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	for _, q := range orderedQueues {
		_, err := channel.QueueDeclare(q.name, true, false, false, false, q.args)
		must(t, err)
		must(t, channel.QueueBind(q.name, "", "amq.fanout", false, nil))
	}
	publishPriorities(t, channel, "amq.fanout", "")
	for _, q := range orderedQueues {
		if got := strings.Join(drain(t, channel, q.name), " "); got != q.want {
			t.Errorf("%s: got %s, want %s", q.name, got, q.want)
		}
	}
}

// TestPriorityWaiting: priority is for messages that wait. What a consumer has been
// given is not overtaken, and what comes later with a higher priority is next.
func TestPriorityWaiting(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	channel := openChannel(t, connection)
	_, err := channel.QueueDeclare("q", false, false, false, false, amqp091.Table{"x-max-priority": int32(5)})
	must(t, err)
	must(t, channel.Qos(2, 0, false))
	deliveries := consume(t, channel, "q")
	send := func(body string, priority uint8) {
		must(t, channel.PublishWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{Body: []byte(body), Priority: priority}))
	}
	send("first", 0)
	first := next(t, deliveries)
	send("second", 1)
	next(t, deliveries)
	for i, priority := range []uint8{1, 0, 5, 1} {
		send(fmt.Sprint(i, "p", priority), priority)
	}
	eventually(t, "all have come", func() bool { n, _ := waiting(t, openChannel(t, connection), "q"); return n == 4 })
	must(t, first.Ack(false))
	if got := string(next(t, deliveries).Body); got != "2p5" {
		t.Errorf("then got %s", got)
	}
	if n, err := channel.QueuePurge("q", false); n != 3 || err != nil {
		t.Errorf("purged %d, %v: want 3 that wait", n, err)
	}
}

// TestPriorityInTransaction: messages of a transaction and dead letters keep to
// their priorities.
func TestPriorityInTransaction(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	_, err := channel.QueueDeclare("dead", true, false, false, false, amqp091.Table{"x-max-priority": int32(9)})
	must(t, err)
	_, err = channel.QueueDeclare("q", true, false, false, false, amqp091.Table{
		"x-max-priority": int32(3), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead",
	})
	must(t, err)
	must(t, channel.Tx())
	for i := range 40 {
		must(t, channel.PublishWithContext(t.Context(), "", "q", false, false,
			amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: fmt.Append(nil, i), Priority: uint8(i % 10)}))
	}
	must(t, channel.TxCommit())
	must(t, channel.Qos(0, 0, false))
	deliveries := consume(t, channel, "q")
	var want []string
	for _, level := range []int{3, 2, 1, 0} {
		for i := range 40 {
			if min(i%10, 3) == level {
				want = append(want, fmt.Sprint(i))
			}
		}
	}
	if got := nextBodies(t, deliveries, 40); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	must(t, channel.Nack(0, true, false))
	must(t, channel.TxCommit())
	want = nil
	for level := 9; level >= 0; level-- {
		for i := level; i < 40; i += 10 {
			want = append(want, fmt.Sprint(i))
		}
	}
	eventually(t, "all are dead", func() bool { n, _ := waiting(t, channel, "dead"); return n == 40 })
	if got := drain(t, channel, "dead"); !slices.Equal(got, want) {
		t.Errorf("dead letters are %v, want %v", got, want)
	}
}
