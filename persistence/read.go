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
	defer s.endRead(g)
	r := runReader{gen: g}
	defer r.close()
	for i, sh := range shares {
		body, err := r.body(sh)
		if err == nil {
			s.counters.read.Add(1)
		}
		use(i, body, err)
	}
}

// ReadStamps reads the stamps of shares' messages, see [TimedBody], without reading
// their bodies; shares are best given in the order of the queue. use is called for
// each, in their order, with its position and either the Arrived of the run and the
// stamps, which it must not keep, or an error as [Store.ReadRun] returns it.
func (s *Store) ReadStamps(shares []*Share, use func(i int, arrived uint64, stamps []byte, err error)) {
	g, err := s.beginRead()
	if err != nil {
		for i := range shares {
			use(i, 0, nil, err)
		}
		return
	}
	defer s.endRead(g)
	r := runReader{gen: g}
	defer r.close()
	for i, sh := range shares {
		arrived, stamps, err := r.stamps(sh)
		use(i, arrived, stamps, err)
	}
}

// runReader reads what is stored of runs. As one burst's runs have neighbouring names,
// and neighbours in a queue have neighbouring entries, the next one is mostly where the
// last one ended.
type runReader struct {
	gen   *generation
	it    *pebble.Iterator
	space byte // it goes over
	key   [max(bodyKeyLen, entryKeyLen)]byte
}

// body returns the body of a share, which is valid until the next read.
func (r *runReader) body(sh *Share) ([]byte, error) {
	if sh == nil {
		return nil, fmt.Errorf("%w: the run is not in the store", ErrDamaged)
	}
	key := r.key[:bodyKeyLen]
	putBodyKey(key, sh.run.bodySpace(), sh.run.name)
	value, err := r.read(key, sh, "body")
	if err != nil {
		return nil, err
	}
	return unseal(key, value, sh.queue)
}

// stamps returns the Arrived of a share's run and its stamps, which are valid until the
// next read.
func (r *runReader) stamps(sh *Share) (arrived uint64, stamps []byte, err error) {
	key := r.key[:entryKeyLen]
	putEntryKey(key, sh.run.entrySpace(), sh.queue, sh.first)
	value, err := r.read(key, sh, "entry")
	if err != nil {
		return 0, nil, err
	}
	e, err := unsealEntry(key, value, sh.queue)
	return e.times.Arrived, e.stamps, err
}

// read returns what is stored of a share under a key. Pebble panics when it finds a
// file of values missing; that is damage like other.
func (r *runReader) read(key []byte, sh *Share, what string) (value []byte, err error) {
	if !sh.stored.Load() || sh.dropped.Load() {
		return nil, ErrNotStored
	}
	defer func() {
		if p := recover(); p != nil {
			value, err = nil, damaged(key, sh.queue, "%v", p)
			r.it = nil // it may be in any state
		}
	}()
	found, err := r.seek(key)
	if err == nil && found {
		value, err = r.it.ValueAndErr()
	}
	switch {
	case (err != nil || !found) && r.gen.hasFailed():
		// The next generation may have deleted what this one had not opened yet.
		r.close()
		return nil, fmt.Errorf("read %s of run %d of queue %d: %w", what, sh.first, sh.queue, ErrFailed)
	case err != nil:
		r.close()
		return nil, fmt.Errorf("read %s of run %d of queue %d: %w", what, sh.first, sh.queue, oneLine{readError(err)})
	case found:
		return value, nil
	case sh.dropped.Load():
		return nil, ErrNotStored // dropped meanwhile
	default:
		return nil, damaged(key, sh.queue, "the %s is missing", what)
	}
}

// seek moves the iterator to a key.
func (r *runReader) seek(key []byte) (found bool, err error) {
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
func (r *runReader) advance(key []byte) (found bool, err error) {
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
func (r *runReader) close() {
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
