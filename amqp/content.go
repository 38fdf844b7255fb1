// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"slices"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// maxBodySize is the largest body size a content header may claim (RabbitMQ 4.3,
// frames and content).
const maxBodySize = 536_870_912

// content assembles one published message from its frames: basic.publish, the
// content header, and body frames until the declared size is reached. What may
// come next on the channel is its state.
//
// Its slices alias the connection's read buffer as long as frames of the same
// channel follow each other in it; own copies them before the buffer changes.
type content struct {
	state    contentState
	publish  wire.PublishView
	header   []byte // the content header's payload
	size     uint64 // the body size it declares
	body     []byte
	deadline queue.Deadline // when it is due, by its properties
	blind    []string       // the routing keys of its header BCC, which is not stored
	envelope []byte         // own memory behind publish, when owned
	kept     []byte         // own memory behind header, when owned
	gathered []byte         // own memory behind body, when it comes in several frames
}

type contentState uint8

const (
	expectMethod contentState = iota
	expectHeader
	expectBody
)

// start begins a message with basic.publish.
func (c *content) start(p wire.PublishView) {
	c.publish = p
	c.state = expectHeader
}

// takeWhole takes a message that lies whole at the start of b, and returns how
// many bytes it takes up, 0 if none does.
func (c *content) takeWhole(b []byte, channel uint16, frameMax int) (n int) {
	p, header, body, n := wire.WholePublish(b, channel, frameMax)
	if n > 0 {
		c.publish, c.header, c.body, c.size = p, header, body, uint64(len(body))
	}
	return n
}

// takeHeader takes the content header frame; complete says that no body follows.
func (c *content) takeHeader(f wire.Frame) (complete bool, err *wire.Error) {
	if f.Type != wire.FrameHeader {
		return false, wire.Errorf(wire.UnexpectedFrame, "expected content header for class 60, got non content header frame instead")
	}
	h, err := wire.ParseHeader(f.Payload)
	switch {
	case err != nil:
		return false, err
	case h.Class != 60:
		return false, wire.Errorf(wire.UnexpectedFrame, "expected content header for class 60, got one for class %d instead", h.Class)
	case h.Weight != 0:
		return false, wire.Errorf(wire.UnexpectedFrame, "expected content header for class 60, got non content header frame instead")
	case h.BodySize > maxBodySize:
		return false, wire.Errorf(wire.FrameError, "content body size %d exceeds maximum allowed size %d", h.BodySize, maxBodySize)
	}
	c.header, c.size = f.Payload, h.BodySize
	c.body, c.gathered = nil, c.gathered[:0]
	if h.BodySize == 0 {
		c.state = expectMethod
		return true, nil
	}
	c.state = expectBody
	return false, nil
}

// takeBody takes a body frame; complete says that it was the last.
func (c *content) takeBody(f wire.Frame) (complete bool, err *wire.Error) {
	if f.Type != wire.FrameBody {
		return false, wire.Errorf(wire.UnexpectedFrame, "expected content body, got non content body frame instead")
	}
	got := uint64(len(c.gathered) + len(f.Payload))
	switch {
	case got > c.size:
		return false, wire.Errorf(wire.FrameError, "content body frame exceeds remaining content size")
	case got < c.size:
		if cap(c.gathered) < int(got) {
			// Memory follows what has arrived, not what is announced.
			c.gathered = slices.Grow(c.gathered, min(int(c.size), 2*int(got))-len(c.gathered))
		}
		c.gathered = append(c.gathered, f.Payload...)
		return false, nil
	}
	c.state = expectMethod
	if len(c.gathered) == 0 {
		c.body = f.Payload
		return true, nil
	}
	c.gathered = append(c.gathered, f.Payload...)
	c.body = c.gathered
	return true, nil
}

// own copies what aliases the read buffer, which is about to change.
func (c *content) own() {
	if c.state == expectMethod {
		return
	}
	c.envelope = append(c.envelope[:0], c.publish.ExchangeAndKey...)
	c.publish.ExchangeAndKey = c.envelope
	if c.state == expectBody {
		c.kept = append(c.kept[:0], c.header...)
		c.header = c.kept
	}
}

// release gives up large memory after a message was dealt with.
func (c *content) release() {
	if cap(c.gathered) > 256<<10 {
		c.gathered = nil
	}
}
