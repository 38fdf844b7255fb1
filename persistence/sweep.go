// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
)

// sweepBatch is about the size in bytes of a batch of deletions by Sweep.
const sweepBatch = 1 << 20

// Sweep ends recovery: it deletes the directories of queues for which
// [Store.Directory] was not called, and the bodies that only they name. It
// costs one seek for each queue when there are none. If any directory could not
// be loaded whole it deletes nothing and returns an error, because the bodies
// it would miss cannot be told from others; the store may be used all the same.
func (s *Store) Sweep() error {
	if err := s.beginRead(); err != nil {
		return err
	}
	defer s.endRead()
	r := &s.recovery
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return nil
	}
	r.over = true
	runs, loaded := r.runs, r.loaded
	r.runs, r.loaded = nil, nil // shares hold their runs from now on
	if r.incomplete {
		return errors.New("sweep: not every directory was loaded whole")
	}
	err := s.guard(func() error {
		sw := sweeper{store: s, runs: runs, loaded: loaded, batch: s.db.NewBatch()}
		return errors.Join(sw.directories(), sw.delivered(), sw.commit(), sw.batch.Close())
	})
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	return nil
}

type sweeper struct {
	store  *Store
	runs   map[runName]*Run    // not to be deleted
	loaded map[uint64]struct{} // nor these queues
	swept  map[runName]struct{}
	batch  *pebble.Batch
}

func (sw *sweeper) directories() (err error) {
	it, err := sw.store.newIter(spaceBounds(spaceDirectory))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); {
		queue, _, ok := parseEntryKey(it.Key())
		if !ok {
			return damaged(it.Key(), 0, "the key has %d bytes", len(it.Key()))
		}
		lower, upper := queueBounds(spaceDirectory, queue)
		if _, live := sw.loaded[queue]; live {
			it.SeekGE(upper)
			continue
		}
		sw.store.opts.Logger.Info("sweeping directory of unknown queue", slog.Uint64("queue", queue))
		for ; it.Valid() && string(it.Key()) < string(upper); it.Next() {
			if err := sw.entry(it, lower, queue); err != nil {
				return err
			}
		}
		if err := deleteQueueRanges(sw.batch, queue); err != nil {
			return err
		}
	}
	return nil // Close tells how the iteration ended
}

// entry deletes the body of one entry of the queue whose keys begin at lower,
// unless a loaded queue has it too. The entry itself goes in the same batch.
func (sw *sweeper) entry(it *pebble.Iterator, lower []byte, queue uint64) error {
	value, err := it.ValueAndErr()
	if err != nil {
		return err
	}
	e, err := unsealEntry(it.Key(), value, queue)
	if err != nil {
		// Nobody can say which body it named.
		sw.store.opts.Logger.Error("damaged directory entry of unknown queue deleted", slog.Any("error", err))
		return nil
	}
	if _, live := sw.runs[e.name]; live {
		return nil
	}
	if _, done := sw.swept[e.name]; done {
		return nil
	}
	if sw.swept == nil {
		sw.swept = make(map[runName]struct{})
	}
	sw.swept[e.name] = struct{}{}
	op := sw.batch.SingleDeleteDeferred(bodyKeyLen)
	putBodyKey(op.Key, e.name)
	if err := op.Finish(); err != nil || sw.batch.Len() < sweepBatch {
		return err
	}
	after := append(append([]byte(nil), it.Key()...), 0)
	if err := sw.batch.DeleteRange(lower, after, nil); err != nil {
		return err
	}
	return sw.commit()
}

// delivered deletes the delivered marks of unknown queues.
func (sw *sweeper) delivered() (err error) {
	it, err := sw.store.newIter(spaceBounds(spaceDelivered))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		queue, ok := parseDeliveredKey(it.Key())
		if _, live := sw.loaded[queue]; ok && live {
			continue
		}
		if err := sw.batch.Delete(it.Key(), nil); err != nil {
			return err
		}
	}
	return nil // Close tells how the iteration ended
}

func (sw *sweeper) commit() error {
	if sw.batch.Empty() {
		return nil
	}
	if err := write(sw.batch, true); err != nil {
		sw.store.fail(err)
		return err
	}
	sw.batch.Reset()
	return nil
}
