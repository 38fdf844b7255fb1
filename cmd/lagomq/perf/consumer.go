// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
)

// consumer consumes from one queue on one channel. It belongs to the reader of
// its connection.
type consumer struct {
	channel  uint16
	tag      string
	receipts *receipts // of its queue, shared with its other consumers

	ackEvery int // 0 with autoack
	limit    uint64
	pace     *pacer

	content    content
	delivery   uint64 // tag of the message that is arriving
	received   uint64 // messages, up to limit
	unacked    int    // received since the last acknowledgement
	lastUnack  uint64 // delivery tag of the latest of those
	cancelling bool   // what arrives from now on is not taken
	cancelled  bool   // the server has confirmed that
}

// consumerConn is a connection with its consumers, one per channel.
type consumerConn struct {
	*conn
	clock     clock
	run       uint16
	consumers []*consumer
	stats     consumerStats
	latency   *recorder

	satisfied chan struct{} // closed by the reader when all consumers are at their limit

	// Reader only.
	now       int64
	sends     sends
	acks      []byte // to be handed to the writer
	consumed  uint64 // in this burst
	remaining int    // consumers that are not cancelled
}

// consumerStats are read by anyone.
type consumerStats struct {
	consumed      atomic.Uint64
	redelivered   atomic.Uint64
	foreign       atomic.Uint64 // not sent by this run
	firstDelivery atomic.Int64  // clock time, 0 before
	lastDelivery  atomic.Int64
}

// connectConsumer opens the i-th consumer connection and starts it.
func (r *run) connectConsumer(ctx context.Context, i int) (*consumerConn, error) {
	o := r.options
	c, err := dial(ctx, o, fmt.Sprintf("lagomq perf consumer %d", i))
	if err != nil {
		return nil, err
	}
	cc := &consumerConn{
		conn: c, clock: r.clock, run: r.id, latency: newRecorder(),
		satisfied: make(chan struct{}), remaining: o.consumerChannels,
	}
	cc.sends.into = cc.latency
	if err := cc.open(r, i); err != nil {
		c.net.Close()
		return nil, fmt.Errorf("consumer %d: %w", i, err)
	}
	return cc, nil
}

func (cc *consumerConn) open(r *run, i int) error {
	o := r.options
	if err := cc.openChannels(o.consumerChannels); err != nil {
		return err
	}
	now := time.Now()
	for j := range o.consumerChannels {
		queue := r.topology.queueOf(i*o.consumerChannels + j)
		c := &consumer{
			channel:  uint16(j + 1),
			tag:      fmt.Sprintf("perf-%d-%d", i, j),
			receipts: r.receipts[queue],
			limit:    o.consumeCount,
			pace:     newPacer(o.consumerRate, now),
		}
		if !o.autoAck {
			c.ackEvery = max(1, o.multiAckEach)
		}
		if o.prefetch > 0 {
			if _, err := cc.call(c.channel, &wire.BasicQos{PrefetchCount: uint16(o.prefetch)}); err != nil {
				return fmt.Errorf("basic.qos: %w", err)
			}
		}
		// The answer is left to the reader: with several consumers on the
		// connection, deliveries may come before it.
		cc.control = wire.AppendMethod(cc.control, c.channel, &wire.BasicConsume{
			Queue: r.topology.queues[queue], ConsumerTag: c.tag, NoAck: o.autoAck,
		})
		cc.consumers = append(cc.consumers, c)
	}
	cc.start(cc, nil)
	return nil
}

// finish ends the consumers: they are cancelled, what they hold is acknowledged,
// and the connection is closed. It returns why the connection failed, if it did.
func (cc *consumerConn) close() error {
	for _, c := range cc.consumers {
		cc.sendMethod(c.channel, &wire.BasicCancel{ConsumerTag: c.tag})
	}
	return cc.join()
}

// begin implements handler.
func (cc *consumerConn) begin() { cc.now = cc.clock.now() }

// finish implements handler.
func (cc *consumerConn) finish() {
	if cc.consumed > 0 {
		cc.sends.flush(cc.now)
		for _, c := range cc.consumers {
			c.receipts.commit(&c.pending)
		}
		cc.stats.firstDelivery.CompareAndSwap(0, cc.now)
		cc.stats.lastDelivery.Store(cc.now)
		cc.stats.consumed.Add(cc.consumed)
		cc.consumed = 0
	}
	if len(cc.acks) > 0 {
		cc.send(cc.acks)
		cc.acks = cc.acks[:0]
	}
}
