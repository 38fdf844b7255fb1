// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"errors"
	"io"
	"math/big"

	"github.com/cockroachdb/pebble/v2"
)

// walk goes over key spaces for an [Inspection].
type walk struct {
	Visitor
	ctx  context.Context
	db   *pebble.DB
	only uint64 // the only queue to look at, 0 for all

	condemned recovery // knows which entries are condemned
}

// space goes over one key space, or a queue's part of it. visit returns what is
// wrong with a record, nil if nothing is.
func (w *walk) space(space byte, kind DamageKind, visit func(key, value []byte) error) error {
	lower, upper := spaceBounds(space)
	if w.only != 0 {
		lower, upper = queueBounds(space, w.only)
	}
	return salvage(w.ctx, w.db, lower, upper, func(key, value []byte, err error) error {
		if err == nil {
			err = visit(key, value)
		}
		if err != nil {
			d := Damage{Kind: kind, Key: append([]byte(nil), key...), Reason: reason(err)}
			if len(key) == deliveredKeyLen {
				d.Queue, _ = parseDeliveredKey(key)
			} else if len(key) == condemnedKeyLen && space == spaceCondemned {
				d.Queue, d.First, _ = parseEntryKey(key[:entryKeyLen])
			} else if space != spaceConfig {
				d.Queue, d.First, _ = parseEntryKey(key)
			}
			w.damaged(d)
		}
		return nil
	}, func(d Damage) {
		d.Queue = w.only
		w.damaged(d)
	})
}

func (w *walk) config() error {
	return w.space(spaceConfig, DamagedConfig, func(key, value []byte) error {
		payload, err := unseal(key, value, 0)
		if err == nil && w.Config != nil {
			w.Config(configKeyName(key), payload)
		}
		return err
	})
}

func (w *walk) marks() error {
	return w.space(spaceSettled, DamagedMark, func(key, value []byte) error {
		if err := checkEntryKey(key); err != nil {
			return err
		}
		_, _, err := unsealSettled(key, value, 0)
		return err
	})
}

func (w *walk) delivered() error {
	return w.space(spaceDelivered, DamagedDelivered, func(key, value []byte) error {
		if _, ok := parseDeliveredKey(key); !ok {
			return damaged(key, 0, "the key has %d bytes", len(key))
		}
		_, err := unsealNumbers(key, value, 0)
		return err
	})
}

func (w *walk) deletions() error {
	return w.space(spaceCondemned, DamagedDeletion, func(key, value []byte) error {
		c, ok := parseCondemnedKey(key)
		if !ok {
			return damaged(key, 0, "the key has %d bytes", len(key))
		}
		_, err := unsealFixed(key, value, c.queue, 0)
		if err == nil {
			w.condemned.condemned = append(w.condemned.condemned, c)
		}
		return err
	})
}

// deletionsQuietly is deletions for a walk that is not about them.
func (w *walk) deletionsQuietly() error {
	report := w.Damage
	w.Damage = nil
	defer func() { w.Damage = report }()
	return w.deletions()
}

func (w *walk) directory() error {
	return w.space(spaceDirectory, DamagedEntry, func(key, value []byte) error {
		if err := checkEntryKey(key); err != nil {
			return err
		}
		queue, first, _ := parseEntryKey(key)
		e, err := unsealEntry(key, value, queue)
		if err != nil {
			return err
		}
		r := InspectedRun{
			RecoveredRun: RecoveredRun{Queue: queue, First: first, Count: e.count, Bytes: e.bytes, Place: e.place(), Times: e.times},
			Condemned:    w.condemned.isCondemned(queue, first),
		}
		r.Settled, r.Counts = w.mark(queue, first)
		if w.Run != nil {
			w.Run(&r)
		}
		if w.Body != nil && !r.Condemned {
			w.body(&r, e.name)
		}
		return nil
	})
}

// mark is which messages of a run are settled, and its counts: none if the mark is
// damaged, which marks has reported.
func (w *walk) mark(queue, first uint64) (s Settled, counts string) {
	key := entryKey(spaceSettled, queue, first)
	value, closer, err := w.db.Get(key)
	if err != nil {
		return s, ""
	}
	s, c, err := unsealSettled(key, value, queue)
	if err != nil {
		s, c = Settled{}, nil
	}
	counts = string(c)
	_ = closer.Close() // returns a block to the cache
	return s, counts
}

// body verifies the body of a run.
func (w *walk) body(r *InspectedRun, name runName) {
	var key [bodyKeyLen]byte
	putBodyKey(key[:], spaceBody, name)
	value, closer, err := get(w.db, key[:])
	if errors.Is(err, pebble.ErrNotFound) {
		err = errors.New("the body is missing")
	}
	if closer != nil {
		var content []byte
		if content, err = unseal(key[:], value, r.Queue); err == nil {
			err = w.Body(r, content)
		}
		_ = closer.Close() // returns a block to the cache
	}
	if err != nil {
		w.damaged(Damage{
			Kind: DamagedBody, Key: key[:], Reason: reason(err),
			Queue: r.Queue, First: r.First, Count: r.Count, Live: r.Live(),
		})
	}
}

