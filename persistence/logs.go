// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// After a crash, Pebble takes what it cannot read in the log for a write that was
// cut short, unless what follows tells that it had been synced; but it counts too
// few bytes as synced where a sync covers whole blocks of the log. So each commit
// also writes into the log which commit was durable by then. A log that names one
// that the database does not have is damaged.
//
//	"lagomq durable " number(8) crc32c(4, over what is before)

const durableMark = "lagomq durable "

// appendDurable appends the mark that commit number n was durable.
func appendDurable(dst []byte, n uint64) []byte {
	begin := len(dst)
	dst = binary.BigEndian.AppendUint64(append(dst, durableMark...), n)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[begin:], castagnoli))
}

// checkCommits makes sure that a database holds all that it should after a crash,
// given what was in its tables, the number of the latest commit there, and the
// number of the latest one with the logs. A log that is missing, or was cut short
// or replaced, leaves a gap in the numbers, or makes them end too early.
func checkCommits(fs vfs.FS, dir string, st state, flushed, last uint64) error {
	durable, commits, err := readLogs(fs, fs.PathJoin(dir, databaseDir))
	if err != nil {
		return fmt.Errorf("read logs: %w", oneLine{err})
	}
	if st.noted {
		noted, err := readNote(fs, dir)
		if err != nil {
			return fmt.Errorf("it is %w: its %s file cannot be read: %w", ErrIncomplete, noteFile, err)
		}
		durable = max(durable, noted)
	}
	if last < durable {
		return fmt.Errorf("it is %w: commit %d was durable, and its database ends with %d, as its log is missing or damaged: commits %d to %d are lost",
			ErrIncomplete, durable, last, last+1, durable)
	}
	for n := flushed + 1; n <= last; n++ {
		at, found := slices.BinarySearch(commits, n)
		if !found {
			return fmt.Errorf("it is %w: its database goes on to commit %d and lacks commit %d, as a log is missing or damaged", ErrIncomplete, last, n)
		}
		for ; at+1 < len(commits) && commits[at+1] == n+1; at++ {
			n++
		}
	}
	return nil
}

// readLogs reads the logs of a database: the latest commit that they say was
// durable, and the numbers of the commits in them, ascending.
func readLogs(fs vfs.FS, database string) (durable uint64, commits []uint64, err error) {
	logs, err := wal.Scan(wal.Dir{FS: fs, Dirname: database})
	if err != nil {
		return 0, nil, err
	}
	for _, log := range logs {
		for i := range log.NumSegments() {
			fs, path := log.SegmentLocation(i)
			f, err := fs.Open(path)
			if err != nil {
				return 0, nil, err
			}
			content, err := io.ReadAll(f)
			if err = errors.Join(err, f.Close()); err != nil {
				return 0, nil, err
			}
			durable = max(durable, latestDurable(content))
		}
		if commits, err = appendCommits(commits, log); err != nil {
			return 0, nil, err
		}
	}
	slices.Sort(commits)
	return durable, slices.Compact(commits), nil
}

// appendCommits appends the numbers of a log's commits up to where it cannot be read,
// which is its end unless it is damaged.
func appendCommits(commits []uint64, log wal.LogicalLog) ([]uint64, error) {
	records := log.OpenForRead()
	var buffer bytes.Buffer
	for {
		r, _, err := records.NextRecord()
		if err == nil {
			buffer.Reset()
			_, err = buffer.ReadFrom(r)
		}
		if err != nil {
			return commits, records.Close()
		}
		if n, found := commitOf(buffer.Bytes()); found {
			commits = append(commits, n)
		}
	}
}

// commitOf is the number of the commit that a batch is.
func commitOf(repr []byte) (n uint64, found bool) {
	if len(repr) < batchHeaderLen {
		return 0, false
	}
	key := metaKey(metaCommit)
	for ops := batchrepr.Read(repr); ; {
		kind, k, value, ok, err := ops.Next()
		if !ok || err != nil {
			return n, found
		}
		if kind == pebble.InternalKeyKindSet && bytes.Equal(k, key) {
			if n, err = unsealNumber(key, value, 0); err != nil {
				return 0, false
			}
			found = true
		}
	}
}

// withoutLogs is a file system that shows a database without its logs.
type withoutLogs struct{ vfs.FS }

// List implements [vfs.FS].
func (fs withoutLogs) List(dir string) ([]string, error) {
	names, err := fs.FS.List(dir)
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, ".log") }), err
}

// latestDurable is the greatest number of the marks in a log. A mark that lies
// across two blocks of the log is not found.
func latestDurable(log []byte) (latest uint64) {
	const length = len(durableMark) + 8 + 4
	for {
		at := bytes.Index(log, []byte(durableMark))
		if at < 0 || len(log)-at < length {
			return latest
		}
		mark := log[at : at+length]
		log = log[at+len(durableMark):]
		n := binary.BigEndian.Uint64(mark[len(durableMark):])
		if bytes.Equal(mark, appendDurable(nil, n)) {
			latest = max(latest, n)
		}
	}
}
