// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"math"
	"slices"
)

// Frame types (AMQP 0-9-1 §4.2.3).
const (
	FrameMethod    = 1
	FrameHeader    = 2
	FrameBody      = 3
	FrameHeartbeat = 8
)

const (
	// FrameEnd is the octet that ends every frame.
	FrameEnd = 0xCE
	// FrameHeaderSize is the size in bytes of type, channel and payload size.
	FrameHeaderSize = 7
	// FrameOverhead is the size in bytes of a frame with an empty payload.
	FrameOverhead = FrameHeaderSize + 1
	// FrameMinSize is the smallest frame_max in bytes that a peer may
	// negotiate, and the limit before it is negotiated (RabbitMQ 4.3).
	FrameMinSize = 8192
	// MaxBodySize is the largest body in bytes that a content header may
	// announce (RabbitMQ 4.3).
	MaxBodySize = 512 << 20
)

// ProtocolHeader opens a connection; a server also answers with it when the
// client asks for a protocol it does not speak (AMQP 0-9-1 §4.2.2).
const ProtocolHeader = "AMQP\x00\x00\x09\x01"

// Frame is one frame. Payload aliases the buffer it was parsed from.
type Frame struct {
	Type    byte
	Channel uint16
	Payload []byte
}

// ParseFrame reads the frame at the start of b and returns it with the number
// of bytes it takes. When b does not hold a whole frame yet, n is 0 and err is
// nil.
//
// frameMax is the negotiated limit in bytes, 0 for none. It is checked as soon
// as the size is known, so a caller never waits for, or makes room for, a
// payload it will refuse. As in RabbitMQ 4.3 the payload alone may be as large
// as frameMax.
//
// The rules that need no channel state are checked here too: known frame types
// only, the end octet, heartbeats empty and on channel 0, content never on
// channel 0.
func ParseFrame(b []byte, frameMax int) (f Frame, n int, err *Error) {
	if len(b) < FrameHeaderSize {
		return Frame{}, 0, nil
	}
	size := uint64(binary.BigEndian.Uint32(b[3:]))
	if size > uint64(frameMax) && frameMax > 0 {
		return Frame{}, 0, frameTooLarge(b[0], size, frameMax)
	}
	if uint64(len(b)) < size+FrameOverhead {
		return Frame{}, 0, nil
	}
	end := FrameHeaderSize + int(size)
	f = Frame{Type: b[0], Channel: binary.BigEndian.Uint16(b[1:]), Payload: b[FrameHeaderSize:end:end]}
	if b[end] != FrameEnd || !f.wellPlaced() {
		return Frame{}, 0, f.rejected(b[end])
	}
	return f, end + 1, nil
}

// wellPlaced reports whether a frame of this type may appear on its channel.
func (f *Frame) wellPlaced() bool {
	switch f.Type {
	case FrameMethod:
		return true
	case FrameHeader, FrameBody:
		return f.Channel != 0
	case FrameHeartbeat:
		return f.Channel == 0 && len(f.Payload) == 0
	}
	return false
}

// rejected explains what is wrong with a frame that ended with the octet end.
func (f *Frame) rejected(end byte) *Error {
	if end != FrameEnd {
		return Errorf(FrameError, "type %d, %s: {invalid_frame_end_marker,%d}", f.Type, payloadSnippet(f.Payload), end)
	}
	switch {
	case f.Type == FrameHeader, f.Type == FrameBody, f.Type == FrameHeartbeat && len(f.Payload) == 0:
		return UnexpectedFrameError(*f)
	}
	return unknownFrame(f.Type, f.Payload)
}

// UnexpectedFrameError is the 505 for a frame that is well formed but not
// allowed in the current state of the connection.
func UnexpectedFrameError(f Frame) *Error {
	return Errorf(UnexpectedFrame, "type %d, %s", f.Type, payloadSnippet(f.Payload))
}

// unknownFrame is the 501 for a frame whose type or shape is not defined.
func unknownFrame(typ byte, payload []byte) *Error {
	return Errorf(FrameError, "type %d, %s: unknown_frame", typ, payloadSnippet(payload))
}

func frameTooLarge(typ byte, size uint64, frameMax int) *Error {
	return Errorf(FrameError, "type %d, all octets = <<>>: {frame_too_large,%d,%d}", typ, size, frameMax-FrameOverhead)
}

// AppendFrame appends one frame. The payload must be within the peer's
// frame_max less [FrameOverhead].
func AppendFrame(dst []byte, typ byte, channel uint16, payload []byte) []byte {
	dst = AppendFrameHeader(dst, typ, channel, len(payload))
	dst = append(dst, payload...)
	return append(dst, FrameEnd)
}

// AppendFrameHeader appends the type, channel and payload size that start a
// frame, for a caller that sends the payload and the [FrameEnd] octet itself,
// such as a large body that is not worth copying.
func AppendFrameHeader(dst []byte, typ byte, channel uint16, size int) []byte {
	return append(dst, typ, byte(channel>>8), byte(channel),
		byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
}

// AppendMethod appends a method frame.
func AppendMethod(dst []byte, channel uint16, m Method) []byte {
	start := len(dst)
	dst = appendCall(dst, channel, m.ID())
	dst = m.append(dst)
	return endFrame(dst, start)
}

// appendCall starts a method frame: arguments and [endFrame] are to follow.
func appendCall(dst []byte, channel uint16, id MethodID) []byte {
	dst = AppendFrameHeader(dst, FrameMethod, channel, 0)
	return binary.BigEndian.AppendUint32(dst, uint32(id))
}

// endFrame completes the frame that starts at dst[start]: it fills in the size
// and appends the end octet.
func endFrame(dst []byte, start int) []byte {
	size := len(dst) - start - FrameHeaderSize
	binary.BigEndian.PutUint32(dst[start+3:], uint32(size))
	return append(dst, FrameEnd)
}

// AppendHeartbeat appends a heartbeat frame.
func AppendHeartbeat(dst []byte) []byte {
	return append(dst, FrameHeartbeat, 0, 0, 0, 0, 0, 0, FrameEnd)
}

// AppendContent appends the header frame and the body frames of a message.
// header is a content header payload as [AppendHeader] makes it; body is at
// most [MaxBodySize] bytes. Body frames carry at most frameMax -
// [FrameOverhead] bytes; a frameMax that leaves no room for a body byte, such
// as 0, means no limit. The header is never split, since the protocol has no
// way to continue it. An empty body has no frame.
func AppendContent(dst []byte, channel uint16, frameMax int, header, body []byte) []byte {
	chunk := frameMax - FrameOverhead
	if chunk <= 0 {
		chunk = math.MaxInt
	}
	frames := 1
	if len(body) > 0 {
		frames += 1 + (len(body)-1)/chunk
	}
	dst = slices.Grow(dst, frames*FrameOverhead+len(header)+len(body))
	dst = AppendFrame(dst, FrameHeader, channel, header)
	for len(body) > chunk {
		dst = AppendFrame(dst, FrameBody, channel, body[:chunk])
		body = body[chunk:]
	}
	if len(body) > 0 {
		dst = AppendFrame(dst, FrameBody, channel, body)
	}
	return dst
}