// bodies looks for bodies that cannot be read. What is wrong with those that can be
// is told with the runs they belong to.
func (w *walk) bodies() error {
	return w.space(spaceBody, DamagedBody, func([]byte, []byte) error { return nil })
}

func checkEntryKey(key []byte) error {
	if _, _, ok := parseEntryKey(key); !ok {
		return damaged(key, 0, "the key has %d bytes", len(key))
	}
	return nil
}

// salvage calls visit for each record with a key in [lower, upper), in the order of
// keys, and lost for each range of keys that cannot be read. It gives visit an error
// in place of a value that cannot be read. The slices given to visit are valid only
// during the call. It stops at the first error of visit or ctx.
func salvage(ctx context.Context, db *pebble.DB, lower, upper []byte, visit func(key, value []byte, err error) error, lost func(Damage)) error {
	from := append([]byte(nil), lower...)
	for {
		failure, err := salvageUntilDamage(ctx, db, &from, upper, visit)
		if err != nil || failure == nil {
			return err
		}
		next := firstReadable(db, from, upper)
		lost(Damage{Kind: DamagedFile, Key: append([]byte(nil), from...), Until: next, Reason: failure.Error()})
		if string(next) >= string(upper) {
			return nil
		}
		from = append(from[:0], next...)
	}
}

// salvageUntilDamage visits records until the database cannot go on, which it
// returns as failure; *from is then behind the last record visited.
func salvageUntilDamage(ctx context.Context, db *pebble.DB, from *[]byte, upper []byte, visit func(key, value []byte, err error) error) (failure, err error) {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: append([]byte(nil), *from...), UpperBound: upper})
	if err != nil {
		return nil, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		value, damage := valueOf(it)
		if err = ctx.Err(); err == nil {
			err = visit(it.Key(), value, damage)
		}
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		*from = append(append((*from)[:0], it.Key()...), 0)
	}
	return it.Close(), nil
}

// firstReadable returns a key behind from, and not behind upper, from which on there
// is something to be read again. The database tells only that it cannot read at a
// key, and takes long to do so, not how far that goes; so it is tried in growing
// steps, and then halved. Of two damaged places close to each other the sound records
// between may be missed.
func firstReadable(db *pebble.DB, from, upper []byte) []byte {
	width := keyWidth(from[0])
	begin, end := keyNumber(from, width), keyNumber(upper, width)
	bad, good := begin, new(big.Int)
	for step := uint(0); ; step += 2 {
		good.Lsh(big.NewInt(1), step)
		if good.Add(good, begin); good.Cmp(end) >= 0 {
			good.Set(end)
			break
		}
		if readable(db, numberKey(good, width), upper) {
			break
		}
		bad = new(big.Int).Set(good)
	}
	one := big.NewInt(1)
	for {
		middle := new(big.Int).Sub(good, bad)
		if middle.Cmp(one) <= 0 {
			break
		}
		middle.Rsh(middle, 1).Add(middle, bad)
		if readable(db, numberKey(middle, width), upper) {
			good = middle
		} else {
			bad = middle
		}
	}
	if good.Cmp(end) >= 0 {
		return append([]byte(nil), upper...)
	}
	return numberKey(good, width)
}

// readable reports whether there is no damage at key.
func readable(db *pebble.DB, key, upper []byte) bool {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: key, UpperBound: upper})
	if err != nil {
		return false
	}
	it.First()
	return it.Close() == nil
}

// keyWidth is how many bytes of a space's keys count when they are taken for
// numbers: all, but of metadata with long names.
func keyWidth(space byte) int {
	switch space {
	case spaceDelivered:
		return deliveredKeyLen
	case spaceDirectory, spaceVolatileDirectory, spaceSettled:
		return entryKeyLen
	case spaceCondemned:
		return condemnedKeyLen
	case spaceBody, spaceVolatileBody:
		return bodyKeyLen
	}
	return 64
}

// keyNumber takes the first width bytes of a key for a number, so that the order of
// keys is that of numbers.
func keyNumber(key []byte, width int) *big.Int {
	b := make([]byte, width)
	copy(b, key)
	return new(big.Int).SetBytes(b)
}

// numberKey is the key of a number.
func numberKey(n *big.Int, width int) []byte { return n.FillBytes(make([]byte, width)) }

// get is Get of the database. Pebble panics when it finds a file of values missing that
// it has not seen, see absentBlobs, and keeps to itself that a value cannot be read.
func get(db *pebble.DB, key []byte) (value []byte, closer io.Closer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = damaged(key, 0, "%v", p)
		}
	}()
	value, closer, err = db.Get(key)
	if it, ok := closer.(*pebble.Iterator); ok && it.Error() != nil {
		return nil, nil, oneLine{it.Close()} // the same error
	}
	return value, closer, err
}

// valueOf is the iterator's value, likewise.
func valueOf(it *pebble.Iterator) (value []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = damaged(it.Key(), 0, "%v", p)
		}
	}()
	return it.ValueAndErr()
}
