// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
)

// declareSingle declares durable queue q with a single active consumer.
func declareSingle(t testing.TB, channel *amqp091.Channel, queueType string) {
	t.Helper()
	_, err := channel.QueueDeclare("q", true, false, false, false, amqp091.Table{
		"x-queue-type": queueType, "x-single-active-consumer": true,
	})
	must(t, err)
}

// withManagement has the broker answer RabbitMQ's management API.
func withManagement(o *lagomq.Options) { o.ManagementAddr = "127.0.0.1:0" }

// activities are the consumers as operators see them, by tag.
func activities(t testing.TB, broker *lagomq.Broker) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+broker.ManagementAddr().String()+"/api/consumers", nil)
	must(t, err)
	request.SetBasicAuth("guest", "guest")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	must(t, err)
	defer response.Body.Close()
	var consumers []struct {
		Tag        string `json:"consumer_tag"`
		Active     bool   `json:"active"`
		Activity   string `json:"activity_status"`
		IdleReason string `json:"idle_reason"`
	}
	must(t, json.NewDecoder(response.Body).Decode(&consumers))
	list := make([]string, len(consumers))
	for i, c := range consumers {
		list[i] = fmt.Sprintf("%s %t %s: %s", c.Tag, c.Active, c.Activity, c.IdleReason)
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// TestSingleActive: one consumer gets all messages in order, and when it leaves the
// next one goes on where it was, with what comes back first.
func TestSingleActive(t *testing.T) {
	t.Parallel()
	for _, queueType := range []string{"classic", "quorum"} {
		t.Run(queueType, func(t *testing.T) {
			t.Parallel()
			broker := startBroker(t, withManagement)
			connection := dial(t, broker)
			channel := openChannel(t, connection)
			declareSingle(t, channel, queueType)
			one, first := consumeWith(t, connection, "q", "one", 3, nil)
			two, second := consumeWith(t, connection, "q", "two", 0, nil)
			_, third := consumeWith(t, connection, "q", "three", 0, nil)
			publish(t, channel, "", "q", numbers(6)...)
			if got := nextBodies(t, first, 3); !slices.Equal(got, numbers(3)) {
				t.Fatalf("the active one got %v", got)
			}
			if got, want := activities(t, broker), "one true single_active: prefetch full, three false waiting: waiting, two false waiting: waiting"; got != want {
				t.Errorf("consumers are %s, want %s", got, want)
			}
			must(t, one.Ack(1, false))
			next(t, first)
			must(t, one.Close())
			if got := nextBodies(t, second, 5); !slices.Equal(got, numbers(6)[1:]) {
				t.Errorf("the next one got %v", got)
			}
			must(t, two.Cancel("two", false))
			publish(t, channel, "", "q", "last")
			if got := next(t, third); string(got.Body) != "last" {
				t.Errorf("the last one got %s: what the one before holds stays with it", got.Body)
			}
			if got, want := activities(t, broker), "three true single_active: no ready messages"; got != want {
				t.Errorf("consumers are %s, want %s", got, want)
			}
		})
	}
}

// TestSingleActivePriority: on quorum queues a consumer of a higher priority follows
// as soon as nothing is unacked, on classic queues when the active one leaves.
func TestSingleActivePriority(t *testing.T) {
	t.Parallel()
	for _, queueType := range []string{"classic", "quorum"} {
		t.Run(queueType, func(t *testing.T) {
			t.Parallel()
			connection := dial(t, startBroker(t))
			channel := openChannel(t, connection)
			declareSingle(t, channel, queueType)
			_, first := consumeWith(t, connection, "q", "first", 2, nil)
			publish(t, channel, "", "q", "0", "1")
			next(t, first)
			held := next(t, first)
			_, plain := consumeWith(t, connection, "q", "plain", 0, nil)
			_, vip := consumeWith(t, connection, "q", "vip", 0, amqp091.Table{"x-priority": int32(5)})
			publish(t, channel, "", "q", "2", "3")
			must(t, held.Ack(true))
			winner := first
			if queueType == "quorum" {
				winner = vip
			}
			if got := nextBodies(t, winner, 2); !slices.Equal(got, []string{"2", "3"}) {
				t.Errorf("got %v", got)
			}
			waiting(t, channel, "q")
			nothing(t, plain)
		})
	}
}

// TestSingleActiveRefusals: exclusive consumers and basic.get.
func TestSingleActiveRefusals(t *testing.T) {
	t.Parallel()
	for queueType, refused := range map[string]func(*amqp091.Channel) error{
		"classic": func(channel *amqp091.Channel) error {
			_, err := channel.Consume("q", "", false, true, false, false, nil)
			return err
		},
		"quorum": func(channel *amqp091.Channel) error {
			_, _, err := channel.Get("q", true)
			return err
		},
	} {
		t.Run(queueType, func(t *testing.T) {
			t.Parallel()
			channel := openChannel(t, dial(t, startBroker(t)))
			declareSingle(t, channel, queueType)
			code, text := amqp091.AccessRefused, "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use"
			if queueType == "quorum" {
				code, text = amqp091.ResourceLocked, "RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. "+
					"basic.get operations are not supported by quorum queues with single active consumer"
			}
			wantException(t, refused(channel), code, text)
		})
	}
}

// TestExclusiveConsumerOfQuorum: quorum queues take the flag and do not enforce it.
func TestExclusiveConsumerOfQuorum(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	declareSingle(t, channel, "quorum")
	for range 2 {
		_, err := channel.Consume("q", "", false, true, false, false, nil)
		must(t, err)
	}
}
