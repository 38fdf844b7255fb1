// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
	"github.com/lagomq/lagomq/vhosts/queue"
)

const (
	// outboundHigh is how many bytes may wait to be written before consumers of the
	// connection get no more.
	outboundHigh = 1 << 20
	// smallOutbound is the buffer of a quiet connection. Once it is full a large one
	// is lent, with room for what one run may add past outboundHigh.
	smallOutbound = 4 << 10
	largeOutbound = outboundHigh + outboundHigh/4
	// referenceFrom is the body size from which bodies are written from their page
	// instead of being copied into the outbound buffer.
	referenceFrom = 32 << 10
)

// outbound is frames in the order they go out: buf, with bodies that are only
// referenced spliced in.
type outbound struct {
	buf    []byte
	gone   int // bytes of buf that are written already
	splice []splice
	size   int // bytes still to be written, those of all splices included
}

// splice is a body that goes out before the byte of buf at position at. It lies
// in page, which is held until it is written.
type splice struct {
	at   int
	body []byte
	page *queue.Page
}

// largeOutbounds are buffers of largeOutbound bytes that no connection uses.
var largeOutbounds = sync.Pool{New: func() any {
	b := make([]byte, 0, largeOutbound)
	return &b
}}

// grow makes buf large if it is not and n more bytes would not fit.
func (o *outbound) grow(n int) {
	if cap(o.buf)-len(o.buf) >= n {
		return
	}
	if cap(o.buf) == 0 && n <= smallOutbound {
		o.buf = make([]byte, 0, smallOutbound)
		return
	}
	if cap(o.buf) < largeOutbound {
		large := *largeOutbounds.Get().(*[]byte)
		o.buf = append(large, o.buf...)
	}
}

// giveBack empties the buffer and returns a lent one to the pool.
func (o *outbound) giveBack() {
	if cap(o.buf) == largeOutbound {
		b := o.buf[:0]
		largeOutbounds.Put(&b)
	}
	if cap(o.buf) > smallOutbound {
		o.buf = nil
	}
}

// method appends a method frame.
func (o *outbound) method(channel uint16, m wire.Method) {
	before := len(o.buf)
	o.buf = wire.AppendMethod(o.buf, channel, m)
	o.size += len(o.buf) - before
}

// content appends a content header and the body in frames of at most frameMax
// bytes. A large body is not copied if it lies in a page.
func (o *outbound) content(channel uint16, frameMax int, header, body []byte, page *queue.Page) {
	before := len(o.buf)
	if len(body) < referenceFrom || page == nil {
		o.buf = wire.AppendContent(o.buf, channel, frameMax, header, body)
		o.size += len(o.buf) - before
		return
	}
	o.buf = wire.AppendContent(o.buf, channel, frameMax, header, nil)
	chunk := len(body)
	if frameMax > 0 {
		chunk = frameMax - wire.FrameOverhead
	}
	for len(body) > 0 {
		n := min(chunk, len(body))
		o.buf = wire.AppendFrameHeader(o.buf, wire.FrameBody, channel, n)
		page.Hold()
		o.splice = append(o.splice, splice{len(o.buf), body[:n:n], page})
		o.buf = append(o.buf, wire.FrameEnd)
		o.size += n
		body = body[n:]
	}
	o.size += len(o.buf) - before
}

// writeTo writes everything in one or few system calls. When one fails after n
// bytes, goOn says whether to try once more with the rest.
func (o *outbound) writeTo(c net.Conn, goOn func(n int64, err error) bool) error {
	if len(o.splice) == 0 {
		for rest := o.buf[o.gone:]; ; {
			n, err := c.Write(rest)
			if err == nil || !goOn(int64(n), err) {
				return err
			}
			rest = rest[n:]
		}
	}
	parts := make(net.Buffers, 0, 2*len(o.splice)+1)
	from := o.gone
	for _, s := range o.splice {
		parts = append(parts, o.buf[from:s.at], s.body)
		from = s.at
	}
	parts = append(parts, o.buf[from:])
	for {
		n, err := parts.WriteTo(c) // leaves in parts what is not written
		if err == nil || !goOn(n, err) {
			return err
		}
	}
}

// skip drops the first n bytes of buf, which come before any splice.
func (o *outbound) skip(n int) {
	o.gone += n
	o.size -= n
}

