// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestUnackedWindow compares the window with a map from tag to delivery.
func TestUnackedWindow(t *testing.T) {
	t.Parallel()
	subs := []*subscription{{get: true}, {reply: true}}
	rapid.Check(t, func(t *rapid.T) {
		var w unackedWindow
		model := map[uint64]delivery{}
		last, timedOut := uint64(0), uint64(0)
		anyTag := rapid.Custom(func(t *rapid.T) uint64 { return rapid.Uint64Range(0, last+2).Draw(t, "tag") })
		t.Repeat(map[string]func(*rapid.T){
			"deliver": func(t *rapid.T) {
				last += rapid.SampledFrom([]uint64{1, 1, 1, 2, 300}).Draw(t, "step")
				d := delivery{tag: last, sub: rapid.SampledFrom(subs).Draw(t, "subscription"), number: rapid.Uint64().Draw(t, "number")}
				d.setAt(last)
				w.add(d)
				model[last] = d
			},
			"settle": func(t *rapid.T) {
				tag, multiple := anyTag.Draw(t, "tag"), rapid.Bool().Draw(t, "multiple")
				hold := rapid.IntRange(0, 3).Draw(t, "in a transaction") == 0
				wantOK := multiple && tag == 0 || model[tag].sub != nil && !model[tag].held ||
					model[tag].sub == nil && tag > 0 && tag <= timedOut
				var want, got []delivery
				for _, modelled := range slices.Sorted(maps.Keys(model)) {
					d := model[modelled]
					if wantOK && !d.held && (modelled == tag || multiple && (tag == 0 || modelled < tag)) {
						want = append(want, d)
						if d.held = true; hold {
							model[modelled] = d
						} else {
							delete(model, modelled)
						}
					}
				}
				ok := w.each(tag, multiple, func(d *delivery) {
					got = append(got, *d)
					if hold {
						d.held = true
					} else {
						w.remove(d)
					}
				})
				w.trim()
				if ok != wantOK || !slices.Equal(got, want) {
					t.Fatalf("settle %d, multiple %t: %t %v, want %t %v", tag, multiple, ok, got, wantOK, want)
				}
			},
			"time out": func(t *rapid.T) {
				sub := rapid.SampledFrom(subs).Draw(t, "subscription")
				var want []uint64
				oldest := uint64(0)
				for _, tag := range slices.Sorted(maps.Keys(model)) {
					if d := model[tag]; d.sub == sub {
						if oldest == 0 {
							oldest = tag
						}
						want = append(want, d.number)
						timedOut = max(timedOut, tag)
						delete(model, tag)
					}
				}
				if d := w.oldest(sub); (d == nil) != (oldest == 0) || d != nil && d.at() != oldest {
					t.Fatalf("the oldest delivery is %v, want that of %d", d, oldest)
				}
				if got := w.timeOut(sub); !slices.Equal(got, want) {
					t.Fatalf("%v timed out, want %v", got, want)
				}
			},
			"look up": func(t *rapid.T) {
				tag := anyTag.Draw(t, "tag")
				want, found := model[tag]
				if d := w.at(tag); d != nil && d.sub != nil && *d != want || (d != nil && d.sub != nil) != found {
					t.Fatalf("at(%d) is %v, want %v", tag, d, want)
				}
			},
			"commit": func(*rapid.T) {
				for tag, d := range model {
					if d.held {
						w.remove(w.at(tag))
						delete(model, tag)
					}
				}
				w.trim()
			},
			"roll back": func(*rapid.T) {
				w.rollback()
				for tag, d := range model {
					d.held = false
					model[tag] = d
				}
			},
			"": func(t *rapid.T) {
				if w.live != uint64(len(model)) {
					t.Fatalf("%d deliveries outstanding, want %d", w.live, len(model))
				}
				if len(model) > 0 && w.list[w.head].sub == nil {
					t.Fatalf("the window starts with a hole")
				}
			},
		})
	})
}

// One delivery that is never settled must not make the window grow with those
// that come and go after it, or that need no acknowledgement.
func TestUnackedWindowMemory(t *testing.T) {
	t.Parallel()
	var w unackedWindow
	w.add(delivery{tag: 1, sub: &subscription{}})
	for i := range uint64(1_000_000) {
		tag := 2 + 1000*i
		w.add(delivery{tag: tag, sub: &subscription{}})
		w.each(tag, false, w.remove)
		w.trim()
	}
	if w.live != 1 || cap(w.list) > 64 {
		t.Errorf("%d deliveries are kept in a window of %d", w.live, cap(w.list))
	}
}

func BenchmarkUnackedWindow(b *testing.B) {
	b.ReportAllocs()
	var w unackedWindow
	sub := &subscription{}
	for tag := range uint64(b.N) {
		w.add(delivery{tag: tag, sub: sub})
		if tag >= 1000 {
			w.each(tag-1000, false, w.remove)
			w.trim()
		}
	}
}
