// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guardFS is the file system the database is on. Once armed it never reports a
// failed write, sync or creation of what the database cannot do without: its
// log, its manifest, its directory. Pebble answers such errors with panics, some
// of them while it unlocks what is not locked, which nobody can recover from.
// Instead fail is called, and the goroutine that met the error stays in the
// file system for good.
//
// Tables are not guarded: Pebble tries again to write those, and until it
// succeeds their content is in the log.
type guardFS struct {
	vfs.FS
	armed atomic.Bool
	fail  func(error)
}

// Unwrap implements [vfs.FS].
func (g *guardFS) Unwrap() vfs.FS { return g.FS }

// check returns err, unless that would be the end of the process.
func (g *guardFS) check(operation, path string, err error) error {
	if err == nil || !g.armed.Load() {
		return err
	}
	g.fail(fmt.Errorf("%s %s: %w", operation, path, err))
	select {}
}

// Create implements [vfs.FS].
func (g *guardFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.Create(name, category)
	if isTable(name) {
		return f, err
	}
	return g.file(name, f), g.check("create", name, err)
}

// ReuseForWrite implements [vfs.FS].
func (g *guardFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.FS.ReuseForWrite(oldname, newname, category)
	return g.file(newname, f), g.check("reuse as", newname, err)
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
	return &guardFile{File: f, fs: g, name: name}
}

// isTable reports whether a file of the database holds a table or a table's
// values.
func isTable(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// guardFile is a file of a guardFS.
type guardFile struct {
	vfs.File
	fs   *guardFS
	name string
}

// Write implements [vfs.File].
func (f *guardFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	return n, f.fs.check("write", f.name, err)
}

// Sync implements [vfs.File].
func (f *guardFile) Sync() error {
	return f.fs.check("sync", f.name, f.File.Sync())
}

// SyncData implements [vfs.File].
func (f *guardFile) SyncData() error {
	return f.fs.check("sync", f.name, f.File.SyncData())
}

// SyncTo implements [vfs.File].
func (f *guardFile) SyncTo(length int64) (fullSync bool, err error) {
	fullSync, err = f.File.SyncTo(length)
	return fullSync, f.fs.check("sync", f.name, err)
}

// Stat implements [vfs.File].
func (f *guardFile) Stat() (vfs.FileInfo, error) {
	info, err := f.File.Stat()
	return info, f.fs.check("stat", f.name, err)
}

// Close implements [vfs.File].
func (f *guardFile) Close() error {
	return f.fs.check("close", f.name, f.File.Close())
}
