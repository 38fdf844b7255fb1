// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"cmp"
	"sync"
	"sync/atomic"
)

// MaxRunMessages is the greatest number of messages in one run: as many as a
// [Settled] bitmap has bits.
const MaxRunMessages = 256

// Body is the content of a run: the bytes of its messages in the caller's own
// encoding. It is encoded once, by the committer, straight into the batch, and
// only if some queue still wants it by then. It must not change after the run
// is proposed, until the proposal is reported durable or failed.
type Body interface {
	// Size returns how many bytes AppendTo appends.
	Size() int
	// AppendTo appends the encoded body to dst and returns the extended slice,
	// without allocating when dst has Size bytes of spare capacity. It must not
	// block.
	AppendTo(dst []byte) []byte
	// Release is called once the store has encoded the body, or knows that it
	// need not: the body may change from then on. A store that fails or is closed
	// before calls it for none that it still has. It must not block.
	Release()
}

// GrowingBody is a Body that can take up another's messages, see [Store.Extend].
type GrowingBody interface {
	Body
	// Grow appends the messages of more, or none and returns false. It must not
	// block.
	Grow(more Body) bool
}

// TimedBody is a Body that knows when its messages arrived and are due. The entries
// of its run say so.
type TimedBody interface {
	Body
	Times() Times
	// AppendStamps appends what tells the same of each message without the body, in
	// the caller's own encoding, for [Store.ReadStamps]. It is called if the times are
	// Stamped, and must not block.
	AppendStamps(dst []byte) []byte
}

// Times are when a run's messages arrived and are due, in milliseconds since 1970.
type Times struct {
	Arrived uint64 // the first of them, 0 if it is not known
	Due     uint64 // the earliest, 0 if none is ever due
	Stamped bool   // its messages have stamps
}

// Run is one burst's messages, stored once under one name and shared by the
// queues that take them. It belongs to the goroutine that made it until it is
// proposed with [PutRun], at most once; from then on it belongs to the store.
type Run struct {
	name     runName // set by the committer when the body is written
	body     Body    // released by the committer once encoded or unwanted
	size     int     // body.Size(), set when proposed or extended
	volatile bool    // does not outlive the boot
	fleeting bool    // see Fleeting
	shared   bool    // more than one queue has, or had, a share

	place atomic.Uint64 // in the list of proposals, changed under Store.mu: see fleeting.go

	// refs counts the shares whose body this is, on disk. It belongs to the
	// committer once traffic flows, to recovery before that.
	refs int

	// Most runs go to a single queue, whose share is then part of the run.
	inline Share
	others []*Share
}

// NewRun returns a run with the given body and no shares.
func NewRun(body Body) *Run {
	r := &Run{body: body}
	r.place.Store(unproposed)
	return r
}

// NewVolatileRun returns a run that makes room in memory: its body can be read
// back until the store is closed and is gone when it is opened again. It is
// committed without a sync of its own.
func NewVolatileRun(body Body) *Run {
	r := NewRun(body)
	r.volatile = true
	return r
}

// Share adds the queue's share of the run: count messages (1 to
// [MaxRunMessages]) numbered from first, together bytes long. It is called
// once for each durable queue that takes the run, before the run is proposed,
// usually under that queue's lock, always by the goroutine that owns the run.
// A queue never uses a number again while a share holding it lives.
//
// The share may be settled or dropped at once, even before the run is proposed.
func (r *Run) Share(queue, first uint64, count uint32, bytes uint64) *Share {
	var sh *Share
	if r.inline.run == nil {
		sh = &r.inline
	} else {
		sh = new(Share)
		r.others = append(r.others, sh)
		r.shared = true
	}
	sh.run, sh.queue, sh.first, sh.count, sh.bytes = r, queue, first, count, bytes
	return sh
}

// bodySpace and entrySpace are the key spaces of the run's body and of its
// shares' entries.
func (r *Run) bodySpace() byte {
	if r.volatile {
		return spaceVolatileBody
	}
	return spaceBody
}

func (r *Run) entrySpace() byte {
	if r.volatile {
		return spaceVolatileDirectory
	}
	return spaceDirectory
}

// Share is one queue's part in a run: its entry in the queue's directory.
// Its methods may be called by any goroutine.
type Share struct {
	run   *Run
	queue uint64
	first uint64
	bytes uint64
	count uint32
	bound int32 // how many proposals that were not taken settle some of it together with something else; guarded by Store.mu

	stored  atomic.Bool // the entry and the body are committed
	dropped atomic.Bool // a Drop was taken by the committer, or proposed before it took the run

	// The rest belongs to the committer once traffic flows, to recovery before.
	written  bool    // the entry is on disk, or in the batch being built
	marked   bool    // so is a settled mark
	unmarked bool    // settled is newer than the mark on disk
	settled  Settled // the latest bitmap taken
	counts   []byte  // the latest counts taken, see Count
}

