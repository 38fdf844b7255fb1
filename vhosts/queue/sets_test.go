// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestSpans compares the set with a map.
func TestSpans(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s spans
		want := map[uint64]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				drawn := rapid.SliceOfNDistinct(rapid.Uint64Range(0, 60), 0, 12, rapid.ID[uint64]).Draw(t, "numbers")
				numbers := slices.DeleteFunc(drawn, func(n uint64) bool { return want[n] })
				slices.Sort(numbers)
				s.add(numbers)
				for _, n := range numbers {
					want[n] = true
				}
			},
			"take": func(t *rapid.T) {
				if s.empty() {
					t.Skip("empty")
				}
				h := s.head()
				n := rapid.Uint64Range(1, h.last-h.first+1).Draw(t, "count")
				s.take(n)
				for i := range n {
					delete(want, h.first+i)
				}
			},
			"remove": func(t *rapid.T) {
				if s.empty() {
					t.Skip("empty")
				}
				all := slices.Sorted(maps.Keys(want))
				numbers := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, len(all), rapid.ID[uint64]).Draw(t, "numbers")
				slices.Sort(numbers)
				s.remove(numbers)
				for _, n := range numbers {
					delete(want, n)
				}
			},
			"clear": func(*rapid.T) { s.clear(); clear(want) },
			"": func(t *rapid.T) {
				checkSpans(t, &s, want)
			},
		})
	})
}

func checkSpans(t *rapid.T, s *spans, want map[uint64]bool) {
	var got []uint64
	for i, sp := range s.list[s.at:] {
		if sp.first > sp.last || i > 0 && s.list[s.at+i-1].last+1 >= sp.first {
			t.Fatalf("spans %v touch, overlap or are out of order", s.list[s.at:])
		}
		for n := sp.first; n <= sp.last; n++ {
			got = append(got, n)
		}
	}
	if numbers := slices.Sorted(maps.Keys(want)); !slices.Equal(got, numbers) {
		t.Fatalf("set holds %v, want %v", got, numbers)
	}
	if s.n != uint64(len(got)) || s.empty() != (len(got) == 0) {
		t.Fatalf("set counts %d and says empty %t with %d numbers in it", s.n, s.empty(), len(got))
	}
	for n := range uint64(62) {
		if s.has(n) != want[n] {
			t.Fatalf("has(%d) is %t", n, s.has(n))
		}
	}
}

// TestBitmap compares the bitmap with a list of booleans.
func TestBitmap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b Bitmap
		var want [MaxRunMessages]bool
		for range rapid.IntRange(0, 4).Draw(t, "steps") {
			from := rapid.Uint32Range(0, MaxRunMessages).Draw(t, "from")
			to := rapid.Uint32Range(from, MaxRunMessages).Draw(t, "to")
			b.SetRange(from, to)
			for i := from; i < to; i++ {
				want[i] = true
			}
			one := rapid.Uint32Range(0, MaxRunMessages-1).Draw(t, "one")
			b.Set(one)
			want[one] = true
		}
		count := uint32(0)
		for i := range uint32(MaxRunMessages) {
			if b.Has(i) != want[i] {
				t.Fatalf("bit %d is %t", i, b.Has(i))
			}
			if want[i] {
				count++
			}
		}
		if b.Count() != count {
			t.Fatalf("%d bits counted, want %d", b.Count(), count)
		}
		limit := rapid.Uint32Range(0, MaxRunMessages).Draw(t, "limit")
		for i := range limit + 1 {
			next := func(value bool) uint32 {
				for j := i; j < limit; j++ {
					if want[j] == value {
						return j
					}
				}
				return limit
			}
			if got := b.NextSet(i, limit); got != next(true) {
				t.Fatalf("NextSet(%d, %d) is %d, want %d", i, limit, got, next(true))
			}
			if got := b.NextClear(i, limit); got != next(false) {
				t.Fatalf("NextClear(%d, %d) is %d, want %d", i, limit, got, next(false))
			}
		}
	})
}

// TestRuns settles runs in any order and compares with a plain list.
func TestRuns(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var d runs
		var want []*Run
		next, cursor := uint64(0), 0
		var at *Run // the first live run from the cursor on, nil at the end
		settle := func(r *Run) {
			r.gone = r.Count
			d.dead++
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				count, gap := rapid.Uint32Range(1, 9).Draw(t, "count"), rapid.Uint64Range(0, 2).Draw(t, "gap")
				for range rapid.IntRange(1, 60).Draw(t, "runs") {
					r := &Run{First: next, Count: count}
					next = r.end() + gap
					d.push(r)
					want = append(want, r)
					if at == nil {
						at = r
					}
				}
			},
			"advance": func(t *rapid.T) {
				cursor = rapid.IntRange(cursor, d.len()).Draw(t, "cursor")
				at = nil
				for i := cursor; i < d.len() && at == nil; i++ {
					if r := d.at(i); !r.Done() {
						at = r
					}
				}
			},
			"settle": func(t *rapid.T) {
				if len(want) == 0 {
					t.Skip("empty")
				}
				from := rapid.IntRange(0, len(want)-1).Draw(t, "from")
				to := rapid.IntRange(from, len(want)).Draw(t, "to")
				stride := rapid.IntRange(1, 4).Draw(t, "stride")
				for i := from; i < to; i += stride {
					settle(want[i])
				}
				want = slices.DeleteFunc(want, (*Run).Done)
				if at != nil && at.Done() { // as the engine does: the next one that lives
					i := slices.IndexFunc(want, func(r *Run) bool { return r.First > at.First })
					if at = nil; i >= 0 {
						at = want[i]
					}
				}
				cursor -= d.compact(cursor)
			},
			"": func(t *rapid.T) {
				live := slices.DeleteFunc(slices.Clone(d.all()), (*Run).Done)
				if !slices.Equal(live, want) {
					t.Fatalf("%d runs live, want %d", len(live), len(want))
				}
				if d.dead != d.len()-len(live) {
					t.Fatalf("%d done runs, %d counted", d.len()-len(live), d.dead)
				}
				if d.len() > 0 && d.dead > 32 && d.dead > d.len()/2 {
					t.Fatalf("%d of %d runs are done and kept", d.dead, d.len())
				}
				i := cursor
				for i < d.len() && d.at(i).Done() {
					i++
				}
				if at == nil && i != d.len() || at != nil && (i >= d.len() || d.at(i) != at) {
					t.Fatalf("the cursor, at position %d of %d, lost its run", cursor, d.len())
				}
				hint := rapid.IntRange(0, d.len()+1).Draw(t, "hint")
				for _, r := range want {
					for _, n := range []uint64{r.First, r.end() - 1} {
						if i := d.find(n, hint); i < 0 || d.at(i) != r {
							t.Fatalf("number %d is found at %d", n, i)
						}
					}
				}
				if d.find(next, hint) != -1 {
					t.Fatal("a number past the end is found")
				}
			},
		})
	})
}

func TestRunsGiveMemoryBack(t *testing.T) {
	t.Parallel()
	var d runs
	for i := range 100_000 {
		d.push(&Run{First: uint64(i), Count: 1})
	}
	for _, r := range d.all() {
		r.gone = 1
		d.dead++
	}
	d.compact(0)
	if d.len() != 0 || cap(d.list) > 1024 {
		t.Errorf("an empty list has %d entries and room for %d", d.len(), cap(d.list))
	}
}
