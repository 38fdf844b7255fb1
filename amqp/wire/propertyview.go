// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"math/bits"
)

// PropertyView is what a broker reads of a message's properties on the way
// through, without decoding them. The slices alias the scanned bytes; an absent
// one is nil, and Flags tells absent from empty.
type PropertyView struct {
	Flags         uint16
	DeliveryMode  uint8
	Priority      uint8
	Headers       []byte // contents of the table, known to be valid
	CorrelationID []byte
	ReplyTo       []byte
	Expiration    []byte
	MessageID     []byte
	Timestamp     []byte // 8 bytes, big-endian
	UserID        []byte
}

// Has reports whether every property of the flags is present.
func (v *PropertyView) Has(flags uint16) bool { return v.Flags&flags == flags }

// PlainProperties recognises the property lists of most messages: empty, or a
// delivery mode alone. If ok is false the list has to be scanned.
func PlainProperties(raw []byte) (deliveryMode uint8, ok bool) {
	switch {
	case len(raw) == 2 && binary.BigEndian.Uint16(raw)&flagsDefined == 0:
		return 0, true
	case len(raw) == 3 && binary.BigEndian.Uint16(raw)&flagsDefined == FlagDeliveryMode:
		return raw[2], true
	}
	return 0, false
}

// Scan checks property flags and a property list to the last byte, the headers
// table included, and makes v a view of them. It accepts exactly what
// [ParseProperties] accepts and allocates nothing on success. After an error v
// holds nothing of use.
func (v *PropertyView) Scan(raw []byte) *Error {
	if err := v.Read(raw); err != nil {
		return err
	}
	if !ValidTable(v.Headers) {
		return errProperties
	}
	return nil
}

// Read is Scan for properties that have passed it before: the contents of the
// headers table are not checked again.
func (v *PropertyView) Read(raw []byte) *Error {
	*v = PropertyView{}
	if len(raw) < 2 {
		return errProperties
	}
	v.Flags = binary.BigEndian.Uint16(raw) & flagsDefined
	list := raw[2:]
	for flags := v.Flags; flags != 0; {
		flag := firstFlag(flags)
		flags &^= flag
		size, ok := propertySize(flag, list)
		if !ok {
			return errProperties
		}
		value := list[:size:size]
		list = list[size:]
		switch flag {
		case FlagHeaders:
			v.Headers = value[4:]
		case FlagDeliveryMode:
			v.DeliveryMode = value[0]
		case FlagPriority:
			v.Priority = value[0]
		case FlagCorrelationID:
			v.CorrelationID = value[1:]
		case FlagReplyTo:
			v.ReplyTo = value[1:]
		case FlagExpiration:
			v.Expiration = value[1:]
		case FlagMessageID:
			v.MessageID = value[1:]
		case FlagTimestamp:
			v.Timestamp = value
		case FlagUserID:
			v.UserID = value[1:]
		}
	}
	if len(list) != 0 {
		return errProperties
	}
	return nil
}

// firstFlag returns the highest set flag: the next property of the list.
// flags is not 0.
func firstFlag(flags uint16) uint16 { return 1 << (bits.Len16(flags) - 1) }

// propertySize returns how many bytes the property of that flag takes at the
// start of list, the length that precedes it included; false when the list is
// too short.
func propertySize(flag uint16, list []byte) (int, bool) {
	switch flag {
	case FlagDeliveryMode, FlagPriority:
		return 1, len(list) >= 1
	case FlagTimestamp:
		return 8, len(list) >= 8
	case FlagHeaders:
		if len(list) < 4 {
			return 0, false
		}
		size := 4 + uint64(binary.BigEndian.Uint32(list))
		// Compared before the conversion: int may be 32 bits wide.
		if size > uint64(len(list)) {
			return 0, false
		}
		return int(size), true
	}
	if len(list) < 1 {
		return 0, false
	}
	size := 1 + int(list[0])
	return size, size <= len(list)
}

// locate returns where in raw the property of that flag starts, or would be
// inserted, and where it ends; equal when it is absent. It is false when raw
// does not parse up to there.
func locate(raw []byte, flag uint16) (start, end int, ok bool) {
	if len(raw) < 2 {
		return 0, 0, false
	}
	present := binary.BigEndian.Uint16(raw)
	start = 2
	// The properties before this one are those of the higher flags.
	for before := present &^ (flag<<1 - 1); before != 0; {
		next := firstFlag(before)
		before &^= next
		size, ok := propertySize(next, raw[start:])
		if !ok {
			return 0, 0, false
		}
		start += size
	}
	if present&flag == 0 {
		return start, start, true
	}
	size, ok := propertySize(flag, raw[start:])
	return start, start + size, ok
}

// ReplaceReplyTo appends property flags and a property list with the reply-to
// property set to replyTo and everything else byte for byte as it is in raw.
// raw has passed [PropertyView.Scan]; otherwise it is appended unchanged. replyTo
// is at most 255 bytes.
func ReplaceReplyTo(dst, raw []byte, replyTo string) []byte {
	start, end, ok := locate(raw, FlagReplyTo)
	if !ok {
		return append(dst, raw...)
	}
	dst = binary.BigEndian.AppendUint16(dst, binary.BigEndian.Uint16(raw)|FlagReplyTo)
	dst = append(dst, raw[2:start]...)
	dst = AppendShortString(dst, replyTo)
	return append(dst, raw[end:]...)
}

// ReplaceHeaders appends property flags and a property list with headers, a table
// with its length, in the place of the headers of raw, without the properties of the
// flags without, and with everything else byte for byte as it is in raw. raw has passed
// [PropertyView.Scan]; otherwise it is appended unchanged.
func ReplaceHeaders(dst, raw, headers []byte, without uint16) []byte {
	if len(raw) < 2 {
		return append(dst, raw...)
	}
	start := len(dst)
	present := binary.BigEndian.Uint16(raw) & flagsDefined
	dst = binary.BigEndian.AppendUint16(dst, (present|FlagHeaders)&^without)
	list := raw[2:]
	for flags := present | FlagHeaders; flags != 0; {
		flag := firstFlag(flags)
		flags &^= flag
		size, ok := 0, true
		if present&flag != 0 {
			size, ok = propertySize(flag, list)
		}
		switch {
		case !ok:
			return append(dst[:start], raw...)
		case flag == FlagHeaders:
			dst = append(dst, headers...)
		case without&flag == 0:
			dst = append(dst, list[:size]...)
		}
		list = list[size:]
	}
	return append(dst, list...)
}

// RemoveHeader appends property flags and a property list without the fields
// of that name in the headers table, and everything else byte for byte as it
// is in raw. A table that becomes empty stays present. raw has passed
// [PropertyView.Scan]; otherwise it is appended unchanged.
func RemoveHeader(dst, raw []byte, name string) []byte {
	start, end, ok := locate(raw, FlagHeaders)
	if !ok || start == end {
		return append(dst, raw...)
	}
	dst = append(dst, raw[:start+4]...)
	table := len(dst)
	for fields := raw[start+4 : end]; len(fields) > 0; {
		field, _, _, rest, ok := NextField(fields)
		if !ok { // keep what cannot be read
			dst = append(dst, fields...)
			break
		}
		if string(field) != name {
			dst = append(dst, fields[:len(fields)-len(rest)]...)
		}
		fields = rest
	}
	binary.BigEndian.PutUint32(dst[table-4:], uint32(len(dst)-table))
	return append(dst, raw[end:]...)
}
