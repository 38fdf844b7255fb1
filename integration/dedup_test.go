// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"testing"

	"github.com/rabbitmq/amqp091-go"
)

// publishOnce publishes persistent messages with these identifiers and waits until
// all are confirmed. The channel is in confirm mode.
func publishOnce(t testing.TB, channel *amqp091.Channel, exchange, key string, ids ...any) {
	t.Helper()
	confirms := make([]*amqp091.DeferredConfirmation, len(ids))
	for i, id := range ids {
		var err error
		confirms[i], err = channel.PublishWithDeferredConfirmWithContext(t.Context(), exchange, key, true, false, amqp091.Publishing{
			Headers: amqp091.Table{"x-deduplication-header": id}, DeliveryMode: amqp091.Persistent, Body: []byte("x"),
		})
		must(t, err)
	}
	for i, confirm := range confirms {
		if acked, err := confirm.WaitContext(t.Context()); !acked || err != nil {
			t.Fatalf("message %d, %v: confirmed %t, %v", i, ids[i], acked, err)
		}
	}
}

func wantWaiting(t testing.TB, channel *amqp091.Channel, what string, queues map[string]int) {
	t.Helper()
	for queue, want := range queues {
		if got, _ := waiting(t, channel, queue); got != want {
			t.Errorf("%s: %s has %d messages, want %d", what, queue, got, want)
		}
	}
}

// A queue and an exchange drop duplicates of what they took, confirm them, and know
// them after a restart too.
func TestDeduplication(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broker := newBroker(t, onDisk(dir))
	must(t, broker.Start(t.Context()))
	dedup := amqp091.Table{"x-message-deduplication": true, "x-cache-size": 1000, "x-cache-ttl": 3_600_000}
	channel := openChannel(t, dial(t, broker))
	_, err := channel.QueueDeclare("once", true, false, false, false, dedup)
	must(t, err)
	_, err = channel.QueueDeclare("any", true, false, false, false, nil)
	must(t, err)
	must(t, channel.ExchangeDeclare("once", "fanout", true, false, false, false, dedup))
	for _, queue := range []string{"once", "any"} {
		must(t, channel.QueueBind(queue, "", "amq.fanout", false, nil))
		must(t, channel.QueueBind(queue, "", "once", false, nil))
	}
	must(t, channel.Confirm(false))
	returns := channel.NotifyReturn(make(chan amqp091.Return, 10))
	publishOnce(t, channel, "", "once", "a", "b", "a", 5, "5", int64(5))
	wantWaiting(t, channel, "queue", map[string]int{"once": 4, "any": 0})
	publishOnce(t, channel, "amq.fanout", "", "a", "c", "c")
	wantWaiting(t, channel, "fan-out", map[string]int{"once": 5, "any": 3})
	publishOnce(t, channel, "once", "", "c", "d", "d", "c")
	wantWaiting(t, channel, "exchange", map[string]int{"once": 6, "any": 5})
	nothing(t, returns) // a mandatory duplicate has been routed before

	// A transaction that is rolled back has not taken anything.
	transactional := openChannel(t, dial(t, broker))
	must(t, transactional.Tx())
	for _, end := range []func() error{transactional.TxRollback, transactional.TxCommit, transactional.TxCommit} {
		for range 2 {
			must(t, transactional.PublishWithContext(t.Context(), "", "once", false, false, amqp091.Publishing{
				Headers: amqp091.Table{"x-deduplication-header": "e"}, DeliveryMode: amqp091.Persistent,
			}))
		}
		must(t, end())
	}
	wantWaiting(t, channel, "transactions", map[string]int{"once": 7})
	shutDown(t, broker)

	broker = startBroker(t, onDisk(dir))
	channel = openChannel(t, dial(t, broker))
	must(t, channel.Confirm(false))
	publishOnce(t, channel, "", "once", "a", "b", "c", "d", "e", 5, "5")
	publishOnce(t, channel, "once", "", "c", "d")
	wantWaiting(t, channel, "after a restart", map[string]int{"once": 7, "any": 5})
	if _, err := channel.QueuePurge("once", false); err != nil {
		t.Fatal(err)
	}
	publishOnce(t, channel, "", "once", "a", "f")
	wantWaiting(t, channel, "after a purge", map[string]int{"once": 1})
}

// The arguments are checked and compared like others.
func TestDeduplicationArguments(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	connection := dial(t, broker)
	_, err := openChannel(t, connection).QueueDeclare("q", true, false, false, false, amqp091.Table{"x-cache-size": 0})
	wantException(t, err, 406, "PRECONDITION_FAILED - invalid arg 'x-cache-size' for queue 'q' in vhost '/': {value_zero,0}")
	err = openChannel(t, connection).ExchangeDeclare("x", "fanout", true, false, false, false, amqp091.Table{"x-message-deduplication": "yes"})
	wantException(t, err, 406, "PRECONDITION_FAILED - invalid arg 'x-message-deduplication' for exchange 'x' in vhost '/': {unacceptable_type,longstr}")
	_, err = openChannel(t, connection).QueueDeclare("q", true, false, false, false, nil)
	must(t, err)
	_, err = openChannel(t, connection).QueueDeclare("q", true, false, false, false, amqp091.Table{"x-message-deduplication": true})
	wantException(t, err, 406, "PRECONDITION_FAILED - inequivalent arg 'x-message-deduplication' for queue 'q' in vhost '/': "+
		"received the value 'true' of type 'bool' but current is none")
	_, err = openChannel(t, connection).QueueDeclare("s", true, false, false, false, amqp091.Table{"x-queue-type": "stream"})
	wantException(t, err, 406, `PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 's' in vhost '/': "unsupported queue type 'stream'"`)
}
