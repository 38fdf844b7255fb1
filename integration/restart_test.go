// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
)

// restart shuts a broker down in good order and starts another one on its data.
func restart(t testing.TB, broker *lagomq.Broker, dir string) *lagomq.Broker {
	t.Helper()
	shutDown(t, broker)
	return startBroker(t, onDisk(dir))
}

// startOnDisk starts a broker that the test shuts down itself.
func startOnDisk(t testing.TB, dir string) *lagomq.Broker {
	t.Helper()
	broker := newBroker(t, onDisk(dir))
	must(t, broker.Start(t.Context()))
	return broker
}

// publishConfirmed publishes persistent or transient messages and waits until
// they are confirmed.
func publishConfirmed(t testing.TB, channel *amqp091.Channel, mode uint8, exchange, key string, bodies ...string) {
	t.Helper()
	must(t, channel.Confirm(false))
	var last *amqp091.DeferredConfirmation
	for _, body := range bodies {
		confirmation, err := channel.PublishWithDeferredConfirmWithContext(t.Context(), exchange, key, false, false,
			amqp091.Publishing{DeliveryMode: mode, Body: []byte(body)})
		must(t, err)
		last = confirmation
	}
	if ok, err := last.WaitContext(t.Context()); err != nil || !ok {
		t.Fatalf("not confirmed: %v", err)
	}
}

// What is durable survives a restart; what is not is gone.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broker := startOnDisk(t, dir)
	channel := openChannel(t, dial(t, broker))
	args := amqp091.Table{"x-max-length": int64(1000), "x-unknown": "kept"}
	for name, durable := range map[string]bool{"durable": true, "transient": false} {
		must(t, channel.ExchangeDeclare("x-"+name, "topic", durable, false, false, false, nil))
		if _, err := channel.QueueDeclare("q-"+name, durable, false, false, false, args); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := channel.QueueDeclare("exclusive", true, false, true, false, nil); err != nil {
		t.Fatal(err)
	}
	must(t, channel.ExchangeDeclare("inner", "headers", true, false, true, false, amqp091.Table{"alternate-exchange": "x-durable"}))
	for _, queue := range []string{"q-durable", "q-transient"} {
		for _, exchange := range []string{"x-durable", "x-transient"} {
			must(t, channel.QueueBind(queue, "k.*", exchange, false, nil))
		}
	}
	must(t, channel.ExchangeBind("inner", "to.inner", "x-durable", false, nil))
	must(t, channel.QueueBind("q-durable", "", "inner", false, amqp091.Table{"x-match": "any", "h": int64(1)}))
	must(t, channel.QueueBind("q-durable", "gone", "x-durable", false, nil))
	must(t, channel.QueueUnbind("q-durable", "gone", "x-durable", nil))
	publishConfirmed(t, channel, amqp091.Persistent, "x-durable", "k.1", "p1", "p2", "p3")
	publishConfirmed(t, channel, amqp091.Transient, "x-durable", "k.1", "t1")
	publishConfirmed(t, channel, amqp091.Persistent, "x-durable", "k.1", "p4")

	broker = restart(t, broker, dir)
	connection := dial(t, broker)
	channel = openChannel(t, connection)
	if _, err := channel.QueueDeclare("q-durable", true, false, false, false, args); err != nil {
		t.Errorf("the durable queue has changed: %v", err)
	}
	must(t, channel.ExchangeDeclare("x-durable", "topic", true, false, false, false, nil))
	must(t, channel.ExchangeDeclare("inner", "headers", true, false, true, false, amqp091.Table{"alternate-exchange": "x-durable"}))
	for _, queue := range []string{"q-transient", "exclusive"} {
		_, err := openChannel(t, connection).QueueDeclarePassive(queue, false, false, false, false, nil)
		wantException(t, err, amqp091.NotFound, "NOT_FOUND - no queue '"+queue+"' in vhost '/'")
	}
	err := openChannel(t, connection).ExchangeDeclarePassive("x-transient", "topic", false, false, false, false, nil)
	wantException(t, err, amqp091.NotFound, "NOT_FOUND - no exchange 'x-transient' in vhost '/'")

	if got := drain(t, channel, "q-durable"); !slices.Equal(got, []string{"p1", "p2", "p3", "p4"}) {
		t.Errorf("got %v", got)
	}
	publish(t, channel, "x-durable", "gone", "unbound")
	publish(t, channel, "x-durable", "k.2", "bound")
	must(t, channel.PublishWithContext(t.Context(), "x-durable", "to.inner", false, false,
		amqp091.Publishing{Headers: amqp091.Table{"h": int64(1)}, Body: []byte("inner")}))
	if got := drain(t, channel, "q-durable"); !slices.Equal(got, []string{"bound", "inner"}) {
		t.Errorf("got %v", got)
	}
}

