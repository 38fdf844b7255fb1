// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

// TestDelayedRetry: a rejected message comes back after a pause, which is longer the
// second time.
func TestDelayedRetry(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	_, err := channel.QueueDeclare("q", true, false, false, false, amqp091.Table{
		"x-queue-type": "quorum", "x-delayed-retry-type": "failed", "x-delayed-retry-min": int32(50), "x-delayed-retry-max": int32(60_000),
	})
	must(t, err)
	deliveries := consume(t, channel, "q")
	publish(t, channel, "", "q", "message")
	for count := range int64(3) {
		d := next(t, deliveries)
		if count > 0 && d.Headers["x-delivery-count"] != count {
			t.Errorf("headers are %v, want x-delivery-count %d", d.Headers, count)
		}
		begin := time.Now()
		must(t, d.Reject(true))
		if count == 2 {
			break
		}
		messages, _ := waiting(t, channel, "q")
		if messages != 0 && time.Since(begin) < 49*time.Millisecond {
			t.Error("the message is ready at once")
		}
	}
}

// TestDelayedRetryPurge: a message that waits is a message of the queue, which a purge
// counts and removes, on queues of both types.
func TestDelayedRetryPurge(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	for _, queueType := range []string{"classic", "quorum"} {
		channel := openChannel(t, connection)
		_, err := channel.QueueDeclare(queueType, true, false, false, false, amqp091.Table{
			"x-queue-type": queueType, "x-delayed-retry-type": "all", "x-delayed-retry-min": int32(10_000_000),
		})
		must(t, err)
		deliveries := consume(t, channel, queueType)
		publish(t, channel, "", queueType, "message")
		must(t, next(t, deliveries).Nack(false, true))
		purged, err := channel.QueuePurge(queueType, false)
		if must(t, err); purged != 1 {
			t.Errorf("%s queue: %d messages are purged, want 1", queueType, purged)
		}
		nothing(t, deliveries)
	}
}

// TestDelayedRetryLimit: a message that has come back too often does not wait once more
// but becomes a dead letter, on queues of both types.
func TestDelayedRetryLimit(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	for _, queueType := range []string{"classic", "quorum"} {
		channel := openChannel(t, connection)
		dead := "dead of " + queueType
		declareQueue(t, channel, dead)
		_, err := channel.QueueDeclare(queueType, true, false, false, false, amqp091.Table{
			"x-queue-type": queueType, "x-delayed-retry-type": "all", "x-delayed-retry-min": int32(1), "x-delivery-limit": int32(1),
			"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead,
		})
		must(t, err)
		deliveries := consume(t, channel, queueType)
		publish(t, channel, "", queueType, "message")
		for range 2 {
			must(t, next(t, deliveries).Reject(true))
		}
		if d := next(t, consume(t, channel, dead)); d.Headers["x-first-death-reason"] != "delivery_limit" {
			t.Errorf("%s queue: headers of the dead letter are %v", queueType, d.Headers)
		}
		nothing(t, deliveries)
	}
}
