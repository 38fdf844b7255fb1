// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"errors"
	"fmt"
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

// TestExpiredMessages: messages expire by the queue's time to live or their own,
// behind others too, and are dead-lettered with RabbitMQ's headers.
func TestExpiredMessages(t *testing.T) {
	t.Parallel()
	for _, arguments := range []amqp091.Table{{}, {"x-message-ttl": int32(50)}, {"x-queue-type": "quorum"}} {
		t.Run(fmt.Sprint(arguments), func(t *testing.T) {
			t.Parallel()
			channel := openChannel(t, dial(t, startBroker(t)))
			declareQueue(t, channel, "dead")
			arguments["x-dead-letter-exchange"], arguments["x-dead-letter-routing-key"] = "", "dead"
			_, err := channel.QueueDeclare("q", true, false, false, false, arguments)
			must(t, err)
			dead := consume(t, channel, "dead")
			long := "60000"
			must(t, channel.PublishWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{Expiration: long, Body: []byte("long")}))
			publishing := amqp091.Publishing{Body: []byte("short")}
			if arguments["x-message-ttl"] == nil {
				publishing.Expiration = "50"
			} else {
				d := next(t, dead)
				wantDeath(t, d, 1, amqp091.Table{
					"original-expiration": long, "count": int64(1), "reason": "expired", "queue": "q", "exchange": "", "routing-keys": []any{"q"},
				})
			}
			must(t, channel.PublishWithContext(t.Context(), "", "q", false, false, publishing))
			d := next(t, dead)
			death := amqp091.Table{"count": int64(1), "reason": "expired", "queue": "q", "exchange": "", "routing-keys": []any{"q"}}
			if publishing.Expiration != "" {
				death["original-expiration"] = publishing.Expiration
			}
			wantDeath(t, d, 1, death)
			if string(d.Body) != "short" || d.Expiration != "" || d.Headers["x-first-death-reason"] != "expired" {
				t.Errorf("dead letter is %+v", d)
			}
			if messages, _ := waiting(t, channel, "q"); messages != boolToInt(arguments["x-message-ttl"] == nil) {
				t.Errorf("%d messages are left", messages)
			}
		})
	}
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestExpiredInTransaction: the time to live of a message counts from the commit.
func TestExpiredInTransaction(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareQueue(t, channel, "dead")
	_, err := channel.QueueDeclare("q", false, false, false, false, amqp091.Table{
		"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead",
	})
	must(t, err)
	dead := consume(t, channel, "dead")
	must(t, channel.Tx())
	for _, ttl := range []string{"0", "1", ""} {
		must(t, channel.PublishWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{Expiration: ttl, Body: []byte(ttl)}))
	}
	must(t, channel.TxCommit())
	for _, want := range []string{"0", "1"} {
		if d := next(t, dead); string(d.Body) != want {
			t.Errorf("dead letter %q, want %q", d.Body, want)
		}
	}
	if messages, _ := waiting(t, channel, "q"); messages != 1 {
		t.Errorf("%d messages are left, want 1", messages)
	}
}
