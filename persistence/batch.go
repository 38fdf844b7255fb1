// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// rangeDeleteFrom is the number of stored shares from which a purged queue is
// deleted by ranges: below it, deletions one by one meet what they delete in
// the memtable, and leave no ranges for iterators to step over.
const rangeDeleteFrom = 64

// build fills the batch with the effect of the records, and fresh with the
// shares it writes. It returns the number of bodies written.
//
// It goes over the records twice. The first pass learns what becomes of each
// share within these records, so that the second, which writes in the order of
// the records, leaves out what is dropped or replaced further on. Looking ahead
// ends with the records of this batch: see the rule of prefixes in the package
// documentation. A Settle or Drop may come before the PutRun of its share, in
// this batch or an earlier one; it is remembered in the share until then.
func (s *Store) build(records []Record) (runs int, err error) {
	s.fresh = s.fresh[:0]
	foresee(records)
	w := batchWriter{Store: s}
	for i := range records {
		r := &records[i]
		switch r.kind {
		case kindPutRun:
			err = w.putRun(r.run)
		case kindSettle:
			err = w.mark(r.share)
		case kindDrop:
			err = w.drop(r.share, false)
		case kindDelivered:
			err = w.delivered(r.rare.queue, r.rare.upTo)
		case kindPurgeQueue:
			err = w.purgeQueue(r.rare.queue, r.rare.shares)
		case kindSetConfig:
			err = w.setConfig(r.rare.key, r.rare.value)
		case kindDeleteConfig:
			err = w.batch.Delete(appendConfigKey(nil, r.rare.key), nil)
		}
		if err != nil {
			return 0, fmt.Errorf("build batch: %w", err)
		}
	}
	return int(w.parts), w.raiseBoot()
}

const (
	minBatchRoom  = 64 << 10 // room of the smallest batch
	keptBatchRoom = 4 << 20  // room that is kept however little is needed
	smallInARow   = 256      // so many small batches, and a large one is let go
)

// newBatch replaces the batch by one with room for so many bytes.
func (s *Store) newBatch(room int64) {
	if s.batch != nil {
		_ = s.batch.Close() // it only gives its memory back
	}
	s.batch = s.db.NewBatch(pebble.WithInitialSizeBytes(int(room)), pebble.WithMaxRetainedSizeBytes(int(room)))
	s.batchRoom = room
}

// clearBatch empties the batch and sees to it that it has room for so many
// bytes, without copying as it grows, nor keeping far more than is needed for
// long.
func (s *Store) clearBatch(bytes int64) {
	room := s.batchRoom
	for room < bytes+minBatchRoom/2 {
		room *= 2
	}
	if room <= keptBatchRoom || bytes >= room/8 {
		s.smallBatches = 0
	} else if s.smallBatches++; s.smallBatches >= smallInARow {
		room = keptBatchRoom
	}
	if room == s.batchRoom {
		s.batch.Reset()
		return
	}
	s.newBatch(room)
}

// foresee applies settlements and drops to the shares in memory.
func foresee(records []Record) {
	for i := range records {
		r := &records[i]
		switch r.kind {
		case kindSettle:
			r.share.settled = r.settled
			r.share.unmarked = true
		case kindDrop:
			r.share.dropped.Store(true)
		case kindPurgeQueue:
			for _, sh := range r.rare.shares {
				sh.dropped.Store(true)
			}
		}
	}
}

// batchWriter writes one batch.
type batchWriter struct {
	*Store
	index uint64 // this commit's index in the log, once a body needs it
	parts uint32 // bodies written
}

// putRun writes the entries of the run's living shares and, if there are any,
// the body.
func (w *batchWriter) putRun(r *Run) error {
	body := r.body
	r.body = nil
	defer body.Release()
	for i := -1; i < len(r.others); i++ {
		sh := &r.inline
		if i >= 0 {
			sh = r.others[i]
		}
		if sh.run == nil || sh.dropped.Load() {
			continue
		}
		if r.refs == 0 {
			if err := w.putBody(r, body); err != nil {
				return err
			}
		}
		r.refs++
		if err := w.putEntry(sh); err != nil {
			return err
		}
		if err := w.mark(sh); err != nil {
			return err
		}
	}
	return nil
}

