// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

// A client that does not read what it asked for must not fill the broker's
// memory. Consumers are held back by writer.refuse; everything else a client can
// cause to be sent (replies, confirms, returned messages, basic.get) is held back
// by not reading from it: conn.awaitRoom.

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
