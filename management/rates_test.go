// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	t.Parallel()
	queue, other := subject{vhost: "/", queue: "q"}, subject{vhost: "/", queue: "other"}
	count := func(in, ready uint64) (c counts) {
		c[published], c[messagesReady] = in, ready
		return c
	}
	var r rates
	start := time.Unix(1000, 0)
	for _, step := range []struct {
		name             string
		at               int // seconds
		found            map[subject]counts
		published, ready float64 // of queue
	}{
		{"the first sample has nothing before it", 0, map[subject]counts{queue: count(100, 100)}, 0, 0},
		{"counters and gauges grow", 5, map[subject]counts{queue: count(150, 110)}, 10, 2},
		{"only gauges fall", 10, map[subject]counts{queue: count(150, 10)}, 0, -20},
		{"a lower counter began again at 0", 15, map[subject]counts{queue: count(5, 10)}, 1, 0},
		{"what does not exist has no rates", 20, map[subject]counts{other: count(5, 5)}, 0, 0},
		{"what is new began at 0", 30, map[subject]counts{queue: count(20, 10)}, 2, 1},
		{"no time has passed", 30, map[subject]counts{queue: count(90, 90)}, 0, 0},
	} {
		r.record(start.Add(time.Duration(step.at)*time.Second), noting(step.found))
		got := r.of(queue)
		if got[published] != step.published || got[messagesReady] != step.ready {
			t.Errorf("%s: %v and %v per second, want %v and %v", step.name, got[published], got[messagesReady], step.published, step.ready)
		}
		if len(r.samples) != len(step.found) {
			t.Errorf("%s: %d samples kept of %d subjects", step.name, len(r.samples), len(step.found))
		}
	}
}

// noting is how a measurement tells what it found.
func noting(found map[subject]counts) func(note func(subject, counts)) {
	return func(note func(subject, counts)) {
		for subject, counts := range found {
			note(subject, counts)
		}
	}
}

// BenchmarkRecord shows what a sample of many objects costs on top of taking it.
func BenchmarkRecord(b *testing.B) {
	found := map[subject]counts{}
	for i := range 10_000 {
		found[subject{connection: uint64(i)}] = counts{}
	}
	var r rates
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.record(time.Unix(int64(i), 0), noting(found))
	}
}
