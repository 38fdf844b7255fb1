// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"errors"

	"github.com/lagomq/lagomq/amqp/wire"
)

// content follows the header and body frames of one message on one channel.
type content struct {
	state contentState
	size  uint64 // of the whole body
	left  uint64 // bytes that have not arrived
}

type contentState uint8

// What may come next on the channel.
const (
	wantMethod contentState = iota
	wantHeader
	wantBody
)

var errContent = errors.New("the server sent content frames out of order")

// take accepts the next content frame. first is the start of the body, or what
// there is of it, when this frame brings it; complete is true at the end of the
// message.
//
// The stamp of a message is always within first, because servers fill a body
// frame before they start another.
func (c *content) take(f wire.Frame) (first []byte, complete bool, err error) {
	switch {
	case c.state == wantHeader && f.Type == wire.FrameHeader:
		h, werr := wire.ParseHeader(f.Payload)
		if werr != nil {
			return nil, false, werr
		}
		c.state, c.size, c.left = wantBody, h.BodySize, h.BodySize
	case c.state == wantBody && f.Type == wire.FrameBody && uint64(len(f.Payload)) <= c.left:
		if c.left == c.size {
			first = f.Payload
		}
		c.left -= uint64(len(f.Payload))
	default:
		return nil, false, errContent
	}
	if c.left == 0 {
		c.state = wantMethod
		return first, true, nil
	}
	return first, false, nil
}

// returnedContent takes the frames after a basic.return: the stamp tells which
// message has come back and need not be delivered.
func (pc *producerConn) returnedContent(f wire.Frame) error {
	p, err := pc.producer(f.Channel, "content")
	if err != nil {
		return err
	}
	first, _, err := p.returning.take(f)
	if err != nil {
		return err
	}
	if _, id := readStamp(first); p.confirms != nil && id.run() == p.run && id.producer() == p.id && id != 0 {
		p.confirms.refused.add(id.sequence())
	}
	return nil
}
