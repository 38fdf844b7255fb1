// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package integration_test holds the tests of the broker as its clients see it:
// each starts a whole broker, in the process or as a process of its own, and
// talks to it over TCP, through RabbitMQ's Go client or frame by frame.
package integration_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/lagomq/lagomq"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		removeBinary()
		os.Exit(code)
	}))
}

// patience is how long a test waits for what has to happen. It only ends tests
// that fail: nothing here is about speed.
const patience = 2 * time.Minute

// newBroker makes a broker for a test that starts it itself. Unless adjust says
// otherwise it keeps everything in memory.
func newBroker(t testing.TB, adjust ...func(*lagomq.Options)) *lagomq.Broker {
	t.Helper()
	options := lagomq.Options{
		Strict: true,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	options.AMQP.FailureDelay = -1
	for _, change := range adjust {
		change(&options)
	}
	options.InMemory = options.DataDir == ""
	broker, err := lagomq.New(options)
	if err != nil {
		t.Fatal(err)
	}
	return broker
}

// startBroker starts a broker that is shut down, without an error, when the
// test ends.
func startBroker(t testing.TB, adjust ...func(*lagomq.Options)) *lagomq.Broker {
	t.Helper()
	broker := newBroker(t, adjust...)
	if err := broker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutDown(t, broker) })
	return broker
}

func shutDown(t testing.TB, broker *lagomq.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := broker.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// onDisk has the broker keep its data in dir.
func onDisk(dir string) func(*lagomq.Options) {
	return func(o *lagomq.Options) { o.DataDir = dir }
}

// dial connects with RabbitMQ's Go client, until the test ends.
func dial(t testing.TB, broker *lagomq.Broker) *amqp091.Connection {
	t.Helper()
	return dialConfig(t, broker, amqp091.Config{})
}

func dialConfig(t testing.TB, broker *lagomq.Broker, config amqp091.Config) *amqp091.Connection {
	t.Helper()
	connection, err := amqp091.DialConfig(broker.URL(), config)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil && !errors.Is(err, amqp091.ErrClosed) {
			t.Errorf("close connection: %v", err)
		}
	})
	return connection
}

func openChannel(t testing.TB, connection *amqp091.Connection) *amqp091.Channel {
	t.Helper()
	channel, err := connection.Channel()
	if err != nil {
		t.Fatalf("open channel: %v", err)
	}
	return channel
}

// must fails the test if a step it depends on failed.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// declareQueue declares a queue that is neither durable nor exclusive.
func declareQueue(t testing.TB, channel *amqp091.Channel, name string) {
	t.Helper()
	if _, err := channel.QueueDeclare(name, false, false, false, false, nil); err != nil {
		t.Fatalf("declare queue %s: %v", name, err)
	}
}

func publish(t testing.TB, channel *amqp091.Channel, exchange, key string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		if err := channel.PublishWithContext(t.Context(), exchange, key, false, false, amqp091.Publishing{Body: []byte(body)}); err != nil {
			t.Fatalf("publish %q: %v", body, err)
		}
	}
}

// consume starts a consumer that has to acknowledge.
func consume(t testing.TB, channel *amqp091.Channel, queue string) <-chan amqp091.Delivery {
	t.Helper()
	deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		t.Fatalf("consume from %s: %v", queue, err)
	}
	return deliveries
}

// next waits for a value, such as a delivery, a confirm or a notification.
func next[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case value, open := <-from:
		if !open {
			t.Fatalf("channel of %T is closed: want a value", value)
		}
		return value
	case <-time.After(patience):
		var none T
		t.Fatalf("no %T came", none)
		return none
	}
}

// nextBodies waits for n deliveries and returns their bodies.
func nextBodies(t testing.TB, from <-chan amqp091.Delivery, n int) []string {
	t.Helper()
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = string(next(t, from).Body)
	}
	return bodies
}

// nothing checks that no value has come. The caller has made sure, by a call
// that was answered, that what the broker sent before has arrived.
func nothing[T any](t testing.TB, from <-chan T) {
	t.Helper()
	select {
	case value, open := <-from:
		if open {
			t.Fatalf("unexpected %T: %v", value, value)
		}
	default:
	}
}

// eventually waits until condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(patience)
	for !condition() {
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// waiting is the number of ready messages and consumers of a queue.
func waiting(t testing.TB, channel *amqp091.Channel, queue string) (messages, consumers int) {
	t.Helper()
	q, err := channel.QueueDeclarePassive(queue, false, false, false, false, nil)
	if err != nil {
		t.Fatalf("declare %s passively: %v", queue, err)
	}
	return q.Messages, q.Consumers
}

// wantException checks that err is an exception of the server with this code and
// text.
func wantException(t testing.TB, err error, code int, text string) {
	t.Helper()
	var exception *amqp091.Error
	if !errors.As(err, &exception) || exception == nil {
		t.Fatalf("error %v: want %d %s", err, code, text)
	}
	if exception.Code != code || exception.Reason != text || !exception.Server {
		t.Fatalf("got %d %q\nwant %d %q", exception.Code, exception.Reason, code, text)
	}
}
