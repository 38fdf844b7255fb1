// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import "time"

// monitor keeps a connection's heartbeats (AMQP 0-9-1 §4.2.7; RabbitMQ 4.3,
// heartbeats): every half interval it sends a heartbeat if nothing else was
// written since the last time, and every interval it sees whether anything came.
// The second interval in a row without a byte ends the connection. It runs on a
// timer, so it costs no goroutine.
type monitor struct {
	conn     *conn
	timer    *time.Timer
	written  uint64
	received uint64
	taken    uint64 // written, at the last full interval
	ticks    uint
	silent   int // intervals in a row without a byte
}

// startMonitor starts the heartbeats if the client wants any.
func (c *conn) startMonitor() {
	if c.heartbeat == 0 {
		return
	}
	m := &monitor{conn: c}
	c.mu.Lock()
	defer c.mu.Unlock()
	m.timer = time.AfterFunc(c.heartbeat/2, m.tick)
	c.monitor = m.timer
}

func (c *conn) stopMonitor() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.monitor != nil {
		c.monitor.Stop()
	}
}

func (m *monitor) tick() {
	c := m.conn
	if c.ctx.Err() != nil {
		return
	}
	if written := c.writer.written.Load(); written == m.written {
		c.writer.heartbeat()
	} else {
		m.written = written
	}
	if m.ticks++; m.ticks%2 == 0 && m.lost() {
		c.log.Warn("missed heartbeats from client", "timeout", c.heartbeat)
		_ = c.net.Close() // ends the reader, which cleans up
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() == nil {
		m.timer.Reset(c.heartbeat / 2)
	}
}

// lost counts an interval and says whether the client is gone.
func (m *monitor) lost() bool {
	received, taken := m.conn.received.Load(), m.conn.writer.written.Load()
	alive := received != m.received || m.conn.paused.Load() || m.conn.crowded.Load() && taken != m.taken
	m.received, m.taken = received, taken
	if alive {
		m.silent = 0
		return false
	}
	m.silent++
	return m.silent >= 2
}