// putBody names the run and writes its body.
func (w *batchWriter) putBody(r *Run, body Body) error {
	if w.index == 0 {
		w.index = w.NewID()
	}
	r.name.index, r.name.part = w.index, w.parts
	w.parts++
	op := w.batch.SetDeferred(bodyKeyLen, sealLen+r.size)
	putBodyKey(op.Key, r.name)
	encoded := body.AppendTo(op.Value[: sealLen : sealLen+r.size])
	if len(encoded) != sealLen+r.size || &encoded[0] != &op.Value[0] {
		return fmt.Errorf("body of %d bytes was encoded as %d", r.size, len(encoded)-sealLen)
	}
	seal(op.Key, op.Value)
	return op.Finish()
}

func (w *batchWriter) putEntry(sh *Share) error {
	op := w.batch.SetDeferred(entryKeyLen, sealLen+entryPayloadLen)
	putEntryKey(op.Key, spaceDirectory, sh.queue, sh.first)
	entry{name: sh.run.name, count: sh.count, bytes: sh.bytes}.put(op.Value[sealLen:])
	seal(op.Key, op.Value)
	sh.written = true
	w.fresh = append(w.fresh, sh)
	return op.Finish()
}

// mark writes the share's latest bitmap, if it has an entry and the bitmap on
// disk is not the latest.
func (w *batchWriter) mark(sh *Share) error {
	if !sh.unmarked || !sh.written || sh.dropped.Load() {
		return nil
	}
	op := w.batch.SetDeferred(entryKeyLen, sealLen+settledPayloadLen)
	putEntryKey(op.Key, spaceSettled, sh.queue, sh.first)
	sh.settled.put(op.Value[sealLen:])
	seal(op.Key, op.Value)
	sh.marked, sh.unmarked = true, false
	return op.Finish()
}

// drop takes back what was written for a share in earlier batches, and the
// body with the last share. Entries and bodies are set once and deleted once,
// so that a SingleDelete and what it deletes vanish where they meet. With
// ranged set, the caller deletes the share's keys by a range.
func (w *batchWriter) drop(sh *Share, ranged bool) error {
	if !sh.written {
		return nil
	}
	sh.written = false
	if !ranged {
		op := w.batch.SingleDeleteDeferred(entryKeyLen)
		putEntryKey(op.Key, spaceDirectory, sh.queue, sh.first)
		if err := op.Finish(); err != nil {
			return err
		}
		if sh.marked { // set any number of times
			op := w.batch.DeleteDeferred(entryKeyLen)
			putEntryKey(op.Key, spaceSettled, sh.queue, sh.first)
			if err := op.Finish(); err != nil {
				return err
			}
		}
	}
	if sh.run.refs--; sh.run.refs > 0 {
		return nil
	}
	op := w.batch.SingleDeleteDeferred(bodyKeyLen)
	putBodyKey(op.Key, sh.run.name)
	return op.Finish()
}

func (w *batchWriter) purgeQueue(queue uint64, shares []*Share) error {
	stored := 0
	for _, sh := range shares {
		if sh.written {
			stored++
		}
	}
	ranged := stored >= rangeDeleteFrom
	for _, sh := range shares {
		if err := w.drop(sh, ranged); err != nil {
			return err
		}
	}
	if ranged {
		if err := deleteQueueRanges(w.batch, queue); err != nil {
			return err
		}
	}
	op := w.batch.DeleteDeferred(deliveredKeyLen)
	putDeliveredKey(op.Key, queue)
	return op.Finish()
}

// deleteQueueRanges deletes all the queue's entries and settled marks.
func deleteQueueRanges(b *pebble.Batch, queue uint64) error {
	for _, space := range [...]byte{spaceDirectory, spaceSettled} {
		lower, upper := queueBounds(space, queue)
		if err := b.DeleteRange(lower, upper, nil); err != nil {
			return err
		}
	}
	return nil
}

func (w *batchWriter) delivered(queue, upTo uint64) error {
	key := make([]byte, deliveredKeyLen)
	putDeliveredKey(key, queue)
	return setNumber(w.batch, key, upTo)
}

func (w *batchWriter) setConfig(key, value []byte) error {
	op := w.batch.SetDeferred(1+len(key), sealLen+len(value))
	appendConfigKey(op.Key[:0], key)
	copy(op.Value[sealLen:], value)
	seal(op.Key, op.Value)
	return op.Finish()
}

// raiseBoot stores the boot counter again when this boot has used up its ids
// and goes on with those of the next: it is never below that of a stored id.
func (w *batchWriter) raiseBoot() error {
	boots := w.ids.Load() >> idBits
	if boots == w.boots {
		return nil
	}
	w.boots = boots
	return setNumber(w.batch, metaKey(metaBoot), boots)
}
