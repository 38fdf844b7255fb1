// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestOptionsAreInvisible runs one history on brokers with different options,
// with and without restarts, and compares what clients received: none of it may
// depend on that.
func TestOptionsAreInvisible(t *testing.T) {
	t.Parallel()
	for seed := range seeds() {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			plain := simSetup{residentBytes: 1 << 30, pageReaders: 1, memTableSize: 64 << 20, settleDelay: time.Hour}
			want := transcripts(t, seed, plain, nil)
			rng := rand.New(rand.NewPCG(seed, 3))
			for range 3 {
				setup := randomSetup(rng)
				got := transcripts(t, seed, setup, rng)
				for i := range want {
					compareTranscripts(t, setup, got[i], want[i])
				}
			}
		})
	}
}

func compareTranscripts(t *testing.T, setup simSetup, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%+v: delivery %d is %q, want %q", setup, i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%+v: %d deliveries, want %d", setup, len(got), len(want))
	}
}

// transcripts is what each client received in a history. Between its parts no
// consumer is there and nothing is unacknowledged, so that a restart there, which
// happens at random if restarts is not nil, changes nothing.
func transcripts(t *testing.T, seed uint64, setup simSetup, restarts *rand.Rand) (all [][]string) {
	s := newSimulation(seed, setup, 2)
	defer s.stop()
	s.allDurable, s.consumersPerQueue = true, 1
	for range 6 {
		s.run(25, 0)
		for _, c := range s.clients {
			c.rest()
		}
		if restarts != nil && restarts.IntN(2) == 0 {
			s.restart()
		}
	}
	// What is left counts, too.
	for _, c := range s.clients {
		for _, q := range c.sorted() {
			c.drain(q)
		}
	}
	if report := s.report(); report != "" {
		t.Fatalf("%+v: %s", setup, report)
	}
	for _, c := range s.clients {
		all = append(all, c.transcript)
	}
	return all
}

// rest ends all consumers and puts back what they have.
func (c *simClient) rest() {
	if c.sim.stopped.Load() {
		return
	}
	for _, q := range c.sorted() {
		for len(q.consumers) > 0 {
			c.end(q.consumers[0])
		}
	}
	for _, k := range c.holders {
		c.putBack(k, slices.Clone(k.unacked))
	}
	c.holders = nil
	c.settleDown()
}
