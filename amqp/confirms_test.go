// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestConfirms compares confirms with a list that says of each publish whether
// it is decided.
func TestConfirms(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type openRange struct{ handle, from, to uint64 }
		var c confirms
		var decided []bool // of publish i+1
		refused := map[uint64]bool{}
		var open []openRange
		acked := uint64(0)
		count := rapid.Uint64Range(1, 5)
		t.Repeat(map[string]func(*rapid.T){
			"decide": func(t *rapid.T) {
				n := count.Draw(t, "count")
				c.decide(n)
				decided = append(decided, slices.Repeat([]bool{true}, int(n))...)
			},
			"open": func(t *rapid.T) {
				n, from := count.Draw(t, "count"), uint64(len(decided))
				open = append(open, openRange{c.open(n), from, from + n})
				decided = append(decided, make([]bool, n)...)
			},
			"settle": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("nothing is open")
				}
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				c.settle(open[i].handle)
				for n := open[i].from; n < open[i].to; n++ {
					decided[n] = true
				}
				open = slices.Delete(open, i, i+1)
			},
			"refuse": func(t *rapid.T) {
				if len(open) == 0 {
					t.Skip("nothing is open")
				}
				o := rapid.SampledFrom(open).Draw(t, "which")
				for n := o.from + 1; n <= o.to; n++ {
					if !refused[n] && rapid.Bool().Draw(t, "refused") {
						refused[n] = true
						c.refuse(n)
					}
				}
			},
			"take": func(t *rapid.T) {
				want := acked
				for want < uint64(len(decided)) && decided[want] && refused[want+1] == refused[acked+1] {
					want++
				}
				tag, multiple, nack, ok := c.take()
				if ok != (want > acked) || ok && (tag != want || multiple != (want-acked > 1) || nack != refused[want]) {
					t.Fatalf("take: %d, multiple %t, nack %t, %t after %d with %v, refused %v", tag, multiple, nack, ok, acked, decided, refused)
				}
				acked = want
			},
			"": func(t *rapid.T) {
				if want := uint64(len(decided)) - acked; c.unconfirmed() != want {
					t.Fatalf("%d unconfirmed, want %d", c.unconfirmed(), want)
				}
			},
		})
	})
}

// The list of ranges must not grow with what was confirmed long ago, even if
// something is open all the time.
func TestConfirmsMemory(t *testing.T) {
	t.Parallel()
	var c confirms
	previous := c.open(1)
	for range 1_000_000 {
		next := c.open(1)
		c.settle(previous)
		c.take()
		previous = next
	}
	if cap(c.ranges) > 1024 {
		t.Errorf("one open range is kept in a list of %d", cap(c.ranges))
	}
}
