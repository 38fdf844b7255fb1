// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestCrashLeavesAPrefix makes random proposals, lets the power fail at random
// moments, and compares what is recovered with the model. A seed replays the
// proposals; what the committer does meanwhile is up to the scheduler.
func TestCrashLeavesAPrefix(t *testing.T) {
	t.Parallel()
	seeds := uint64(30)
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			crashes(t, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func crashes(t *testing.T, rng *rand.Rand) {
	fs := vfs.NewCrashableMem()
	open := func(fs vfs.FS) *Store { return mustOpen(t, Options{FS: fs, SettleDelay: time.Microsecond}) }
	d := newDriver(open(fs), rng)
	for range 6 {
		for range rng.IntN(60) {
			d.step(t)
			if a := d.acks[len(d.acks)-1]; !a.silent && rng.IntN(6) == 0 {
				<-a.told
			}
		}
		if rng.IntN(4) == 0 {
			mustClose(t, d.store)
			after := open(fs)
			if !after.Orderly() {
				t.Error("an orderly stop passes for a crash")
			}
			d = d.check(t, after, d.everything())
			continue
		}
		p := d.promised()
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng})
		after := open(clone)
		if after.Orderly() && len(d.acks) > 0 {
			t.Error("a crash passes for an orderly stop")
		}
		next := d.check(t, after, p)
		if rng.IntN(2) == 0 {
			mustClose(t, after)
			continue
		}
		// Go on with what was recovered.
		mustClose(t, d.store)
		d, fs = next, clone
	}
}

// markerFS tells when a marker was created, which says what is the database's
// manifest.
type markerFS struct {
	vfs.FS
	created func()
}

// Create implements [vfs.FS].
func (m *markerFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := m.FS.Create(name, category)
	if isMarker(m.PathBase(name)) && err == nil {
		m.created()
	}
	return f, err
}

// TestCrashWhileManifestIsReplaced: a database that has just got another manifest can
// be opened, whatever else of its directory a failure of the power leaves.
func TestCrashWhileManifestIsReplaced(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, Options{FS: fs})
	put(t, s, 1, 1, "a message")
	mustClose(t, s)
	rng := rand.New(rand.NewPCG(1, 1))
	var clones []*vfs.MemFS
	mustClose(t, mustOpen(t, Options{FS: &markerFS{fs, func() {
		for range 20 {
			clones = append(clones, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng}))
		}
	}}}))
	if len(clones) == 0 {
		t.Fatal("no manifest was replaced")
	}
	for _, clone := range clones {
		after := mustOpen(t, Options{FS: clone})
		if runs := recovered(t, after); len(runs) != 1 {
			t.Fatalf("%d runs are recovered, want 1", len(runs))
		}
		mustClose(t, after)
	}
}
