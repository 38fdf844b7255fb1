// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestDirectoryOfTheOperatingSystem(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := mustOpen(t, Options{Dir: dir})
	q := s.NewID()
	r := NewRun(text("body"))
	r.Share(q, 1, 1, 4)
	mustPropose(t, s, PutRun(r))
	mustClose(t, s)
	s = mustOpen(t, Options{Dir: dir})
	if got := directory(t, s, q); len(got) != 1 {
		t.Errorf("recovered %+v", got)
	}
}

func TestOneStoreADirectory(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"memory": {Dir: "data", FS: vfs.NewMem()},
		"disk":   {Dir: t.TempDir()},
	} {
		s := mustOpen(t, o)
		_, err := Open(quiet(o))
		want := fmt.Sprintf("data directory %s is in use by another lagomq process", o.Dir)
		if !errors.Is(err, ErrInUse) || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
		mustClose(t, s)
		mustClose(t, mustOpen(t, o))
	}
}

func TestForeignDirectoryIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		file, content, want string
	}{
		"newer":   {formatFile, "lagomq store 2\n", "format 2"},
		"garbage": {formatFile, "something else", "FORMAT"},
		"empty":   {formatFile, "", "FORMAT"},
		"foreign": {"mysql.ibd", "x", "mysql.ibd"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, tc.file), []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(quiet(Options{Dir: dir}))
		if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		names, err := vfs.Default.List(dir)
		if err != nil || !slices.Equal(names, []string{tc.file}) {
			t.Errorf("%s: directory now holds %v, %v", name, names, err)
		}
	}
}

func TestUnfinishedCreationIsTakenUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{lockFile, formatTempFile, "lost+found", ".hidden"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustOpen(t, Options{Dir: dir})
}

func TestOptionsListAllProblems(t *testing.T) {
	t.Parallel()
	_, err := Open(Options{MemTableSize: -1, CacheSize: -1, SettleDelay: -1, MaxPendingBytes: -1})
	for _, want := range []string{"data directory", "memtable", "cache", "settle delay", "pending bytes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %q", err, want)
		}
	}
}
