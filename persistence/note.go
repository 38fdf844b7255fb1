// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"hash/crc32"
	iofs "io/fs"
	"strconv"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The DURABLE file says, outside the database, which commit was the latest one
// known to be durable. After a crash a database that ends before it has lost its
// newest log, or a part of it, and opens without a complaint. The file is written
// in place after each sync and not synced itself, so that a power failure may
// leave an older number, which is still true. There are two lines of one length,
// written in turn, so that one of them is whole.
//
//	durable commit 00000000000000001234 crc32c 89abcdef

const (
	noteFile     = "DURABLE"
	noteTempFile = "DURABLE.tmp"

	noteText    = "durable commit "
	noteSumText = " crc32c "
	noteDigits  = 20
	noteLen     = len(noteText) + noteDigits + len(noteSumText) + 8 + len("\n")
)

// note is the open DURABLE file. It is used by one goroutine at a time.
type note struct {
	file   vfs.File
	line   []byte // scratch
	second bool   // which line is written next
}

func appendNoteLine(dst []byte, commit uint64) []byte {
	begin := len(dst)
	dst = appendPadded(append(dst, noteText...), commit, 10, noteDigits)
	sum := crc32.Checksum(dst[begin:], castagnoli)
	return append(appendPadded(append(dst, noteSumText...), uint64(sum), 16, 8), '\n')
}

// appendPadded appends a number with zeros before it: fmt would allocate, at each
// commit.
func appendPadded(dst []byte, n uint64, base, width int) []byte {
	var digits [64]byte
	text := strconv.AppendUint(digits[:0], n, base)
	for range width - len(text) {
		dst = append(dst, '0')
	}
	return append(dst, text...)
}

// createNote writes the file anew, durably.
func createNote(fs vfs.FS, dir string, commit uint64) error {
	lines := appendNoteLine(appendNoteLine(nil, commit), commit)
	if err := replaceFile(fs, dir, noteFile, noteTempFile, string(lines)); err != nil {
		return fmt.Errorf("write %s file of data directory %s: %w", noteFile, dir, plain(err))
	}
	return nil
}

// ensureNote makes sure that there is a file, which says nothing that is not true of
// a database that ends with a commit.
func ensureNote(fs vfs.FS, dir string, commit uint64) error {
	if noted, err := readNote(fs, dir); err == nil && noted <= commit {
		return nil
	}
	return createNote(fs, dir, commit)
}

// openNote opens the file, which must exist, to be written.
func openNote(fs vfs.FS, dir string) (*note, error) {
	f, err := fs.OpenReadWrite(fs.PathJoin(dir, noteFile), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("open %s file of data directory %s: %w", noteFile, dir, plain(err))
	}
	return &note{file: f}, nil
}

// write notes that a commit is durable.
func (n *note) write(commit uint64) error {
	n.line = appendNoteLine(n.line[:0], commit)
	at := int64(0)
	if n.second {
		at = int64(noteLen)
	}
	n.second = !n.second
	_, err := n.file.WriteAt(n.line, at)
	return err
}

func (n *note) close() error { return n.file.Close() }

// readNote reads which commit was durable.
func readNote(fs vfs.FS, dir string) (latest uint64, err error) {
	text, err := readStart(fs, fs.PathJoin(dir, noteFile))
	if errors.Is(err, iofs.ErrNotExist) {
		return 0, errors.New("it is missing")
	}
	if err != nil {
		return 0, plain(err)
	}
	found := false
	for ; len(text) >= noteLen; text = text[noteLen:] {
		line := text[:noteLen]
		commit, err := strconv.ParseUint(line[len(noteText):][:noteDigits], 10, 64)
		if err == nil && line == string(appendNoteLine(nil, commit)) {
			latest, found = max(latest, commit), true
		}
	}
	if !found {
		return 0, errors.New("its checksums do not match")
	}
	return latest, nil
}
