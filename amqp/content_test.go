// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lagomq/lagomq/amqp/wire"
)

// TestContentAssembly cuts a message into frames that arrive in any number of
// reads. Each frame is handed over in a buffer that is overwritten once own was
// called, as the connection's read buffer is.
func TestContentAssembly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var c content
		for range rapid.IntRange(1, 3).Draw(t, "messages") {
			exchange, key := rapid.StringN(0, 20, 60).Draw(t, "exchange"), rapid.StringN(0, 20, 60).Draw(t, "key")
			body := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "body")
			header := wire.AppendHeader(nil, uint64(len(body)), []byte{wire.FlagDeliveryMode >> 8, 0, 2})

			var burst [][]byte // buffers whose bytes the content may still refer to
			lend := func(b []byte) []byte {
				lent := slices.Clone(b)
				burst = append(burst, lent)
				return lent
			}
			betweenFrames := func() {
				if !rapid.Bool().Draw(t, "end of a read") {
					return
				}
				c.own()
				for _, b := range burst {
					clear(b)
				}
				burst = nil
			}

			call := wire.AppendMethod(nil, 1, &wire.BasicPublish{Exchange: exchange, RoutingKey: key, Mandatory: true})
			publish, err := wire.ParsePublish(lend(call[wire.FrameHeaderSize+4 : len(call)-1]))
			if err != nil {
				t.Fatal(err)
			}
			c.start(publish)
			betweenFrames()
			complete, err := c.takeHeader(wire.Frame{Type: wire.FrameHeader, Channel: 1, Payload: lend(header)})
			for rest := body; err == nil && !complete; {
				betweenFrames()
				n := rapid.IntRange(0, len(rest)).Draw(t, "frame")
				complete, err = c.takeBody(wire.Frame{Type: wire.FrameBody, Channel: 1, Payload: lend(rest[:n])})
				rest = rest[n:]
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(c.publish.Exchange()) != exchange || string(c.publish.RoutingKey()) != key || !c.publish.Mandatory {
				t.Fatalf("assembled for %q %q, want %q %q", c.publish.Exchange(), c.publish.RoutingKey(), exchange, key)
			}
			if !bytes.Equal(c.header, header) || !bytes.Equal(c.body, body) {
				t.Fatalf("assembled %x %x, want %x %x", c.header, c.body, header, body)
			}
			c.release()
		}
	})
}

func TestContentRefused(t *testing.T) {
	t.Parallel()
	header := func(class, weight uint16, size uint64) wire.Frame {
		b := wire.AppendHeader(nil, size, []byte{0, 0})
		b[1], b[3] = byte(class), byte(weight)
		return wire.Frame{Type: wire.FrameHeader, Channel: 1, Payload: b}
	}
	body := func(size int) wire.Frame {
		return wire.Frame{Type: wire.FrameBody, Channel: 1, Payload: make([]byte, size)}
	}
	method := wire.Frame{Type: wire.FrameMethod, Channel: 1}
	for _, c := range []struct {
		name   string
		frames []wire.Frame // after basic.publish
		want   string
	}{
		{"a method for the header", []wire.Frame{method},
			"UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"},
		{"a body for the header", []wire.Frame{body(1)},
			"UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"},
		{"a header with weight", []wire.Frame{header(60, 1, 1)},
			"UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead"},
		{"another class", []wire.Frame{header(50, 0, 1)},
			"UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead"},
		{"a huge body", []wire.Frame{header(60, 0, 536870913)},
			"FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912"},
		{"the largest size there is", []wire.Frame{header(60, 0, 1<<64-1)},
			"FRAME_ERROR - content body size 18446744073709551615 exceeds maximum allowed size 536870912"},
		{"a method for the body", []wire.Frame{header(60, 0, 2), method},
			"UNEXPECTED_FRAME - expected content body, got non content body frame instead"},
		{"a second header", []wire.Frame{header(60, 0, 2), header(60, 0, 2)},
			"UNEXPECTED_FRAME - expected content body, got non content body frame instead"},
		{"a body too long", []wire.Frame{header(60, 0, 2), body(3)},
			"FRAME_ERROR - content body frame exceeds remaining content size"},
		{"bodies too long together", []wire.Frame{header(60, 0, 4), body(3), body(0), body(2)},
			"FRAME_ERROR - content body frame exceeds remaining content size"},
	} {
		var assembly content
		assembly.start(wire.PublishView{ExchangeAndKey: []byte{0, 0}})
		for i, f := range c.frames {
			take := assembly.takeHeader
			if assembly.state == expectBody {
				take = assembly.takeBody
			}
			complete, err := take(f)
			if last := i == len(c.frames)-1; !last && err != nil || complete {
				t.Fatalf("%s: frame %d: complete %t, %v", c.name, i, complete, err)
			} else if last && (err == nil || err.ReplyText() != c.want) {
				t.Errorf("%s: %v, want %s", c.name, err, c.want)
			}
		}
	}
}

// A declared size alone must not cost memory, and what arrived not much more than twice.
func TestContentMemoryFollowsBytes(t *testing.T) {
	t.Parallel()
	var c content
	c.start(wire.PublishView{ExchangeAndKey: []byte{0, 0}})
	if _, err := c.takeHeader(wire.Frame{Type: wire.FrameHeader, Payload: wire.AppendHeader(nil, maxBodySize, []byte{0, 0})}); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if _, err := c.takeBody(wire.Frame{Type: wire.FrameBody, Payload: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
		if arrived := 1000 * (i + 1); cap(c.gathered) > 3*arrived+1024 {
			t.Fatalf("%d bytes arrived and %d are reserved", arrived, cap(c.gathered))
		}
	}
}
