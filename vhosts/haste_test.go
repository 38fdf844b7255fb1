// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/persistence"
)

type oneByte struct{}

func (oneByte) Size() int                  { return 1 }
func (oneByte) AppendTo(dst []byte) []byte { return append(dst, 'x') }
func (oneByte) Release()                   {}

// A queue waits for its consumers less and less often while they disappoint it, learns
// that without their settling anything, and trusts them again when they are in time.
func TestHaste(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, err := persistence.Open(persistence.Options{Dir: "data", FS: vfs.NewMem(), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		var h haste
		next := uint64(0)
		publish := func() (share *persistence.Share, waits bool) {
			next++
			run := persistence.NewRun(oneByte{})
			share = run.Share(1, next, 1, 1)
			if waits = h.expects(store, share); waits {
				run.Fleeting()
			}
			store.Propose(0, nil, persistence.PutRun(run))
			time.Sleep(time.Second) // until it is written in any case
			return share, waits
		}
		var waited []int
		for i := range 40 {
			if _, waits := publish(); waits {
				waited = append(waited, i)
			}
		}
		if want := []int{0, 2, 6, 14, 30}; len(waited) != len(want) || waited[4] != want[4] {
			t.Errorf("waited for %v, want %v", waited, want)
		}
		for h.doubt > 0 {
			run := persistence.NewRun(oneByte{})
			next++
			share := run.Share(1, next, 1, 1)
			h.settled(store, share) // before it was proposed even
			store.Propose(0, nil, persistence.Drop(share))
		}
		last, waits := publish()
		if !waits {
			t.Error("does not wait for consumers that were in time")
		}
		h.settled(store, last)
		if h.doubt != 0 {
			t.Error("what is settled late is taken for a disappointment twice")
		}
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}
