// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestHistogram(t *testing.T) {
	t.Parallel()
	var h histogram
	for _, n := range []int64{0, 1, 2, 3, 4, 5, 1 << 19, 1<<19 + 1, 1 << 40} {
		h.observe(n)
	}
	s := h.snapshot(0.5)
	if len(s.Bounds) != histogramBuckets || len(s.Counts) != histogramBuckets+1 || !slices.IsSorted(s.Bounds) || s.Count != 9 {
		t.Fatalf("%+v", s)
	}
	want := map[float64]int64{0.5: 2, 1: 1, 2: 2, 4: 1, 0.5 * (1 << 19): 1}
	for i, n := range s.Counts[:histogramBuckets] {
		if n != want[s.Bounds[i]] {
			t.Errorf("%d of at most %v, want %d", n, s.Bounds[i], want[s.Bounds[i]])
		}
	}
	if n := s.Counts[histogramBuckets]; n != 2 {
		t.Errorf("%d beyond the last bound", n)
	}
	if s.Sum != 0.5*float64(15+1<<20+1<<40) && s.Sum != 0.5*float64(15+(1<<20)+1+(1<<40)) {
		t.Errorf("sum %v", s.Sum)
	}
	var l histogram
	l.observeLatency(latencyUnit)
	l.observeLatency(latencyUnit + 1)
	l.observeLatency(time.Hour)
	if s := l.snapshot(latencyUnit.Seconds()); s.Counts[0] != 1 || s.Counts[1] != 1 || s.Counts[histogramBuckets] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestStatsCount(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	q := s.NewID()
	const runs, size = 50, 1000
	var shares []*Share
	for i := range uint64(runs) {
		shares = append(shares, put(t, s, q, i, string(make([]byte, size))))
	}
	mustPropose(t, s, Drop(shares[0]))
	wantBody(t, s, shares[1], string(make([]byte, size)))
	st := s.Stats()
	if st.Runs != runs || st.Records != runs+1 || st.Commits != runs+1 || st.Synced != runs+1 || st.Read != 1 {
		t.Errorf("%+v", st)
	}
	if st.StoredMessages != runs-1 || st.StoredBytes != (runs-1)*size || st.PendingBytes != 0 {
		t.Errorf("%d messages, %d bytes stored, %d bytes pending", st.StoredMessages, st.StoredBytes, st.PendingBytes)
	}
	if st.Written < runs*size || st.MemoryBytes <= 0 || st.DiskBytes <= 0 || st.FreeBytes != -1 {
		t.Errorf("%d bytes written, %d in memory, %d on disk, %d free", st.Written, st.MemoryBytes, st.DiskBytes, st.FreeBytes)
	}
	for name, h := range map[string]Histogram{"commits": st.CommitLatency, "syncs": st.SyncLatency, "records": st.BatchRecords} {
		var n int64
		for _, count := range h.Counts {
			n += count
		}
		if n != h.Count || n < runs || h.Sum <= 0 {
			t.Errorf("%s: %+v", name, h)
		}
	}
	if st.Failures != 0 || st.Reopenings != 0 || st.BackgroundErrors != 0 || st.LowOnSpace || st.Err != nil {
		t.Errorf("%+v", st)
	}
}