// Queue returns the id of the queue that holds the share.
func (sh *Share) Queue() uint64 { return sh.queue }

// First returns the queue's number of the share's first message.
func (sh *Share) First() uint64 { return sh.first }

// Count returns the number of messages, settled ones included.
func (sh *Share) Count() uint32 { return sh.count }

// Bytes returns the size of the messages as given to [Run.Share].
func (sh *Share) Bytes() uint64 { return sh.bytes }

// Stored reports whether the share is committed, so that its messages may be
// dropped from memory and read back with [Store.ReadRun].
func (sh *Share) Stored() bool { return sh.stored.Load() }

// Volatile reports whether the share's run does not outlive the boot.
func (sh *Share) Volatile() bool { return sh.run.volatile }

// Place tells where the body of a stored run is, for a caller that keeps
// millions of them and wants nothing but the place in memory.
type Place struct {
	Group, Index uint64
	Part         uint32
	Flags        uint8
}

// ComparePlaces orders two shares that are stored as their bodies lie on disk, so
// that those written at one time are neighbours.
func ComparePlaces(a, b *Share) int {
	if a.run.volatile != b.run.volatile {
		return cmp.Compare(a.run.bodySpace(), b.run.bodySpace())
	}
	x, y := &a.run.name, &b.run.name
	return cmp.Or(cmp.Compare(x.group, y.group), cmp.Compare(x.index, y.index), cmp.Compare(x.part, y.part))
}

const (
	placeShared = 1 << iota
	placeVolatile
)

// Chill returns the place of a share that is stored. The caller then forgets the
// share and makes it anew with [Store.Warm] when it needs it: until then it must
// propose nothing about it, and nothing but its PutRun may have been proposed.
func (sh *Share) Chill() (p Place, ok bool) {
	if !sh.stored.Load() {
		return p, false
	}
	n := &sh.run.name
	p = Place{Group: n.group, Index: n.index, Part: n.part}
	if sh.run.shared {
		p.Flags |= placeShared
	}
	if sh.run.volatile {
		p.Flags |= placeVolatile
	}
	return p, true
}

// Warm returns the share of a run that was chilled, or found at the start: the
// rest is as it was given to [Run.Share] or by [Store.Recover].
func (s *Store) Warm(p Place, queue, first uint64, count uint32, bytes uint64, settled Settled) *Share {
	name := runName{p.Group, p.Index, p.Part}
	var sh *Share
	if p.Flags&placeShared != 0 {
		run := s.bodies.find(name)
		sh = &Share{run: run, queue: queue, first: first, count: count, bytes: bytes}
	} else {
		run := &Run{name: name, volatile: p.Flags&placeVolatile != 0, refs: 1}
		sh = run.Share(queue, first, count, bytes)
	}
	sh.written, sh.settled, sh.marked = true, settled, !settled.IsZero()
	sh.stored.Store(true)
	return sh
}

// Counted tells a share that was just made by [Store.Warm] what [Count] was last given
// for it, if it was.
func (sh *Share) Counted(counts []byte) { sh.counts, sh.marked = counts, true }

// sharedBodies are the runs on disk that more than one queue has a share in, and
// how many do. What a single queue has needs no count.
type sharedBodies struct {
	mu   sync.Mutex
	runs map[runName]*Run
}

// find returns the run of a shared body.
func (b *sharedBodies) find(name runName) *Run {
	b.mu.Lock()
	defer b.mu.Unlock()
	if run := b.runs[name]; run != nil {
		return run
	}
	// Its other shares are gone, or were never seen.
	return b.addLocked(&Run{name: name, refs: 1})
}

// count adds a share to the body's count, at the start.
func (b *sharedBodies) count(name runName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	run := b.runs[name]
	if run == nil {
		run = b.addLocked(&Run{name: name})
	}
	run.refs++
}

func (b *sharedBodies) add(run *Run) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addLocked(run)
}

func (b *sharedBodies) addLocked(run *Run) *Run {
	run.shared = true
	if b.runs == nil {
		b.runs = make(map[runName]*Run)
	}
	b.runs[run.name] = run
	return run
}

func (b *sharedBodies) remove(name runName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.runs, name)
}

// Settled is a bitmap over the messages of a run: the bit i stands for the
// share's i-th message.
type Settled [MaxRunMessages / 64]uint64

// Set marks message i, which must be below [MaxRunMessages], as settled.
func (s *Settled) Set(i uint32) { s[i>>6] |= 1 << (i & 63) }

// Has reports whether message i, below [MaxRunMessages], is settled.
func (s *Settled) Has(i uint32) bool { return s[i>>6]&(1<<(i&63)) != 0 }

// IsZero reports whether nothing is settled.
func (s *Settled) IsZero() bool { return *s == Settled{} }
