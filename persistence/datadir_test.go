// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestDirectoryOfTheOperatingSystem(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := mustOpen(t, Options{Dir: dir})
	put(t, s, s.NewID(), 1, "body")
	if st := s.Stats(); st.FreeBytes <= 0 {
		t.Errorf("%d bytes free", st.FreeBytes)
	}
	mustClose(t, s)
	s = mustOpen(t, Options{Dir: dir})
	if got := recovered(t, s); len(got) != 1 {
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

// files returns the content of all files below dir, the lock file excepted.
func files(t *testing.T, fs vfs.FS, dir string) map[string]string {
	t.Helper()
	content := make(map[string]string)
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case info.IsDir():
			content[path] = "directory"
			maps.Copy(content, files(t, fs, path))
		case name != lockFile:
			content[path] = readFile(t, fs, path)
		}
	}
	return content
}

func readFile(t *testing.T, fs vfs.FS, path string) string {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func writeFile(t *testing.T, fs vfs.FS, path, content string) {
	t.Helper()
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.WriteString(f, content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestDirectoryIsRefusedUntouched spoils data directories of orderly stops. Each
// is refused by one line that says what is wrong and what to do, and left as it
// is.
func TestDirectoryIsRefusedUntouched(t *testing.T) {
	t.Parallel()
	path := func(name string) string { return "data/" + name }
	write := func(name, content string) func(*testing.T, *vfs.MemFS) {
		return func(t *testing.T, fs *vfs.MemFS) { writeFile(t, fs, path(name), content) }
	}
	remove := func(matches func(string) bool) func(*testing.T, *vfs.MemFS) {
		return func(t *testing.T, fs *vfs.MemFS) {
			removed := 0
			for name, content := range files(t, fs, "data") {
				if content != "directory" && matches(name) {
					removed++
					if err := fs.Remove(name); err != nil {
						t.Fatal(err)
					}
				}
			}
			if removed == 0 {
				t.Fatal("nothing to remove")
			}
		}
	}
	named := func(part string) func(string) bool {
		return func(name string) bool { return strings.Contains(name, part) }
	}
	for name, tc := range map[string]struct {
		spoil func(*testing.T, *vfs.MemFS)
		want  error
		says  []string
	}{
		"newer format":   {write(formatFile, "lagomq store 5\n"), ErrForeign, []string{"format 5", "start the version that made it"}},
		"older format":   {write(formatFile, "lagomq store 2\n"), ErrForeign, []string{"format 2", "start the version that made it"}},
		"garbled format": {write(formatFile, "something\nelse"), ErrForeign, []string{formatFile, foreignHint}},
		"empty format":   {write(formatFile, ""), ErrForeign, []string{formatFile, foreignHint}},
		"format missing": {remove(named(formatFile)), ErrForeign, []string{`"pebble" but no FORMAT file`, "choose an empty directory"}},
		"state missing":  {remove(named(stateFile)), ErrIncomplete, []string{"STATE", "missing", restoreHint}},
		"state garbled":  {write(stateFile, "lagomq state 1\nrunning\ncrc32c 00000000\n"), ErrIncomplete, []string{"STATE", restoreHint}},
		"state empty":    {write(stateFile, ""), ErrIncomplete, []string{"STATE", restoreHint}},
		"state of another": {func(t *testing.T, fs *vfs.MemFS) {
			st, err := readState(fs, "data")
			if err != nil {
				t.Fatal(err)
			}
			st.commit = 999
			writeFile(t, fs, path(stateFile), st.String())
		}, ErrIncomplete, []string{"commit 999", restoreHint}},
		"table missing":    {remove(suffix(".sst")), nil, []string{restoreHint}},
		"manifest missing": {remove(named("/MANIFEST")), ErrIncomplete, []string{restoreHint}},
		"marker missing":   {remove(named("marker.manifest")), nil, []string{restoreHint}},
		"database emptied": {remove(named(databaseDir + "/")), nil, []string{restoreHint}},
		"database missing": {func(t *testing.T, fs *vfs.MemFS) { removeAll(t, fs, path(databaseDir)) }, ErrIncomplete, []string{databaseDir, restoreHint}},
		"a file of another": {func(t *testing.T, fs *vfs.MemFS) {
			removeAll(t, fs, "data")
			mkdir(t, fs, "data")
			writeFile(t, fs, path("mysql.ibd"), "x")
		}, ErrForeign, []string{"mysql.ibd", "choose an empty directory"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fs := vfs.NewMem()
			s := mustOpen(t, Options{FS: fs})
			for i := range uint64(20) {
				put(t, s, s.NewID(), i, strings.Repeat("x", 50<<10))
			}
			mustClose(t, s)
			tc.spoil(t, fs)
			before := files(t, fs, "data")
			_, err := Open(quiet(Options{FS: fs}))
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), "data directory data ") {
				t.Fatalf("Open: %v", err)
			}
			for _, part := range tc.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than a line", err)
			}
			t.Log(err)
			if after := files(t, fs, "data"); !maps.Equal(before, after) {
				t.Errorf("the directory was changed: %d files, then %d", len(before), len(after))
			}
		})
	}
}

func removeAll(t *testing.T, fs vfs.FS, path string) {
	t.Helper()
	if err := fs.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, fs vfs.FS, path string) {
	t.Helper()
	if err := fs.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryIsAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{path, filepath.Join(path, "below")} {
		_, err := Open(quiet(Options{Dir: dir}))
		if err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "not a directory") || strings.Contains(err.Error(), "\n") {
			t.Errorf("Open: %v", err)
		}
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "precious" {
		t.Errorf("the file holds %q, %v", content, err)
	}
}

func TestDirectoryMustBeWritable(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may write anywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	_, err := Open(quiet(Options{Dir: dir}))
	if err == nil || !strings.Contains(err.Error(), "must be able to write there") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Open: %v", err)
	}
}

// TestOlderFormatIsRaised opens a store of the format before, for good and for
// inspection only.
func TestOlderFormatIsRaised(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	put(t, s, s.NewID(), 1, "body")
	mustClose(t, s)
	if err := replaceFile(fs, "data", formatFile, formatTempFile, fmt.Sprintf(formatLine, oldestFormat)); err != nil {
		t.Fatal(err)
	}
	in, err := OpenInspection(fs, "data")
	if err != nil {
		t.Fatal(err)
	}
	if got := in.Summary().Format; got != oldestFormat {
		t.Errorf("inspection tells format %d", got)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := checkFormat(fs, "data"); got != oldestFormat || err != nil {
		t.Errorf("format %d after an inspection, %v", got, err)
	}
	s = mustOpen(t, Options{FS: fs})
	if runs := recovered(t, s); len(runs) != 1 {
		t.Errorf("%d runs", len(runs))
	}
	if got, err := checkFormat(fs, "data"); got != formatVersion || err != nil {
		t.Errorf("format %d once the store is open, %v", got, err)
	}
}

func TestUnfinishedCreationIsTakenUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{lockFile, formatTempFile, stateFile, stateTempFile, probeFile, "lost+found", ".hidden"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustOpen(t, Options{Dir: dir})
}

func TestOptionsListAllProblems(t *testing.T) {
	t.Parallel()
	_, err := Open(Options{MemTableSize: -1, CacheSize: -1, SettleDelay: -1, MaxPendingBytes: -1, Reserve: -1, RetryDelay: -1})
	for _, want := range []string{"data directory", "memtable", "cache", "settle delay", "pending bytes", "retry delay"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %q", err, want)
		}
	}
}
