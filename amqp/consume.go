// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// The methods of class basic that receive messages (AMQP 0-9-1 §1.8; RabbitMQ
// 4.3, consuming).

// basicQos sets the prefetch of consumers to come, or with global the limit of
// the channel as a whole.
func (ch *channel) basicQos(m *wire.BasicQos) *wire.Error {
	if m.PrefetchSize != 0 {
		return wire.Errorf(wire.NotImplemented, "prefetch_size!=0 (%d)", m.PrefetchSize)
	}
	if !m.Global {
		ch.newPrefetch.Store(uint32(m.PrefetchCount))
		ch.send(&wire.BasicQosOk{})
		return nil
	}
	ch.mu.Lock()
	ch.prefetch.Store(uint32(m.PrefetchCount))
	if m.PrefetchCount == 0 {
		ch.reserved = 0
	}
	queues := ch.takeRefused()
	ch.mu.Unlock()
	ch.send(&wire.BasicQosOk{})
	for _, q := range queues {
		q.Dispatch()
	}
	return nil
}

// basicConsume starts a consumer. consume-ok goes out before its first message.
func (ch *channel) basicConsume(m *wire.BasicConsume) *wire.Error {
	name, err := ch.named(m.Queue)
	if err != nil {
		return err
	}
	tag := m.ConsumerTag
	if tag == "" {
		tag = vhosts.RandomName("amq.ctag-")
	}
	if ch.hasSubscription(tag) {
		return wire.Errorf(wire.NotAllowed, "attempt to reuse consumer tag '%s'", tag)
	}
	if name == vhosts.ReplyTo {
		return ch.consumeReplies(m, tag)
	}
	q, err := ch.conn.vhost.Queue(name, ch.conn.id)
	if err != nil {
		return err
	}
	priority, timeout, err := q.ConsumerArguments(m.Arguments)
	if err != nil {
		return err
	}
	s := ch.newSubscription(q, tag, m.NoAck)
	s.exclusive, s.arguments = m.Exclusive, m.Arguments
	s.consumer.Priority, s.consumer.Timeout = priority, timeout
	if err := q.Consume(s.consumer, m.Exclusive, func() { ch.subscribe(s, m.NoWait) }); err != nil {
		return err
	}
	// The queue may have been deleted in between: then the consumer was already
	// told, or will be, by Cancelled.
	return nil
}

func (ch *channel) newSubscription(q *vhosts.Queue, tag string, noAck bool) *subscription {
	s := &subscription{channel: ch, queue: q}
	s.consumer = &queue.Consumer{Tag: tag, NoAck: noAck, Prefetch: ch.newPrefetch.Load(), Sink: s}
	return s
}

// subscribe makes s one of the channel's consumers and tells the client. Called
// under the queue's lock.
func (ch *channel) subscribe(s *subscription, noWait bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.subscriptions[s.consumer.Tag] = s
	if !noWait {
		ch.send(&wire.BasicConsumeOk{ConsumerTag: s.consumer.Tag})
	}
}

func (ch *channel) hasSubscription(tag string) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	_, ok := ch.subscriptions[tag]
	return ok
}

// consumeReplies starts the channel's direct reply-to consumer.
func (ch *channel) consumeReplies(m *wire.BasicConsume, tag string) *wire.Error {
	switch {
	case !m.NoAck:
		return wire.Errorf(wire.PreconditionFailed, "reply consumer cannot acknowledge")
	case ch.replyQueue != nil:
		return wire.Errorf(wire.PreconditionFailed, "reply consumer already set")
	}
	s := ch.newSubscription(nil, tag, true)
	s.reply = true
	ch.conn.vhost.AddReplyQueue(ch.conn.id, s.consumer, func(q *vhosts.Queue) {
		s.queue = q
		ch.subscribe(s, m.NoWait)
	})
	ch.replyQueue = s
	return nil
}

// basicCancel ends a consumer; one that does not exist is fine. Its unacked
// messages stay with the channel.
func (ch *channel) basicCancel(m *wire.BasicCancel) *wire.Error {
	ch.mu.Lock()
	s := ch.subscriptions[m.ConsumerTag]
	delete(ch.subscriptions, m.ConsumerTag)
	ch.mu.Unlock()
	if s != nil {
		ch.unsubscribe(s)
	}
	if !m.NoWait {
		ch.send(&wire.BasicCancelOk{ConsumerTag: m.ConsumerTag})
	}
	return nil
}

// unsubscribe takes a consumer, already off the channel's list, from its queue.
func (ch *channel) unsubscribe(s *subscription) {
	if s.reply {
		ch.conn.vhost.RemoveReplyQueue(s.queue)
		ch.replyQueue = nil
		return
	}
	s.queue.Cancel(s.consumer)
}

// basicGet asks for one message. The answer comes from the subscription's
// Deliver, at once unless the message has to be read from disk.
func (ch *channel) basicGet(m *wire.BasicGet) *wire.Error {
	name, err := ch.named(m.Queue)
	if err != nil {
		return err
	}
	q, err := ch.conn.vhost.Queue(name, ch.conn.id)
	if err != nil {
		return err
	}
	s := ch.newSubscription(q, "", m.NoAck)
	s.get = true
	ch.mu.Lock()
	ch.awaited++
	ch.getting = s
	ch.mu.Unlock()
	if err := q.Get(s.consumer); err != nil {
		ch.mu.Lock()
		defer ch.mu.Unlock()
		ch.getting = nil
		ch.answered()
		return err
	}
	return nil
}

// basicRecover puts every unacked message of the channel back to its queue.
func (ch *channel) basicRecover(requeue, reply bool) *wire.Error {
	if !requeue {
		return wire.Errorf(wire.NotImplemented, "requeue=false")
	}
	ch.recover()
	if reply {
		ch.send(&wire.BasicRecoverOk{})
	}
	return nil
}
