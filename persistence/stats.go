// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Stats is a snapshot of a store, for operators. Counts and histograms are of
// all that happened since it was opened.
type Stats struct {
	Commits int64 // batches written
	Synced  int64 // of those, the ones that waited for the disk
	Records int64 // records taken, whether or not they had to be written
	Runs    int64 // bodies written
	Written int64 // bytes of batches
	Read    int64 // bodies read back

	CommitLatency Histogram // seconds from taking a batch to its being durable
	SyncLatency   Histogram // seconds of each sync of the log
	BatchRecords  Histogram // records in each batch

	PendingBytes   int64         // on their way to the disk
	StoredMessages int64         // messages in the directories, settled ones of living runs included
	StoredBytes    int64         // their bodies, one that several queues have counted for each
	Condemned      int           // ranges of purged or deleted messages whose space is yet to be given back
	MemoryBytes    int64         // memtables and caches of the database
	DiskBytes      int64         // all files of the database
	FreeBytes      int64         // left on the disk; -1 if that cannot be known
	Reserve        int64         // Options.Reserve, bytes
	CompactionDebt int64         // bytes that compactions have yet to go over
	SyncingFor     time.Duration // how long the sync that is under way takes already; 0 if none is

	Failures         int64 // times the store went out of service because the disk failed
	Reopenings       int64 // times it came back
	BackgroundErrors int64 // failed flushes and compactions, which are tried again
	LowOnSpace       bool
	Err              error // why the store is out of service, nil if it is not
}

// Histogram counts observations in buckets: Counts[i] is the number of those of
// at most Bounds[i] and above the bound before; the last of Counts, which has no
// bound, is that of larger ones.
type Histogram struct {
	Bounds []float64
	Counts []int64
	Count  int64
	Sum    float64
}

// histogram has a bucket for each power of two of its unit. It may be used by
// any goroutine.
type histogram struct {
	buckets [histogramBuckets + 1]atomic.Int64
	sum     atomic.Int64
}

const histogramBuckets = 20

func (h *histogram) observe(n int64) {
	h.buckets[min(bits.Len64(uint64(max(n-1, 0))), histogramBuckets)].Add(1)
	h.sum.Add(n)
}

// snapshot returns the histogram with its bounds multiplied by unit.
func (h *histogram) snapshot(unit float64) Histogram {
	s := Histogram{Sum: float64(h.sum.Load()) * unit}
	for i := range h.buckets {
		n := h.buckets[i].Load()
		s.Count += n
		s.Counts = append(s.Counts, n)
		if i < histogramBuckets {
			s.Bounds = append(s.Bounds, float64(uint64(1)<<i)*unit)
		}
	}
	return s
}

// The latencies' unit: the first bucket ends at 16 us, the last at 8 s.
const latencyUnit = 16 * time.Microsecond

func (h *histogram) observeLatency(d time.Duration) {
	h.observe(int64((d + latencyUnit - 1) / latencyUnit))
}

// counters are what the store counts as it works.
type counters struct {
	commits, synced, records, runs, written, read atomic.Int64

	commitLatency, batchRecords histogram
	failures, reopenings        atomic.Int64
	backgroundErrors            atomic.Int64
}

// storedTotals are what the directories hold.
type storedTotals struct{ messages, bytes atomic.Int64 }

// diskTimes are the times that syncs of the log take.
type diskTimes struct {
	latency histogram
	slow    atomic.Int64 // syncs that took more than slowSync
	longest atomic.Int64 // of those, in nanoseconds, since it was told

	mu      sync.Mutex
	syncing int       // syncs under way
	since   time.Time // when the first of them began
}

func (d *diskTimes) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.syncing == 0 {
		d.since = time.Now()
	}
	d.syncing++
}

func (d *diskTimes) end(took time.Duration) {
	d.latency.observeLatency(took)
	if took >= slowSync {
		d.longest.Store(max(d.longest.Load(), int64(took)))
		d.slow.Add(1)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncing--
}

// syncingFor is how long the syncs under way take already.
func (d *diskTimes) syncingFor() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.syncing == 0 {
		return 0
	}
	return time.Since(d.since)
}

// BackgroundErrors is Stats.BackgroundErrors, for nearly nothing.
func (s *Store) BackgroundErrors() int64 { return s.counters.backgroundErrors.Load() }

// Stats takes a snapshot. It may take some milliseconds.
func (s *Store) Stats() Stats {
	c := &s.counters
	st := Stats{
		Commits: c.commits.Load(), Synced: c.synced.Load(), Records: c.records.Load(),
		Runs: c.runs.Load(), Written: c.written.Load(), Read: c.read.Load(),
		CommitLatency:    c.commitLatency.snapshot(latencyUnit.Seconds()),
		SyncLatency:      s.disk.latency.snapshot(latencyUnit.Seconds()),
		BatchRecords:     c.batchRecords.snapshot(1),
		PendingBytes:     s.pendingBytes.Load(),
		StoredMessages:   s.stored.messages.Load(),
		StoredBytes:      s.stored.bytes.Load(),
		Condemned:        s.reclaimer.waiting(),
		FreeBytes:        s.space.free.Load(),
		Reserve:          s.opts.Reserve,
		LowOnSpace:       s.space.low.Load(),
		SyncingFor:       s.disk.syncingFor(),
		Failures:         c.failures.Load(),
		Reopenings:       c.reopenings.Load(),
		BackgroundErrors: c.backgroundErrors.Load(),
		Err:              s.Err(),
	}
	if st.Err != nil {
		return st // the database may hold its locks for good
	}
	m, err := s.metrics()
	if err != nil {
		return st
	}
	st.MemoryBytes = int64(m.MemTable.Size) + int64(m.MemTable.ZombieSize) + m.BlockCache.Size
	st.DiskBytes = int64(m.DiskSpaceUsage())
	st.CompactionDebt = int64(m.Compact.EstimatedDebt)
	return st
}

// metrics asks the database.
func (s *Store) metrics() (m *pebble.Metrics, err error) {
	g, err := s.beginRead()
	if err != nil {
		return nil, err
	}
	defer s.endRead(g)
	err = g.run(func() error {
		m = g.db.Metrics()
		return nil
	})
	return m, err
}
