// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "testing"

// A packed run of which messages leave has its handle until the effects are carried
// out, which say what is to be stored of it, and is packed again then.
func TestLeavingRunKeepsItsHandle(t *testing.T) {
	t.Parallel()
	var e Engine
	k := newKeeper(&e)
	for first := uint64(0); first < 12; first += 4 {
		must(t, e.Restore(first, 4, 400, Bitmap{}, k.restore(first, 4), Times{}, nil))
	}
	var fx Effects
	if n := e.ExpelReady([]uint64{5}, Expired, &fx); n != 1 {
		t.Fatalf("%d messages leave", n)
	}
	must(t, e.SettleLeaving([]Interval{{5, 6}}, &fx))
	if len(fx.Marked) != 1 || fx.Marked[0].Stored == nil {
		t.Errorf("what is settled cannot be stored: %d runs are marked", len(fx.Marked))
	}
	e.ReleasePages()
	must(t, e.Check())
	if e.plain.dir.cold[0].warm.len() != 0 {
		t.Error("the segment is not packed again")
	}
}
