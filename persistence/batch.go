// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import "fmt"

// build fills the flight's batch with the effect of the records, and fresh with
// the shares it writes.
//
// It goes over the records twice. The first pass learns what becomes of each
// share within these records, so that the second, which writes in the order of
// the records, leaves out what is dropped or replaced further on. Looking ahead
// ends with the records of this batch: see the rule of prefixes in the package
// documentation. What was settled since, and is not written either, was dropped when
// that was proposed. A Settle or Drop may come before the PutRun of its share, in
// this batch or an earlier one; it is remembered in the share until then.
func (s *Store) build(f *flight, records []Record) error {
	foresee(records)
	w := batchWriter{Store: s, flight: f}
	for i := range records {
		if err := w.record(&records[i]); err != nil {
			return fmt.Errorf("build batch: %w", err)
		}
	}
	f.info.Runs = int(w.parts)
	return w.raiseBoot()
}

func (w *batchWriter) record(r *Record) error {
	switch r.kind {
	case kindPutRun:
		return w.putRun(r.run)
	case kindSettle, kindCount:
		return w.mark(r.share)
	case kindDrop:
		return w.drop(r.share)
	case kindDelivered:
		return w.delivered(r.rare.queue, r.rare.numbers)
	case kindForget:
		return w.forget(r.rare.queue, r.rare.from, r.rare.upTo)
	case kindDropQueue:
		return w.dropQueue(r.rare.queue)
	case kindReclaim:
		return w.reclaim(r.rare.reclaimed)
	case kindSetConfig:
		return w.setConfig(r.rare.key, r.rare.value)
	case kindDeleteConfig:
		return w.batch.Delete(appendConfigKey(nil, r.rare.key), nil)
	}
	return nil
}

// foresee applies settlements and drops to the shares in memory.
func foresee(records []Record) {
	for i := range records {
		r := &records[i]
		switch r.kind {
		case kindSettle:
			r.share.settled = r.settled
			r.share.unmarked = true
		case kindCount:
			r.share.counts = r.rare.value
			r.share.unmarked = true
		case kindDrop:
			r.share.dropped.Store(true)
		}
	}
}

// batchWriter writes one batch.
type batchWriter struct {
	*Store
	*flight
	name  uint64 // index of the names of this batch's bodies, once one needs it
	parts uint32 // bodies written

	times  Times  // of the run being put
	stamps []byte // likewise
}

// putRun writes the entries of the run's living shares and, if there are any,
// the body.
func (w *batchWriter) putRun(r *Run) error {
	body := r.body
	r.body = nil
	defer body.Release()
	w.takeTimes(body)
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
	if r.refs > 0 && r.shared {
		w.bodies.add(r)
	}
	return nil
}

// takeTimes has the entries that follow say when the body's messages arrived.
func (w *batchWriter) takeTimes(body Body) {
	w.times, w.stamps = Times{}, w.stamps[:0]
	timed, ok := body.(TimedBody)
	if !ok {
		return
	}
	if w.times = timed.Times(); w.times.Stamped {
		w.stamps = timed.AppendStamps(w.stamps)
	}
}

// putBody names the run and writes its body.
func (w *batchWriter) putBody(r *Run, body Body) error {
	if w.name == 0 {
		w.name = w.NewID()
	}
	r.name.index, r.name.part = w.name, w.parts
	w.parts++
	op := w.batch.SetDeferred(bodyKeyLen, sealLen+r.size)
	putBodyKey(op.Key, r.bodySpace(), r.name)
	encoded := body.AppendTo(op.Value[: sealLen : sealLen+r.size])
	if len(encoded) != sealLen+r.size || &encoded[0] != &op.Value[0] {
		return fmt.Errorf("body of %d bytes was encoded as %d", r.size, len(encoded)-sealLen)
	}
	seal(op.Key, op.Value)
	return op.Finish()
}

func (w *batchWriter) putEntry(sh *Share) error {
	sh.written = true
	w.fresh = append(w.fresh, sh)
	w.stored.messages.Add(int64(sh.count))
	w.stored.bytes.Add(int64(sh.bytes))
	e := entry{name: sh.run.name, count: sh.count, bytes: sh.bytes, shared: sh.run.shared, times: w.times, stamps: w.stamps}
	op := w.batch.SetDeferred(entryKeyLen, sealLen+e.size())
	putEntryKey(op.Key, sh.run.entrySpace(), sh.queue, sh.first)
	e.put(op.Value[sealLen:])
	seal(op.Key, op.Value)
	return op.Finish()
}

// mark writes the share's latest bitmap, if it has an entry and the bitmap on
// disk is not the latest.
func (w *batchWriter) mark(sh *Share) error {
	if !sh.unmarked || !sh.written || sh.run.volatile || sh.dropped.Load() {
		return nil
	}
	op := w.batch.SetDeferred(entryKeyLen, sealLen+settledPayloadLen+len(sh.counts))
	putEntryKey(op.Key, spaceSettled, sh.queue, sh.first)
	sh.settled.put(op.Value[sealLen:])
	copy(op.Value[sealLen+settledPayloadLen:], sh.counts)
	seal(op.Key, op.Value)
	sh.marked, sh.unmarked = true, false
	return op.Finish()
}

// drop takes back what was written for a share in earlier batches, and the
// body with the last share. Entries and bodies are set once and deleted once, but
// by Delete all the same: a compaction that meets a damaged block behind a
// SingleDelete ends the process. What a Delete leaves behind is some thirty bytes.
func (w *batchWriter) drop(sh *Share) error {
	if !sh.written {
		return nil
	}
	sh.written = false
	w.stored.messages.Add(-int64(sh.count))
	w.stored.bytes.Add(-int64(sh.bytes))
	op := w.batch.DeleteDeferred(entryKeyLen)
	putEntryKey(op.Key, sh.run.entrySpace(), sh.queue, sh.first)
	if err := op.Finish(); err != nil {
		return err
	}
	if sh.marked {
		op := w.batch.DeleteDeferred(entryKeyLen)
		putEntryKey(op.Key, spaceSettled, sh.queue, sh.first)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return w.dropBody(sh.run, sh.bytes)
}

// dropBody takes a share of bytes off the run's body, and deletes it with the
// last.
func (w *batchWriter) dropBody(r *Run, bytes uint64) error {
	if r.refs--; r.refs > 0 {
		return nil
	}
	if r.shared {
		w.bodies.remove(r.name)
	}
	w.freed += int64(bytes)
	op := w.batch.DeleteDeferred(bodyKeyLen)
	putBodyKey(op.Key, r.bodySpace(), r.name)
	return op.Finish()
}

func (w *batchWriter) dropQueue(queue uint64) error {
	op := w.batch.DeleteDeferred(deliveredKeyLen)
	putDeliveredKey(op.Key, queue)
	return op.Finish()
}

func (w *batchWriter) delivered(queue uint64, upTo []uint64) error {
	key := make([]byte, deliveredKeyLen)
	putDeliveredKey(key, queue)
	return w.batch.Set(key, sealNumbers(key, upTo), nil)
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
