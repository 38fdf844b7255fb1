// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
)

// What a broker writes is what these commands read: it is declared and published to
// by a client, backed up while it runs, and inspected.
func TestBrokersDirectory(t *testing.T) {
	t.Parallel()
	dir, backup := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "backup")
	b := startBroker(t, dir)
	c, ch := dial(t, b)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(ch.ExchangeDeclare("events", "topic", true, false, false, false, nil))
	check(ch.ExchangeDeclare("copies", "fanout", true, false, false, false, nil))
	check(ch.ExchangeBind("copies", "#", "events", false, nil))
	for _, name := range []string{"orders", "audit"} {
		_, err := ch.QueueDeclare(name, true, false, false, false, amqp091.Table{"x-queue-type": "quorum"})
		check(err)
		check(ch.QueueBind(name, "", "copies", false, nil))
	}
	check(ch.QueueBind("orders", "#", "amq.topic", false, nil))
	check(ch.ExchangeDeclare("remembered", "x-recent-history", true, false, false, false, amqp091.Table{"x-recent-history-length": 4}))
	check(ch.ExchangeBind("remembered", "#", "events", false, nil))
	publish(t, ch, 10)
	check(c.Close())

	contains(t, must(t, "backup", backup, "--url", "http://"+b.ManagementAddr().String()), backup+": ")
	if _, err := run(t, "backup", backup, "--url", "http://"+b.ManagementAddr().String()); err == nil {
		t.Error("a second backup in the same directory was made")
	}
	if _, err := run(t, "inspect", "--data-dir", dir); err == nil {
		t.Error("the directory of a running broker was inspected")
	}
	stop(t, b)
	for _, d := range []string{dir, backup} {
		contains(t, must(t, "inspect", "--data-dir", d), "virtual host /: 2 queues, 3 exchanges, 5 bindings", "quorum",
			"in all: 24 messages ready", "everything is sound")
		contains(t, must(t, "repair", "--data-dir", d), "nothing is to be repaired")
		contains(t, must(t, "repair-queue", "--data-dir", d, "--queue", "orders"), "is sound: 10 messages ready")
	}

	// The queue is in service again with what is left.
	damaged := testDir{dir: dir}
	damaged.spoil(t, []byte("b"), 0)
	contains(t, must(t, "repair-queue", "--data-dir", dir, "--queue", "orders", "--yes"), "repaired")
	contains(t, must(t, "repair-queue", "--data-dir", dir, "--queue", "audit", "--yes"), "repaired")
	b = startBroker(t, dir)
	_, ch = dial(t, b)
	publish(t, ch, 1)
	message, found, err := ch.Get("orders", true)
	check(err)
	if !found || string(message.Body) != "body" {
		t.Errorf("after the repair the queue gives %q, %t", message.Body, found)
	}
	stop(t, b)
}

func startBroker(t *testing.T, dir string) *lagomq.Broker {
	t.Helper()
	b, err := lagomq.New(lagomq.Options{DataDir: dir, ManagementAddr: "127.0.0.1:0", Strict: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// stop shuts a broker down; the time is for a test that hangs.
func stop(t *testing.T, b *lagomq.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, b *lagomq.Broker) (*amqp091.Connection, *amqp091.Channel) {
	t.Helper()
	c, err := amqp091.Dial(b.URL())
	if err != nil {
		t.Fatal(err)
	}
	ch, err := c.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return c, ch
}

// publish publishes persistent messages and waits until they are confirmed.
func publish(t *testing.T, ch *amqp091.Channel, messages int) {
	t.Helper()
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	for range messages {
		d, err := ch.PublishWithDeferredConfirmWithContext(t.Context(), "events", "key", false, false,
			amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: []byte("body")})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := d.WaitContext(t.Context()); err != nil || !ok {
			t.Fatalf("confirmed %t, %v", ok, err)
		}
	}
}

// Messages that are delayed or leaving when a broker stops are shown as that.
func TestInspectAway(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	b := startBroker(t, dir)
	_, ch := dial(t, b)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, arguments := range map[string]amqp091.Table{
		"full": {"x-max-length": 1, "x-overflow": "reject-publish"},
		"source": {
			"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "full",
			"x-delayed-retry-type": "all", "x-delayed-retry-min": 3_600_000,
		},
	} {
		_, err := ch.QueueDeclare(name, true, false, false, false, arguments)
		check(err)
		check(ch.QueueBind(name, name, "amq.direct", false, nil))
	}
	check(ch.Confirm(false))
	for _, key := range []string{"full", "source", "source", "source", "source"} {
		d, err := ch.PublishWithDeferredConfirmWithContext(t.Context(), "amq.direct", key, false, false,
			amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: []byte("body")})
		check(err)
		if _, err := d.WaitContext(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, requeue := range []bool{false, true, false} {
		message, found, err := ch.Get("source", false)
		check(err)
		if !found {
			t.Fatal("there is no message")
		}
		check(message.Nack(false, requeue))
	}
	check(ch.Qos(1, 0, false)) // answered when all of this is done
	stop(t, b)
	contains(t, must(t, "inspect", "--data-dir", dir), "leaving", "in all: 2 messages ready, 1 delayed, 2 leaving, 0 settled, 20 bytes", "everything is sound")
	contains(t, must(t, "repair-queue", "--data-dir", dir, "--queue", "source"), "is sound: 1 message ready, 1 delayed, 2 leaving")
}
