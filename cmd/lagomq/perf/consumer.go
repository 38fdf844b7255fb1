// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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

	ackEach int    // 0 with autoack
	nack    bool   // acknowledge in the negative
	requeue bool   // and have the messages put back
	limit   uint64 // messages to take, 0 for no limit
	pace    *pacer

	content  content
	delivery uint64   // tag of the message that is arriving
	sent     int64    // its stamp
	id       identity // its stamp

	taken     uint64 // messages
	unacked   int    // messages taken since the last acknowledgement
	latest    uint64 // delivery tag of the latest of those
	arrivals  arrivals
	ending    bool // what arrives from now on is not taken
	cancelled bool // the server has answered basic.cancel
}

// consumerConn is a connection with its consumers, one per channel.
type consumerConn struct {
	*conn
	clock     clock
	run       uint16
	bodySize  int
	consumers []*consumer
	stats     consumerStats
	latency   *recorder

	ended chan struct{} // closed by the reader when no consumer is left

	quit     chan struct{} // closed by stop
	stopOnce sync.Once

	// Reader only.
	now         int64
	sends       sends
	acks        []byte // to be handed to the writer
	consumed    uint64 // in this burst
	foreign     uint64 // in this burst
	redelivered uint64 // in this burst
	left        int    // consumers that are not cancelled
}

// consumerStats are read by anyone. They change once per burst.
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
		conn:     c,
		clock:    r.clock,
		run:      r.id,
		bodySize: o.size,
		latency:  newRecorder(),
		ended:    make(chan struct{}),
		quit:     make(chan struct{}),
		left:     o.consumerChannels,
	}
	cc.sends.into = cc.latency
	if err := cc.open(r, i); err != nil {
		c.net.Close()
		return nil, err
	}
	cc.start(cc, nil, func(err error) { r.abort(fmt.Errorf("consumer %d: %w", i, err)) })
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
			nack:     o.nack,
			requeue:  o.requeue,
			limit:    o.consumeCount,
			pace:     newPacer(o.consumerRate, now),
		}
		if !o.autoAck {
			c.ackEach = max(1, o.multiAckEvery)
		}
		if o.prefetch > 0 {
			if _, err := cc.call(c.channel, &wire.BasicQos{PrefetchCount: uint16(o.prefetch)}); err != nil {
				return fmt.Errorf("set prefetch: %w", err)
			}
		}
		// The answer is left to the reader: with several consumers on the
		// connection, deliveries may come before it.
		cc.sendMethod(c.channel, &wire.BasicConsume{
			Queue: r.topology.queues[queue], ConsumerTag: c.tag, NoAck: o.autoAck,
		})
		cc.consumers = append(cc.consumers, c)
	}
	return nil
}

// stop ends the consumers: they are cancelled, what they hold is acknowledged,
// and the connection is closed, which join waits for.
func (cc *consumerConn) stop() {
	cc.stopOnce.Do(func() {
		close(cc.quit)
		for _, c := range cc.consumers {
			cc.sendMethod(c.channel, &wire.BasicCancel{ConsumerTag: c.tag})
		}
	})
}

// atLimit reports whether a consumer has stopped at its limit. Only after join.
func (cc *consumerConn) atLimit() bool {
	return slices.ContainsFunc(cc.consumers, func(c *consumer) bool { return c.limit > 0 && c.taken == c.limit })
}

// begin implements handler.
func (cc *consumerConn) begin() { cc.now = cc.clock.now() }

// finish implements handler: what the burst brought is made known.
func (cc *consumerConn) finish() {
	if cc.consumed > 0 {
		cc.sends.flush(cc.now)
		for _, c := range cc.consumers {
			c.receipts.commit(&c.arrivals)
		}
		cc.stats.firstDelivery.CompareAndSwap(0, cc.now)
		cc.stats.lastDelivery.Store(cc.now)
		cc.stats.consumed.Add(cc.consumed)
		cc.stats.foreign.Add(cc.foreign)
		cc.stats.redelivered.Add(cc.redelivered)
		cc.consumed, cc.foreign, cc.redelivered = 0, 0, 0
	}
	if len(cc.acks) > 0 {
		cc.send(cc.acks)
		cc.acks = cc.acks[:0]
	}
}