// reset empties the buffer; a large one is given up.
func (o *outbound) reset() {
	for i, s := range o.splice {
		s.page.Release()
		o.splice[i] = splice{}
	}
	o.splice, o.size, o.gone = o.splice[:0], 0, 0
	if cap(o.buf) > largeOutbound {
		o.buf = nil
	}
	o.buf = o.buf[:0]
}

// writer is a connection's way out: anybody appends whole frames under mu, and
// one goroutine at a time writes them: writeLoop, or in its place one who calls
// flush. A message's method, header and body are appended
// under one hold of mu, so that frames of one channel never mix.
type writer struct {
	conn     net.Conn
	direct   *directWriter // nil: only writeLoop writes
	frameMax int

	mu      sync.Mutex
	wake    sync.Cond
	room    sync.Cond // out shrank, or the connection is to end; the reader waits on it
	out     outbound  // being filled
	head    outbound  // goes out before out: what a direct write left
	spare   outbound  // the one before, empty
	waits   bool      // writeLoop waits on wake
	writing bool      // a direct write is under way
	corked  bool      // the reader is in a burst, and calls uncork at its end
	closing bool      // write what is there, then end
	failed  bool      // nothing can be written any more
	// until is when writing ends in any case, and step how long the client may take
	// for no byte at all; set by finish.
	until time.Time
	step  time.Duration

	// full tells sinks that out holds outboundHigh bytes or more. refused are the
	// queues that were turned away since; they are dispatched when it has been
	// written.
	full    atomic.Bool
	refused map[*vhosts.Queue]struct{}
	// waiting are queues to dispatch at once: somebody who could not do it himself,
	// as he held a queue's lock, asked for it.
	waiting []*vhosts.Queue

	written atomic.Uint64 // bytes, for heartbeats and statistics
	done    chan struct{} // closed when writeLoop has ended
}

func newWriter(c net.Conn) *writer {
	w := &writer{conn: c, direct: newDirectWriter(c), refused: map[*vhosts.Queue]struct{}{}, done: make(chan struct{})}
	w.wake.L = &w.mu
	w.room.L = &w.mu
	return w
}

// signalLocked has writeLoop write what was appended, unless somebody else is to
// do it or writes just now, and will see to the rest. Called under mu.
func (w *writer) signalLocked() {
	if w.out.size >= outboundHigh {
		w.full.Store(true)
	}
	if w.waits && !w.writing && (!w.corked || w.out.size > directMost || w.head.size > 0 || w.closing) {
		w.waits = false
		w.wake.Signal()
	}
}

// send appends one method frame.
func (w *writer) send(channel uint16, m wire.Method) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.method(channel, m)
	w.signalLocked()
}

// heartbeat appends a heartbeat frame.
func (w *writer) heartbeat() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.buf = wire.AppendHeartbeat(w.out.buf)
	w.out.size += wire.FrameOverhead
	w.signalLocked()
}

// deliver appends the messages of d for a consumer, the first with delivery tag
// first.
func (w *writer) deliver(channel uint16, consumerTag string, first uint64, d *queue.Delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	oneFrame, tallied := min(referenceFrom, w.frameMax-wire.FrameOverhead), d.Tallied()
	w.out.grow(int(d.Count) * (d.Page.Spread()/d.Page.Len() + len(consumerTag) + deliverOverhead))
	before := len(w.out.buf)
	last, begin := -1, 0 // the message whose frames were appended last, if they can be repeated, and where they begin
	for i := range d.Count {
		n := int(d.Offset(i))
		envelope, header, body := d.Page.Message(n)
		if tallied {
			header = counted(d, i, header)
		}
		if len(body) < oneFrame {
			end := len(w.out.buf)
			if last >= 0 && d.Page.Resembles(n, last) {
				w.out.buf = wire.RepeatDelivery(w.out.buf, end-begin, consumerTag, first+uint64(i), body)
			} else {
				w.out.buf = wire.AppendDelivery(w.out.buf, channel, consumerTag, first+uint64(i), d.Redelivered, envelope, header, body)
			}
			if begin = end; !tallied {
				last = n
			}
			continue
		}
		last = -1
		w.out.buf = wire.AppendDeliver(w.out.buf, channel, consumerTag, first+uint64(i), d.Redelivered, envelope)
		w.out.size += len(w.out.buf) - before
		w.out.content(channel, w.frameMax, header, body, d.Page)
		before = len(w.out.buf)
	}
	w.out.size += len(w.out.buf) - before
	w.signalLocked()
}

