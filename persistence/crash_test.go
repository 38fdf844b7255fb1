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

// TestCrash makes random proposals, lets the power fail at random moments, and
// compares what is recovered with the model. A seed replays the proposals; what
// the committer does meanwhile is up to the scheduler.
func TestCrash(t *testing.T) {
	t.Parallel()
	seeds := uint64(40)
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
	options := Options{FS: fs, SettleDelay: time.Microsecond}
	d := newDriver(mustOpen(t, options), rng)
	var p promises
	heard := make(map[*ack]bool)
	for range 6 {
		for range rng.IntN(60) {
			d.step()
			if a := d.acks[len(d.acks)-1]; a.result != nil && rng.IntN(6) == 0 {
				a.result.await()
			}
		}
		d.kept(&p, heard)
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng})
		after := mustOpen(t, Options{FS: clone, SettleDelay: time.Microsecond})
		if after.Orderly() {
			t.Error("a crash passes for an orderly stop")
		}
		found, shares := d.check(t, after, p)
		if rng.IntN(2) == 0 {
			mustClose(t, after)
			continue
		}
		// Go on with what was recovered.
		mustClose(t, d.store)
		d = d.resume(after, found, shares)
		fs, p, heard = clone, promises{}, make(map[*ack]bool)
	}
}
