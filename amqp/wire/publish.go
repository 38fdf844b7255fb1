// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import "encoding/binary"

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

// AppendAck appends the method frame of a basic.ack.
func AppendAck(dst []byte, channel uint16, tag uint64, multiple bool) []byte {
	start := len(dst)
	dst = appendCall(dst, channel, IDBasicAck)
	dst = binary.BigEndian.AppendUint64(dst, tag)
	dst = append(dst, bit(multiple))
	return endFrame(dst, start)
}

// AppendNack appends the method frame of a basic.nack without requeue, the
// only form a server sends.
func AppendNack(dst []byte, channel uint16, tag uint64, multiple bool) []byte {
	start := len(dst)
	dst = appendCall(dst, channel, IDBasicNack)
	dst = binary.BigEndian.AppendUint64(dst, tag)
	dst = append(dst, bit(multiple))
	return endFrame(dst, start)
}
