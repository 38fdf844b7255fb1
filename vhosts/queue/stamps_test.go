// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestStampsRoundTrip: the times of messages survive the stored forms of a page and
// of its stamps, copying, and joining with the messages of other pages.
func TestStampsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var want []Stamp
		joined := new(Page)
		now := uint64(1_700_000_000_000)
		for range rapid.IntRange(1, 4).Draw(t, "pages") {
			now += rapid.Uint64Range(0, 1<<20).Draw(t, "later")
			p := new(Page)
			var stamps []Stamp
			for range rapid.IntRange(1, 8).Draw(t, "messages") {
				p.Append(nil, nil, []byte("body"))
				s := Stamp{Arrived: now}
				switch rapid.IntRange(0, 2).Draw(t, "kind") {
				case 1:
					wait := rapid.Uint64Range(0, 315_360_000_000).Draw(t, "wait")
					p.Meet(After(wait))
					s.Due = now + wait
				case 2:
					s.Due = now + rapid.Uint64Range(0, 1<<40).Draw(t, "due")
					p.Meet(At(s.Due))
				}
				stamps = append(stamps, s)
			}
			p.Arrive(now)
			checkStamps(t, p, stamps)
			parsed, err := ParsePage(p.AppendTo(nil))
			if err != nil {
				t.Fatal(err)
			}
			checkStamps(t, parsed, stamps)
			for i := range parsed.Len() {
				joined.AppendFrom(parsed, i)
			}
			want = append(want, stamps...)
		}
		checkStamps(t, joined, want)
		checkStamps(t, joined.exact(), want)
	})
}

func checkStamps(t *rapid.T, p *Page, want []Stamp) {
	t.Helper()
	times := Times{Arrived: want[0].Arrived}
	stored := make([]Stamp, len(want))
	for i, s := range want {
		if got := p.Stamp(i); got != s {
			t.Fatalf("stamp %d is %v, want %v", i, got, s)
		}
		times.Due = earlier(times.Due, s.Due)
		times.Stamped = times.Stamped || s != want[0] || s.Due != 0
		stored[i] = Stamp{Arrived: p.Times().Arrived}
	}
	if got := p.Times(); got != times {
		t.Fatalf("times %v, want %v", got, times)
	}
	if err := ParseStamps(p.AppendStamps(nil), times.Arrived, func(i int, s Stamp) { stored[i] = s }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(stored, want) {
		t.Fatalf("stamps read back %v, want %v", stored, want)
	}
	if got := p.Size(); got != len(p.AppendTo(nil)) {
		t.Fatalf("Size is %d, the stored form has %d bytes", got, len(p.AppendTo(nil)))
	}
}

// TestOldOnDisk: messages have outlived the queue's time to live, and it has to be read
// when each of them came. That is asked for of many runs at a time, as each answer is
// some while in coming.
func TestOldOnDisk(t *testing.T) {
	t.Parallel()
	var e Engine
	var fx Effects
	k := newKeeper(&e)
	e.SetTTL(1000)
	const runs = 2000
	for i := range uint64(runs) {
		must(t, e.Restore(2*i, 2, 20, Bitmap{}, k.restore(2*i, 2), Times{Arrived: 5000, Stamped: true}, nil))
	}
	rounds := 0
	for ; e.Ready() > 0 && rounds < runs; rounds++ {
		fx.Reset()
		e.Expire(10_000, Expired, 1<<20, &fx)
		must(t, e.Check())
		for _, r := range fx.Stamps {
			e.Stamped(r, func(int) Stamp { return Stamp{Arrived: 5001} })
		}
	}
	if rounds > runs/standard.aheadRuns+2 {
		t.Errorf("it takes %d rounds to read when the messages of %d runs came", rounds, runs)
	}
}
