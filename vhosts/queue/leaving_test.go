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

// TestJoinedAfterLeaving: small runs that are packed are joined, though one of their
// messages has left meanwhile, for which they were unpacked.
func TestJoinedAfterLeaving(t *testing.T) {
	t.Parallel()
	var e Engine
	var fx Effects
	k := newKeeper(&e)
	for i := range uint64(40) {
		must(t, e.Restore(4*i, 4, 32, Bitmap{}, k.restore(4*i, 4), Times{Arrived: 1}, nil))
	}
	e.ExpelReady([]uint64{20}, Expired, &fx)
	must(t, e.SettleLeaving([]Interval{{20, 21}}, &fx))
	fx.Reset()
	e.ReleasePages()
	if s := e.levels[0].dir.cold[0]; s.warm.len() > 0 {
		t.Fatalf("%d runs are not packed", s.warm.len())
	}
	if group := e.Scattered(Idle); len(group) != 5 {
		t.Errorf("%d runs are to be joined, want the 5 before the one that has lost a message", len(group))
	}
}
