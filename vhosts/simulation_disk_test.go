// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// syncPoints is a file system that lets the power fail around its syncs: a sync
// is the moment from which on something must be there, so just before and just
// after it is where a mistake shows.
type syncPoints struct {
	vfs.FS

	mu      sync.Mutex
	rng     *rand.Rand
	percent int                  // of the syncs are such moments
	slow    int                  // how often others may go on, at most, while a sync lasts
	crash   func(rng *rand.Rand) // called, with mu held, when the power fails
	deaf    string               // files whose names end like this are not synced: a disk that lies
}

// Unwrap implements [vfs.FS].
func (s *syncPoints) Unwrap() vfs.FS { return s.FS }

// Create implements [vfs.FS].
func (s *syncPoints) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return s.wrap(name)(s.FS.Create(name, category))
}

// ReuseForWrite implements [vfs.FS].
func (s *syncPoints) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return s.wrap(newname)(s.FS.ReuseForWrite(oldname, newname, category))
}

// OpenReadWrite implements [vfs.FS].
func (s *syncPoints) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return s.wrap(name)(s.FS.OpenReadWrite(name, category, opts...))
}

// OpenDir implements [vfs.FS].
func (s *syncPoints) OpenDir(name string) (vfs.File, error) {
	return s.wrap(name)(s.FS.OpenDir(name))
}

func (s *syncPoints) wrap(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		return &syncPoint{File: f, fs: s, name: name}, nil
	}
}

// arm sets at which share of the syncs the power fails, and how slow they are.
func (s *syncPoints) arm(percent, slow int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.percent, s.slow = percent, slow
}

// deafTo makes the disk a liar: files whose names end so are not synced any more.
func (s *syncPoints) deafTo(suffix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = suffix
}

// around runs a sync, and lets the power fail before or after it, or not.
func (s *syncPoints) around(name string, sync func() error) error {
	s.mu.Lock()
	strikes, before := s.rng.IntN(100) < s.percent, s.rng.IntN(2) == 0
	yields := s.rng.IntN(s.slow + 1)
	deaf := s.deaf != "" && strings.HasSuffix(name, s.deaf)
	if strikes && before {
		s.crash(s.rng)
	}
	s.mu.Unlock()
	for range yields {
		runtime.Gosched()
	}
	var err error
	if !deaf {
		err = sync()
	}
	if strikes && !before {
		s.mu.Lock()
		s.crash(s.rng)
		s.mu.Unlock()
	}
	return err
}

// syncPoint is a file of a syncPoints.
type syncPoint struct {
	vfs.File
	fs   *syncPoints
	name string
}

// Sync implements [vfs.File].
func (f *syncPoint) Sync() error { return f.fs.around(f.name, f.File.Sync) }

// SyncData implements [vfs.File].
func (f *syncPoint) SyncData() error { return f.fs.around(f.name, f.File.SyncData) }

// SyncTo implements [vfs.File].
func (f *syncPoint) SyncTo(length int64) (fullSync bool, err error) {
	err = f.fs.around(f.name, func() (err error) {
		fullSync, err = f.File.SyncTo(length)
		return err
	})
	return fullSync, err
}

// errorLog is a log handler that keeps the errors, of which a broker on a sound
// disk has none to report.
type errorLog struct {
	mu       sync.Mutex
	lines    []string
	reported chan struct{} // closed with the first
}

func newErrorLog() *errorLog { return &errorLog{reported: make(chan struct{})} }

// Enabled implements [slog.Handler].
func (l *errorLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

// Handle implements [slog.Handler].
func (l *errorLog) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	if len(l.lines) == 1 {
		close(l.reported)
	}
	return nil
}

// WithAttrs implements [slog.Handler].
func (l *errorLog) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements [slog.Handler].
func (l *errorLog) WithGroup(string) slog.Handler { return l }

func (l *errorLog) errors() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}
