// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// totals are the sums over all connections.
type totals struct {
	published, confirmed, nacked, returned uint64
	consumed, redelivered, foreign         uint64
	blocked                                int // producers whose server does not read for now
}

// totals may be called at any time after set-up.
func (r *run) totals() (t totals) {
	for _, pc := range r.producers {
		t.published += pc.stats.published.Load()
		t.confirmed += pc.stats.confirmed.Load()
		t.nacked += pc.stats.nacked.Load()
		t.returned += pc.stats.returned.Load()
		if pc.blocked.Load() {
			t.blocked++
		}
	}
	for _, cc := range r.consumers {
		t.consumed += cc.stats.consumed.Load()
		t.redelivered += cc.stats.redelivered.Load()
		t.foreign += cc.stats.foreign.Load()
	}
	return t
}

// unconfirmed returns how many messages wait for their confirm.
func (r *run) unconfirmed() (n uint64) {
	for _, pc := range r.producers {
		n += pc.unconfirmed()
	}
	return n
}

// result is what --json prints.
type result struct {
	Published   uint64 `json:"published"`
	Confirmed   uint64 `json:"confirmed"`
	Nacked      uint64 `json:"nacked"`
	Returned    uint64 `json:"returned"`
	Unconfirmed uint64 `json:"unconfirmed"` // without an answer at the end
	Consumed    uint64 `json:"consumed"`
	Redelivered uint64 `json:"redelivered"`
	Duplicates  uint64 `json:"duplicates"` // consumed again
	Foreign     uint64 `json:"foreign"`    // consumed, but not published by this run
	Missing     uint64 `json:"missing"`    // published or confirmed, but not consumed
	Verified    bool   `json:"verified"`   // nothing is missing
	Interrupted bool   `json:"interrupted"`

	Elapsed     float64 `json:"elapsed_s"` // from the first publish to the end of the drain
	PublishTime float64 `json:"publish_s"` // until the last write
	ConsumeTime float64 `json:"consume_s"` // from the first delivery to the last
	PublishRate float64 `json:"publish_rate"`
	ConsumeRate float64 `json:"consume_rate"` // messages a second of its time

	Latency        latencies `json:"latency_ms"`         // from publish to delivery
	ConfirmLatency latencies `json:"confirm_latency_ms"` // from publish to confirm
}

// latencies are in milliseconds; all 0 when there are no samples.
type latencies struct {
	Samples int64   `json:"samples"`
	Min     float64 `json:"min"`
	Median  float64 `json:"median"`
	P75     float64 `json:"p75"`
	P95     float64 `json:"p95"`
	P99     float64 `json:"p99"`
	P999    float64 `json:"p999"`
	Max     float64 `json:"max"`
}

func newLatencies(h *hdrhistogram.Histogram) latencies {
	if h.TotalCount() == 0 {
		return latencies{}
	}
	ms := func(us int64) float64 { return float64(us) / 1000 }
	at := func(percentile float64) float64 { return ms(h.ValueAtPercentile(percentile)) }
	return latencies{
		Samples: h.TotalCount(),
		Min:     ms(h.Min()),
		Median:  at(50),
		P75:     at(75),
		P95:     at(95),
		P99:     at(99),
		P999:    at(99.9),
		Max:     ms(h.Max()),
	}
}

// result sums up a run that took the given time. The latencies are the
// printer's.
func (r *run) result(elapsed time.Duration) result {
	t := r.totals()
	res := result{
		Published:   t.published,
		Confirmed:   t.confirmed,
		Nacked:      t.nacked,
		Returned:    t.returned,
		Unconfirmed: r.unconfirmed(),
		Consumed:    t.consumed,
		Redelivered: t.redelivered,
		Foreign:     t.foreign,
		Elapsed:     elapsed.Seconds(),
	}
	for _, receipts := range r.receipts {
		res.Duplicates += receipts.repeated()
	}
	var lastWrite, first, last int64
	for _, pc := range r.producers {
		lastWrite = max(lastWrite, pc.stats.lastWrite.Load())
	}
	for _, cc := range r.consumers {
		if f := cc.stats.firstDelivery.Load(); f > 0 && (first == 0 || f < first) {
			first = f
		}
		last = max(last, cc.stats.lastDelivery.Load())
	}
	res.PublishTime, res.PublishRate = activity(t.published, r.started, lastWrite)
	res.ConsumeTime, res.ConsumeRate = activity(t.consumed, first, last)
	return res
}

// activity returns the seconds between two clock times and the rate of n
// messages in them.
func activity(n uint64, from, to int64) (seconds, rate float64) {
	if n == 0 || to <= from {
		return 0, 0
	}
	seconds = time.Duration(to - from).Seconds()
	return seconds, float64(n) / seconds
}
