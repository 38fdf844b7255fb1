// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import "github.com/lagomq/lagomq/vhosts/queue"

// passesLocked reports whether a run that has just come is expected to be settled at
// once. It is not if there is nobody to settle it.
func (q *Queue) passesLocked(run *queue.Run) bool {
	return (len(q.engine.Consumers()) > 0 || run.HandedOut()) && q.haste.expected()
}

// haste tells from how a queue's consumers settled what they got whether they will settle
// what they get now before the store has to write it: then it had better wait a moment,
// see [persistence.Run.Fleeting]. If they do not, that costs the publisher the moment, so
// each disappointment doubles the number of runs that are not waited for, and each run
// that is settled in time halves it. Guarded by Queue.mu.
type haste struct {
	doubt uint32 // how many runs are not waited for after a disappointment
	pass  uint32 // of these, those that are yet to come
}

// mostDoubt bounds the doubt: one run in so many is waited for at least, to see whether
// the consumers have become faster.
const mostDoubt = 1 << 10

// expected reports whether a run is expected to be settled at once.
func (h *haste) expected() bool {
	if h.pass > 0 {
		h.pass--
		return false
	}
	return true
}

// observe learns from a run that is settled: spared if it was in time, held if the store
// had waited for that.
func (h *haste) observe(spared, held bool) {
	switch {
	case spared:
		h.doubt /= 2
		h.pass = min(h.pass, h.doubt)
	case held:
		h.doubt = min(2*h.doubt+1, mostDoubt)
		h.pass = h.doubt
	}
}
