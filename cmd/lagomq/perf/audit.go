// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import "iter"

// The audit compares what the producers sent with what the consumers took. It
// runs when the producers' connections have ended, so that their state is no
// longer anyone's.
//
// With confirms it asks for every message that was confirmed, neither nacked nor
// returned; without, for every message that was published. A message is asked
// for in each queue that has consumers and that the exchange routes it to.
// Messages too small for an identity are only counted.

// missing returns how many messages were not delivered.
func (r *run) missing() uint64 {
	var n uint64
	for q := range r.consumedQueues() {
		n += r.missingIn(q)
	}
	if r.named() && r.options.confirm > 0 {
		return n
	}
	// It is not known which ones were returned.
	return n - min(n, r.totals().returned)
}

// delivered reports whether nothing is missing. It is quick as long as much is.
func (r *run) delivered() bool {
	var due, got uint64
	for q := range r.consumedQueues() {
		for p := range r.producersOf(q) {
			due += p.due()
		}
		got += r.receipts[q].count()
	}
	return got+r.totals().returned >= due && r.missing() == 0
}

func (r *run) missingIn(queue int) uint64 {
	got := r.receipts[queue]
	got.mu.Lock()
	defer got.mu.Unlock()
	var due, missing uint64
	for p := range r.producersOf(queue) {
		due += p.due()
		if r.named() {
			missing += p.missing(&got.byProducer[p.id])
		}
	}
	if r.named() {
		return missing
	}
	return due - min(due, got.unnamed)
}

// due returns how many messages of the producer each of its queues has to
// deliver.
func (p *producer) due() uint64 {
	if p.confirms == nil {
		return p.last
	}
	return p.confirms.answered.size - min(p.confirms.refused.size, p.confirms.answered.size)
}

// missing returns how many messages of the producer are due and not in got.
func (p *producer) missing(got *seqSet) uint64 {
	if p.confirms == nil {
		return p.last - min(p.last, got.size)
	}
	return p.confirms.answered.without(&p.confirms.refused, got)
}

// named reports whether messages have room for an identity.
func (r *run) named() bool { return r.options.size >= stampSize }

// consumedQueues yields the indexes of the queues that have consumers, which
// take the queues in turn.
func (r *run) consumedQueues() iter.Seq[int] {
	n := min(len(r.topology.queues), r.options.consumers*r.options.consumerChannels)
	return func(yield func(int) bool) {
		for q := range n {
			if !yield(q) {
				return
			}
		}
	}
}

// producersOf yields the producers whose messages the queue gets.
func (r *run) producersOf(queue int) iter.Seq[*producer] {
	return func(yield func(*producer) bool) {
		for _, pc := range r.producers {
			for _, p := range pc.producers {
				if r.topology.routes(p.id, queue) && !yield(p) {
					return
				}
			}
		}
	}
}
