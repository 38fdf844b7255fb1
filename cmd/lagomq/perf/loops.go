// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"errors"
	"fmt"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
)

// handler takes what a connection's reader receives. Its methods are called by
// the reader only.
type handler interface {
	// begin is called when bytes have arrived, before the frames in them.
	begin()
	// frame takes one frame; it is valid during the call. What the handler
	// does not know it passes to conn.common.
	frame(f wire.Frame) error
	// finish is called after the last whole frame that has arrived.
	finish()
}

// source makes what a connection's writer sends. Its methods are called by the
// writer only.
type source interface {
	// fill appends messages that may be sent now. When it appends none, it
	// says when it will have some: after a duration, or, when that is
	// negative, after the connection has been woken.
	fill(dst []byte) (out []byte, wait time.Duration)
	// written is called when what fill appended was written.
	written()
}

// errClosed ends the reader after connection.close-ok.
var errClosed = errors.New("connection closed")

// start hands the connection to its reader and writer. src is nil for a
// connection that only sends control frames. onFailure is called once if the
// connection fails, from whichever goroutine notices.
func (c *conn) start(h handler, src source, onFailure func(error)) {
	c.started, c.onFailure = true, onFailure
	// As in deadline: a closed connection shows in the loops.
	_ = c.net.SetDeadline(time.Time{})
	go func() {
		defer close(c.written)
		if err := c.writeLoop(src); err != nil {
			c.fail(err)
		}
	}()
	go func() {
		defer close(c.done)
		c.fail(c.readLoop(h))
		<-c.written
	}()
}

// fail ends the connection; the first reason counts. A nil reason is a clean
// end.
func (c *conn) fail(reason error) {
	c.failOnce.Do(func() {
		if errors.Is(reason, errClosed) {
			reason = nil
		}
		c.err = reason
		close(c.failed)
		c.net.Close()
		if reason != nil {
			c.onFailure(reason)
		}
	})
}

// readLoop never returns nil.
func (c *conn) readLoop(h handler) error {
	for {
		h.begin()
		for {
			f, ok, err := c.nextFrame()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := h.frame(f); err != nil {
				h.finish()
				return err
			}
		}
		h.finish()
		if c.heartbeat > 0 {
			// As in deadline: a closed connection shows in fill.
			_ = c.net.SetReadDeadline(time.Now().Add(2 * c.heartbeat))
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

// common handles what may arrive on any connection.
func (c *conn) common(f wire.Frame) error {
	if f.Type != wire.FrameMethod {
		return nil // heartbeats, and content that nobody asked for
	}
	m, werr := wire.ParseMethod(f.Payload)
	if werr != nil {
		return fmt.Errorf("malformed method from the server: %w", werr)
	}
	switch m := m.(type) {
	case *wire.ConnectionClose:
		c.answerClose()
		return connectionClosed(m)
	case *wire.ConnectionCloseOk:
		return errClosed
	case *wire.ChannelClose:
		return channelClosed(f.Channel, m)
	case *wire.BasicCancel:
		return &serverError{closed: "consumer " + m.ConsumerTag, text: "its queue was deleted or has become unavailable"}
	case *wire.ConnectionBlocked:
		c.blocked.Store(true)
	case *wire.ConnectionUnblocked:
		c.blocked.Store(false)
	case *wire.ChannelFlow:
		c.sendMethod(f.Channel, &wire.ChannelFlowOk{Active: m.Active})
	}
	return nil
}

// answerClose makes connection.close-ok the last that is written, and waits for
// it as long as is decent: the server need not be listening any more.
func (c *conn) answerClose() {
	c.sendMethod(0, &wire.ConnectionCloseOk{})
	c.closing.Store(true)
	c.poke()
	// As in deadline: a closed connection shows in the writer.
	_ = c.net.SetWriteDeadline(time.Now().Add(answerTimeout))
	<-c.written
}

// writeLoop returns nil when the connection ends for another reason than a
// failed write.
func (c *conn) writeLoop(src source) error {
	var heartbeats <-chan time.Time
	if c.heartbeat > 0 {
		ticker := time.NewTicker(c.heartbeat / 2)
		defer ticker.Stop()
		heartbeats = ticker.C
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var out []byte
	for {
		closing := c.closing.Load() // before the control frames it applies to
		out = c.takeControl(out[:0])
		var later <-chan time.Time
		if src != nil && !closing {
			var wait time.Duration
			if out, wait = src.fill(out); wait >= 0 {
				timer.Reset(wait)
				later = timer.C
			}
		}
		if len(out) > 0 {
			if _, err := c.net.Write(out); err != nil {
				return c.writeFailed(err)
			}
			if src != nil {
				src.written()
			}
		}
		switch {
		case closing:
			return nil
		case len(out) > 0:
			continue
		}
		select {
		case <-c.failed:
			return nil
		case <-c.wake:
		case <-later:
		case <-heartbeats:
			c.send(wire.AppendHeartbeat(nil))
		}
	}
}

// writeFailed gives the reader a moment to find out why the server stopped
// listening, which says more than the failed write.
func (c *conn) writeFailed(err error) error {
	if c.closing.Load() {
		return nil // the reader knows
	}
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	for {
		select {
		case <-c.failed:
			return nil
		case <-c.wake:
			if c.closing.Load() {
				return nil
			}
		case <-timer.C:
			return err
		}
	}
}

// send queues whole frames for the writer, which copies them.
func (c *conn) send(frames []byte) {
	c.mu.Lock()
	c.control = append(c.control, frames...)
	c.mu.Unlock()
	c.poke()
}

func (c *conn) sendMethod(channel uint16, m wire.Method) {
	c.send(wire.AppendMethod(nil, channel, m))
}

func (c *conn) takeControl(dst []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	dst = append(dst, c.control...)
	c.control = c.control[:0]
	return dst
}

// poke makes the writer look again. Any goroutine may call it.
func (c *conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default: // it is going to look already
	}
}

// close closes the connection as the protocol wants it and waits until both
// goroutines have ended. It returns why the connection failed, if it did.
func (c *conn) close() error {
	c.sendMethod(0, closeMethod())
	return c.join()
}

// kill closes the connection without a word. It may be called at any time, also
// again.
func (c *conn) kill() {
	if !c.started {
		c.net.Close()
		return
	}
	c.fail(nil)
	<-c.done
}

// join waits until the connection has ended, and ends it when that takes too
// long.
func (c *conn) join() error {
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-c.done:
	case <-timer.C:
		c.fail(errors.New("the server did not close the connection in time"))
		<-c.done
	}
	return c.err
}
