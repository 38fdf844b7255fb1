// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"strings"
	"testing"
)

func TestReader(t *testing.T) {
	t.Parallel()
	r := NewReader([]byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x02hi\x00\x00\x00\x01x\x00\x00\x00\x03\x01kV\x00\x00\x00\x03\x01kVend"))
	if got := r.Octet(); got != 0x01 {
		t.Errorf("Octet() = %#x", got)
	}
	if got := r.Short(); got != 0x0203 {
		t.Errorf("Short() = %#x", got)
	}
	if got := r.Long(); got != 0x04050607 {
		t.Errorf("Long() = %#x", got)
	}
	if got := r.LongLong(); got != 0x08090a0b0c0d0e0f {
		t.Errorf("LongLong() = %#x", got)
	}
	if got := r.ShortString(); got != "hi" {
		t.Errorf("ShortString() = %q", got)
	}
	if got := r.LongString(); string(got) != "x" {
		t.Errorf("LongString() = %q", got)
	}
	if got := r.Table(); !got.Equal(Table{{"k", nil}}) {
		t.Errorf("Table() = %v", got)
	}
	if got := r.RawTable(); string(got) != "\x01kV" {
		t.Errorf("RawTable() = %q", got)
	}
	if r.Remaining() != 3 || r.Err() != nil || r.Complete() != errTrailing {
		t.Errorf("%d remaining, Err() = %v, Complete() = %v", r.Remaining(), r.Err(), r.Complete())
	}
}

// TestReaderSticks checks that no read succeeds after one has failed, even if
// enough bytes were left for it.
func TestReaderSticks(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		fail func(*Reader)
		want *Error
	}{
		{"short string is not UTF-8", func(r *Reader) { r.ShortString() }, errUTF8},
		{"truncated", func(r *Reader) { r.take(100) }, errTruncated},
		{"malformed table", func(r *Reader) { r.take(2); r.Table() }, errFieldTable},
		{"malformed raw table", func(r *Reader) { r.take(2); r.RawTable() }, errFieldTable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := NewReader([]byte("\x01\xff\x00\x00\x00\x02\x01k12345678"))
			tc.fail(&r)
			if r.Octet() != 0 || r.Short() != 0 || r.Long() != 0 || r.LongLong() != 0 || r.ShortString() != "" ||
				len(r.LongString()) != 0 || len(r.Table()) != 0 || len(r.RawTable()) != 0 {
				t.Error("a read after the failure yielded something")
			}
			if r.Err() != tc.want || r.Complete() != tc.want {
				t.Errorf("Err() = %v, Complete() = %v, want %v", r.Err(), r.Complete(), tc.want)
			}
		})
	}
}

func TestAppendShortStringCuts(t *testing.T) {
	t.Parallel()
	got := AppendShortString(nil, strings.Repeat("x", 300))
	if len(got) != 256 || got[0] != 255 {
		t.Errorf("300 bytes became %d with length octet %d", len(got), got[0])
	}
}
