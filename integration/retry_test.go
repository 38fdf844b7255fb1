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
		if messages != 0 && time.Since(begin) < 50*time.Millisecond {
			t.Error("the message is ready at once")
		}
	}
}
