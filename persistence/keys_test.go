// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzKeys(f *testing.F) {
	f.Add(uint64(0), uint64(0), uint32(0))
	f.Add(^uint64(0), uint64(1)<<40, ^uint32(0))
	f.Fuzz(func(t *testing.T, a, b uint64, c uint32) {
		name := runName{group: a, index: b, part: c}
		key := make([]byte, bodyKeyLen)
		putBodyKey(key, spaceBody, name)
		if got, ok := parseBodyKey(key); !ok || got != name {
			t.Errorf("body key of %v: %v", name, got)
		}
		key = entryKey(spaceDirectory, a, b)
		if queue, first, ok := parseEntryKey(key); !ok || queue != a || first != b {
			t.Errorf("entry key of %d, %d: %d, %d", a, b, queue, first)
		}
		lower, upper := queueBounds(spaceDirectory, a)
		if bytes.Compare(key, lower) < 0 || bytes.Compare(key, upper) >= 0 {
			t.Errorf("key %x is not in [%x, %x)", key, lower, upper)
		}
		for _, other := range []uint64{a - 1, a + 1} {
			if k := entryKey(spaceDirectory, other, b); bytes.Compare(k, lower) >= 0 && bytes.Compare(k, upper) < 0 {
				t.Errorf("key %x of another queue is in [%x, %x)", k, lower, upper)
			}
		}
		if b > 0 && bytes.Compare(key, entryKey(spaceDirectory, a, b-1)) <= 0 {
			t.Error("byte order is not numeric order")
		}
		condemned := condemnedRange{space: spaceDirectory, queue: a, first: b, last: uint64(c)}
		if got, ok := parseCondemnedKey(condemnedKey(condemned)); !ok || got != condemned {
			t.Errorf("condemned key of %v: %v", condemned, got)
		}
		key = make([]byte, deliveredKeyLen)
		putDeliveredKey(key, a)
		if queue, ok := parseDeliveredKey(key); !ok || queue != a {
			t.Errorf("delivered key of %d: %d", a, queue)
		}
	})
}

// FuzzUnseal feeds stored values as a damaged disk might hold them.
func FuzzUnseal(f *testing.F) {
	key := entryKey(spaceDirectory, 7, 8)
	sound := make([]byte, sealLen+entryPayloadLen)
	(&entry{count: 1}).put(sound[sealLen:])
	seal(key, sound)
	f.Add(sound)
	stamped := entry{count: 1, times: Times{Arrived: 1, Due: 2, Stamped: true}, stamps: []byte{3}}
	sound = make([]byte, sealLen+stamped.size())
	stamped.put(sound[sealLen:])
	seal(key, sound)
	f.Add(sound)
	f.Add([]byte{valueVersion})
	f.Fuzz(func(t *testing.T, value []byte) {
		payload, err := unseal(key, value, 7)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		again := append(make([]byte, sealLen), payload...)
		seal(key, again)
		if !bytes.Equal(again, value) {
			t.Errorf("%x is accepted but seals as %x", value, again)
		}
		for _, decode := range []func() error{
			func() error { _, err := unsealEntry(key, value, 7); return err },
			func() error { _, _, err := unsealSettled(key, value, 7); return err },
			func() error { _, err := unsealNumber(key, value, 7); return err },
		} {
			if err := decode(); err != nil && !errors.Is(err, ErrDamaged) {
				t.Errorf("untyped error %v", err)
			}
		}
	})
}

// FuzzState feeds STATE files as a damaged disk might hold them.
func FuzzState(f *testing.F) {
	for _, st := range []state{{}, {kind: stateRunning}, {kind: stateStopped, commit: 1234}} {
		f.Add(st.String())
	}
	f.Add("lagomq state 1\nstopped at commit -1\n")
	f.Fuzz(func(t *testing.T, text string) {
		if st, err := parseState(text); err == nil && st.String() != text {
			t.Errorf("%q is accepted as %q", text, st)
		}
	})
}
