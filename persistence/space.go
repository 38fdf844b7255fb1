// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// spaceState is what the housekeeper knows of the disk's space.
type spaceState struct {
	free    atomic.Int64 // bytes left on the disk, -1 if unknown
	low     atomic.Bool  // fewer than Options.Reserve, or not yet comfortably more
	written atomic.Int64 // bytes written since free was measured
	freed   atomic.Int64 // bytes of bodies deleted since the last compaction
}

const (
	// housekeepingInterval is how often the housekeeper looks around.
	housekeepingInterval = time.Second
	// idleAfter is how many looks without a commit make the store idle.
	idleAfter = 8
	// worthCompacting is how many deleted bytes make a compaction worth it.
	worthCompacting = 32 << 20
	// memTableSlots is how often an idle database is flushed. Pebble's queue of memtables
	// is a window that moves over an array, which goes on referring to what the window
	// has left until it is full: a memtable or a large batch for each slot. Each flush,
	// though there is nothing to write, moves it on by one.
	memTableSlots = 2 * maxMemTables
	// slowSync is how long a sync may take before operators are told.
	slowSync = time.Second
)

// housekeep looks after what no commit causes: the disk's free space, the memory
// and space that traffic has left behind, and a disk that hangs. It ends when the
// store is closed.
func (s *Store) housekeep() {
	ticker := time.NewTicker(housekeepingInterval)
	defer ticker.Stop()
	h := housekeeper{Store: s}
	for {
		select {
		case <-ticker.C:
			h.look()
		case <-s.measure:
			s.measureSpace()
		case <-s.life.Done():
			return
		}
	}
}

// housekeeper is the housekeeper's memory between two looks.
type housekeeper struct {
	*Store
	commits int64 // at the last look
	quiet   int   // looks in a row that saw no commit
	flushed int64 // commits there were when the store was last flushed
	slimmed bool  // since then its memtables are known to be small
	renewed bool  // since then the database was to be opened anew
	slow    bool  // operators know that the disk hangs
	spoken  int64 // syncs that were too slow and have been told
}

func (h *housekeeper) look() {
	h.measureSpace()
	h.watchSyncs()
	if h.Err() != nil {
		return
	}
	h.syncSettlements()
	commits := h.counters.commits.Load()
	if commits == h.commits {
		h.quiet++
	} else {
		h.quiet = 0
	}
	h.commits = commits
	if h.quiet >= idleAfter && h.flushed == commits && !h.slimmed {
		h.slim()
		return
	}
	idle := h.quiet >= idleAfter && h.flushed != commits
	crowded := h.space.low.Load() && h.space.freed.Load() >= worthCompacting
	if !idle && !crowded {
		return
	}
	h.flushed, h.slimmed = commits, false
	h.giveSparesUp()
	if err := h.giveBack(); err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, context.Canceled) {
		h.opts.Logger.Error("cannot give space back", logError(err))
	}
	if h.opts.Events.Idle != nil && idle {
		h.opts.Events.Idle()
	}
}

// syncSettlements syncs settlements that were committed without. Until then the database
// may have the end of them in this process only, and not even given it to the system.
// Runs among them are volatile and are not worth it.
func (s *Store) syncSettlements() {
	s.mu.Lock()
	settlements := slices.ContainsFunc(s.unsynced, func(f *flight) bool { return f.info.Runs == 0 })
	s.mu.Unlock()
	if settlements {
		s.Sync(nil)
	}
}

// giveBack writes out what is in memory and compacts away what was deleted.
func (s *Store) giveBack() error {
	g, err := s.beginRead()
	if err != nil {
		return err
	}
	defer s.endRead(g)
	return g.run(func() error {
		for range memTableSlots {
			if err := g.db.Flush(); err != nil {
				return fmt.Errorf("flush: %w", err)
			}
		}
		freed := s.space.freed.Load()
		if freed < worthCompacting {
			return nil
		}
		if err := g.db.Compact(s.life, []byte{0}, []byte{0xff}, false); err != nil {
			return fmt.Errorf("compact: %w", err)
		}
		s.space.freed.Add(-freed)
		return nil
	})
}

// measureSpace asks how much of the disk is free and raises or clears the alarm.
func (s *Store) measureSpace() {
	s.space.written.Store(0)
	usage, err := s.opts.FS.GetDiskUsage(s.opts.Dir)
	if err != nil {
		s.space.free.Store(-1)
		if !errors.Is(err, vfs.ErrUnsupported) {
			s.opts.Logger.Error("cannot find out how much space is left", logError(err))
		}
		return
	}
	free := int64(usage.AvailBytes)
	s.space.free.Store(free)
	was := s.space.low.Load()
	low := free < s.opts.Reserve
	if was && s.opts.Reserve > 0 { // it takes some more to be comfortable again
		low = free < s.opts.Reserve+s.opts.Reserve/8
	}
	if low == was {
		return
	}
	s.space.low.Store(low)
	if low {
		s.opts.Logger.Warn("disk is nearly full: publishers are held back",
			slog.Int64("free_bytes", free), slog.Int64("reserve_bytes", s.opts.Reserve))
	} else {
		s.opts.Logger.Info("disk has room again", slog.Int64("free_bytes", free))
	}
	if s.opts.Events.LowOnSpace != nil {
		s.opts.Events.LowOnSpace(low)
	}
}

// wrote counts what was written, and has the space measured again after a part
// of the reserve: at full speed a reserve is gone within a housekeeper's look.
func (s *Store) wrote(bytes int) {
	if s.opts.Reserve < 0 || s.space.written.Add(int64(bytes)) < s.opts.Reserve/4 {
		return
	}
	s.space.written.Store(0)
	select {
	case s.measure <- struct{}{}:
	default:
	}
}

// watchSyncs tells operators of a disk that takes its time.
func (h *housekeeper) watchSyncs() {
	if d := h.disk.syncingFor(); d >= slowSync {
		if !h.slow {
			h.slow = true
			h.opts.Logger.Warn("disk hangs: a sync is under way for long and confirms wait for it", slog.Duration("for", d))
		}
	} else if h.slow {
		h.slow = false
		h.opts.Logger.Info("disk goes on")
	}
	if n := h.disk.slow.Load(); n > h.spoken {
		h.opts.Logger.Warn("disk is slow: syncs took more than a second", slog.Int64("syncs", n-h.spoken),
			slog.Duration("longest", time.Duration(h.disk.longest.Swap(0))))
		h.spoken = n
	}
}
