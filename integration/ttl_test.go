// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"errors"
	"testing"

	"github.com/rabbitmq/amqp091-go"
)

// queueExists looks a queue up on a channel of its own, which a missing queue
// closes. It counts as use of a classic queue with x-expires.
func queueExists(t testing.TB, connection *amqp091.Connection, name string) bool {
	t.Helper()
	channel := openChannel(t, connection)
	defer channel.Close()
	_, err := channel.QueueDeclarePassive(name, false, false, false, false, nil)
	if e := (*amqp091.Error)(nil); errors.As(err, &e) && e.Code == amqp091.NotFound {
		return false
	}
	must(t, err)
	return true
}

// TestUnusedQueueIsDeleted: a queue with x-expires goes when nobody uses it, with
// its messages, which are not dead-lettered.
func TestUnusedQueueIsDeleted(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	connection := dial(t, broker)
	channel := openChannel(t, connection)
	declareQueue(t, channel, "dead")
	_, err := channel.QueueDeclare("q", true, false, false, false, amqp091.Table{
		"x-queue-type": "quorum", "x-expires": int32(50), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead",
	})
	must(t, err)
	publish(t, channel, "", "q", "message")
	eventually(t, "the unused queue is deleted", func() bool { return !queueExists(t, connection, "q") })
	dead, err := channel.QueueDeclarePassive("dead", false, false, false, false, nil)
	must(t, err)
	if dead.Messages != 0 {
		t.Errorf("%d messages were dead-lettered, want none", dead.Messages)
	}
}
