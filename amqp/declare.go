// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts"
)

// The methods of the classes exchange and queue (AMQP 0-9-1 §1.6 and §1.7;
// RabbitMQ 4.3, exchanges, queues, bindings).

// waiter is l as the store takes it: none if the client wants no reply.
func (l *later) waiter() persistence.Waiter {
	if l == nil {
		return nil
	}
	return l
}

func (ch *channel) exchangeDeclare(m *wire.ExchangeDeclare) *wire.Error {
	if m.Passive {
		return ch.change(m.NoWait, func(*later) (wire.Method, bool, *wire.Error) {
			return &wire.ExchangeDeclareOk{}, false, ch.conn.vhost.DeclareExchangePassive(m.Exchange)
		})
	}
	return ch.change(m.NoWait, func(l *later) (wire.Method, bool, *wire.Error) {
		waiting, err := ch.conn.vhost.DeclareExchange(exchanges.Declaration{
			Name: m.Exchange, Type: m.Type, Durable: m.Durable, AutoDelete: m.AutoDelete, Internal: m.Internal, Arguments: m.Arguments,
		}, l.waiter())
		return &wire.ExchangeDeclareOk{}, waiting, err
	})
}

func (ch *channel) exchangeDelete(m *wire.ExchangeDelete) *wire.Error {
	return ch.change(m.NoWait, func(l *later) (wire.Method, bool, *wire.Error) {
		waiting, err := ch.conn.vhost.DeleteExchange(m.Exchange, m.IfUnused, l.waiter())
		return &wire.ExchangeDeleteOk{}, waiting, err
	})
}

func (ch *channel) exchangeBind(m *wire.ExchangeBind) *wire.Error {
	return ch.change(m.NoWait, func(l *later) (wire.Method, bool, *wire.Error) {
		waiting, err := ch.conn.vhost.Bind(vhosts.Binding{
			Source: m.Source, Destination: m.Destination, ToExchange: true, Key: m.RoutingKey, Arguments: m.Arguments,
		}, ch.conn.id, l.waiter())
		return &wire.ExchangeBindOk{}, waiting, err
	})
}

func (ch *channel) exchangeUnbind(m *wire.ExchangeUnbind) *wire.Error {
	return ch.change(m.NoWait, func(l *later) (wire.Method, bool, *wire.Error) {
		waiting, err := ch.conn.vhost.Unbind(vhosts.Binding{
			Source: m.Source, Destination: m.Destination, ToExchange: true, Key: m.RoutingKey, Arguments: m.Arguments,
		}, ch.conn.id, l.waiter())
		return &wire.ExchangeUnbindOk{}, waiting, err
	})
}

func (ch *channel) queueDeclare(m *wire.QueueDeclare) *wire.Error {
	return ch.change(m.NoWait, func(l *later) (wire.Method, bool, *wire.Error) {
		var q vhosts.Declared
		var waiting bool
		var err *wire.Error
		if m.Passive {
			q, err = ch.conn.vhost.DeclareQueuePassive(m.Queue, ch.conn.id)
		} else {
			q, waiting, err = ch.conn.vhost.DeclareQueue(vhosts.QueueDeclaration{
				Name: m.Queue, Durable: m.Durable, Exclusive: m.Exclusive, AutoDelete: m.AutoDelete,
				Arguments: m.Arguments, Owner: ch.conn.id,
			}, l.waiter())
		}
		if err == nil {
			ch.lastQueue = q.Name
		}
		return &wire.QueueDeclareOk{Queue: q.Name, MessageCount: q.Messages, ConsumerCount: q.Consumers}, waiting, err
	})
}

// named is the queue that a name in a method means: an empty one means the queue
// declared last on the channel.
func (ch *channel) named(queue string) (string, *wire.Error) {
	if queue != "" {
		return queue, nil
	}
	if ch.lastQueue == "" {
		return "", wire.Errorf(wire.NotFound, "no previously declared queue")
	}
	return ch.lastQueue, nil
}

func (ch *channel) queueBind(m *wire.QueueBind) *wire.Error {
	queue, err := ch.named(m.Queue)
	if err != nil {
		return err
	}
	key := m.RoutingKey
	if m.Queue == "" && key == "" {
		key = queue
	}
	return ch.change(m.NoWait, func(l *later) (wire.Method, bool, *wire.Error) {
		waiting, err := ch.conn.vhost.Bind(vhosts.Binding{
			Source: m.Exchange, Destination: queue, Key: key, Arguments: m.Arguments,
		}, ch.conn.id, l.waiter())
		return &wire.QueueBindOk{}, waiting, err
	})
}

func (ch *channel) queueUnbind(m *wire.QueueUnbind) *wire.Error {
	queue, err := ch.named(m.Queue)
	if err != nil {
		return err
	}
	key := m.RoutingKey
	if m.Queue == "" && key == "" {
		key = queue
	}
	return ch.change(false, func(l *later) (wire.Method, bool, *wire.Error) {
		waiting, err := ch.conn.vhost.Unbind(vhosts.Binding{
			Source: m.Exchange, Destination: queue, Key: key, Arguments: m.Arguments,
		}, ch.conn.id, l.waiter())
		return &wire.QueueUnbindOk{}, waiting, err
	})
}

func (ch *channel) queueDelete(m *wire.QueueDelete) *wire.Error {
	queue, err := ch.named(m.Queue)
	if err != nil {
		return err
	}
	return ch.change(m.NoWait, func(l *later) (wire.Method, bool, *wire.Error) {
		ready, waiting, err := ch.conn.vhost.DeleteQueue(queue, m.IfUnused, m.IfEmpty, ch.conn.id, l.waiter())
		return &wire.QueueDeleteOk{MessageCount: ready}, waiting, err
	})
}

func (ch *channel) queuePurge(m *wire.QueuePurge) *wire.Error {
	queue, err := ch.named(m.Queue)
	if err != nil {
		return err
	}
	return ch.change(m.NoWait, func(l *later) (wire.Method, bool, *wire.Error) {
		purged, waiting, err := ch.conn.vhost.PurgeQueue(queue, ch.conn.id, l.waiter())
		return &wire.QueuePurgeOk{MessageCount: purged}, waiting, err
	})
}
