// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Backup makes a data directory of its own in dir, on the same file system, that
// holds exactly what some number of proposals left behind: all that was durable
// when Backup was called, and perhaps some of what followed. Traffic goes on
// meanwhile. Tables are linked if the file system can, and copied otherwise. dir
// must not exist yet, or be empty. A store opened on it behaves as after a crash.
func (s *Store) Backup(ctx context.Context, dir string) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	fs := s.opts.FS
	names, err := fs.List(dir)
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("back up to %s: %w", dir, plain(err))
	}
	if slices.ContainsFunc(names, isForeign) {
		return fmt.Errorf("back up: directory %s is not empty", dir)
	}
	g, err := s.beginRead()
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	defer s.endRead(g)
	if err := mkdirSynced(fs, dir); err != nil {
		return fmt.Errorf("back up to %s: %w", dir, plain(err))
	}
	durable := s.durable.Load()
	err = g.run(func() error {
		return g.db.Checkpoint(fs.PathJoin(dir, databaseDir), pebble.WithFlushedWAL())
	})
	if err == nil {
		err = createNote(fs, dir, durable)
	}
	if err == nil {
		err = writeState(fs, dir, state{kind: stateRunning, noted: true})
	}
	if err == nil {
		// Last, as it makes the directory one that can be opened.
		err = writeFormat(fs, dir)
	}
	if err != nil {
		err = fmt.Errorf("back up to %s: %w", dir, err)
		for _, name := range [...]string{formatFile, stateFile, noteFile, databaseDir} {
			err = errors.Join(err, fs.RemoveAll(fs.PathJoin(dir, name)))
		}
		return err
	}
	return nil
}
