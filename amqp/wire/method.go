// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"fmt"
)

// MethodID names a method: its class id in the upper and its method id in the
// lower 16 bits. The zero value names none.
type MethodID uint32

// Class returns the class id.
func (id MethodID) Class() uint16 { return uint16(id >> 16) }

// Method returns the method id within the class.
func (id MethodID) Method() uint16 { return uint16(id) }

// String returns the name, such as "queue.declare". A method the protocol does
// not define is named by its numbers, such as "60.999".
func (id MethodID) String() string {
	if name := id.name(); name != "" {
		return name
	}
	return fmt.Sprintf("%d.%d", id.Class(), id.Method())
}

// Method is a method with its arguments: a pointer to one of the generated
// structs. Reserved fields are not part of the structs; they are written as
// zero and skipped when read.
type Method interface {
	// ID returns which method this is.
	ID() MethodID
	// append appends the arguments, without class and method id.
	append(dst []byte) []byte
	// decode reads the arguments; the caller checks r.
	decode(r *Reader)
}

// ParseMethod decodes the payload of a method frame into a pointer to its
// struct, such as *[QueueDeclare]. The result shares no memory with payload.
//
// An unknown method is a 503. Arguments that do not parse are a 501, with texts
// as in RabbitMQ 4.3. Whether the peer may send the method is for the caller to
// decide: see [FromClient].
func ParseMethod(payload []byte) (Method, *Error) {
	if len(payload) < 4 {
		return nil, unknownFrame(FrameMethod, payload)
	}
	id := MethodID(binary.BigEndian.Uint32(payload))
	m := newMethod(id)
	if m == nil {
		return nil, errUnknownCall.During(id)
	}
	args := payload[4:]
	r := NewReader(args)
	m.decode(&r)
	switch err := r.Complete(); err {
	case nil:
		return m, nil
	case errUTF8:
		return nil, err.During(id)
	}
	return nil, cannotDecode(id, args)
}

// cannotDecode is the 501 for arguments that do not parse.
func cannotDecode(id MethodID, args []byte) *Error {
	return Errorf(FrameError, "cannot decode %s", octetList(args)).During(id)
}

// bit returns b as the least significant bit of an octet of bits.
func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}
