// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
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

// loggedDurable returns the latest commit that the logs of a data directory say
// was durable.
func loggedDurable(fs vfs.FS, dir string) (latest uint64, err error) {
	database := fs.PathJoin(dir, databaseDir)
	names, err := fs.List(database)
	if err != nil {
		return 0, plain(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		f, err := fs.Open(fs.PathJoin(database, name))
		if err != nil {
			return 0, err
		}
		log, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return 0, err
		}
		latest = max(latest, latestDurable(log))
	}
	return latest, nil
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