// deliverOverhead is about what a delivery has in bytes besides the message and
// the consumer tag: three frames, the method's ids and the delivery tag.
const deliverOverhead = 3*wire.FrameOverhead + 16

// sendContent appends a method with content; page is where body lies, nil if that
// is no page.
func (w *writer) sendContent(channel uint16, m wire.Method, header, body []byte, page *queue.Page) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.method(channel, m)
	w.out.content(channel, w.frameMax, header, body, page)
	w.signalLocked()
}

// appendNack is appendAck for basic.nack.
func (w *writer) appendNack(channel uint16, tag uint64, multiple bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := len(w.out.buf)
	w.out.buf = wire.AppendNack(w.out.buf, channel, tag, multiple, false)
	w.out.size += len(w.out.buf) - before
}

// appendAck appends basic.ack. It goes out when the caller flushes, or with what
// he sends next.
func (w *writer) appendAck(channel uint16, tag uint64, multiple bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := len(w.out.buf)
	w.out.buf = wire.AppendAck(w.out.buf, channel, tag, multiple)
	w.out.size += len(w.out.buf) - before
}

// refuse says whether a sink of queue q has to wait because the buffer is full;
// then q is dispatched once it is not.
func (w *writer) refuse(q *vhosts.Queue) bool {
	if !w.full.Load() {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.full.Load() {
		return false
	}
	w.refused[q] = struct{}{}
	return true
}

// writeLoop writes until the connection fails, or after finish until all is
// written. It ends the connection's sending side.
func (w *writer) writeLoop() {
	defer close(w.done)
	for {
		full, ok := w.take()
		if !ok {
			return
		}
		var err error
		if full.size > 0 {
			err = full.writeTo(w.conn, w.linger)
			w.written.Add(uint64(full.size))
		}
		full.reset()
		for _, q := range w.wrote(full, err) {
			q.Dispatch()
		}
	}
}

// dispatch has the writer dispatch queues. Called under any lock but mu.
func (w *writer) dispatch(queues []*vhosts.Queue) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, queues...)
	w.signalLocked()
}

// take waits for something to write, or to dispatch, and swaps the buffers.
func (w *writer) take() (outbound, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.writing || w.emptyLocked() && !w.closing && !w.failed {
		if !w.writing {
			w.restLocked()
		}
		w.waits = true
		w.wake.Wait()
	}
	if w.failed || w.emptyLocked() {
		return outbound{}, false
	}
	if w.head.size > 0 {
		full := w.head
		w.head = outbound{}
		return full, true
	}
	full := w.out
	w.out, w.spare = w.spare, outbound{}
	w.room.Broadcast()
	return full, true
}

// emptyLocked says that there is nothing to write or to dispatch.
func (w *writer) emptyLocked() bool {
	return w.out.size == 0 && w.head.size == 0 && len(w.waiting) == 0
}

// restLocked gives back what is lent while there is much to write.
func (w *writer) restLocked() {
	w.spare.giveBack()
	w.out.giveBack()
}

// wrote takes the written buffer back and returns the queues to dispatch.
func (w *writer) wrote(empty outbound, err error) []*vhosts.Queue {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spare = empty
	if err != nil {
		w.failed = true
		w.room.Broadcast()
		w.out.reset()
		w.conn.Close() // ends the reader, which cleans up
	}
	queues := w.waiting
	w.waiting = nil
	if !w.full.Load() || w.out.size >= outboundHigh {
		return queues
	}
	w.full.Store(false)
	for q := range w.refused {
		queues = append(queues, q)
	}
	clear(w.refused)
	return queues
}

// finish lets writeLoop end once everything is written. A client that accepts no
// byte for the time step, or not all within limit, is given up.
func (w *writer) finish(step, limit time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.closing, w.step, w.until = true, step, now.Add(limit)
	_ = w.conn.SetWriteDeadline(now.Add(step)) // a connection that takes no deadline is dead
	w.signalLocked()
}

// linger says whether to go on after a write that failed with err after n bytes:
// the connection is to end, and its client is slow but reads.
func (w *writer) linger(n int64, err error) bool {
	if n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if !w.closing || !now.Before(w.until) {
		return false
	}
	deadline := now.Add(w.step)
	if deadline.After(w.until) {
		deadline = w.until
	}
	return w.conn.SetWriteDeadline(deadline) == nil
}
