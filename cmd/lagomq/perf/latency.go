// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are kept in microseconds with three significant digits; longer ones
// count as the longest.
const longestLatency = int64(10 * time.Minute / time.Microsecond)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, longestLatency, 3) }

// recorder collects the latencies seen by one connection. Messages that were
// sent at one moment and arrive at one moment are recorded together, so that
// every message counts and a burst costs a single update.
type recorder struct {
	mu   sync.Mutex
	hist *hdrhistogram.Histogram // guarded by mu; what was not collected yet
}

func newRecorder() *recorder { return &recorder{hist: newHistogram()} }

// record adds n messages that took the given number of nanoseconds.
func (r *recorder) record(nanoseconds, n int64) {
	us := min(max(nanoseconds/int64(time.Microsecond), 0), longestLatency)
	r.mu.Lock()
	defer r.mu.Unlock()
	// The value is in range, the only thing that could fail.
	_ = r.hist.RecordValues(us, n)
}

// collect moves everything recorded so far into dst.
func (r *recorder) collect(dst *hdrhistogram.Histogram) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dst.Merge(r.hist)
	r.hist.Reset()
}

// sends counts consecutive messages with the same send time, to be recorded at
// once. Its owner is one goroutine.
type sends struct {
	into *recorder
	sent int64
	n    int64
}

// add counts a message that was sent at the given time and arrived at now.
func (s *sends) add(sent, now int64) {
	if sent != s.sent {
		s.flush(now)
		s.sent = sent
	}
	s.n++
}

// flush records what was counted; to be called before now changes.
func (s *sends) flush(now int64) {
	if s.n > 0 {
		s.into.record(now-s.sent, s.n)
		s.n = 0
	}
}
