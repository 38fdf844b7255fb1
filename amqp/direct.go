// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"net"
	"syscall"
)

// Waking writeLoop for a few bytes costs more than writing them. So whoever has
// appended the last of what belongs together, the reader at the end of a burst
// or the store when it confirms, writes it himself if writeLoop rests. He never
// waits for the client: what the kernel does not take at once is left to
// writeLoop, as are large buffers, which it writes while others go on.

// directMost is how many bytes may wait before they are writeLoop's in any case.
const directMost = 64 << 10

// directWriter writes to a connection without waiting. It has one user at a time.
type directWriter struct {
	raw     syscall.RawConn
	try     func(fd uintptr) bool // once; made once, so that a write allocates nothing
	b       []byte                // to be written
	written int                   // of b
}

// newDirectWriter returns nil if the connection is not one of the operating
// system's.
func newDirectWriter(c net.Conn) *directWriter {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	d := &directWriter{raw: raw}
	d.try = func(fd uintptr) bool {
		d.written = tryWrite(fd, d.b)
		return true
	}
	return d
}

// write returns how much of b was written. An error leaves all of it, and the
// next one who writes meets it again.
func (d *directWriter) write(b []byte) int {
	d.b, d.written = b, 0
	_ = d.raw.Write(d.try) // as said
	d.b = nil
	return d.written
}

// cork tells that the reader begins a burst. Small writes are then put off until
// uncork, which the reader calls before it waits for anything.
func (w *writer) cork() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked = true
}

// uncork has written what was put off.
func (w *writer) uncork() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.corked = false
	w.flushLocked()
}

// flush has written what was appended. Called by anybody, without locks; it does
// not wait for the client.
func (w *writer) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushLocked()
}

// flushLocked writes directly if that can be done, or wakes writeLoop. Called
// under mu, which is released while it writes.
func (w *writer) flushLocked() {
	o := w.out
	switch {
	case w.emptyLocked():
		return
	case w.corked || !w.waits || w.direct == nil || w.writing ||
		o.size > directMost || len(o.splice) > 0 || len(w.waiting) > 0:
		w.signalLocked()
		return
	}
	w.out, w.spare = w.spare, outbound{}
	w.writing = true
	w.mu.Unlock()
	n := w.direct.write(o.buf)
	w.written.Add(uint64(n))
	w.mu.Lock()
	w.writing = false
	if n < len(o.buf) {
		o.skip(n)
		w.head = o
	} else {
		o.reset()
		w.spare = o
	}
	if !w.emptyLocked() || w.closing {
		w.signalLocked()
	} else {
		w.restLocked()
	}
}
