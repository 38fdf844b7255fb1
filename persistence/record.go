// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

type recordKind uint8

const (
	kindPutRun recordKind = iota + 1
	kindSettle
	kindDrop
	kindDelivered
	kindForget
	kindDropQueue
	kindReclaim
	kindSetConfig
	kindDeleteConfig
	kindCount
)

// Record states one thing that was decided and is to be stored. Records are
// made by the functions of this package, are values, and fit a cache line:
// what is rarely needed hangs on one pointer.
type Record struct {
	kind    recordKind
	run     *Run
	share   *Share
	settled Settled
	rare    *rareRecord
}

type rareRecord struct {
	queue      uint64
	from, upTo uint64
	numbers    []uint64
	reclaimed  *reclaimed
	key, value []byte
}

// PutRun stores the run: an entry in the directory of each of its shares not
// dropped by then, and the body if there is any such share. The run must not
// be changed or proposed again.
func PutRun(r *Run) Record {
	return Record{kind: kindPutRun, run: r}
}

// Settle states that some of the share's messages are settled: settled is the
// whole bitmap so far and replaces the one before. When every message is
// settled, propose [Drop] instead.
func Settle(sh *Share, settled Settled) Record {
	return Record{kind: kindSettle, share: sh, settled: settled}
}

// Count states what is known of how often the share's messages were delivered, in the
// caller's own encoding, which replaces the one before. counts belongs to the store
// from then on. It is kept beside what is settled, and of volatile runs not at all.
func Count(sh *Share, counts []byte) Record {
	return Record{kind: kindCount, share: sh, rare: &rareRecord{value: counts}}
}

// Drop forgets the share, and the run's body with its last share. A share may
// be dropped before its run is proposed; a second Drop does nothing.
func Drop(sh *Share) Record {
	return Record{kind: kindDrop, share: sh}
}

// Delivered notes, at an orderly stop, numbers that tell which of the queue's
// messages may have been delivered. What they mean is the caller's affair.
func Delivered(queue uint64, upTo ...uint64) Record {
	return Record{kind: kindDelivered, rare: &rareRecord{queue: queue, numbers: upTo}}
}

// Forget drops all the queue's runs with first numbers from from up to, not
// including, end, however many: it costs one key, and the store deletes them in
// its own time, after a restart too. Nothing may have been proposed about these
// runs but that they be put, all of them must be stored, and nothing may be
// proposed about them later.
func Forget(queue, from, end uint64) Record {
	return Record{kind: kindForget, rare: &rareRecord{queue: queue, from: from, upTo: end}}
}

// DropQueue forgets what is kept about a deleted queue besides its runs, each of
// which has to be dropped or forgotten. The queue's id must never be used again.
func DropQueue(queue uint64) Record {
	return Record{kind: kindDropQueue, rare: &rareRecord{queue: queue}}
}

// SetConfig stores a piece of metadata. key must not be empty. Both slices
// belong to the store from then on.
func SetConfig(key, value []byte) Record {
	return Record{kind: kindSetConfig, rare: &rareRecord{key: key, value: value}}
}

// DeleteConfig deletes a piece of metadata, which need not exist. key belongs
// to the store from then on.
func DeleteConfig(key []byte) Record {
	return Record{kind: kindDeleteConfig, rare: &rareRecord{key: key}}
}

// urgent reports whether the record is to be committed at once and synced.
func (r *Record) urgent() bool {
	return r.kind == kindPutRun && !r.run.volatile || r.kind == kindSetConfig || r.kind == kindDeleteConfig
}

// recordCost is what a record is counted for in bytes besides what it carries:
// about what its keys and checksums take in the batch.
const recordCost = 128

// prepare readies the record for the committer and returns how many bytes it
// brings to the batch at most. It runs in the proposer's goroutine.
func (r *Record) prepare(group uint64) int64 {
	if r.kind == kindPutRun {
		r.run.name.group = group
		r.run.size = r.run.body.Size()
	}
	return r.cost()
}

// settles reports whether the record states what happened to messages of one share, and
// nothing else.
func (r *Record) settles() bool {
	return r.kind == kindSettle || r.kind == kindDrop || r.kind == kindCount
}

// cost is how many bytes the record brings to the batch at most.
func (r *Record) cost() int64 {
	switch r.kind {
	case kindPutRun:
		return recordCost + int64(r.run.size)
	case kindReclaim:
		return recordCost + int64(len(r.rare.reclaimed.entries)*bodyKeyLen)
	case kindCount:
		return recordCost + int64(len(r.rare.value))
	case kindSetConfig:
		return recordCost + int64(len(r.rare.key)+len(r.rare.value))
	default:
		return recordCost
	}
}
