// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// generation is one opening of the database. Pebble cannot go on after a failed
// write or sync of its log: the generation is then cut off from the disk and
// given up, with whatever goroutines and memory it holds, and the store goes on
// with the next one.
type generation struct {
	db     *pebble.DB
	fs     *guardFS
	failed chan struct{} // closed when the disk has failed it
	cause  error         // why; set before failed is closed

	stalled atomic.Bool // writes wait until memtables are flushed
	damaged sync.Map    // paths of the files that were reported damaged

	readers int  // reads under way; changed under Store.mu
	closed  bool // reads wait for the next generation, or fail with the store; changed under Store.mu
}

// openMode says how to open the database.
type openMode struct {
	create   bool   // it may be a new one
	readOnly bool   // nothing is changed
	fs       vfs.FS // in place of the store's, if not nil
}

// openGeneration opens the database. When the disk fails while it is being
// opened, the error tells so, and whatever is half open is given up.
func (s *Store) openGeneration(mode openMode) (*generation, error) {
	g := &generation{failed: make(chan struct{})}
	path := s.opts.FS.PathJoin(s.opts.Dir, databaseDir)
	fs := s.opts.FS
	if mode.fs != nil {
		fs = mode.fs
	}
	g.fs = newGuardFS(fs, path, &s.disk, func(err error) { s.generationFailed(g, err) })
	g.fs.absent = s.absent
	options := s.databaseOptions(g)
	options.ErrorIfNotExists, options.ReadOnly = !mode.create, mode.readOnly
	err := g.runUntil(s.life, func() (err error) {
		g.db, err = pebble.Open(path, options)
		return err
	})
	if err != nil {
		g.fs.cut()
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return g, nil
}

// run runs f, which uses the database, and returns its error, or why the
// generation has failed if f is never to return because of it. Opening a
// database, Pebble panics on some errors of the file system; they are errors
// here.
func (g *generation) run(f func() error) error {
	return g.runUntil(context.Background(), f)
}

// runUntil is run, and leaves f to itself when ctx ends: the generation is then
// to be cut off.
func (g *generation) runUntil(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("database: %v", p)
			}
		}()
		done <- f()
	}()
	select {
	case err := <-done:
		return err
	case <-g.failed:
		return g.cause
	case <-ctx.Done():
		return ErrClosed
	}
}

// hasFailed reports whether the disk has failed the generation.
func (g *generation) hasFailed() bool {
	select {
	case <-g.failed:
		return true
	default:
		return false
	}
}

// lastCommit reads the number of the latest commit the database holds.
func (g *generation) lastCommit() (uint64, error) {
	n, _, err := getNumber(g.db, metaKey(metaCommit), 0)
	if err != nil {
		return 0, fmt.Errorf("read commit number: %w", err)
	}
	return n, nil
}
