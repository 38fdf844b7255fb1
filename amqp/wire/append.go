// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"math"
)

// AppendShortString appends a short string. The caller keeps s within 255
// bytes; a longer one is cut there, so that the output stays well formed.
func AppendShortString(dst []byte, s string) []byte {
	if len(s) > maxShortString {
		s = s[:maxShortString]
	}
	dst = append(dst, byte(len(s)))
	return append(dst, s...)
}

// AppendLongString appends a long string of less than 4 GiB.
func AppendLongString(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// AppendTable appends a field table with the length that precedes it. The
// table must satisfy [Table.Validate]; a value that does not is written as
// void, so that the output stays well formed.
func AppendTable(dst []byte, t Table) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for _, f := range t {
		dst = AppendShortString(dst, f.Name)
		dst = appendValue(dst, f.Value)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// appendArray appends an array with the length that precedes it.
func appendArray(dst []byte, a Array) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	for _, v := range a {
		dst = appendValue(dst, v)
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// appendValue appends the tag and the bytes of a table or array value.
func appendValue(dst []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		return AppendLongString(append(dst, tagLongString), v)
	case []byte:
		dst = binary.BigEndian.AppendUint32(append(dst, tagBytes), uint32(len(v)))
		return append(dst, v...)
	case bool:
		if v {
			return append(dst, tagBool, 1)
		}
		return append(dst, tagBool, 0)
	case int8:
		return append(dst, tagInt8, byte(v))
	case uint8:
		return append(dst, tagUint8, v)
	case int16:
		return binary.BigEndian.AppendUint16(append(dst, tagInt16), uint16(v))
	case uint16:
		return binary.BigEndian.AppendUint16(append(dst, tagUint16), v)
	case int32:
		return binary.BigEndian.AppendUint32(append(dst, tagInt32), uint32(v))
	case uint32:
		return binary.BigEndian.AppendUint32(append(dst, tagUint32), v)
	case int64:
		return binary.BigEndian.AppendUint64(append(dst, tagInt64), uint64(v))
	case int:
		return binary.BigEndian.AppendUint64(append(dst, tagInt64), uint64(v))
	case float32:
		return binary.BigEndian.AppendUint32(append(dst, tagFloat32), math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64(append(dst, tagFloat64), math.Float64bits(v))
	case Decimal:
		return binary.BigEndian.AppendUint32(append(dst, tagDecimal, v.Scale), v.Value)
	case Timestamp:
		return binary.BigEndian.AppendUint64(append(dst, tagTimestamp), uint64(v))
	case Table:
		return AppendTable(append(dst, tagTable), v)
	case Array:
		return appendArray(append(dst, tagArray), v)
	}
	return append(dst, tagVoid)
}
