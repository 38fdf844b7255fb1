// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import "github.com/lagomq/lagomq/amqp/wire"

// A client that does not read what it asked for must not fill the broker's
// memory. Consumers are held back by writer.refuse; everything else a client can
// cause to be sent (replies, confirms, returned messages, basic.get) is held back
// by not reading from it: conn.awaitRoom. Nor is read from publishers while the
// broker can take no messages: conn.awaitAlarms.

// outboundMost is how many bytes may wait to be written before nothing more is
// read from the connection. It is well above outboundHigh, so that a slow
// consumer alone never keeps its own acknowledgements from being read.
const outboundMost = 4 * outboundHigh

// awaitRoom waits while outboundMost bytes wait to be written, and until the
// connection fails or is to be closed. The client's heartbeats are not read
// meanwhile: what it takes off the buffer is its sign of life. Called by the
// reader, without locks.
func (c *conn) awaitRoom() {
	if c.closeSent || !c.writer.full.Load() {
		return
	}
	c.crowded.Store(true)
	c.writer.awaitRoom(c.stopped)
	c.crowded.Store(false)
}

// awaitAlarms waits, after a burst with published messages, while the broker can
// take no more, and tells a client that understands it. So those who only consume
// go on, and the others are stopped by their first publish (RabbitMQ 4.3,
// alarms). The wait ends with the connection at the latest; the client's
// heartbeats cannot be read meanwhile, so they are not missed. Called by the
// reader, without locks.
func (c *conn) awaitAlarms() {
	alarms := c.server.options.Hosts.Alarms()
	if c.closeSent || !alarms.Raised() {
		return
	}
	c.paused.Store(true)
	defer c.paused.Store(false)
	c.blocked.Store(true)
	defer c.blocked.Store(false)
	told := false
	for {
		reason, changed := alarms.Current()
		if reason == "" {
			break
		}
		if !told && c.capabilities.connectionBlocked {
			c.writer.send(0, &wire.ConnectionBlocked{Reason: reason})
			told = true
		}
		select {
		case <-changed:
		case <-c.ctx.Done():
			return
		case <-c.writer.done: // the client is gone
			return
		}
	}
	if told {
		c.writer.send(0, &wire.ConnectionUnblocked{})
	}
}

func (w *writer) awaitRoom(stop func() bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.out.size >= outboundMost && !w.failed && !stop() {
		w.room.Wait()
	}
}

// wakeReader lets the connection's reader look again whether it has to wait for
// room. Called by anybody, under any lock but mu.
func (w *writer) wakeReader() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.room.Broadcast()
}
