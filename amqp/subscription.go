// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// subscription joins a consumer of a queue to its channel: the queue.Sink that
// the engine hands messages to. A basic.get is one too, for one message.
type subscription struct {
	channel   *channel
	queue     *vhosts.Queue
	consumer  *queue.Consumer
	exclusive bool
	arguments wire.Table
	get       bool
	reply     bool // consumes from the channel's direct reply-to queue

	// Owned by the connection's reader: messages settled in the running burst that
	// the queue has not been told about yet, see conn.settle.
	acked, rejected, returned, failed []uint64
	listed                            bool // in conn.settling
}

// limited says whether the channel-wide prefetch counts the subscription's
// messages.
func (s *subscription) limited() bool { return !s.get && !s.consumer.NoAck }

// Reserve implements queue.Sink. Called under the queue's lock.
func (s *subscription) Reserve(n uint32) uint32 {
	ch := s.channel
	if ch.closed.Load() || ch.conn.writer.refuse(s.queue) {
		return 0
	}
	if ch.prefetch.Load() == 0 || !s.limited() {
		return n
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	limit := uint64(ch.prefetch.Load())
	if limit == 0 {
		return n
	}
	used := ch.limitedUnacked + ch.reserved
	granted := uint32(0)
	if used < limit {
		granted = uint32(min(uint64(n), limit-used))
	}
	ch.reserved += uint64(granted)
	if granted < n {
		ch.refused[s.queue] = struct{}{}
	}
	return granted
}

// Release implements queue.Sink. Called under the queue's lock.
func (s *subscription) Release(n uint32) {
	if s.channel.prefetch.Load() == 0 || !s.limited() {
		return
	}
	ch := s.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.release(uint64(n))
	// Who was refused while the room was reserved may have it now. Under a queue's
	// lock no other queue can be dispatched: the writer does it.
	if len(ch.refused) > 0 {
		ch.conn.writer.dispatch(ch.takeRefused())
	}
}

// Waits implements queue.Sink. Called under the queue's lock.
func (s *subscription) Waits() queue.Wait {
	ch := s.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	limit := uint64(ch.prefetch.Load())
	switch {
	case ch.closed.Load() || ch.conn.writer.full.Load():
		return queue.WaitConnection
	case limit > 0 && s.limited() && ch.limitedUnacked+ch.reserved >= limit:
		return queue.WaitChannel
	}
	return queue.WaitNot
}

// Deliver implements queue.Sink: it numbers the messages, remembers those that
// must be acknowledged, and appends their frames to what the connection writes.
// Called under the queue's lock.
func (s *subscription) Deliver(d *queue.Delivery) bool {
	ch := s.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.closed.Load() {
		return false
	}
	if d.Get {
		s.answerGet(d)
		return true
	}
	first := ch.lastDelivery + 1
	ch.lastDelivery += uint64(d.Count)
	if s.consumer.NoAck {
		ch.stats.DeliveredNo += uint64(d.Count)
	} else {
		ch.stats.Delivered += uint64(d.Count)
		entry := delivery{sub: s}
		entry.setAt(d.At)
		for i := range d.Count {
			entry.tag, entry.number = first+uint64(i), d.Number(i)
			ch.unacked.add(entry)
		}
		ch.release(uint64(d.Count))
		ch.limitedUnacked += uint64(d.Count)
	}
	if d.Redelivered {
		ch.stats.Redelivered += uint64(d.Count)
	}
	ch.conn.writer.deliver(ch.number, s.consumer.Tag, first, d)
	return true
}

// answerGet sends get-ok with the message of d, or get-empty. Called under the
// channel's lock.
func (s *subscription) answerGet(d *queue.Delivery) {
	ch := s.channel
	ch.getting = nil
	defer ch.answered()
	if d.Count == 0 {
		ch.stats.GetEmpty++
		ch.conn.writer.send(ch.number, &wire.BasicGetEmpty{})
		return
	}
	ch.lastDelivery++
	if s.consumer.NoAck {
		ch.stats.GotNo++
	} else {
		ch.stats.Got++
		ch.unacked.add(delivery{tag: ch.lastDelivery, sub: s, number: d.Number(0)})
	}
	envelope, header, body := d.Page.Message(int(d.Offset(0)))
	if d.Tallied() {
		header = counted(d, 0, header)
	}
	exchange, key := splitEnvelope(envelope)
	ch.conn.writer.sendContent(ch.number, &wire.BasicGetOk{
		DeliveryTag:  ch.lastDelivery,
		Redelivered:  d.Redelivered,
		Exchange:     exchange,
		RoutingKey:   key,
		MessageCount: uint32(min(d.Remaining, 1<<32-1)),
	}, header, body, d.Page)
}

// splitEnvelope takes exchange and routing key out of their common wire form.
func splitEnvelope(envelope []byte) (exchange, key string) {
	n := 1 + int(envelope[0])
	return string(envelope[1:n]), string(envelope[n+1:])
}

// Cancelled implements queue.Sink: the queue is gone or cannot be read any more. The
// client is told if it said that it understands basic.cancel from the server; one
// that waits for get-ok is told by the end of its channel, as it would be by a
// basic.get from now on.
func (s *subscription) Cancelled() {
	ch := s.channel
	if s.get {
		err := s.queue.Usable()
		ch.mu.Lock()
		defer ch.mu.Unlock()
		if ch.getting == s && !ch.closed.Load() {
			ch.getting = nil
			ch.answered()
			ch.conn.abortChannel(ch, err)
		}
		return
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.closed.Load() || ch.subscriptions[s.consumer.Tag] != s {
		return
	}
	delete(ch.subscriptions, s.consumer.Tag)
	if ch.conn.capabilities.consumerCancelNotify {
		ch.conn.writer.send(ch.number, &wire.BasicCancel{ConsumerTag: s.consumer.Tag, NoWait: true})
	}
}

// Oldest implements queue.Sink. Called under the queue's lock.
func (s *subscription) Oldest() (at uint64, held bool) {
	s.channel.mu.Lock()
	defer s.channel.mu.Unlock()
	d := s.channel.unacked.oldest(s)
	if d == nil {
		return 0, false
	}
	return d.at(), true
}

// TimeOut implements queue.Sink: a client that does not understand basic.cancel
// from the server is told by the end of its channel (RabbitMQ 4.3, consumer
// timeout). One that has cancelled the consumer itself is not told. Called under
// the queue's lock.
func (s *subscription) TimeOut() (numbers []uint64) {
	ch := s.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.closed.Load() {
		return nil // it gives everything back by itself
	}
	numbers = ch.unacked.timeOut(s)
	ch.stats.Requeued += uint64(len(numbers))
	ch.limitedUnacked -= min(uint64(len(numbers)), ch.limitedUnacked)
	if len(ch.refused) > 0 {
		ch.conn.writer.dispatch(ch.takeRefused()) // as in Release
	}
	subscribed := ch.subscriptions[s.consumer.Tag] == s
	if subscribed {
		delete(ch.subscriptions, s.consumer.Tag)
	}
	switch {
	case !ch.conn.capabilities.consumerCancelNotify:
		ch.conn.abortChannel(ch, errTimedOut(ch.number))
	case subscribed:
		ch.conn.writer.send(ch.number, &wire.BasicCancel{ConsumerTag: s.consumer.Tag, NoWait: true})
	}
	return numbers
}

// errTimedOut is RabbitMQ's text, which never names the timeout.
func errTimedOut(channel uint16) *wire.Error {
	return wire.Errorf(wire.PreconditionFailed, "delivery acknowledgement on channel %d timed out. Timeout value used: -1 ms. "+
		"This timeout value can be configured, see consumers doc guide to learn more", channel)
}
