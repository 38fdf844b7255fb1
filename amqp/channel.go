// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// channel is one channel of a connection.
type channel struct {
	// Constant from creation on.
	conn   *conn
	number uint16

	// Owned by the connection's reader.
	content    content // the message being received
	confirming bool    // confirm.select was sent
	tx         *transaction
	lastQueue  string // the queue declared last, meant by an empty name
	closing    bool   // channel.close was sent to the client and not answered yet
	confirmDue bool   // in conn.confirmable
	replyQueue *subscription

	// closed is set, under mu, when the channel takes no deliveries any more.
	closed atomic.Bool
	// prefetch is the channel-wide limit of unacked messages, 0 for none.
	prefetch atomic.Uint32
	// newPrefetch is the limit that consumers to come get for themselves. The
	// reader sets it.
	newPrefetch atomic.Uint32

	mu            sync.Mutex
	changed       sync.Cond // awaited fell to 0
	lastDelivery  uint64    // the delivery tag given last
	unacked       unackedWindow
	confirms      confirms
	subscriptions map[string]*subscription // by consumer tag

	limitedUnacked uint64 // unacked messages that prefetch counts
	reserved       uint64 // granted to queues and not delivered yet
	// refused are the queues that prefetch turned away; they are dispatched when
	// room is made.
	refused map[*vhosts.Queue]struct{}

	doomed *wire.Error // what the reader is to close the channel with, see conn.abortChannel

	getting *subscription // the basic.get that is not answered yet
	awaited int           // replies that come later, from the committer or a page reader

	stats ChannelCounters
}

// ChannelCounters count a channel's messages since it was opened.
type ChannelCounters struct {
	Published, Confirmed, Returned    uint64
	Refused                           uint64 // publishes that were answered by a nack
	Delivered, DeliveredNo            uint64 // with and without acknowledgement
	Got, GotNo, GetEmpty, Redelivered uint64
	Acknowledged, Rejected, Requeued  uint64
}

func newChannel(c *conn, number uint16) *channel {
	ch := &channel{
		conn: c, number: number,
		subscriptions: map[string]*subscription{},
		refused:       map[*vhosts.Queue]struct{}{},
	}
	ch.changed.L = &ch.mu
	return ch
}

// send sends a method on the channel.
func (ch *channel) send(m wire.Method) { ch.conn.writer.send(ch.number, m) }

// release gives back n reserved messages. Called under mu.
func (ch *channel) release(n uint64) { ch.reserved -= min(n, ch.reserved) }

// makeRoom tells that n messages that prefetch counts are settled or returned,
// and gives the queues to dispatch, without mu, if some were refused.
func (ch *channel) makeRoom(n uint64) []*vhosts.Queue {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.limitedUnacked -= min(n, ch.limitedUnacked)
	return ch.takeRefused()
}

// takeRefused empties refused. Called under mu.
func (ch *channel) takeRefused() []*vhosts.Queue {
	if len(ch.refused) == 0 {
		return nil
	}
	queues := make([]*vhosts.Queue, 0, len(ch.refused))
	for q := range ch.refused {
		queues = append(queues, q)
	}
	clear(ch.refused)
	return queues
}

// flushConfirms tells the publisher what is decided by now. The caller flushes
// the writer, or sends something else.
func (ch *channel) flushConfirms() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for !ch.closed.Load() {
		before := ch.confirms.acked
		tag, multiple, nack, ok := ch.confirms.take()
		switch {
		case !ok:
			return
		case nack:
			ch.stats.Refused += tag - before
			ch.conn.writer.appendNack(ch.number, tag, multiple)
		default:
			ch.stats.Confirmed += tag - before
			ch.conn.writer.appendAck(ch.number, tag, multiple)
		}
	}
}

// runConfirm decides the publishes of one run when it is durable.
type runConfirm struct {
	channel *channel
	handle  uint64
	first   uint64 // its first publish
}

// Durable implements persistence.Waiter. What failed to become durable stays
// unconfirmed.
func (r *runConfirm) Durable(err error) {
	if err != nil {
		return
	}
	r.channel.mu.Lock()
	defer r.channel.mu.Unlock()
	r.channel.confirms.settle(r.handle)
}

// Refused implements vhosts.RefusalWaiter.
func (r *runConfirm) Refused(messages *queue.Bitmap) {
	r.channel.mu.Lock()
	defer r.channel.mu.Unlock()
	r.channel.refuseLocked(messages, r.first)
}

