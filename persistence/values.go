// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Every stored value is sealed:
//
//	version(1) crc32c(4, over key and payload) payload
//
// The checksum covers the key, so that a sound value under a wrong key is
// found out as well.
const (
	valueVersion = 1
	sealLen      = 1 + 4
)

// Lengths of the fixed payloads.
const (
	entryPayloadLen   = bodyKeyLen - 1 + 4 + 8 + 1 // name, count, bytes, flags; times may follow
	arrivedLen        = 8                          // of the times: the first arrival
	dueLen            = 8                          // and, if messages have stamps, the earliest due time, and the stamps
	settledPayloadLen = 4 * 8
	numberPayloadLen  = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged marks every error that reports a stored record whose bytes are
// not those that were written. The error itself is a [*DamagedError].
var ErrDamaged = errors.New("stored record is damaged")

// DamagedError tells which stored record is damaged and how.
type DamagedError struct {
	Key    []byte // the record's whole key
	Queue  uint64 // the queue it belongs to, 0 if it belongs to none
	Reason string
}

// Error names the record's key in hex, its queue and what is wrong with it.
func (e *DamagedError) Error() string {
	if e.Queue == 0 {
		return fmt.Sprintf("%v: key %x: %s", ErrDamaged, e.Key, e.Reason)
	}
	return fmt.Sprintf("%v: key %x of queue %d: %s", ErrDamaged, e.Key, e.Queue, e.Reason)
}

// Is reports whether target is [ErrDamaged].
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

func damaged(key []byte, queue uint64, format string, args ...any) error {
	return &DamagedError{Key: append([]byte(nil), key...), Queue: queue, Reason: fmt.Sprintf(format, args...)}
}

func checksum(key, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, payload)
}

// seal writes version and checksum in front of the payload that value[sealLen:]
// already holds.
func seal(key, value []byte) {
	value[0] = valueVersion
	binary.BigEndian.PutUint32(value[1:], checksum(key, value[sealLen:]))
}

// unseal verifies a stored value and returns its payload, which aliases value.
// queue only names the owner in an error.
func unseal(key, value []byte, queue uint64) ([]byte, error) {
	if len(value) < sealLen {
		return nil, damaged(key, queue, "%d bytes are too few for a record", len(value))
	}
	if value[0] != valueVersion {
		return nil, damaged(key, queue, "unknown record version %d", value[0])
	}
	payload := value[sealLen:]
	if stored, computed := binary.BigEndian.Uint32(value[1:]), checksum(key, payload); stored != computed {
		return nil, damaged(key, queue, "checksum is %08x, stored as %08x", computed, stored)
	}
	return payload, nil
}

// unsealFixed is unseal for a payload of a known length.
func unsealFixed(key, value []byte, queue uint64, length int) ([]byte, error) {
	payload, err := unseal(key, value, queue)
	if err == nil && len(payload) != length {
		return nil, damaged(key, queue, "payload has %d bytes, not %d", len(payload), length)
	}
	return payload, err
}

// entry is the payload of a directory entry.
type entry struct {
	name   runName
	count  uint32
	bytes  uint64
	shared bool // flag bit 0: entries of other queues may name the same body
	times  Times
	stamps []byte // aliases the value; flag bit 1: there are some
}

// Flags of an entry.
const (
	entryShared = 1 << iota
	entryStamped
)

// size is the length of the payload.
func (e *entry) size() int {
	switch {
	case e.times.Arrived == 0:
		return entryPayloadLen
	case !e.times.Stamped:
		return entryPayloadLen + arrivedLen
	}
	return entryPayloadLen + arrivedLen + dueLen + len(e.stamps)
}

// put writes e into dst, which must be of e's size.
func (e *entry) put(dst []byte) {
	_ = dst[entryPayloadLen-1]
	binary.BigEndian.PutUint64(dst, e.name.group)
	binary.BigEndian.PutUint64(dst[8:], e.name.index)
	binary.BigEndian.PutUint32(dst[16:], e.name.part)
	binary.BigEndian.PutUint32(dst[20:], e.count)
	binary.BigEndian.PutUint64(dst[24:], e.bytes)
	dst[32] = 0
	if e.shared {
		dst[32] |= entryShared
	}
	if e.times.Arrived == 0 {
		return
	}
	binary.BigEndian.PutUint64(dst[entryPayloadLen:], e.times.Arrived)
	if e.times.Stamped {
		dst[32] |= entryStamped
		rest := dst[entryPayloadLen+arrivedLen:]
		binary.BigEndian.PutUint64(rest, e.times.Due)
		copy(rest[dueLen:], e.stamps)
	}
}

