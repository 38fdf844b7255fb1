// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// scriptedConn is a connection whose reads bring data in pieces of these sizes,
// then nothing until a deadline is set, and at last the end.
type scriptedConn struct {
	net.Conn
	data    []byte
	pieces  []int
	silent  bool // a read with a deadline times out once before the next piece
	pending bool // a deadline is set
}

func (c *scriptedConn) SetReadDeadline(at time.Time) error {
	c.pending = !at.IsZero()
	return nil
}

func (c *scriptedConn) Read(b []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	if c.pending && c.silent {
		c.silent = false
		return 0, os.ErrDeadlineExceeded
	}
	piece := len(c.data)
	if len(c.pieces) > 0 {
		piece, c.pieces = min(piece, c.pieces[0]), c.pieces[1:]
	}
	n := copy(b, c.data[:piece])
	c.data = c.data[n:]
	c.silent = true
	return n, nil
}

// TestInput reads a stream of frames of drawn sizes, and takes a frame only when
// all of it is there: what comes out is what went in, and memory follows the
// largest frame.
func TestInput(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(1, 100), rapid.IntRange(smallInput-2, smallInput+2), rapid.IntRange(largeInput-2, largeInput+2), rapid.Just(3*largeInput))
		frames := rapid.SliceOfN(size, 1, 8).Draw(t, "frames")
		var sent []byte
		for i, n := range frames {
			sent = append(sent, bytes.Repeat([]byte{byte(i)}, n)...)
		}
		conn := &scriptedConn{data: sent, pieces: rapid.SliceOf(size).Draw(t, "reads")}
		var in input
		defer in.release()
		at, largest := 0, 0
		for _, n := range frames {
			largest = max(largest, n)
			for len(in.unread()) < n {
				if err := in.fill(conn, func() bool { return false }); err != nil {
					t.Fatalf("after %d bytes: %v", at, err)
				}
				if len(in.buf) > max(largeInput, 4*largest) {
					t.Fatalf("frames of at most %d bytes are read into %d", largest, len(in.buf))
				}
			}
			if !bytes.Equal(in.unread()[:n], sent[at:at+n]) {
				t.Fatalf("frame at %d differs", at)
			}
			in.consume(n)
			at += n
		}
		if in.total != uint64(len(sent)) {
			t.Errorf("%d bytes counted, want %d", in.total, len(sent))
		}
		if err := in.fill(conn, func() bool { return false }); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
	})
}

// A connection that has gone quiet gives its large buffer back.
func TestInputGivesBack(t *testing.T) {
	t.Parallel()
	conn := &scriptedConn{data: make([]byte, 3*smallInput+1), pieces: []int{smallInput, 2 * smallInput, 1}}
	var in input
	for _, want := range []int{smallInput, largeInput, smallInput} {
		if err := in.fill(conn, func() bool { return false }); err != nil {
			t.Fatal(err)
		}
		if len(in.buf) != want {
			t.Fatalf("reads into %d bytes, want %d", len(in.buf), want)
		}
		if in.r == 0 && want == smallInput && in.total == smallInput {
			continue // not consumed: a larger buffer is needed
		}
		in.consume(len(in.unread()))
	}
	if in.lent != nil {
		t.Error("the large buffer was not given back")
	}
}
