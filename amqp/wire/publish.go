// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"slices"
)

// The methods of the message path. Their arguments, given without class and
// method id, are read in place and their frames are written without building a
// struct.

// PublishView is basic.publish read in place. ExchangeAndKey aliases the arguments.
type PublishView struct {
	// ExchangeAndKey are the exchange name and the routing key as two short
	// strings back to back: the same bytes that end a basic.deliver, and equal
	// exactly when exchange and routing key are equal.
	ExchangeAndKey []byte
	Mandatory      bool
	Immediate      bool
}

// Exchange is the exchange's name.
func (v *PublishView) Exchange() []byte {
	end := 1 + int(v.ExchangeAndKey[0])
	return v.ExchangeAndKey[1:end:end]
}

// RoutingKey is the routing key.
func (v *PublishView) RoutingKey() []byte {
	return v.ExchangeAndKey[2+int(v.ExchangeAndKey[0]):]
}

// ParsePublish reads the arguments of basic.publish. As in RabbitMQ 4.3 the
// names need not be UTF-8.
func ParsePublish(args []byte) (v PublishView, err *Error) {
	// A reserved short, two short strings, an octet of bits.
	const exchange = 2
	if len(args) < exchange+1 {
		return PublishView{}, cannotDecode(IDBasicPublish, args)
	}
	key := exchange + 1 + int(args[exchange])
	if len(args) <= key {
		return PublishView{}, cannotDecode(IDBasicPublish, args)
	}
	flags := key + 1 + int(args[key])
	if len(args) != flags+1 {
		return PublishView{}, cannotDecode(IDBasicPublish, args)
	}
	return PublishView{
		ExchangeAndKey: args[exchange:flags:flags],
		Mandatory:      args[flags]&1 != 0,
		Immediate:      args[flags]&2 != 0,
	}, nil
}

// settleSize is the size of the arguments of basic.ack, basic.nack and
// basic.reject: a delivery tag and an octet of bits.
const settleSize = 9

// ParseAck reads the arguments of basic.ack.
func ParseAck(args []byte) (tag uint64, multiple bool, err *Error) {
	if len(args) != settleSize {
		return 0, false, cannotDecode(IDBasicAck, args)
	}
	return binary.BigEndian.Uint64(args), args[8]&1 != 0, nil
}

// ParseNack reads the arguments of basic.nack.
func ParseNack(args []byte) (tag uint64, multiple, requeue bool, err *Error) {
	if len(args) != settleSize {
		return 0, false, false, cannotDecode(IDBasicNack, args)
	}
	return binary.BigEndian.Uint64(args), args[8]&1 != 0, args[8]&2 != 0, nil
}

// ParseReject reads the arguments of basic.reject.
func ParseReject(args []byte) (tag uint64, requeue bool, err *Error) {
	if len(args) != settleSize {
		return 0, false, cannotDecode(IDBasicReject, args)
	}
	return binary.BigEndian.Uint64(args), args[8]&1 != 0, nil
}

// AppendDeliver appends the method frame of a basic.deliver. exchangeAndKey
// are two short strings back to back, as [PublishView] has them.
func AppendDeliver(dst []byte, channel uint16, consumerTag string, deliveryTag uint64, redelivered bool, exchangeAndKey []byte) []byte {
	start := len(dst)
	dst = appendCall(dst, channel, IDBasicDeliver)
	dst = AppendShortString(dst, consumerTag)
	dst = binary.BigEndian.AppendUint64(dst, deliveryTag)
	dst = append(dst, bit(redelivered))
	dst = append(dst, exchangeAndKey...)
	return endFrame(dst, start)
}

// AppendDelivery appends a whole message for a consumer: the frame of
// basic.deliver, the content header's, and one with the body unless it is empty.
// header is the content header's payload; the body must fit one frame. It does
// what AppendDeliver and AppendContent do together, in one step.
func AppendDelivery(dst []byte, channel uint16, consumerTag string, deliveryTag uint64, redelivered bool, exchangeAndKey, header, body []byte) []byte {
	args := 4 + 1 + len(consumerTag) + 8 + 1 + len(exchangeAndKey)
	total := FrameOverhead + args + FrameOverhead + len(header)
	if len(body) > 0 {
		total += FrameOverhead + len(body)
	}
	start := len(dst)
	dst = slices.Grow(dst, total)[:start+total]
	b := dst[start:]

	putFrameHeader(b, FrameMethod, channel, args)
	b = b[FrameHeaderSize:]
	binary.BigEndian.PutUint32(b, uint32(IDBasicDeliver))
	b[4] = byte(len(consumerTag))
	b = b[5+copy(b[5:], consumerTag):]
	binary.BigEndian.PutUint64(b, deliveryTag)
	b[8] = bit(redelivered)
	b = b[9+copy(b[9:], exchangeAndKey):]
	b[0] = FrameEnd

	b = b[1:]
	putFrameHeader(b, FrameHeader, channel, len(header))
	b = b[FrameHeaderSize+copy(b[FrameHeaderSize:], header):]
	b[0] = FrameEnd

	if len(body) > 0 {
		b = b[1:]
		putFrameHeader(b, FrameBody, channel, len(body))
		b = b[FrameHeaderSize+copy(b[FrameHeaderSize:], body):]
		b[0] = FrameEnd
	}
	return dst
}

