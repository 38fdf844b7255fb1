// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// ReadRun reads the run's body, as its [Body] encoded it, and calls use with it,
// which must not keep it. It waits for the disk, so it is never called under a
// lock. The error is that of use, or [ErrNotStored] for a share that is not
// committed yet or is dropped, and it wraps [ErrDamaged] if what is stored is not
// what was written.
func (s *Store) ReadRun(sh *Share, use func(body []byte) error) (err error) {
	s.ReadRuns([]*Share{sh}, func(_ int, body []byte, readErr error) {
		if err = readErr; err == nil {
			err = use(body)
		}
	})
	return err
}

// ReadRuns is ReadRun for several shares, of which neighbours are best written one
// after the other. use is called for each, in their order, with its position and
// either its body or the error that ReadRun would return.
func (s *Store) ReadRuns(shares []*Share, use func(i int, body []byte, err error)) {
	g, err := s.beginRead()
	if err != nil {
		for i := range shares {
			use(i, nil, err)
		}
		return
	}
	defer g.endRead()
	r := bodyReader{gen: g}
	defer r.close()
	for i, sh := range shares {
		body, err := r.read(sh)
		if err == nil {
			s.counters.read.Add(1)
		}
		use(i, body, err)
	}
}

// ReadStamps reads the stamps of shares' messages, see [TimedBody], without reading
// their bodies. use is called for each, in their order,
// with its position and either the Arrived of the run and the stamps, which it must not keep, or an error as
// [Store.ReadRun] returns it.
func (s *Store) ReadStamps(shares []*Share, use func(i int, arrived uint64, stamps []byte, err error)) {
	g, err := s.beginRead()
	if err != nil {
		for i := range shares {
			use(i, 0, nil, err)
		}
		return
	}
	defer g.endRead()
	for i, sh := range shares {
		g.readStamps(sh, func(arrived uint64, stamps []byte, err error) { use(i, arrived, stamps, err) })
	}
}

func (g *generation) readStamps(sh *Share, use func(arrived uint64, stamps []byte, err error)) {
	if !sh.stored.Load() || sh.dropped.Load() {
		use(0, nil, ErrNotStored)
		return
	}
	key := entryKey(sh.run.entrySpace(), sh.queue, sh.first)
	value, closer, err := get(g.db, key)
	switch {
	case err == nil:
		var e entry
		e, err = unsealEntry(key, value, sh.queue)
		use(e.times.Arrived, e.stamps, err)
		_ = closer.Close() // returns a block to the cache
	case g.hasFailed():
		use(0, nil, fmt.Errorf("read times of run %d of queue %d: %w", sh.first, sh.queue, ErrFailed))
	case sh.dropped.Load():
		use(0, nil, ErrNotStored) // dropped meanwhile
	case errors.Is(err, pebble.ErrNotFound):
		use(0, nil, damaged(key, sh.queue, "the entry is missing"))
	default:
		use(0, nil, fmt.Errorf("read times of run %d of queue %d: %w", sh.first, sh.queue, readError(err)))
	}
}

// bodyReader reads bodies. As one burst's runs have neighbouring names, the next
// one is mostly where the last one ended.
type bodyReader struct {
	gen   *generation
	it    *pebble.Iterator
	space byte // it goes over
	key   [bodyKeyLen]byte
}

// read returns the body of a share, which is valid until the next read. Pebble
// panics when it finds a file of values missing; that is damage like other.
func (r *bodyReader) read(sh *Share) (body []byte, err error) {
	if sh == nil {
		return nil, fmt.Errorf("%w: the run is not in the store", ErrDamaged)
	}
	if !sh.stored.Load() || sh.dropped.Load() {
		return nil, ErrNotStored
	}
	key := r.key[:]
	putBodyKey(key, sh.run.bodySpace(), sh.run.name)
	defer func() {
		if p := recover(); p != nil {
			body, err = nil, damaged(key, sh.queue, "%v", p)
			r.it = nil // it may be in any state
		}
	}()
	found, err := r.seek(key)
	if err == nil && found {
		body, err = r.it.ValueAndErr()
	}
	switch {
	case (err != nil || !found) && r.gen.hasFailed():
		// The next generation may have deleted what this one had not opened yet.
		r.close()
		return nil, fmt.Errorf("read run %d of queue %d: %w", sh.first, sh.queue, ErrFailed)
	case err != nil:
		r.close()
		return nil, fmt.Errorf("read run %d of queue %d: %w", sh.first, sh.queue, readError(err))
	case found:
		return unseal(key, body, sh.queue)
	case sh.dropped.Load():
		return nil, ErrNotStored // dropped meanwhile
	default:
		return nil, damaged(key, sh.queue, "the body is missing")
	}
}

// seek moves the iterator to a key.
func (r *bodyReader) seek(key []byte) (found bool, err error) {
	// An iterator sees neither another key space nor what was stored after it was
	// made: what one that was kept does not find, a new one looks for.
	if r.it != nil && r.space == key[0] {
		if found, err = r.advance(key); found || err != nil {
			return found, err
		}
	}
	r.close()
	if r.it, err = r.gen.newIter(spaceBounds(key[0])); err != nil {
		return false, err
	}
	r.space = key[0]
	return r.advance(key)
}

// advance moves the iterator there is to a key. Only the next body of the same
// commit is looked for by going on to the next key: what else lies between may be
// thousands of deleted ones.
func (r *bodyReader) advance(key []byte) (found bool, err error) {
	if r.it.Valid() && follows(r.it.Key(), key) && r.it.Next() && bytes.Equal(r.it.Key(), key) {
		return true, nil
	}
	if r.it.SeekGE(key) && bytes.Equal(r.it.Key(), key) {
		return true, nil
	}
	return false, r.it.Error()
}

// follows reports whether next names the body written after the one of key, in the
// same commit.
func follows(key, next []byte) bool {
	const part = bodyKeyLen - 4
	return len(key) == bodyKeyLen && bytes.Equal(key[:part], next[:part]) &&
		binary.BigEndian.Uint32(key[part:])+1 == binary.BigEndian.Uint32(next[part:])
}

// close lets go of the database. What it would report, a read has.
func (r *bodyReader) close() {
	if r.it != nil {
		_ = r.it.Close()
		r.it = nil
	}
}

// readError marks an error that the database gives for a damaged file as damage.
func readError(err error) error {
	if err == nil || errors.Is(err, ErrDamaged) || !pebble.IsCorruptionError(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}