// refuseLocked notes the publishes, counted from first on, that were refused.
func (ch *channel) refuseLocked(messages *queue.Bitmap, first uint64) {
	for i := messages.NextSet(0, queue.MaxRunMessages); i < queue.MaxRunMessages; i = messages.NextSet(i+1, queue.MaxRunMessages) {
		ch.confirms.refuse(first + uint64(i))
	}
}

// Flush implements persistence.Waiter.
func (r *runConfirm) Flush() {
	r.channel.flushConfirms()
	r.channel.conn.writer.flush()
}

// await blocks the connection's reader until every reply that is to come from
// elsewhere has been sent, so that replies keep their order. The client's
// heartbeats are not read meanwhile, so they are not missed.
func (ch *channel) await() {
	if !ch.awaiting() {
		return
	}
	ch.conn.writer.uncork()
	ch.conn.paused.Store(true)
	defer ch.conn.paused.Store(false)
	// While the store is out of service only the connection's end ends the wait.
	stop := context.AfterFunc(ch.conn.ctx, func() {
		ch.mu.Lock()
		defer ch.mu.Unlock()
		ch.changed.Broadcast()
	})
	defer stop()
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for ch.awaited > 0 && !ch.closed.Load() && ch.conn.ctx.Err() == nil {
		ch.changed.Wait()
	}
}

func (ch *channel) awaiting() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.awaited > 0
}

// answered tells that an awaited reply was sent. Called under mu.
func (ch *channel) answered() {
	ch.awaited--
	ch.changed.Broadcast()
}

// later is the reply to a method whose effect has to become durable first. It is
// handed to the store as a waiter while the method is carried out, and told what
// to send when that is known.
type later struct {
	channel *channel
	reply   wire.Method // nil until known
	durable bool
	failed  bool
}

// Durable implements persistence.Waiter. A store that fails ends the connection,
// as there is no truthful answer left.
func (l *later) Durable(err error) {
	ch := l.channel
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if err != nil {
		ch.conn.abort(errStoreFailed())
		l.failed = true
	}
	l.durable = true
	l.sendLocked()
}

// Flush implements persistence.Waiter.
func (l *later) Flush() {}

// send makes m the reply; it goes out at once, or when it is durable.
func (l *later) send(m wire.Method) {
	l.channel.mu.Lock()
	defer l.channel.mu.Unlock()
	l.reply = m
	l.channel.awaited++
	l.sendLocked()
}

func (l *later) sendLocked() {
	if l.durable && l.reply != nil {
		if !l.failed && !l.channel.closed.Load() {
			l.channel.send(l.reply)
		}
		l.channel.answered()
	}
}

// change carries out a method that declares or deletes something. do is given
// the waiter, nil if the client wants no reply, and returns the reply and
// whether it has to wait for the waiter.
func (ch *channel) change(noWait bool, do func(w *later) (reply wire.Method, waiting bool, err *wire.Error)) *wire.Error {
	if noWait {
		_, _, err := do(nil)
		return err
	}
	l := &later{channel: ch}
	reply, waiting, err := do(l)
	switch {
	case err != nil:
		ch.await()
		return err
	case waiting:
		l.send(reply)
	default:
		ch.await()
		ch.send(reply)
	}
	return nil
}

// doom is what the channel is to be closed with, nil if it is not, or is closed.
func (ch *channel) doom() *wire.Error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.closed.Load() {
		return nil
	}
	return ch.doomed
}

// shutdown takes the channel out of service: consumers leave, every unacked
// message goes back to its queue, and a transaction is forgotten. Called by the
// connection's reader, once.
func (ch *channel) shutdown() {
	ch.mu.Lock()
	ch.closed.Store(true)
	subscriptions := ch.subscriptions
	ch.subscriptions = nil
	getting := ch.getting
	back := map[*subscription][]uint64{}
	ch.unacked.rollback()
	ch.unacked.each(0, true, func(d *delivery) {
		back[d.sub] = append(back[d.sub], d.number)
	})
	ch.unacked = unackedWindow{}
	ch.tx = nil
	ch.changed.Broadcast()
	ch.mu.Unlock()
	ch.conn.server.traffic.retire(ch)

	if getting != nil {
		getting.queue.ForgetGet(getting.consumer)
	}
	// What a single active consumer holds is back before another one follows it.
	// Until they leave, consumers of a closed channel grant nothing.
	for s, numbers := range back {
		s.queue.Return(s.consumer, numbers, true)
	}
	for _, s := range subscriptions {
		ch.unsubscribe(s)
	}
}

// errStoreFailed ends the connections that want something kept when nothing can
// be any more.
func errStoreFailed() *wire.Error {
	return wire.Errorf(wire.InternalError, "the message store is out of service")
}