// RepeatDelivery appends a delivery that differs only by its delivery tag and its body
// from the one that AppendDelivery or RepeatDelivery has just appended, which has size
// bytes. The bodies are of the same length.
func RepeatDelivery(dst []byte, size int, consumerTag string, deliveryTag uint64, body []byte) []byte {
	start := len(dst)
	dst = slices.Grow(dst, size)[:start+size]
	b, last := dst[start:], dst[start-size:start]
	bodyAt := size - 1 - len(body)
	copy(b, last[:bodyAt])
	binary.BigEndian.PutUint64(b[FrameHeaderSize+4+1+len(consumerTag):], deliveryTag)
	copy(b[bodyAt:], body)
	b[size-1] = FrameEnd
	return dst
}

func putFrameHeader(b []byte, typ byte, channel uint16, size int) {
	b[0] = typ
	binary.BigEndian.PutUint16(b[1:], channel)
	binary.BigEndian.PutUint32(b[3:], uint32(size))
}

// WholePublish reads a message in place that lies in b from its start on, in the
// three frames, or two if it has no body, that clients usually send it in. n is
// what they take up; it is 0 if anything else lies there, or not all of it yet,
// or if something is wrong with it: then it is to be read frame by frame.
func WholePublish(b []byte, channel uint16, frameMax int) (v PublishView, header, body []byte, n int) {
	call, rest, ok := nextFrame(b, FrameMethod, channel, frameMax)
	if !ok || len(call) < 4 || MethodID(binary.BigEndian.Uint32(call)) != IDBasicPublish {
		return v, nil, nil, 0
	}
	v, err := ParsePublish(call[4:])
	if err != nil {
		return v, nil, nil, 0
	}
	header, rest, ok = nextFrame(rest, FrameHeader, channel, frameMax)
	if !ok || len(header) < ContentHeaderSize+2 || binary.BigEndian.Uint32(header) != ClassBasic<<16 {
		return v, nil, nil, 0
	}
	if size := binary.BigEndian.Uint64(header[4:]); size > 0 {
		body, rest, ok = nextFrame(rest, FrameBody, channel, frameMax)
		if !ok || uint64(len(body)) != size {
			return v, nil, nil, 0
		}
	}
	return v, header, body, len(b) - len(rest)
}

// nextFrame returns the payload of the frame at the start of b and what follows,
// if it is all there and of that type and channel.
func nextFrame(b []byte, typ byte, channel uint16, frameMax int) (payload, rest []byte, ok bool) {
	if len(b) < FrameOverhead || b[0] != typ || binary.BigEndian.Uint16(b[1:]) != channel {
		return nil, nil, false
	}
	size := int(binary.BigEndian.Uint32(b[3:]))
	if size > frameMax || size > len(b)-FrameOverhead || b[FrameHeaderSize+size] != FrameEnd {
		return nil, nil, false
	}
	return b[FrameHeaderSize : FrameHeaderSize+size : FrameHeaderSize+size], b[FrameOverhead+size:], true
}

// AppendAck appends the method frame of a basic.ack.
func AppendAck(dst []byte, channel uint16, tag uint64, multiple bool) []byte {
	start := len(dst)
	dst = appendCall(dst, channel, IDBasicAck)
	dst = binary.BigEndian.AppendUint64(dst, tag)
	dst = append(dst, bit(multiple))
	return endFrame(dst, start)
}

// AppendNack appends the method frame of a basic.nack. Servers send it without
// requeue only.
func AppendNack(dst []byte, channel uint16, tag uint64, multiple, requeue bool) []byte {
	start := len(dst)
	dst = appendCall(dst, channel, IDBasicNack)
	dst = binary.BigEndian.AppendUint64(dst, tag)
	dst = append(dst, bit(multiple)|bit(requeue)<<1)
	return endFrame(dst, start)
}
