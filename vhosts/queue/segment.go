// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"encoding/binary"
	"unsafe"
)

// Place names where the store keeps a run's body. The engine only remembers it.
type Place struct {
	Group, Index uint64
	Part         uint32
	Flags        uint8
}

// segment is neighbouring runs that were never handed out, packed into a few
// bytes each. Behind the packed runs it may have some in their full form again,
// while small ones among them are joined.
type segment struct {
	first, end uint64 // numbers first..end-1 are this segment's
	packed     []byte
	last       mark   // the last packed run, from which the next is told
	count      int    // packed runs
	live       uint64 // unsettled messages of packed runs
	bytes      uint64 // their body bytes, see Run.liveBytes
	due        uint64 // when the first message of packed runs is due, 0 if none is
	aways      bool   // some messages of packed runs are delayed or leaving
	thawed     bool   // it is in Engine.thawed
	small      int    // packed runs that may be joined and were not looked at for it
	warm       runs   // runs after the packed ones
}

// segmentSize is what a segment costs besides its packed runs, in bytes: itself
// and its entry in the directory.
const segmentSize = int(unsafe.Sizeof(segment{}) + unsafe.Sizeof((*segment)(nil)))

// mark is where a packed run ends, in numbers and in the store, and when it arrived.
type mark struct {
	end     uint64
	place   Place
	arrived uint64
}

// A packed run is told from the one before it:
//
//	tag byte      which of the optional parts there are
//	[gap]         numbers skipped since the last run's end
//	[group, flags of the place, when they change; flags is one byte]
//	count - 1
//	bytes
//	index of the place, as signed difference
//	part of the place
//	[time of arrival, as signed difference]
//	[time from there until it is due]
//	[settled, 32 bytes]
//
// Integers are varints, so that neighbours of 256 small messages take 8 bytes.
const (
	tagGap byte = 1 << iota
	tagMoved
	tagSettled
	tagVolatile
	tagArrived // at another time than the run before
	tagDue
	tagStamped
	tagTallied
)

// packedMax is the most bytes a packed run can take.
const packedMax = 2 + 8*binary.MaxVarintLen64 + 8*len(Bitmap{})

// pack adds a run at the end of the packed ones, which has no handle any more.
func (s *segment) pack(r *Run, p Place) {
	var tag byte
	var room [packedMax]byte
	b := room[:1]
	if r.First != s.last.end {
		tag |= tagGap
		b = binary.AppendUvarint(b, r.First-s.last.end)
	}
	if p.Group != s.last.place.Group || p.Flags != s.last.place.Flags {
		tag |= tagMoved
		b = binary.AppendUvarint(b, p.Group)
		b = append(b, p.Flags)
	}
	b = binary.AppendUvarint(b, uint64(r.Count-1))
	b = binary.AppendUvarint(b, r.Bytes)
	b = binary.AppendVarint(b, int64(p.Index-s.last.place.Index))
	b = binary.AppendUvarint(b, uint64(p.Part))
	if r.Arrived != s.last.arrived {
		tag |= tagArrived
		b = binary.AppendVarint(b, int64(r.Arrived-s.last.arrived))
	}
	if r.due != 0 {
		tag |= tagDue
		b = binary.AppendVarint(b, int64(r.due-r.Arrived))
		s.due = earlier(s.due, r.due)
	}
	if r.stamped {
		tag |= tagStamped
	}
	if r.gone > 0 {
		tag |= tagSettled
		for _, w := range r.settled {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
	}
	if r.Tallied() {
		tag |= tagTallied
		tallies := r.AppendTallies(nil)
		b = append(binary.AppendUvarint(b, uint64(len(tallies))), tallies...)
	}
	s.aways = s.aways || r.someAway()
	if r.Volatile {
		tag |= tagVolatile
	}
	b[0] = tag
	s.packed = append(s.packed, b...)
	s.last = mark{r.end(), p, r.Arrived}
	s.end = max(s.end, r.end())
	s.count++
	s.live += uint64(r.live())
	s.bytes += r.liveBytes()
	if r.Count <= MaxRunMessages/4 && r.Bytes <= MaxRunBytes/4 {
		s.small++
	}
}

// unpacker reads packed runs in their order, from the first one on.
type unpacker struct {
	packed []byte
	last   mark
}

// next fills in r, which is empty, with the next run but for its handle.
func (u *unpacker) next(r *Run) Place {
	tag := u.packed[0]
	u.packed = u.packed[1:]
	p := u.last.place
	r.First = u.last.end
	if tag&tagGap != 0 {
		r.First += u.uvarint()
	}
	if tag&tagMoved != 0 {
		p.Group = u.uvarint()
		p.Flags, u.packed = u.packed[0], u.packed[1:]
	}
	r.Count = uint32(u.uvarint()) + 1
	r.Bytes = u.uvarint()
	p.Index += uint64(u.varint())
	p.Part = uint32(u.uvarint())
	r.Arrived = u.last.arrived
	if tag&tagArrived != 0 {
		r.Arrived += uint64(u.varint())
	}
	if tag&tagDue != 0 {
		r.due = r.Arrived + uint64(u.varint())
	}
	r.stamped = tag&tagStamped != 0
	if tag&tagSettled != 0 {
		for i := range r.settled {
			r.settled[i] = binary.LittleEndian.Uint64(u.packed[8*i:])
		}
		u.packed = u.packed[8*len(r.settled):]
		r.gone = r.settled.Count()
	}
	if tag&tagTallied != 0 {
		n := u.uvarint()
		r.aside, _ = parseTallies(u.packed[:n], r) // as they were packed
		u.packed = u.packed[n:]
	}
	r.Volatile = tag&tagVolatile != 0
	u.last = mark{r.end(), p, r.Arrived}
	return p
}

func (u *unpacker) uvarint() uint64 {
	v, n := binary.Uvarint(u.packed)
	u.packed = u.packed[n:]
	return v
}

func (u *unpacker) varint() int64 {
	v, n := binary.Varint(u.packed)
	u.packed = u.packed[n:]
	return v
}

// runs is the number of the segment's runs.
func (s *segment) runs() int { return s.count + s.warm.len() }

// fit gives back the room that packed has to grow.
func (s *segment) fit() {
	if cap(s.packed) > len(s.packed) {
		s.packed = append(make([]byte, 0, len(s.packed)), s.packed...)
	}
}

// absorb packs the runs of next, all of which are packed, behind its own.
func (s *segment) absorb(next *segment) {
	small := s.small + next.small
	u := unpacker{packed: next.packed}
	for range next.count {
		var r Run
		p := u.next(&r)
		s.pack(&r, p)
	}
	s.small = small
	s.fit()
}

// unpack brings the segment's packed runs back to their full form, in one block of
// memory, before the others in it.
func (s *segment) unpack(k Keeper) {
	if s.count == 0 {
		return
	}
	block := make([]Run, s.count)
	list := make([]*Run, s.count, s.runs())
	u := unpacker{packed: s.packed}
	for i := range block {
		r := &block[i]
		p := u.next(r)
		r.Stored = k.Warm(r, p)
		list[i] = r
	}
	s.warm = runs{list: append(list, s.warm.all()...)}
	s.packed, s.last = nil, mark{}
	s.count, s.live, s.bytes, s.due, s.aways, s.small = 0, 0, 0, 0, false, 0
}
