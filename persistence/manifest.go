// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"
)

// The framing of a manifest: chunks of a checksum (4 bytes), a length (2) and a
// type (1), which do not cross the borders of blocks.
const (
	manifestBlock     = 32 << 10
	manifestHeaderLen = 4 + 2 + 1
)

// checkManifest makes sure that the list of the database's tables can be read to
// its end, but for a last record that a crash cut short. Pebble takes the first
// record that it cannot read for the end, and would open the database as it once
// was, without its newest tables. An orderly stop leaves the manifest's checksum
// behind, so this is for other stops.
func checkManifest(fs vfs.FS, dir string) error {
	dir = fs.PathJoin(dir, databaseDir)
	name, err := atomicfs.ReadMarker(fs, dir, "manifest")
	if errors.Is(err, iofs.ErrNotExist) || err == nil && name == "" {
		return nil // opening tells that there is no database
	}
	if err != nil {
		return err
	}
	f, err := fs.Open(fs.PathJoin(dir, name))
	if err != nil {
		return err
	}
	content, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	end, err := lastRecord(content)
	if err == nil || torn(content[end:], end) {
		return nil
	}
	return fmt.Errorf("%w: file %s at byte %d of %d: %w", ErrDamaged, name, end, len(content), err)
}

// lastRecord returns where the sound records of a manifest end, and what is wrong
// with what follows, nil if nothing follows.
func lastRecord(content []byte) (end int64, err error) {
	records := record.NewReader(bytes.NewReader(content), 0)
	for {
		end = records.Offset()
		r, err := records.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err != nil {
			return end, err
		}
	}
}

// torn reports whether the rest of a manifest, which begins at an offset, can be
// a record whose writing a crash cut short: nothing follows it, and its end is
// missing.
func torn(rest []byte, at int64) bool {
	left := manifestBlock - int(at%manifestBlock)
	if len(rest) > left { // a record of several blocks, or one that begins with the next
		rest = rest[left:]
	}
	if len(bytes.Trim(rest, "\x00")) == 0 || len(rest) < manifestHeaderLen {
		return true
	}
	length := manifestHeaderLen + int(rest[4]) + int(rest[5])<<8
	return length > len(rest) || length == len(rest) && rest[length-1] == 0
}
