// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
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
	formatVersion = 4 // with bodies that 3 cannot read
	oldestFormat  = 3 // it becomes formatVersion when it is opened
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

// restoreHint ends the errors about a data directory that is not whole.
const restoreHint = "restore it from a backup, or let lagomq ctl repair save what is left"

// foreignHint ends the errors about one that does not look like a store.
const foreignHint = "choose an empty directory, or, if this was a store, restore it from a backup"

// dataDir is a data directory that is locked.
type dataDir struct {
	lock   io.Closer
	format int
	state  state // how the last stop went
}

// openDataDir creates the data directory if need be, makes sure that it is empty
// or a store of this format, and locks it. A directory that is refused is left
// as it was found.
func openDataDir(fs vfs.FS, dir string) (d dataDir, err error) {
	if err := mkdirSynced(fs, dir); err != nil {
		return d, fmt.Errorf("create data directory %s: %w; name a directory that the broker may create", dir, plain(err))
	}
	if _, err := checkFormat(fs, dir); err != nil {
		return d, err
	}
	d.lock, err = fs.Lock(fs.PathJoin(dir, lockFile))
	if err != nil {
		if isHeld(err) {
			return d, fmt.Errorf("data directory %s is %w", dir, ErrInUse)
		}
		return d, fmt.Errorf("lock data directory %s: %w; the broker must be able to write there", dir, plain(err))
	}
	// Look again: it may have been created between the look and the lock.
	d.format, err = checkFormat(fs, dir)
	if err == nil && d.format == 0 {
		err = create(fs, dir)
	}
	if err == nil {
		d.state, err = checkState(fs, dir)
	}
	if err != nil {
		return d, errors.Join(err, d.lock.Close())
	}
	return d, nil
}

// create makes an empty directory a store. The format comes last: a directory
// without it is still to be created.
func create(fs vfs.FS, dir string) error {
	if err := writeState(fs, dir, state{kind: stateNew}); err != nil {
		return err
	}
	return writeFormat(fs, dir)
}

// checkState reads how the last stop of a store went, and makes sure that it
// has its database.
func checkState(fs vfs.FS, dir string) (state, error) {
	st, err := readState(fs, dir)
	if err != nil {
		return st, fmt.Errorf("data directory %s is %w: its %s file cannot be read: %w; %s", dir, ErrIncomplete, stateFile, err, restoreHint)
	}
	if st.kind == stateNew {
		return st, nil
	}
	if _, err := fs.Stat(fs.PathJoin(dir, databaseDir)); err != nil {
		return st, fmt.Errorf("data directory %s is %w: it has no readable %s directory: %w; %s", dir, ErrIncomplete, databaseDir, plain(err), restoreHint)
	}
	return st, nil
}

// plain leaves the path out of an error that is told with it anyway.
func plain(err error) error {
	if pathErr := (*iofs.PathError)(nil); errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

// writeFormat marks a directory as a store of this format.
func writeFormat(fs vfs.FS, dir string) error {
	if err := replaceFile(fs, dir, formatFile, formatTempFile, fmt.Sprintf(formatLine, formatVersion)); err != nil {
		return fmt.Errorf("write format of data directory %s: %w", dir, plain(err))
	}
	return nil
}

// refused explains why the database of a data directory cannot be opened.
func refused(dir string, err error) error {
	hint := restoreHint
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES) {
		hint = "the broker needs a disk that it can write to and that has room"
	}
	return fmt.Errorf("data directory %s cannot be opened: %w; %s", dir, oneLine{err}, hint)
}

// oneLine is an error of Pebble's, which may have a line for each missing file, one
// that says nothing below what is damaged, and a stack trace when it is formatted.
type oneLine struct{ error }

func (e oneLine) Error() string {
	text := strings.ReplaceAll(e.error.Error(), "\n<corruption detail carrier>", "")
	return strings.ReplaceAll(text, "\n", "; ")
}

func (e oneLine) Unwrap() error { return e.error }

// logError is the attribute of a log line that says what went wrong.
func logError(err error) slog.Attr { return slog.Any("error", oneLine{err}) }

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

// checkFormat returns the format of the store in dir, 0 if it is yet to be made one, or
// an error if it must not be touched.
func checkFormat(fs vfs.FS, dir string) (version int, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return 0, fmt.Errorf("list data directory %s: %w; it must be a directory that the broker may read", dir, plain(err))
	}
	if !slices.Contains(names, formatFile) {
		if i := slices.IndexFunc(names, isForeign); i >= 0 {
			return 0, fmt.Errorf("data directory %s is %w: it holds %q but no %s file; %s", dir, ErrForeign, names[i], formatFile, foreignHint)
		}
		return 0, nil
	}
	line, err := readStart(fs, fs.PathJoin(dir, formatFile))
	if err != nil {
		return 0, fmt.Errorf("read %s file of data directory %s: %w; %s", formatFile, dir, plain(err), foreignHint)
	}
	if _, err := fmt.Sscanf(line, formatLine, &version); err != nil || line != fmt.Sprintf(formatLine, version) {
		return 0, fmt.Errorf("data directory %s is %w: its %s file says %q; %s", dir, ErrForeign, formatFile, line, foreignHint)
	}
	if version < oldestFormat || version > formatVersion {
		return 0, fmt.Errorf("data directory %s is %w: it has format %d, and this version knows only %d to %d; start the version that made it",
			dir, ErrForeign, version, oldestFormat, formatVersion)
	}
	return version, nil
}

// isForeign reports whether a file of this name cannot be left over from a
// store whose creation was cut short, nor come with an empty file system.
func isForeign(name string) bool {
	switch name {
	case lockFile, formatTempFile, stateFile, stateTempFile, noteFile, noteTempFile, probeFile, "lost+found":
		return false
	}
	return !strings.HasPrefix(name, ".")
}

// readStart reads a small file, or the first bytes of one that should be small.
func readStart(fs vfs.FS, path string) (string, error) {
	f, err := fs.Open(path)
	if err != nil {
		return "", err
	}
	const most = 256
	text, err := io.ReadAll(io.LimitReader(f, most))
	return string(text), errors.Join(err, f.Close())
}