// After an orderly restart exactly those messages are marked as redelivered that
// had been delivered, in their places, and what was settled stays away.
func TestRestartMarksRedelivered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broker := startOnDisk(t, dir)
	channel := openChannel(t, dial(t, broker))
	if _, err := channel.QueueDeclare("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	publishConfirmed(t, channel, amqp091.Persistent, "", "q", numbers(10)...)
	for i := range 6 {
		d, _, err := channel.Get("q", false)
		must(t, err)
		if i%2 == 1 {
			must(t, d.Ack(false))
		}
	}
	waiting(t, channel, "q") // the acknowledgements have arrived
	channel = openChannel(t, dial(t, restart(t, broker, dir)))
	publishConfirmed(t, channel, amqp091.Persistent, "", "q", "new")
	for _, want := range []string{"0r", "2r", "4r", "6", "7", "8", "9", "new"} {
		d, ok, err := channel.Get("q", true)
		if err != nil || !ok {
			t.Fatalf("want %s: %t, %v", want, ok, err)
		}
		got := string(d.Body)
		if d.Redelivered {
			got += "r"
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if got := drain(t, channel, "q"); got != nil {
		t.Errorf("also got %v", got)
	}
}

// What was deleted, purged or settled does not come back, over several restarts.
func TestRestartForgetsWhatIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broker := startOnDisk(t, dir)
	for round := range 4 {
		connection := dial(t, broker)
		channel := openChannel(t, connection)
		for _, queue := range []string{"purged", "deleted", "drained", "kept"} {
			if _, err := channel.QueueDeclare(queue, true, false, false, false, nil); err != nil {
				t.Fatal(err)
			}
			publishConfirmed(t, channel, amqp091.Persistent, "", queue, numbers(100)...)
		}
		if n, err := channel.QueuePurge("purged", false); err != nil || n != 100 {
			t.Errorf("round %d: purged %d, %v", round, n, err)
		}
		if n, err := channel.QueueDelete("deleted", false, false, false); err != nil || n != 100 {
			t.Errorf("round %d: deleted %d, %v", round, n, err)
		}
		if got := drain(t, channel, "drained"); !slices.Equal(got, numbers(100)) {
			t.Errorf("round %d: drained %v", round, got)
		}
		if n, _ := waiting(t, channel, "kept"); n != 100*(round+1) {
			t.Errorf("round %d: %d messages kept", round, n)
		}
		shutDown(t, broker)
		broker = startOnDisk(t, dir)
	}
	shutDown(t, broker)
}

// A backlog larger than what a queue keeps in memory comes back whole and in
// order, before and after a restart.
func TestBacklogBeyondMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	small := func(o *lagomq.Options) { o.DataDir, o.Hosts.ResidentBytes = dir, 1<<20 }
	broker := newBroker(t, small)
	must(t, broker.Start(t.Context()))
	channel := openChannel(t, dial(t, broker))
	if _, err := channel.QueueDeclare("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	const count = 1000
	bodies := make([]string, count)
	for i := range bodies {
		bodies[i] = fmt.Sprintf("%8d%8000d", i, i)
	}
	publishConfirmed(t, channel, amqp091.Persistent, "", "q", bodies...)
	read := func(channel *amqp091.Channel, from, to int) {
		t.Helper()
		must(t, channel.Qos(50, 0, false))
		deliveries, err := channel.Consume("q", "reader", false, false, false, false, nil)
		must(t, err)
		for i := from; i < to; i++ {
			d := next(t, deliveries)
			if string(d.Body) != bodies[i] {
				t.Fatalf("message %d is %.8q", i, d.Body)
			}
			must(t, d.Ack(false))
		}
		must(t, channel.Cancel("reader", false))
	}
	read(channel, 0, count/2)
	shutDown(t, broker)
	channel = openChannel(t, dial(t, startBroker(t, small)))
	read(channel, count/2, count)
}
