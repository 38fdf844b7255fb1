// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"net/http"

	"github.com/lagomq/lagomq/persistence"
)

// storageStats are persistence.Stats with units in the names. Counts and
// histograms begin with the broker.
type storageStats struct {
	InService  bool    `json:"in_service"`
	Error      *string `json:"error"`      // why it is out of service, null if it is not
	Failures   int64   `json:"failures"`   // times it went out of service because the disk failed
	Reopenings int64   `json:"reopenings"` // times it came back
	// BackgroundErrors are failed flushes and compactions, which are tried again.
	BackgroundErrors int64 `json:"background_errors"`

	Commits        int64     `json:"commits"`
	CommitsSynced  int64     `json:"commits_synced"` // those that waited for the disk
	Records        int64     `json:"records"`        // taken, whether or not they had to be written
	RunsWritten    int64     `json:"runs_written"`
	RunsRead       int64     `json:"runs_read"`
	WrittenBytes   int64     `json:"written_bytes"` // of commits
	CommitLatency  histogram `json:"commit_latency_seconds"`
	SyncLatency    histogram `json:"sync_latency_seconds"`
	SyncingSeconds float64   `json:"syncing_seconds"` // how long the sync under way takes already, 0 if none is
	BatchRecords   histogram `json:"batch_records"`   // records in each commit

	PendingBytes        int64 `json:"pending_bytes"`     // on their way to the disk
	StoredMessages      int64 `json:"stored_messages"`   // in all queues, settled ones of living runs included
	StoredBodyBytes     int64 `json:"stored_body_bytes"` // theirs
	CondemnedRanges     int   `json:"condemned_ranges"`  // of deleted messages whose space is yet to be given back
	MemoryBytes         int64 `json:"memory_bytes"`      // of the database's memtables and caches
	DiskBytes           int64 `json:"disk_bytes"`        // of the database's files
	CompactionDebtBytes int64 `json:"compaction_debt_bytes"`

	FreeBytes    *int64 `json:"free_bytes"`    // left on the disk, null if that cannot be known
	ReserveBytes *int64 `json:"reserve_bytes"` // with fewer left publishers are held back, null if they never are
	LowOnSpace   bool   `json:"low_on_space"`
}

// histogram is a persistence.Histogram: counts[i] observations are of at most
// bounds[i] and above the bound before; the last count, without a bound, is of
// larger ones.
type histogram struct {
	Bounds []float64 `json:"bounds"`
	Counts []int64   `json:"counts"`
	Count  int64     `json:"count"`
	Sum    float64   `json:"sum"`
}

func newStorageStats(st *persistence.Stats) storageStats {
	view := storageStats{
		InService: st.Err == nil, Failures: st.Failures, Reopenings: st.Reopenings, BackgroundErrors: st.BackgroundErrors,
		Commits: st.Commits, CommitsSynced: st.Synced, Records: st.Records,
		RunsWritten: st.Runs, RunsRead: st.Read, WrittenBytes: st.Written,
		CommitLatency: histogram(st.CommitLatency), SyncLatency: histogram(st.SyncLatency),
		SyncingSeconds: st.SyncingFor.Seconds(), BatchRecords: histogram(st.BatchRecords),
		PendingBytes: st.PendingBytes, StoredMessages: st.StoredMessages, StoredBodyBytes: st.StoredBytes,
		CondemnedRanges: st.Condemned, MemoryBytes: st.MemoryBytes, DiskBytes: st.DiskBytes,
		CompactionDebtBytes: st.CompactionDebt, FreeBytes: known(st.FreeBytes), ReserveBytes: known(st.Reserve),
		LowOnSpace: st.LowOnSpace,
	}
	if st.Err != nil {
		text := st.Err.Error()
		view.Error = &text
	}
	return view
}

// known is nil for a number of bytes that is not known, or of which there is none:
// a negative one.
func known(bytes int64) *int64 {
	if bytes < 0 {
		return nil
	}
	return &bytes
}

func (s *Server) storageStats(r *http.Request) (any, error) {
	if !monitors(userOf(r)) {
		return nil, errNoMonitor
	}
	st := s.options.Store.Stats()
	return single(r, newStorageStats(&st))
}
