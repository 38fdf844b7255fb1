// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What a data directory holds.
const (
	lockFile       = "LOCK"       // locked while a process uses the directory
	formatFile     = "FORMAT"     // says what the rest is, in one line
	formatTempFile = "FORMAT.tmp" // becomes formatFile
	databaseDir    = "pebble"     // the database
)

const (
	formatVersion = 1
	formatLine    = "lagomq store %d\n"
)

var (
	// ErrInUse is returned by [Open] while another process, or another store
	// of this one, has the data directory open.
	ErrInUse = errors.New("in use by another lagomq process")
	// ErrForeign is returned by [Open] for a directory that holds something
	// else than a store, or a store of a version it does not know.
	ErrForeign = errors.New("not a store this version of lagomq can use")
)

// openDataDir creates the data directory if need be, makes sure that it is a
// store of this format, and locks it. A directory that is refused is left as
// it was found.
func openDataDir(fs vfs.FS, dir string) (lock io.Closer, err error) {
	if err := mkdirSynced(fs, dir); err != nil {
		return nil, fmt.Errorf("create data directory %s: %w", dir, err)
	}
	if _, err := checkFormat(fs, dir); err != nil {
		return nil, err
	}
	lock, err = fs.Lock(fs.PathJoin(dir, lockFile))
	if err != nil {
		if isHeld(err) {
			return nil, fmt.Errorf("data directory %s is %w", dir, ErrInUse)
		}
		return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
	}
	// Look again: it may have been created between the look and the lock.
	fresh, err := checkFormat(fs, dir)
	if err == nil && fresh {
		err = writeFormat(fs, dir)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// isHeld reports whether a lock could not be had because another holds it. The
// system then says so by a bare error number, while trouble with the file comes
// with its path; within one process Pebble only has a text for it.
func isHeld(err error) bool {
	if pathErr := (*iofs.PathError)(nil); errors.As(err, &pathErr) {
		return false
	}
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) ||
		strings.Contains(err.Error(), "lock held by current process")
}

// mkdirSynced creates dir and what is missing above it, durably.
func mkdirSynced(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	}
	parent := fs.PathDir(dir)
	if parent != dir {
		if err := mkdirSynced(fs, parent); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fs, parent)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkFormat reports whether dir is yet to be made a store, or an error if it
// must not be touched.
func checkFormat(fs vfs.FS, dir string) (fresh bool, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return false, fmt.Errorf("list data directory %s: %w", dir, err)
	}
	if !slices.Contains(names, formatFile) {
		if i := slices.IndexFunc(names, isForeign); i >= 0 {
			return false, fmt.Errorf("data directory %s is %w: it holds %q but no %s file", dir, ErrForeign, names[i], formatFile)
		}
		return true, nil
	}
	line, err := readFormat(fs, fs.PathJoin(dir, formatFile))
	if err != nil {
		return false, fmt.Errorf("read format of data directory %s: %w", dir, err)
	}
	var version int
	if _, err := fmt.Sscanf(line, formatLine, &version); err != nil || version < 1 {
		return false, fmt.Errorf("data directory %s is %w: its %s file says %q", dir, ErrForeign, formatFile, line)
	}
	if version > formatVersion {
		return false, fmt.Errorf("data directory %s is %w: it has format %d, and this version knows formats up to %d", dir, ErrForeign, version, formatVersion)
	}
	return false, nil
}

// isForeign reports whether a file of this name cannot be left over from a
// store whose creation was cut short, nor come with an empty file system.
func isForeign(name string) bool {
	switch name {
	case lockFile, formatTempFile, "lost+found":
		return false
	}
	return !strings.HasPrefix(name, ".")
}

func readFormat(fs vfs.FS, path string) (string, error) {
	f, err := fs.Open(path)
	if err != nil {
		return "", err
	}
	const most = 64
	line, err := io.ReadAll(io.LimitReader(f, most))
	return string(line), errors.Join(err, f.Close())
}

// writeFormat makes an empty directory a store.
func writeFormat(fs vfs.FS, dir string) error {
	temp := fs.PathJoin(dir, formatTempFile)
	f, err := fs.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write format of data directory %s: %w", dir, err)
	}
	_, err = fmt.Fprintf(f, formatLine, formatVersion)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fs.Rename(temp, fs.PathJoin(dir, formatFile))
	}
	if err == nil {
		err = syncDir(fs, dir)
	}
	if err != nil {
		return fmt.Errorf("write format of data directory %s: %w", dir, err)
	}
	return nil
}