// unsealEntry verifies and decodes a directory entry.
func unsealEntry(key, value []byte, queue uint64) (entry, error) {
	p, err := unseal(key, value, queue)
	if err != nil {
		return entry{}, err
	}
	if len(p) < entryPayloadLen {
		return entry{}, damaged(key, queue, "payload has %d bytes, not %d", len(p), entryPayloadLen)
	}
	e := entry{
		name: runName{
			group: binary.BigEndian.Uint64(p),
			index: binary.BigEndian.Uint64(p[8:]),
			part:  binary.BigEndian.Uint32(p[16:]),
		},
		count:  binary.BigEndian.Uint32(p[20:]),
		bytes:  binary.BigEndian.Uint64(p[24:]),
		shared: p[32]&entryShared != 0,
	}
	e.times.Stamped = p[32]&entryStamped != 0
	switch times := p[entryPayloadLen:]; {
	case len(times) == 0 && !e.times.Stamped:
	case len(times) == arrivedLen && !e.times.Stamped, len(times) >= arrivedLen+dueLen && e.times.Stamped:
		e.times.Arrived = binary.BigEndian.Uint64(times)
		if e.times.Stamped {
			e.times.Due = binary.BigEndian.Uint64(times[arrivedLen:])
			e.stamps = times[arrivedLen+dueLen:]
		}
	default:
		return entry{}, damaged(key, queue, "times of %d bytes", len(times))
	}
	if e.count == 0 || e.count > MaxRunMessages {
		return entry{}, damaged(key, queue, "a run of %d messages", e.count)
	}
	return e, nil
}

// put writes s into dst, which must be settledPayloadLen long.
func (s Settled) put(dst []byte) {
	for i, word := range s {
		binary.BigEndian.PutUint64(dst[8*i:], word)
	}
}

// unsealSettled verifies and decodes a settled mark. The counts are empty for most,
// and alias value.
func unsealSettled(key, value []byte, queue uint64) (s Settled, counts []byte, err error) {
	p, err := unseal(key, value, queue)
	if err == nil && len(p) < settledPayloadLen {
		err = damaged(key, queue, "payload has %d bytes, not %d", len(p), settledPayloadLen)
	}
	if err != nil {
		return s, nil, err
	}
	for i := range s {
		s[i] = binary.BigEndian.Uint64(p[8*i:])
	}
	return s, p[settledPayloadLen:], nil
}

// sealNumber returns the sealed value of a single number.
func sealNumber(key []byte, n uint64) []byte { return sealNumbers(key, []uint64{n}) }

// sealNumbers returns the sealed value of a list of numbers.
func sealNumbers(key []byte, list []uint64) []byte {
	value := make([]byte, sealLen, sealLen+numberPayloadLen*len(list))
	for _, n := range list {
		value = binary.BigEndian.AppendUint64(value, n)
	}
	seal(key, value)
	return value
}

// unsealNumbers is the inverse of sealNumbers.
func unsealNumbers(key, value []byte, queue uint64) (list []uint64, err error) {
	p, err := unseal(key, value, queue)
	if err != nil {
		return nil, err
	}
	if len(p)%numberPayloadLen != 0 {
		return nil, damaged(key, queue, "payload has %d bytes, not a multiple of %d", len(p), numberPayloadLen)
	}
	for ; len(p) > 0; p = p[numberPayloadLen:] {
		list = append(list, binary.BigEndian.Uint64(p))
	}
	return list, nil
}

// unsealNumber is the inverse of sealNumber.
func unsealNumber(key, value []byte, queue uint64) (uint64, error) {
	p, err := unsealFixed(key, value, queue, numberPayloadLen)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(p), nil
}
