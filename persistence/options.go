// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options configures a [Store]. The zero value of a field stands for its
// default, except for Dir.
type Options struct {
	// Dir is the data directory. It is created if it does not exist. Required.
	Dir string
	// FS is the file system Dir is on: nil is the operating system's, and
	// vfs.NewMem() makes a store that lives in memory.
	FS vfs.FS
	// MemTableSize is the size in bytes to which Pebble's table of recent writes
	// grows. What is settled before its table is full is never written a second
	// time. Up to this much memory and five times as much disk are kept for the
	// next burst of traffic. Default 16 MiB.
	MemTableSize int64
	// CacheSize is the size in bytes of Pebble's block cache. Default 8 MiB:
	// bodies are read once, so there is little to be gained from more.
	CacheSize int64
	// SettleDelay is how long a settlement may wait for a commit to ride in
	// before it is committed by itself, without a sync. Default 100 ms.
	SettleDelay time.Duration
	// FleetingDelay is how long runs whose messages are expected to be settled at once
	// wait for that before they are written, see [Run.Fleeting]; or as long as commits
	// took lately if that is longer, up to 10 ms; some wait for twice as long. Default 2 ms.
	FleetingDelay time.Duration
	// MaxPendingBytes is how many bytes may be on their way to the disk before
	// [Store.Throttle] holds publishers back. Default 64 MiB.
	MaxPendingBytes int64
	// Reserve is how many bytes of the disk are left free: with fewer, publishers
	// are to be held back. Negative for none. Default 256 MiB.
	Reserve int64
	// RetryDelay is how long the store waits after a failure before it looks
	// whether the disk works again; each further wait is twice as long, up to 5 s.
	// Default 250 ms.
	RetryDelay time.Duration
	// Logger takes the store's own messages, and Pebble's at debug level.
	// Default slog.Default().
	Logger *slog.Logger
	// Events are called back as things happen.
	Events Events
}

// Events are optional callbacks, called without any lock held. They must not
// block.
type Events struct {
	// Committed is called for each commit, after its waiters have been told.
	Committed func(CommitInfo)
	// Failed is called when the store goes out of service, with what [Store.Err]
	// returns, and Recovered when it is in service again.
	Failed    func(error)
	Recovered func()
	// LowOnSpace is called when the disk's free space falls below the reserve, and
	// with false when there is enough again.
	LowOnSpace func(low bool)
	// Idle is called when there has been no commit for some seconds and the store
	// has written out what it had in memory.
	Idle func()
}

// CommitInfo describes one commit.
type CommitInfo struct {
	Records int           // records taken, whether or not they had to be written
	Runs    int           // bodies written
	Bytes   int           // size of the batch, 0 if there was nothing to write
	Synced  bool          // whether the commit waited for the disk
	Elapsed time.Duration // building, writing and syncing
}

const (
	minMemTableSize = 1 << 20
	maxMemTableSize = 1 << 30
)

// EnsureDefaults fills in the default of every field that is zero.
func (o *Options) EnsureDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.MemTableSize == 0 {
		o.MemTableSize = 16 << 20
	}
	if o.CacheSize == 0 {
		o.CacheSize = 8 << 20
	}
	if o.SettleDelay == 0 {
		o.SettleDelay = 100 * time.Millisecond
	}
	if o.FleetingDelay == 0 {
		o.FleetingDelay = 2 * time.Millisecond
	}
	if o.MaxPendingBytes == 0 {
		o.MaxPendingBytes = 64 << 20
	}
	if o.Reserve == 0 {
		o.Reserve = 256 << 20
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = 250 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// Validate returns an error that lists every setting that cannot work, or nil.
// It expects the defaults to be filled in.
func (o *Options) Validate() error {
	var problems []error
	if o.Dir == "" {
		problems = append(problems, errors.New("no data directory is given"))
	}
	if o.MemTableSize < minMemTableSize || o.MemTableSize > maxMemTableSize {
		problems = append(problems, fmt.Errorf("memtable size %d is not between %d and %d", o.MemTableSize, minMemTableSize, maxMemTableSize))
	}
	if o.CacheSize < 0 {
		problems = append(problems, fmt.Errorf("cache size %d is negative", o.CacheSize))
	}
	if o.SettleDelay < 0 {
		problems = append(problems, fmt.Errorf("settle delay %v is negative", o.SettleDelay))
	}
	if o.FleetingDelay < 0 {
		problems = append(problems, fmt.Errorf("fleeting delay %v is negative", o.FleetingDelay))
	}
	if o.MaxPendingBytes < 0 {
		problems = append(problems, fmt.Errorf("maximum of pending bytes %d is negative", o.MaxPendingBytes))
	}
	if o.RetryDelay < 0 {
		problems = append(problems, fmt.Errorf("retry delay %v is negative", o.RetryDelay))
	}
	return errors.Join(problems...)
}
