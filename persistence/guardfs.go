// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardFS is the file system one generation of the database is on. It never
// reports a failed write, sync or creation of what the database cannot do
// without: its log, its manifest, its directory. Pebble answers such errors with
// panics, some of them on goroutines of its own or while it unlocks what is not
// locked, which nobody can recover from. Instead fail is called, and the
// goroutine that met the error stays in the file system for good.
//
// Tables are not guarded so: Pebble tries again to write those, and until it
// succeeds their content is in the log. The values it writes apart from them are,
// as it panics when it gives one up. Nor is what lies elsewhere guarded: backups.
//
// After cut nothing of this generation changes anything on disk any more, so
// that another one can take over the files: whoever tries stays here as well.
type guardFS struct {
	vfs.FS
	dir  string // the database's directory
	fail func(error)
	disk *diskTimes

	absent []string // blob files that are shown though they are not there, see absentBlobs

	// changing is held for reading while something on disk is being changed.
	changing sync.RWMutex
	isCut    bool
}

func newGuardFS(fs vfs.FS, dir string, disk *diskTimes, fail func(error)) *guardFS {
	return &guardFS{FS: fs, dir: dir, disk: disk, fail: fail}
}

// cut takes effect when it returns, which is after every change that is under
// way has come to its end.
func (g *guardFS) cut() {
	g.changing.Lock()
	g.isCut = true
	g.changing.Unlock()
}

// change runs f, which changes something on disk, or never returns.
func (g *guardFS) change(f func()) {
	g.changing.RLock()
	if g.isCut {
		g.changing.RUnlock()
		select {}
	}
	defer g.changing.RUnlock()
	f()
}

// check returns err, unless that would be the end of the process.
func (g *guardFS) check(operation, path string, err error) error {
	if err == nil || isTable(path) || path != g.dir && g.PathDir(path) != g.dir {
		return err
	}
	g.fail(fmt.Errorf("%s %s: %w", operation, path, err))
	select {}
}

// Unwrap implements [vfs.FS].
func (g *guardFS) Unwrap() vfs.FS { return g.FS }

// Lock implements [vfs.FS]. The data directory is locked as a whole, and a
// generation that is given up never unlocks anything.
func (g *guardFS) Lock(string) (io.Closer, error) { return unlocked{}, nil }

type unlocked struct{}

func (unlocked) Close() error { return nil }

// syncNames makes durable which files the database's directory has. Pebble syncs the
// content of a manifest but not its directory before it creates the marker that names
// it, nor before it removes the marker before that: without this a failure of the
// power may leave a marker without its manifest, or none at all.
func (g *guardFS) syncNames() error {
	dir, err := g.OpenDir(g.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Create implements [vfs.FS].
func (g *guardFS) Create(name string, category vfs.DiskWriteCategory) (f vfs.File, err error) {
	if isMarker(g.PathBase(name)) {
		if err := g.syncNames(); err != nil {
			return nil, err
		}
	}
	g.change(func() { f, err = g.FS.Create(name, category) })
	return g.file(name, f), g.check("create", name, err)
}

// ReuseForWrite implements [vfs.FS].
func (g *guardFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (f vfs.File, err error) {
	g.change(func() { f, err = g.FS.ReuseForWrite(oldname, newname, category) })
	return g.file(newname, f), g.check("reuse as", newname, err)
}

// Link implements [vfs.FS].
func (g *guardFS) Link(oldname, newname string) (err error) {
	g.change(func() { err = g.FS.Link(oldname, newname) })
	return err
}

// Remove implements [vfs.FS].
func (g *guardFS) Remove(name string) (err error) {
	if isMarker(g.PathBase(name)) {
		if err := g.syncNames(); err != nil {
			return err
		}
	}
	g.change(func() { err = g.FS.Remove(name) })
	return err
}

// RemoveAll implements [vfs.FS].
func (g *guardFS) RemoveAll(name string) (err error) {
	g.change(func() { err = g.FS.RemoveAll(name) })
	return err
}

// List implements [vfs.FS]. See Rename; a directory that is missing is no failure.
func (g *guardFS) List(dir string) (names []string, err error) {
	if names, err = g.FS.List(dir); errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if dir == g.dir {
		names = append(names, g.absent...)
	}
	return names, g.check("list", dir, err)
}

// Rename implements [vfs.FS]. Pebble renames a file, and lists the directory, as the
// last things it does to open a database. When it opens none because one of them
// fails, it takes away what a compaction is at work with, which ends the process.
func (g *guardFS) Rename(oldname, newname string) (err error) {
	g.change(func() { err = g.FS.Rename(oldname, newname) })
	return g.check("rename", newname, err)
}

// OpenDir implements [vfs.FS].
func (g *guardFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	return g.file(name, f), g.check("open", name, err)
}

func (g *guardFS) file(name string, f vfs.File) vfs.File {
	if f == nil {
		return nil
	}
	return &guardFile{File: f, fs: g, name: name, log: strings.HasSuffix(name, ".log")}
}

// isMarker reports whether a file of the database is a marker, whose name says which
// manifest, or which format, is the current one.
func isMarker(base string) bool { return strings.HasPrefix(base, "marker.") }

// isTable reports whether a file of the database is a table.
func isTable(name string) bool { return strings.HasSuffix(name, ".sst") }

// guardFile is a file of a guardFS that was created or is a directory.
type guardFile struct {
	vfs.File
	fs   *guardFS
	name string
	log  bool
}

// change runs f, which changes something on disk.
func (f *guardFile) change(operation string, do func() error) (err error) {
	f.fs.change(func() { err = do() })
	return f.fs.check(operation, f.name, err)
}

// sync is change for a sync, and takes its time.
func (f *guardFile) sync(do func() error) error {
	if !f.log {
		return f.change("sync", do)
	}
	return f.change("sync", func() error {
		f.fs.disk.begin()
		begin := time.Now()
		defer func() { f.fs.disk.end(time.Since(begin)) }()
		return do()
	})
}

// Write implements [vfs.File].
func (f *guardFile) Write(p []byte) (n int, err error) {
	err = f.change("write", func() error { n, err = f.File.Write(p); return err })
	return n, err
}

// WriteAt implements [vfs.File].
func (f *guardFile) WriteAt(p []byte, offset int64) (n int, err error) {
	err = f.change("write", func() error { n, err = f.File.WriteAt(p, offset); return err })
	return n, err
}

// Preallocate implements [vfs.File]. Pebble does without if it fails.
func (f *guardFile) Preallocate(offset, length int64) (err error) {
	f.fs.change(func() { err = f.File.Preallocate(offset, length) })
	return err
}

// Sync implements [vfs.File].
func (f *guardFile) Sync() error { return f.sync(f.File.Sync) }

// SyncData implements [vfs.File].
func (f *guardFile) SyncData() error { return f.sync(f.File.SyncData) }

// SyncTo implements [vfs.File].
func (f *guardFile) SyncTo(length int64) (fullSync bool, err error) {
	err = f.change("sync", func() error { fullSync, err = f.File.SyncTo(length); return err })
	return fullSync, err
}

// Stat implements [vfs.File].
func (f *guardFile) Stat() (vfs.FileInfo, error) {
	info, err := f.File.Stat()
	return info, f.fs.check("stat", f.name, err)
}

// Close implements [vfs.File].
func (f *guardFile) Close() error { return f.change("close", f.File.Close) }
