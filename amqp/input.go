// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

const (
	smallInput = 4 << 10   // an idle connection's read buffer
	largeInput = 256 << 10 // lent to a connection while traffic flows
	lendFor    = time.Second
)

// largeInputs are read buffers of largeInput bytes that no connection uses.
var largeInputs = sync.Pool{New: func() any { return new([largeInput]byte) }}

// input is a connection's read buffer: buf[r:w] was read and not consumed. It
// belongs to the reader.
//
// A connection starts with a small buffer. When a read fills it, a large one is
// lent, and taken back once nothing came for lendFor. Only a frame that does not
// fit a large buffer makes it grow further.
type input struct {
	buf      []byte
	r, w     int
	lent     *[largeInput]byte // the pool's, if buf is it
	timed    bool              // the read deadline is that of the lent buffer, which may have outgrown it
	total    uint64            // bytes read since the start
	deadline bool              // the read deadline is in use for something else
}

// unread is what was read and not consumed.
func (in *input) unread() []byte { return in.buf[in.r:in.w] }

// consume drops the first n unread bytes.
func (in *input) consume(n int) { in.r += n }

// fill reads more, waiting until something comes. Slices of unread from before
// are void. stop is asked once more just before it waits.
func (in *input) fill(c net.Conn, stop func() bool) error {
	for {
		in.makeRoom()
		if in.lent != nil && !in.deadline {
			// Passed over: a connection that takes no deadline fails the read below.
			_ = c.SetReadDeadline(time.Now().Add(lendFor))
			in.timed = true
		}
		if stop() {
			return os.ErrDeadlineExceeded
		}
		n, err := c.Read(in.buf[in.w:])
		in.w += n
		in.total += uint64(n)
		switch {
		case n > 0:
			return nil
		case err == nil:
			continue
		case in.timed && !in.deadline && errors.Is(err, os.ErrDeadlineExceeded) && !stop():
			if in.r == in.w {
				in.giveBack()
			}
			in.timed = false
			_ = c.SetReadDeadline(time.Time{}) // as above
			continue
		}
		return err
	}
}

// makeRoom makes buf have free space behind w, in a buffer that suits the
// traffic.
func (in *input) makeRoom() {
	switch {
	case in.r == in.w:
		in.r, in.w = 0, 0
		if len(in.buf) > largeInput {
			in.buf = nil
		}
		if in.buf == nil {
			in.buf = make([]byte, smallInput)
		}
		return
	case in.w < len(in.buf) && (in.r == 0 || len(in.buf)-in.w >= len(in.buf)/4):
		return
	}
	unread := in.unread()
	switch {
	case len(in.buf) < largeInput:
		large := largeInputs.Get().(*[largeInput]byte)
		in.w = copy(large[:], unread)
		in.buf, in.lent = large[:], large
	case in.r > 0 && len(unread) <= len(in.buf)/2:
		in.w = copy(in.buf, unread)
	default:
		grown := make([]byte, 2*len(in.buf))
		in.w = copy(grown, unread)
		in.giveBack()
		in.buf = grown
	}
	in.r = 0
}

// giveBack returns a lent buffer, or drops a grown one.
func (in *input) giveBack() {
	if in.lent != nil {
		largeInputs.Put(in.lent)
		in.lent = nil
	}
	in.buf = nil
}

// release gives all memory back.
func (in *input) release() {
	in.giveBack()
	in.r, in.w = 0, 0
}
