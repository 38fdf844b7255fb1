// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import "sync"

// arrivals are the messages of this run that one consumer has taken and not yet
// committed. Its owner is one goroutine.
type arrivals struct {
	ids     []identity
	unnamed uint64 // messages without an identity
}

func (a *arrivals) add(id identity) {
	if id == 0 {
		a.unnamed++
		return
	}
	a.ids = append(a.ids, id)
}

// receipts are the messages of this run that the consumers of one queue have
// taken.
type receipts struct {
	mu         sync.Mutex
	byProducer []seqSet // guarded by mu; messages with an identity
	unnamed    uint64   // guarded by mu; messages without
	duplicates uint64   // guarded by mu; messages taken again
}

func newReceipts(producers int) *receipts { return &receipts{byProducer: make([]seqSet, producers)} }

// commit moves the arrivals into the receipts.
func (r *receipts) commit(a *arrivals) {
	if len(a.ids) == 0 && a.unnamed == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unnamed += a.unnamed
	for _, id := range a.ids {
		// An unknown producer is a foreign message with our run by accident.
		if p := id.producer(); p < len(r.byProducer) && !r.byProducer[p].add(id.sequence()) {
			r.duplicates++
		}
	}
	a.ids, a.unnamed = a.ids[:0], 0
}

// count returns how many different messages have been taken.
func (r *receipts) count() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.unnamed
	for i := range r.byProducer {
		n += r.byProducer[i].size
	}
	return n
}

// repeated returns how many messages have been taken more than once.
func (r *receipts) repeated() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.duplicates
}
