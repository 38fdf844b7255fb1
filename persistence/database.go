// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// databaseFormat is Pebble's own format. It is raised knowingly, because an
// older Pebble cannot open a database once it has been raised.
const databaseFormat = pebble.FormatValueSeparation

// maxMemTables is how many memtables may wait to be flushed before writes do.
const maxMemTables = 4

// databaseOptions returns the settings of the database. What shapes them: many
// bodies are deleted before their memtable is full and never reach a table;
// the rest is written once, read once or never, and deleted once.
func (s *Store) databaseOptions(fs vfs.FS) *pebble.Options {
	o := &pebble.Options{
		FS:                          fs,
		FormatMajorVersion:          databaseFormat,
		Logger:                      (*databaseLogger)(s),
		MemTableSize:                uint64(s.opts.MemTableSize),
		MemTableStopWritesThreshold: maxMemTables,
		CacheSize:                   s.opts.CacheSize,
		LBaseMaxBytes:               max(s.opts.MemTableSize, 64<<20),
		// Tables of level 0 are wide, as a memtable spans all key spaces: begin
		// to compact early, and stop writes only when reads would suffer.
		L0CompactionThreshold:      2,
		L0StopWritesThreshold:      40,
		CompactionConcurrencyRange: func() (lower, upper int) { return 1, 2 },
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				s.opts.Logger.Error("database background error", slog.Any("error", err))
			},
			// Reads report damage to their callers; the default would be fatal.
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				s.opts.Logger.Error("database file damaged", slog.String("path", info.Path), slog.Any("error", info.Details))
			},
			WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
				s.opts.Logger.Warn("database writes stalled", slog.String("reason", info.Reason))
			},
			WriteStallEnd: func() {
				s.opts.Logger.Info("database writes resumed")
			},
		},
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	return o
}

// databaseLogger is the store as Pebble's logger.
type databaseLogger Store

// Infof implements [pebble.Logger].
func (l *databaseLogger) Infof(format string, args ...any) {
	if l.opts.Logger.Enabled(context.Background(), slog.LevelDebug) {
		l.opts.Logger.Debug("database", slog.String("message", fmt.Sprintf(format, args...)))
	}
}

// Errorf implements [pebble.Logger].
func (l *databaseLogger) Errorf(format string, args ...any) {
	l.opts.Logger.Error("database", slog.String("message", fmt.Sprintf(format, args...)))
}

// Fatalf implements [pebble.Logger]. Pebble calls it when it cannot go on, and
// relies on it not to return; by default the process exits. Here the store goes
// out of service and the calling goroutine stays here for good, with whatever
// locks of Pebble's it holds. That may be the committer: see [Store.fail]. What
// the disk fails to do is noticed before: see guardFS.
func (l *databaseLogger) Fatalf(format string, args ...any) {
	(*Store)(l).fail(fmt.Errorf(format, args...))
	select {}
}

// openDatabase opens the database, raises the boot counter and takes the mark
// of an orderly stop away, so that it is there only if this start ends orderly.
func (s *Store) openDatabase() error {
	path := s.opts.FS.PathJoin(s.opts.Dir, databaseDir)
	fs := &guardFS{FS: s.opts.FS, fail: s.fail}
	db, err := pebble.Open(path, s.databaseOptions(fs))
	if err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	fs.armed.Store(true)
	if err := s.boot(db); err != nil {
		return errors.Join(fmt.Errorf("start database %s: %w", path, err), db.Close())
	}
	s.db = db
	return nil
}

// Ids are made of the boot counter and a counter that starts anew with it.
const (
	idBits   = 40
	maxBoots = 1<<(64-idBits) - 1
)

func (s *Store) boot(db *pebble.DB) error {
	boots, found, err := getNumber(db, metaKey(metaBoot), 0)
	if err != nil {
		return fmt.Errorf("read boot counter: %w", err)
	}
	if boots >= maxBoots {
		return fmt.Errorf("boot counter %d is exhausted", boots)
	}
	_, clean, err := getNumber(db, metaKey(metaClean), 0)
	if err != nil {
		return fmt.Errorf("read mark of the last stop: %w", err)
	}
	s.orderly = clean || !found
	s.boots = boots + 1
	s.ids.Store(s.boots << idBits)

	b := db.NewBatch()
	if err := setNumber(b, metaKey(metaBoot), s.boots); err != nil {
		return err
	}
	if err := b.Delete(metaKey(metaClean), nil); err != nil {
		return err
	}
	if !clean {
		// What an earlier orderly stop recorded is not true any more, and must not
		// be believed after the next one.
		lower, upper := spaceBounds(spaceDelivered)
		if err := b.DeleteRange(lower, upper, nil); err != nil {
			return err
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	return b.Close()
}

func setNumber(b *pebble.Batch, key []byte, n uint64) error {
	return b.Set(key, sealNumber(key, n), nil)
}

// getNumber reads what setNumber wrote. queue only names the owner in an error.
func getNumber(db *pebble.DB, key []byte, queue uint64) (n uint64, found bool, err error) {
	value, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	n, err = unsealNumber(key, value, queue)
	return n, err == nil, errors.Join(err, closer.Close())
}
