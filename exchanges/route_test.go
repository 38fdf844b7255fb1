// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Routing on a warm Scratch is on the path of every message.
func TestRouteDoesNotAllocate(t *testing.T) {
	r := NewRouter[*int]("/")
	for i := range 40 {
		name := fmt.Sprint("q", i)
		r.AddQueue(name, new(int))
		for _, b := range []Binding[*int]{
			{Source: "amq.direct", Key: "a.b.c"},
			{Source: "amq.fanout"},
			{Source: "amq.topic", Key: fmt.Sprint("#.b.#.w", i)},
			{Source: "amq.topic", Key: "#.b.*"},
			{Source: "amq.topic", Key: "a.*.c"},
		} {
			b.Destination = name
			mustBind(t, r, b)
		}
	}
	for _, name := range []string{"", "amq.direct", "amq.fanout", "amq.topic"} {
		x, _ := r.Exchange(name)
		var s Scratch[*int]
		p := Publish[*int]{Exchange: x, Key: []byte("a.b.c"), CC: []string{"q1", "x.b.c"}}
		var reached int
		if allocs := testing.AllocsPerRun(100, func() { reached = len(r.Route(&s, p)) }); allocs != 0 {
			t.Errorf("%q: %v allocations", name, allocs)
		}
		if reached == 0 {
			t.Errorf("%q: reached no queue", name)
		}
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s set[int]
		for range 3 { // what is left from before a reset must not show
			s.reset()
			var want []int
			for _, v := range rapid.SliceOfN(rapid.IntRange(0, 40), 0, 80).Draw(t, "values") {
				has := slices.Contains(want, v)
				if !has {
					want = append(want, v)
				}
				if !has && v%2 == 0 { // addNew and add may alternate
					s.addNew(v)
				} else if s.add(v) == has {
					t.Fatalf("add(%d) to %v: %t", v, want, !has)
				}
			}
			if !slices.Equal(s.list, want) {
				t.Fatalf("got %v, want %v", s.list, want)
			}
		}
	})
}