// frame implements handler.
func (cc *consumerConn) frame(f wire.Frame) error {
	if f.Type == wire.FrameHeartbeat || f.Channel == 0 {
		return cc.common(f)
	}
	i := int(f.Channel) - 1
	if i >= len(cc.consumers) {
		return fmt.Errorf("the server sent a frame on channel %d, which is not open", f.Channel)
	}
	c := cc.consumers[i]
	if f.Type != wire.FrameMethod {
		first, complete, err := c.content.take(f)
		if err != nil {
			return err
		}
		if first != nil {
			c.sent, c.id = readStamp(first)
		}
		if complete {
			cc.receive(c)
		}
		return nil
	}
	r := wire.NewReader(f.Payload)
	switch wire.MethodID(r.Long()) {
	case wire.IDBasicDeliver:
		return cc.deliver(c, &r)
	case wire.IDBasicCancelOk:
		cc.cancelled(c)
		return nil
	}
	return cc.common(f)
}

// deliver reads the arguments of basic.deliver as far as they are needed.
func (cc *consumerConn) deliver(c *consumer, r *wire.Reader) error {
	if c.content.state != wantMethod {
		return errContent
	}
	r.ShortBytes() // consumer tag
	c.delivery = r.LongLong()
	redelivered := r.Octet()&1 != 0
	if r.Err() != nil {
		return errors.New("malformed basic.deliver from the server")
	}
	if redelivered {
		cc.redelivered++
	}
	c.content.state = wantHeader
	c.sent, c.id = 0, 0
	return nil
}

// receive takes a message that has arrived completely.
func (cc *consumerConn) receive(c *consumer) {
	if c.ending || !cc.keepPace(c) {
		return
	}
	cc.consumed++
	c.taken++
	if cc.ours(c) {
		if cc.bodySize >= timeSize {
			cc.sends.add(c.sent, cc.now)
		}
		c.arrivals.add(c.id)
	} else {
		cc.foreign++
	}
	if c.ackEach > 0 {
		c.unacked++
		c.latest = c.delivery
		if c.unacked == c.ackEach {
			cc.ack(c)
		}
	}
	if c.taken == c.limit {
		c.ending = true
		cc.ack(c)
		cc.acks = wire.AppendMethod(cc.acks, c.channel, &wire.BasicCancel{ConsumerTag: c.tag})
	}
}

// ours reports whether this run has published the message that has arrived,
// as far as its size leaves room to tell.
func (cc *consumerConn) ours(c *consumer) bool {
	switch {
	case c.content.size != uint64(cc.bodySize):
		return false
	case cc.bodySize >= stampSize && c.id.run() != cc.run:
		return false
	case cc.bodySize >= timeSize:
		return c.sent >= cc.clock.epoch && c.sent <= cc.now
	}
	return true
}

// ack acknowledges what the consumer has taken, in the negative if it is to.
func (cc *consumerConn) ack(c *consumer) {
	if c.unacked == 0 {
		return
	}
	multiple := c.unacked > 1
	if c.nack {
		cc.acks = wire.AppendNack(cc.acks, c.channel, c.latest, multiple, c.requeue)
	} else {
		cc.acks = wire.AppendAck(cc.acks, c.channel, c.latest, multiple)
	}
	c.unacked = 0
}

// keepPace waits until the consumer may take another message; false when the
// run ends before.
func (cc *consumerConn) keepPace(c *consumer) bool {
	if c.pace == nil {
		return true
	}
	for c.pace.due(time.Now()) == 0 {
		cc.finish()
		timer := time.NewTimer(c.pace.wait(time.Now()))
		select {
		case <-timer.C:
		case <-cc.failed:
			c.ending = true
		case <-cc.quit:
			c.ending = true
		}
		timer.Stop()
		if c.ending {
			return false
		}
	}
	c.pace.take(1)
	return true
}

// cancelled notes basic.cancel-ok. After the last one the connection closes.
func (cc *consumerConn) cancelled(c *consumer) {
	if c.cancelled {
		return // cancelled by its limit and by stop at the same time
	}
	c.cancelled, c.ending = true, true
	cc.ack(c)
	cc.left--
	if cc.left == 0 {
		close(cc.ended)
		cc.acks = wire.AppendMethod(cc.acks, 0, closeMethod())
	}
}
