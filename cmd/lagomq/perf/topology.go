// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"context"
	"fmt"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
)

// topology is what a run publishes to and consumes from. It does not change.
type topology struct {
	queues       []string
	exchange     string // "" is the default exchange
	exchangeType string
	routingKey   string // "" when every queue has its own name as key
	temporary    bool   // the queue is named by the run and deleted with it
}

func newTopology(o *options, run uint16) topology {
	t := topology{exchange: o.exchange, exchangeType: o.exchangeType, routingKey: o.routingKey}
	switch {
	case o.queuePattern != "":
		for i := o.queueFrom; i <= o.queueTo; i++ {
			t.queues = append(t.queues, fmt.Sprintf(o.queuePattern, i))
		}
	case o.queue != "":
		t.queues = []string{o.queue}
	default:
		t.queues = []string{fmt.Sprintf("lagomq-perf-%04x", run)}
		t.temporary = !o.predeclared
	}
	return t
}

// queueOf returns the index of the queue that the i-th producer or consumer
// uses: they take turns.
func (t *topology) queueOf(i int) int { return i % len(t.queues) }

// key returns the key that a queue is bound with and that its producers use.
func (t *topology) key(queue int) string {
	if t.routingKey != "" {
		return t.routingKey
	}
	return t.queues[queue]
}

// predictable reports whether routes knows the exchange type.
func (t *topology) predictable() bool {
	switch t.exchangeType {
	case "direct", "topic", "fanout", "headers":
		return true
	}
	return t.exchange == ""
}

// routes reports whether what a producer publishes has to arrive in a queue.
func (t *topology) routes(producer, queue int) bool {
	key := t.key(t.queueOf(producer))
	switch {
	case t.exchange == "":
		return key == t.queues[queue]
	case t.exchangeType == "direct", t.exchangeType == "topic":
		return key == t.key(queue)
	}
	return t.predictable() // fanout, and headers without any: everywhere
}

// declare creates the exchange, the queues and the bindings.
func (t *topology) declare(ctx context.Context, o *options) error {
	return withChannel(ctx, o, "setup", func(c *conn) error {
		if t.exchange != "" && !strings.HasPrefix(t.exchange, "amq.") {
			_, err := c.call(1, &wire.ExchangeDeclare{Exchange: t.exchange, Type: t.exchangeType, Durable: o.durable})
			if err != nil {
				return fmt.Errorf("declare exchange %q: %w", t.exchange, err)
			}
		}
		for i, queue := range t.queues {
			_, err := c.call(1, &wire.QueueDeclare{Queue: queue, Durable: o.durable, AutoDelete: o.autoDelete, Arguments: o.arguments})
			if err != nil {
				return fmt.Errorf("declare queue %q: %w", queue, err)
			}
			if t.exchange == "" {
				continue
			}
			_, err = c.call(1, &wire.QueueBind{Queue: queue, Exchange: t.exchange, RoutingKey: t.key(i)})
			if err != nil {
				return fmt.Errorf("bind queue %q to exchange %q: %w", queue, t.exchange, err)
			}
		}
		return nil
	})
}

// remove deletes the queue that the run made for itself.
func (t *topology) remove(ctx context.Context, o *options) error {
	return withChannel(ctx, o, "cleanup", func(c *conn) error {
		if _, err := c.call(1, &wire.QueueDelete{Queue: t.queues[0]}); err != nil {
			return fmt.Errorf("delete queue %q: %w", t.queues[0], err)
		}
		return nil
	})
}
