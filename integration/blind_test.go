// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"reflect"
	"testing"

	"github.com/rabbitmq/amqp091-go"
)

// TestBlindCopiesDie: the routing keys of the header BCC count when a message dies, twice
// over and after a restart, until a dead letter routing key replaces them. Nobody gets to
// see them.
func TestBlindCopiesDie(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broker := startOnDisk(t, dir)
	channel := openChannel(t, dial(t, broker))
	for _, name := range []string{"first", "second", "third"} {
		must(t, channel.ExchangeDeclare(name, "direct", true, false, false, false, nil))
	}
	declare := func(name, exchange, key string, args amqp091.Table) {
		t.Helper()
		_, err := channel.QueueDeclare(name, true, false, false, false, args)
		must(t, err)
		must(t, channel.QueueBind(name, key, exchange, false, nil))
	}
	// From a by way of the exchange second to b, on to c, which replaces the keys, and to
	// d, but not to e.
	declare("a", "first", "key", amqp091.Table{"x-dead-letter-exchange": "second"})
	declare("b", "second", "blind", amqp091.Table{"x-dead-letter-exchange": "third"})
	declare("c", "third", "blind", amqp091.Table{"x-dead-letter-exchange": "third", "x-dead-letter-routing-key": "new"})
	declare("d", "third", "new", amqp091.Table{"x-dead-letter-exchange": "second"})
	declare("e", "second", "blind", nil)

	publish := func() {
		t.Helper()
		must(t, channel.PublishWithContext(t.Context(), "first", "key", false, false, amqp091.Publishing{
			Headers: amqp091.Table{"CC": []any{"cc"}, "BCC": []any{"other", "blind"}}, DeliveryMode: amqp091.Persistent, Body: []byte("m"),
		}))
	}
	publish()
	must(t, channel.Tx())
	publish()
	must(t, channel.TxCommit())
	eventually(t, "both are there", func() bool { n, _ := waiting(t, channel, "a"); return n == 2 })

	broker = restart(t, broker, dir)
	defer shutDown(t, broker)
	channel = openChannel(t, dial(t, broker))
	for _, step := range []struct {
		queue string
		keys  []any // in the newest entry of x-death
	}{
		{"a", nil}, {"b", []any{"key", "cc"}}, {"c", []any{"key", "cc"}}, {"d", []any{"key", "cc"}},
	} {
		deliveries := consume(t, channel, step.queue)
		for range 2 {
			d := next(t, deliveries)
			if _, found := d.Headers["BCC"]; found || !reflect.DeepEqual(d.Headers["CC"], []any{"cc"}) {
				t.Errorf("%s: headers are %v", step.queue, d.Headers)
			}
			if step.keys != nil {
				newest := d.Headers["x-death"].([]any)[0].(amqp091.Table)
				if !reflect.DeepEqual(newest["routing-keys"], step.keys) {
					t.Errorf("%s: it came to %s by %v, want %v", step.queue, newest["queue"], newest["routing-keys"], step.keys)
				}
			}
			must(t, d.Reject(false))
		}
	}
	// What died in d had the key new, which leads nowhere. Both that died in a are in e too.
	eventually(t, "d is empty", func() bool { n, _ := waiting(t, channel, "d"); return n == 0 })
	if n, _ := waiting(t, channel, "e"); n != 2 {
		t.Errorf("%d messages are in e, want 2", n)
	}
}

// TestBlindCopiesDelayed: the routing keys of the header BCC count when a delayed message
// is due, and when it dies afterwards.
func TestBlindCopiesDelayed(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	must(t, channel.ExchangeDeclare("later", "x-delayed-message", true, false, false, false, amqp091.Table{"x-delayed-type": "direct"}))
	must(t, channel.ExchangeDeclare("dead", "direct", true, false, false, false, nil))
	_, err := channel.QueueDeclare("q", true, false, false, false, amqp091.Table{"x-dead-letter-exchange": "dead"})
	must(t, err)
	declareQueue(t, channel, "grave")
	must(t, channel.QueueBind("q", "blind", "later", false, nil))
	must(t, channel.QueueBind("grave", "blind", "dead", false, nil))
	deliveries, graves := consume(t, channel, "q"), consume(t, channel, "grave")
	must(t, channel.PublishWithContext(t.Context(), "later", "key", false, false, amqp091.Publishing{
		Headers: amqp091.Table{"x-delay": int32(10), "BCC": []any{"blind"}}, Body: []byte("m"),
	}))
	d := next(t, deliveries)
	if _, found := d.Headers["BCC"]; found || d.RoutingKey != "key" {
		t.Errorf("the message came by key %s with headers %v", d.RoutingKey, d.Headers)
	}
	must(t, d.Reject(false))
	if d := next(t, graves); d.RoutingKey != "key" || d.Headers["BCC"] != nil {
		t.Errorf("the dead letter came by key %s with headers %v", d.RoutingKey, d.Headers)
	}
}
