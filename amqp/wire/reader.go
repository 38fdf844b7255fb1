// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"unicode/utf8"
)

// Reader reads protocol fields off a byte slice. The first failure sticks:
// from then on every read returns a zero value, so callers read all fields and
// check once, with [Reader.Err] or [Reader.Complete].
type Reader struct {
	b   []byte
	err *Error
}

// NewReader returns a Reader of b, which it does not copy.
func NewReader(b []byte) Reader { return Reader{b: b} }

// take returns the next n bytes, or nil after a failure.
func (r *Reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail(errTruncated)
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *Reader) fail(err *Error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// Octet reads one byte. A run of consecutive bits is one octet too, the first
// bit least significant.
func (r *Reader) Octet() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// Short reads a 16-bit integer.
func (r *Reader) Short() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// Long reads a 32-bit integer.
func (r *Reader) Long() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// LongLong reads a 64-bit integer.
func (r *Reader) LongLong() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// ShortString reads a short string and requires it to be UTF-8, as RabbitMQ
// 4.3 does for method arguments.
func (r *Reader) ShortString() string {
	b := r.ShortBytes()
	if !utf8.Valid(b) {
		r.fail(errUTF8)
		return ""
	}
	return string(b)
}

// ShortBytes reads a short string without looking at its bytes. The result
// aliases the input.
func (r *Reader) ShortBytes() []byte { return r.take(int(r.Octet())) }

// LongString reads a long string. The result aliases the input.
func (r *Reader) LongString() []byte {
	n := r.Long()
	// Compared before the conversion: int may be 32 bits wide.
	if uint64(n) > uint64(len(r.b)) {
		r.fail(errTruncated)
		return nil
	}
	return r.take(int(n))
}

// Table reads and decodes a field table.
func (r *Reader) Table() Table {
	t, err := ParseTable(r.LongString())
	if err != nil {
		r.fail(err)
	}
	return t
}

// RawTable reads a field table, checks all of it, and returns its contents
// without the length that precedes them. The result aliases the input.
func (r *Reader) RawTable() []byte {
	contents := r.LongString()
	if !ValidTable(contents) {
		r.fail(errFieldTable)
		return nil
	}
	return contents
}

// Remaining returns how many bytes have not been read; 0 after a failure.
func (r *Reader) Remaining() int { return len(r.b) }

// Err returns the first failure, or nil.
func (r *Reader) Err() *Error { return r.err }

// Complete returns the first failure; bytes left unread count as one.
func (r *Reader) Complete() *Error {
	if r.err == nil && len(r.b) > 0 {
		return errTrailing
	}
	return r.err
}
