// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import "encoding/binary"

// All keys of the store are made and taken apart in this file. Integers are
// big-endian and of fixed width, so that byte order is numeric order.
//
//	meta       'm' name...
//	config     'c' key...
//	directory  'd' queue(8) first(8)
//	volatile   'w' queue(8) first(8), 't' group(8) index(8) part(4)
//	settled    's' queue(8) first(8)
//	delivered  'u' queue(8)
//	condemned  'p' queue(8) first(8) last(8)
//	body       'b' group(8) index(8) part(4)
//
// A settled mark is a bitmap, and behind it, if some of the run's messages came back to
// a queue that counts deliveries, how often each was delivered.
//
// An entry says where the body of a run is, how many messages it has, and when they
// arrived; if they have times of their own, as they expire one by one, those too:
// what is due in a queue is told from its directory, without further keys.
//
// queue is the id of one incarnation of a queue, first the number in that
// queue of a run's first message. A body's name is the group that agreed on
// it, the index of the commit in that group's log, and its part (position) in
// that commit. Runs that do not outlive the boot have entries and bodies in key
// spaces of their own, which are emptied when the store is opened. A
// condemned range is the entries of a queue from first to last, both included:
// they count as deleted, and are as soon as there is time.
const (
	spaceMeta              byte = 'm'
	spaceConfig            byte = 'c'
	spaceDirectory         byte = 'd'
	spaceVolatileDirectory byte = 'w'
	spaceSettled           byte = 's'
	spaceDelivered         byte = 'u'
	spaceCondemned         byte = 'p'
	spaceBody              byte = 'b'
	spaceVolatileBody      byte = 't'
)

const (
	deliveredKeyLen = 1 + 8
	entryKeyLen     = 1 + 8 + 8
	condemnedKeyLen = 1 + 8 + 8 + 8
	bodyKeyLen      = 1 + 8 + 8 + 4
)

const (
	metaBoot   = "boot"   // how often the store has been opened
	metaCommit = "commit" // number of the latest commit, written by each
)

// runName names the stored body of a run. Names are never used twice.
type runName struct {
	group uint64
	index uint64
	part  uint32
}

func metaKey(name string) []byte {
	return append([]byte{spaceMeta}, name...)
}

func appendConfigKey(dst, key []byte) []byte {
	return append(append(dst, spaceConfig), key...)
}

// configKeyName returns the caller's part of a config key.
func configKeyName(key []byte) []byte { return key[1:] }

// putEntryKey writes the key of a directory entry or a settled mark into dst,
// which must be entryKeyLen long.
func putEntryKey(dst []byte, space byte, queue, first uint64) {
	_ = dst[entryKeyLen-1]
	dst[0] = space
	binary.BigEndian.PutUint64(dst[1:], queue)
	binary.BigEndian.PutUint64(dst[9:], first)
}

func entryKey(space byte, queue, first uint64) []byte {
	key := make([]byte, entryKeyLen)
	putEntryKey(key, space, queue, first)
	return key
}

// parseEntryKey is the inverse of putEntryKey.
func parseEntryKey(key []byte) (queue, first uint64, ok bool) {
	if len(key) != entryKeyLen {
		return 0, 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), binary.BigEndian.Uint64(key[9:]), true
}

// condemnedKey returns the key of a condemned range.
func condemnedKey(c condemnedRange) []byte {
	key := make([]byte, entryKeyLen, condemnedKeyLen)
	putEntryKey(key, spaceCondemned, c.queue, c.first)
	return binary.BigEndian.AppendUint64(key, c.last)
}

// parseCondemnedKey is the inverse of condemnedKey.
func parseCondemnedKey(key []byte) (c condemnedRange, ok bool) {
	if len(key) != condemnedKeyLen {
		return c, false
	}
	c.space = spaceDirectory
	c.queue, c.first, _ = parseEntryKey(key[:entryKeyLen])
	c.last = binary.BigEndian.Uint64(key[entryKeyLen:])
	return c, true
}

func putDeliveredKey(dst []byte, queue uint64) {
	_ = dst[deliveredKeyLen-1]
	dst[0] = spaceDelivered
	binary.BigEndian.PutUint64(dst[1:], queue)
}

// parseDeliveredKey is the inverse of putDeliveredKey.
func parseDeliveredKey(key []byte) (queue uint64, ok bool) {
	if len(key) != deliveredKeyLen {
		return 0, false
	}
	return binary.BigEndian.Uint64(key[1:]), true
}

// putBodyKey writes the key of a body, volatile or not as space says, into dst,
// which must be bodyKeyLen long.
func putBodyKey(dst []byte, space byte, n runName) {
	_ = dst[bodyKeyLen-1]
	dst[0] = space
	binary.BigEndian.PutUint64(dst[1:], n.group)
	binary.BigEndian.PutUint64(dst[9:], n.index)
	binary.BigEndian.PutUint32(dst[17:], n.part)
}

// parseBodyKey is the inverse of putBodyKey.
func parseBodyKey(key []byte) (n runName, ok bool) {
	if len(key) != bodyKeyLen {
		return runName{}, false
	}
	return runName{
		group: binary.BigEndian.Uint64(key[1:]),
		index: binary.BigEndian.Uint64(key[9:]),
		part:  binary.BigEndian.Uint32(key[17:]),
	}, true
}

// spaceBounds returns the bounds [lower, upper) of a whole key space.
func spaceBounds(space byte) (lower, upper []byte) {
	return []byte{space}, []byte{space + 1}
}

// queueBounds returns the bounds [lower, upper) of one queue's keys in space.
func queueBounds(space byte, queue uint64) (lower, upper []byte) {
	lower = binary.BigEndian.AppendUint64([]byte{space}, queue)
	if queue == ^uint64(0) {
		return lower, []byte{space + 1}
	}
	return lower, binary.BigEndian.AppendUint64([]byte{space}, queue+1)
}
