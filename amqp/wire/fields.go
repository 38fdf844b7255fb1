// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"
	"math"
)

// The type tags of field table values, as RabbitMQ 4.3 uses them. They are not
// those of the AMQP 0-9-1 specification: there is no short string value, and s
// is a 16-bit integer.
const (
	tagLongString = 'S'
	tagBytes      = 'x'
	tagBool       = 't'
	tagInt8       = 'b'
	tagUint8      = 'B'
	tagInt16      = 's'
	tagUint16     = 'u'
	tagInt32      = 'I'
	tagUint32     = 'i'
	tagInt64      = 'l'
	tagInt64Alt   = 'L' // read, never written
	tagFloat32    = 'f'
	tagFloat64    = 'd'
	tagDecimal    = 'D'
	tagTimestamp  = 'T'
	tagTable      = 'F'
	tagArray      = 'A'
	tagVoid       = 'V'
)

// NextValue cuts the first value off the contents of an array and returns its
// tag, its bytes and the contents after it. For the tags S, x, F and A the
// bytes come without the length that precedes them. ok is false at the end and
// where the bytes are malformed; only the outermost level is looked at. All
// results alias array.
func NextValue(array []byte) (tag byte, value, rest []byte, ok bool) {
	if len(array) == 0 {
		return 0, nil, nil, false
	}
	tag, array = array[0], array[1:]
	var size int
	switch tag {
	case tagVoid:
	case tagBool, tagInt8, tagUint8:
		size = 1
	case tagInt16, tagUint16:
		size = 2
	case tagInt32, tagUint32, tagFloat32:
		size = 4
	case tagDecimal:
		size = 5
	case tagInt64, tagInt64Alt, tagFloat64, tagTimestamp:
		size = 8
	case tagLongString, tagBytes, tagTable, tagArray:
		if len(array) < 4 {
			return 0, nil, nil, false
		}
		length := binary.BigEndian.Uint32(array)
		array = array[4:]
		// Compared before the conversion: int may be 32 bits wide.
		if uint64(length) > uint64(len(array)) {
			return 0, nil, nil, false
		}
		size = int(length)
	default:
		return 0, nil, nil, false
	}
	if size > len(array) {
		return 0, nil, nil, false
	}
	return tag, array[:size:size], array[size:], true
}

// NextField cuts the first field off the contents of a table, as [NextValue]
// does with the first value of an array.
func NextField(table []byte) (name []byte, tag byte, value, rest []byte, ok bool) {
	if len(table) == 0 || int(table[0]) >= len(table) {
		return nil, 0, nil, nil, false
	}
	end := 1 + int(table[0])
	name = table[1:end:end]
	tag, value, rest, ok = NextValue(table[end:])
	return name, tag, value, rest, ok
}

// LookupField finds the first field of that name in the contents of a table
// (without the length that precedes them) and returns its tag and bytes in the
// form of [NextValue]. Nested tables are not searched. It allocates nothing.
func LookupField(table []byte, name string) (tag byte, value []byte, ok bool) {
	for {
		field, tag, value, rest, ok := NextField(table)
		if !ok {
			return 0, nil, false
		}
		if string(field) == name {
			return tag, value, true
		}
		table = rest
	}
}

// ValidTable reports whether b is the well-formed contents of a table (without
// the length that precedes them). It allocates nothing.
func ValidTable(b []byte) bool { return validTable(b, 1) }

func validTable(b []byte, depth int) bool {
	for len(b) > 0 {
		_, tag, value, rest, ok := NextField(b)
		if !ok || !validNested(tag, value, depth) {
			return false
		}
		b = rest
	}
	return true
}

func validArray(b []byte, depth int) bool {
	for len(b) > 0 {
		tag, value, rest, ok := NextValue(b)
		if !ok || !validNested(tag, value, depth) {
			return false
		}
		b = rest
	}
	return true
}

// validNested checks the inside of a value that stands in a container of the
// given depth.
func validNested(tag byte, value []byte, depth int) bool {
	switch tag {
	case tagTable:
		return depth < MaxTableDepth && validTable(value, depth+1)
	case tagArray:
		return depth < MaxTableDepth && validArray(value, depth+1)
	}
	return true
}

// ParseTable decodes the contents of a table (without the length that precedes
// them). The result shares no memory with b. Malformed contents, an unknown
// tag and nesting deeper than [MaxTableDepth] are a 501.
func ParseTable(b []byte) (Table, *Error) {
	// The check first means that decoding cannot fail, and that hostile
	// contents are refused before anything is allocated.
	if !ValidTable(b) {
		return nil, errFieldTable
	}
	return decodeTable(b), nil
}

// decodeTable decodes contents that are known to be valid.
func decodeTable(b []byte) Table {
	var t Table
	for {
		name, tag, value, rest, ok := NextField(b)
		if !ok {
			return t
		}
		t = append(t, Field{Name: string(name), Value: decodeValue(tag, value)})
		b = rest
	}
}

func decodeArray(b []byte) Array {
	var a Array
	for {
		tag, value, rest, ok := NextValue(b)
		if !ok {
			return a
		}
		a = append(a, decodeValue(tag, value))
		b = rest
	}
}

// decodeValue decodes one value that is known to be valid.
func decodeValue(tag byte, b []byte) any {
	switch tag {
	case tagLongString:
		return string(b)
	case tagBytes:
		return bytes.Clone(b)
	case tagBool:
		return b[0] != 0
	case tagInt8:
		return int8(b[0])
	case tagUint8:
		return b[0]
	case tagInt16:
		return int16(binary.BigEndian.Uint16(b))
	case tagUint16:
		return binary.BigEndian.Uint16(b)
	case tagInt32:
		return int32(binary.BigEndian.Uint32(b))
	case tagUint32:
		return binary.BigEndian.Uint32(b)
	case tagInt64, tagInt64Alt:
		return int64(binary.BigEndian.Uint64(b))
	case tagFloat32:
		return math.Float32frombits(binary.BigEndian.Uint32(b))
	case tagFloat64:
		return math.Float64frombits(binary.BigEndian.Uint64(b))
	case tagDecimal:
		return Decimal{Scale: b[0], Value: binary.BigEndian.Uint32(b[1:])}
	case tagTimestamp:
		return Timestamp(binary.BigEndian.Uint64(b))
	case tagTable:
		return decodeTable(b)
	case tagArray:
		return decodeArray(b)
	}
	return nil // void, the only tag left
}
