// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fill puts n runs of one message into a queue, every second of which other
// queues share, and settles something in the others' shares.
func fill(t *testing.T, s *Store, n int, queue, other uint64) {
	t.Helper()
	var settled Settled
	settled.Set(0)
	for i := range uint64(n) {
		r := NewRun(text("body"))
		r.Share(queue, i, 2, 4)
		records := []Record{PutRun(r)}
		if i%2 == 0 {
			records = append(records, Settle(r.Share(other, i, 2, 4), settled))
		}
		s.Propose(0, nil, records...)
	}
	mustPropose(t, s)
}

// TestForgottenRunsAreReclaimed forgets more than one step's worth of runs, some
// of which another queue shares, and crashes at any moment of it.
func TestForgottenRunsAreReclaimed(t *testing.T) {
	t.Parallel()
	const n = 2*reclaimStep + 100
	const kept = 10
	fs := vfs.NewCrashableMem()
	var mu sync.Mutex
	var clones []*vfs.MemFS
	s := mustOpen(t, Options{FS: fs, MemTableSize: 8 << 20, Events: Events{Committed: func(i CommitInfo) {
		mu.Lock()
		defer mu.Unlock()
		if i.Bytes > 0 && len(clones) < cap(clones) {
			clones = append(clones, fs.CrashClone(vfs.CrashCloneCfg{}))
		}
	}}})
	recovered(t, s)
	queue, other := s.NewID(), s.NewID()
	fill(t, s, n, queue, other)
	if st := s.Stats(); st.StoredMessages != 3*n || st.StoredBytes != 6*n {
		t.Errorf("%d messages, %d bytes are stored", st.StoredMessages, st.StoredBytes)
	}
	mu.Lock()
	clones = make([]*vfs.MemFS, 0, 8)
	mu.Unlock()
	mustPropose(t, s, Forget(queue, 0, 5), Forget(queue, 0, n-kept))
	finishReclaiming(t, s)
	wantKeys(t, s, keyCounts{entries: n/2 + kept, marks: n / 2, bodies: n/2 + kept/2})
	if st := s.Stats(); st.StoredMessages != n+2*kept || st.Condemned != 0 {
		t.Errorf("%d messages are stored, %d ranges condemned", st.StoredMessages, st.Condemned)
	}
	mustClose(t, s)
	if len(clones) < 4 {
		t.Fatalf("%d commits", len(clones))
	}

	for i, clone := range clones {
		s := mustOpen(t, Options{FS: clone})
		condemned := countKeys(t, s, spaceCondemned)
		seen := 0
		var shares []*Share
		for _, r := range recovered(t, s) {
			if r.Queue == queue {
				seen++
			} else {
				shares = append(shares, warm(s, r))
			}
		}
		if seen != kept || len(shares) != n/2 {
			t.Errorf("crash %d, with %d ranges condemned: recovered %d and %d", i, condemned, seen, len(shares))
		}
		finishReclaiming(t, s)
		wantKeys(t, s, keyCounts{entries: n/2 + kept, marks: n / 2, bodies: n/2 + kept/2})
		for _, sh := range shares[:20] {
			wantBody(t, s, sh, "body")
		}
		records := []Record{Forget(queue, 0, n)}
		for _, sh := range shares {
			records = append(records, Drop(sh))
		}
		mustPropose(t, s, records...)
		finishReclaiming(t, s)
		wantKeys(t, s, keyCounts{})
		if st := s.Stats(); st.StoredMessages != 0 || st.StoredBytes != 0 {
			t.Errorf("%d messages, %d bytes are stored at the end", st.StoredMessages, st.StoredBytes)
		}
		mustClose(t, s)
	}
}

// TestQueuesThatDoNotExist recovers a store of which a queue's deletion was never
// stored: what it has goes away, and what it shares stays.
func TestQueuesThatDoNotExist(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs, MemTableSize: 8 << 20})
	recovered(t, s)
	const n = 3000
	lost, queue, also := s.NewID(), s.NewID(), s.NewID()
	fill(t, s, n, lost, queue)
	put(t, s, also, 1, "body")
	mustPropose(t, s, Delivered(lost, 1), Delivered(queue, 1))
	mustClose(t, s)

	// Settlements are due at once: the reclaimer must not run ahead of the scan.
	s = mustOpen(t, Options{FS: fs, SettleDelay: time.Nanosecond})
	var shares []*Share
	visits := 0
	err := s.Recover(func(r *RecoveredRun) (bool, error) {
		mustPropose(t, s)
		if r.Queue != queue {
			visits++
			return false, nil
		}
		shares = append(shares, warm(s, *r))
		return true, nil
	})
	if err != nil || visits != 2 || len(shares) != n/2 {
		t.Fatalf("Recover: %v, after %d visits and %d shares", err, visits, len(shares))
	}
	finishReclaiming(t, s)
	wantKeys(t, s, keyCounts{entries: n / 2, marks: n / 2, bodies: n / 2})
	for _, sh := range shares {
		wantBody(t, s, sh, "body")
	}
	if n := countKeys(t, s, spaceDelivered); n != 1 {
		t.Errorf("%d delivered marks", n)
	}
}

func TestReclaimerStopsWhenClosed(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs, MemTableSize: 8 << 20})
	queue := s.NewID()
	recovered(t, s)
	fill(t, s, 3*reclaimStep, queue, s.NewID())
	mustPropose(t, s, Forget(queue, 0, 3*reclaimStep))
	s = reopen(t, s, fs)
	for _, r := range recovered(t, s) {
		if r.Queue == queue {
			t.Fatalf("recovered %+v", r)
		}
	}
	finishReclaiming(t, s)
	wantKeys(t, s, keyCounts{entries: 3 * reclaimStep / 2, marks: 3 * reclaimStep / 2, bodies: 3 * reclaimStep / 2})
}
