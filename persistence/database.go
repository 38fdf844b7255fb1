// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
)

// databaseFormat is Pebble's own format. It is raised knowingly, because an
// older Pebble cannot open a database once it has been raised.
const databaseFormat = pebble.FormatValueSeparation

// maxMemTables is how many memtables may wait to be flushed before writes do.
const maxMemTables = 4

// databaseOptions returns the settings of the database. What shapes them: many
// bodies are deleted before their memtable is full and never reach a table;
// the rest is written once, read once or never, and deleted once.
func (s *Store) databaseOptions(g *generation) *pebble.Options {
	o := &pebble.Options{
		FS:                          g.fs,
		FormatMajorVersion:          databaseFormat,
		Logger:                      &databaseLogger{s.opts.Logger, g},
		MemTableSize:                uint64(s.opts.MemTableSize),
		MemTableStopWritesThreshold: maxMemTables,
		CacheSize:                   s.opts.CacheSize,
		MaxManifestFileSize:         1 << 20, // it is read at each start
		LBaseMaxBytes:               max(s.opts.MemTableSize, 64<<20),
		// Tables of level 0 are wide, as a memtable spans all key spaces: begin
		// to compact early. Compactions that fail on a damaged table do not stop
		// traffic.
		L0CompactionThreshold:      2,
		L0StopWritesThreshold:      1000,
		CompactionConcurrencyRange: func() (lower, upper int) { return 1, 2 },
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { s.backgroundError(g, err) },
			// Reads report damage to their callers; the default would be fatal.
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				if _, told := g.damaged.LoadOrStore(info.Path, true); !told {
					s.opts.Logger.Error("database file damaged", slog.String("path", info.Path), logError(info.Details))
				}
			},
			WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
				g.stalled.Store(true)
				s.opts.Logger.Warn("database writes stalled", slog.String("reason", info.Reason))
			},
			WriteStallEnd: func() {
				g.stalled.Store(false)
				s.opts.Logger.Info("database writes resumed")
			},
		},
	}
	o.Experimental.ValueSeparationPolicy = separateValues
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	return o
}

// backgroundError reports that a flush or compaction failed. Traffic goes on,
// and Pebble tries again at once, so not every time is worth a line. But once
// writes wait for a disk that takes no tables, nothing is stored any more, and the
// disk has failed.
func (s *Store) backgroundError(g *generation, err error) {
	waits := g.stalled.Load() || s.life.Err() != nil || s.renewing(g) // a stop and a renewal flush too
	if waits && !pebble.IsCorruptionError(err) && !errors.Is(err, ErrDamaged) {
		s.generationFailed(g, fmt.Errorf("flush or compact: %w", err))
	}
	if n := s.counters.backgroundErrors.Add(1); n&(n-1) == 0 {
		s.opts.Logger.Error("database cannot be flushed or compacted, and tries again", logError(err), slog.Int64("times", n))
	}
}

// databaseLogger is the logger of one generation of the database.
type databaseLogger struct {
	log *slog.Logger
	gen *generation
}

// Infof implements [pebble.Logger].
func (l *databaseLogger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("database", slog.String("message", fmt.Sprintf(format, args...)))
	}
}

// Errorf implements [pebble.Logger].
func (l *databaseLogger) Errorf(format string, args ...any) {
	l.log.Error("database", slog.String("message", fmt.Sprintf(format, args...)))
}

// Fatalf implements [pebble.Logger]. Pebble calls it when it cannot go on, and
// relies on it not to return; by default the process exits. Here the generation
// has failed and the calling goroutine stays here for good, with whatever locks
// of Pebble's it holds. What the disk fails to do is noticed before: see guardFS.
func (l *databaseLogger) Fatalf(format string, args ...any) {
	l.gen.fs.fail(fmt.Errorf(format, args...))
	select {}
}

// Ids are made of the boot counter and a counter that starts anew with it.
const (
	idBits   = 40
	maxBoots = 1<<(64-idBits) - 1
)

// boot raises the boot counter and deletes what belonged to the boot before.
func (s *Store) boot(db *pebble.DB, boots uint64) error {
	if boots >= maxBoots {
		return fmt.Errorf("boot counter %d is exhausted", boots)
	}
	s.boots = boots + 1
	s.ids.Store(s.boots << idBits)

	b := db.NewBatch()
	if err := setNumber(b, metaKey(metaBoot), s.boots); err != nil {
		return err
	}
	// The boot before had its own.
	if err := errors.Join(deleteSpace(b, spaceVolatileDirectory), deleteSpace(b, spaceVolatileBody)); err != nil {
		return err
	}
	if !s.orderly {
		// What an earlier orderly stop recorded is not true any more, and must not
		// be believed after the next one.
		if err := deleteSpace(b, spaceDelivered); err != nil {
			return err
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	return b.Close()
}

func deleteSpace(b *pebble.Batch, space byte) error {
	lower, upper := spaceBounds(space)
	return b.DeleteRange(lower, upper, nil)
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
