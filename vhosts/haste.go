// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// passesLocked reports whether a run that has just come is expected to be settled at
// once. It is not if there is nobody to settle it.
func (q *Queue) passesLocked(run *queue.Run) bool {
	if len(q.engine.Consumers()) == 0 && !run.HandedOut() {
		return false
	}
	share, ok := run.Stored.(*persistence.Share)
	return ok && q.haste.expects(q.vhost.hosts.store, share)
}

// haste tells from how a queue's consumers settled what they got whether they will settle
// what they get now before the store has to write it: then it had better wait a moment,
// see [persistence.Run.Fleeting]. If they do not, that costs the publisher the moment, so
// each disappointment doubles the number of runs that are not waited for, and each run
// that is settled in time halves it. Guarded by Queue.mu.
type haste struct {
	doubt   uint32             // how many runs are not waited for after a disappointment
	pass    uint32             // of these, those that are yet to come
	watched *persistence.Share // of a run that is waited for, which tells of disappointment as soon as it is written
}

// mostDoubt bounds the doubt: one run in so many is waited for at least, to see whether
// the consumers have become faster.
const mostDoubt = 1 << 10

// expects reports whether a run, of which the queue has the share, is expected to be
// settled at once.
func (h *haste) expects(store *persistence.Store, share *persistence.Share) bool {
	if h.watched != nil {
		switch store.Fate(h.watched) {
		case persistence.Waiting:
			return true
		case persistence.Written:
			h.doubt = min(2*h.doubt+1, mostDoubt)
			h.pass = h.doubt
		}
		h.watched = nil
	}
	if h.pass > 0 {
		h.pass--
		return false
	}
	h.watched = share
	return true
}

// settled learns from a run that is settled.
func (h *haste) settled(store *persistence.Store, share *persistence.Share) {
	if store.Fate(share) != persistence.Written {
		h.doubt /= 2
		h.pass = min(h.pass, h.doubt)
	}
}
