// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// timed is a TimedBody.
type timed struct {
	text
	times  Times
	stamps string
}

func (t timed) Times() Times                   { return t.times }
func (t timed) AppendStamps(dst []byte) []byte { return append(dst, t.stamps...) }

// TestTimes: a directory knows when messages arrived and are due, for each queue
// that has them, and tells it after a restart without their bodies.
func TestTimes(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	one, two := s.NewID(), s.NewID()
	bodies := []Body{
		text("without"),
		timed{"arrived", Times{Arrived: 1000}, ""},
		timed{"stamped", Times{Arrived: 2000, Due: 3000, Stamped: true}, "stamps"},
		timed{"stamped, never due", Times{Arrived: 2000, Stamped: true}, "others"},
	}
	want := []Times{{}, {Arrived: 1000}, {Arrived: 2000, Due: 3000, Stamped: true}, {Arrived: 2000, Stamped: true}}
	stamps := []string{"", "", "stamps", "others"}
	for i, body := range bodies {
		run := NewRun(body)
		shares := []*Share{run.Share(one, uint64(i), 1, 1), run.Share(two, uint64(i), 1, 1)}
		if i == 0 {
			wantStamps(t, s, shares[0], "", ErrNotStored)
		}
		mustPropose(t, s, PutRun(run))
		for _, sh := range shares {
			wantStamps(t, s, sh, stamps[i], nil)
		}
		if i == 1 {
			mustPropose(t, s, Drop(shares[1]))
			wantStamps(t, s, shares[1], "", ErrNotStored)
		}
	}
	s = reopen(t, s, fs)
	runs := recovered(t, s)
	if len(runs) != 2*len(bodies)-1 {
		t.Fatalf("recovered %d runs, want %d", len(runs), 2*len(bodies)-1)
	}
	for _, r := range runs {
		if r.Times != want[r.First] {
			t.Errorf("run %d of queue %d has times %+v, want %+v", r.First, r.Queue, r.Times, want[r.First])
		}
		wantStamps(t, s, s.Warm(r.Place, r.Queue, r.First, r.Count, r.Bytes, r.Settled), stamps[r.First], nil)
	}
}

func wantStamps(t *testing.T, s *Store, sh *Share, want string, wantErr error) {
	t.Helper()
	s.ReadStamps([]*Share{sh}, func(_ int, _ uint64, stamps []byte, err error) {
		if string(stamps) != want || !errors.Is(err, wantErr) {
			t.Errorf("stamps %q, error %v, want %q, %v", stamps, err, want, wantErr)
		}
	})
}
