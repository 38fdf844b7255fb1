// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"math/bits"

	"github.com/lagomq/lagomq/vhosts/queue"
)

// waitedBounds is how many bounds the histogram of times in a queue has: 1 ms, and each
// four times the one before, up to three days.
const waitedBounds = 15

// Waited is how long messages were in a queue, from their arrival until they were handed
// out for the first time, as a histogram. A range of neighbours counts with the wait of
// its first message.
type Waited struct {
	Counts [waitedBounds + 1]uint64 // by WaitedBound; the last is of those beyond all bounds
	Sum    uint64                   // of all waits, in milliseconds
}

// WaitedBound is the longest wait, in milliseconds, that Counts[i] counts; false for
// the last one, which has no bound.
func WaitedBound(i int) (milliseconds uint64, ok bool) {
	return 1 << (2 * i), i < waitedBounds
}

// observe counts the messages of a delivery that is made at a time, in milliseconds
// since 1970.
func (w *Waited) observe(d *queue.Delivery, now uint64) {
	arrived := d.Page.Stamp(int(d.From)).Arrived
	if arrived == 0 || d.Redelivered {
		return
	}
	wait := max(now, arrived) - arrived
	w.Counts[min((bits.Len64(max(wait, 1)-1)+1)/2, waitedBounds)] += uint64(d.Count)
	w.Sum += wait * uint64(d.Count)
}
