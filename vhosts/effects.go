// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Carrying out what a queue's engine decides.

func (q *Queue) dispatchLocked() { q.dispatchAtLocked(0) }

// dispatchAtLocked hands out what can be handed out. at is the time by which
// messages expire, 0 for the current time.
func (q *Queue) dispatchAtLocked(at uint64) {
	q.touched = true
	if q.deleted || q.damaged != nil {
		q.applyLocked()
		return
	}
	q.handOutLocked(at)
	if q.bounds.set {
		for q.limitLocked() {
			q.applyLocked()
			q.handOutLocked(at) // who waited for what has left is to be told
		}
		if q.crowded {
			q.applyLocked()
		}
		q.stepLocked()
	}
}

// handOutLocked hands out what can be handed out, within or beyond the limits.
func (q *Queue) handOutLocked(at uint64) {
	if q.engine.Timed() {
		if at == 0 {
			at = q.vhost.hosts.timers.now()
		}
		q.dispatchTimedLocked(at)
		return
	}
	q.dealLocked(at)
}

// dealLocked hands out what can be handed out, whether it is due or not.
func (q *Queue) dealLocked(at uint64) {
	for more := true; more; {
		more = q.engine.Dispatch(&q.fx)
		q.applyAtLocked(at)
	}
}

// applyLocked carries out the effects of the steps since the last call:
// deliveries first, then what the store has to know, then pages to load.
func (q *Queue) applyLocked() { q.applyAtLocked(0) }

// applyAtLocked is applyLocked at a time, 0 for the current one.
func (q *Queue) applyAtLocked(at uint64) {
	defer q.fx.Reset() // also if a sink panics: nothing is delivered twice
	if len(q.fx.Deliveries) > 0 {
		if at == 0 {
			at = q.vhost.hosts.timers.now()
		}
		if q.timeouts.shortest > 0 {
			q.markLocked()
		}
		for i := range q.fx.Deliveries {
			q.deliverLocked(&q.fx.Deliveries[i], at)
		}
	}
	q.answerEmptyLocked(q.fx.Empty)
	q.departLocked()
	q.collectLocked()
	q.proposeLocked()
	if len(q.fx.Loads) > 0 {
		q.vhost.hosts.pages.read(q, q.fx.Loads)
	}
	q.readStampsLocked(q.fx.Stamps)
	q.engine.ReleasePages()
}

// collectLocked turns what the engine settled into records for the store.
func (q *Queue) collectLocked() {
	for _, r := range q.fx.Marked {
		if share, ok := r.Stored.(*persistence.Share); ok && !r.Done() {
			q.records = append(q.records, persistence.Settle(share, persistence.Settled(r.Settled())))
		}
	}
	if len(q.fx.Counted) > 1 { // each run once: what is stored of it may be large
		slices.SortFunc(q.fx.Counted, func(a, b *queue.Run) int { return cmp.Compare(a.First, b.First) })
		q.fx.Counted = slices.Compact(q.fx.Counted)
	}
	for _, r := range q.fx.Counted {
		if share, ok := r.Stored.(*persistence.Share); ok && !r.Done() && !r.Volatile {
			q.records = append(q.records, persistence.Count(share, r.AppendTallies(nil)))
		}
	}
	for _, r := range q.fx.Done {
		if share, ok := r.Stored.(*persistence.Share); ok {
			q.haste.settled(q.vhost.hosts.store, share)
			q.records = append(q.records, persistence.Drop(share))
		}
	}
	for _, i := range q.fx.Forgotten {
		q.records = append(q.records, persistence.Forget(q.id, i.First, i.End))
	}
	for _, r := range q.fx.Spills {
		q.spillLocked(r)
	}
}

// spillLocked stores the page of a run that is in memory only, so that it can be
// let go of.
func (q *Queue) spillLocked(r *queue.Run) {
	r.Page.Hold() // the store's
	run := newRun(r.Page, true)
	if q.engine.Spilled(r, run.Share(q.id, r.First, r.Count, r.Bytes)) {
		q.records = append(q.records, persistence.PutRun(run))
	} else {
		r.Page.Release()
	}
}

func (q *Queue) proposeLocked() {
	if len(q.records) > 0 && !q.holding {
		q.vhost.hosts.store.Propose(0, nil, q.records...)
		q.forgetRecordsLocked()
	}
}

func (q *Queue) forgetRecordsLocked() {
	clear(q.records)
	if cap(q.records) > keptRecords {
		q.records = nil
	}
	q.records = q.records[:0]
}

// keptRecords is how many records a queue keeps room for after a large step.
const keptRecords = 4096

// deliverLocked hands one delivery to its sink, or returns its messages if the
// channel is gone.
func (q *Queue) deliverLocked(d *queue.Delivery, now uint64) {
	n := uint64(d.Count)
	if !d.Consumer.Sink.Deliver(d) {
		if d.Consumer.NoAck {
			return // settled when handed out, as without acknowledgements it always is
		}
		numbers := make([]uint64, 0, d.Count)
		for i := range d.Count {
			numbers = append(numbers, d.Number(i))
		}
		q.engine.Return(numbers)
		q.engine.Credit(d.Consumer, d.Count)
		return
	}
	if d.Redelivered {
		q.stats.Redelivered += n
	}
	q.stats.Waited.observe(d, now)
	switch {
	case d.Get && d.Consumer.NoAck:
		q.stats.GotNo += n
	case d.Get:
		q.stats.Got += n
	case d.Consumer.NoAck:
		q.stats.DeliveredNo += n
	default:
		q.stats.Delivered += n
	}
}

// answerEmptyLocked tells basic.gets that there is no message for them: a
// Delivery with Get set and a Count of 0.
func (q *Queue) answerEmptyLocked(gets []*queue.Consumer) {
	for _, c := range gets {
		q.stats.GetEmpty++
		c.Sink.Deliver(&queue.Delivery{Consumer: c, Get: true})
	}
}

// loaded feeds back pages that a page reader has read from the store.
func (q *Queue) loaded(pages []loadedPage) {
	q.mu.Lock()
	var read answers
	for i := range pages {
		if p := &pages[i]; !p.run.Done() && read.takeLocked(q, p.run, p.err) {
			q.engine.Loaded(p.run, p.page)
		}
	}
	read.retryLocked(q, q.engine.LoadFailed)
	if !q.deleted {
		q.fetchLocked()
		q.dispatchLocked()
		q.trimLocked()
	}
	letters := len(q.letters) > 0
	q.mu.Unlock()
	for i := range pages {
		if pages[i].page != nil {
			pages[i].page.Release()
		}
	}
	tellCancelled(read.cancelled)
	if letters {
		q.vhost.hosts.forwarder.forward(q)
	}
}

// answers are what the store answered a queue that asked for parts of its runs.
type answers struct {
	cancelled []*queue.Consumer // as the queue went out of service
	failed    []*queue.Run      // that could not be read
}

// takeLocked returns true if the answer for a run is there. Otherwise the run stays
// asked for, until retryLocked's retry if it failed.
func (a *answers) takeLocked(q *Queue, r *queue.Run, err error) bool {
	switch {
	case q.deleted || errors.Is(err, persistence.ErrClosed):
		// Nobody waits for it, or it never comes.
	case err == nil:
		return true
	case errors.Is(err, persistence.ErrDamaged):
		a.cancelled = append(a.cancelled, q.breakLocked(err)...)
	default:
		now := time.Now()
		if now.Sub(q.readFailed) >= outageGap {
			q.vhost.hosts.log.Error("cannot read messages, trying again every second",
				"vhost", q.vhost.name, "queue", q.name, "error", err)
		}
		q.readFailed = now
		a.failed = append(a.failed, r)
	}
	return false
}

// retryLocked has the runs that could not be read asked for again in a while, when the
// disk may answer: again makes the engine do so.
func (a *answers) retryLocked(q *Queue, again func(*queue.Run)) {
	if len(a.failed) == 0 {
		return
	}
	time.AfterFunc(loadRetry, func() {
		q.mu.Lock()
		defer q.unlock()
		if q.deleted {
			return
		}
		for _, r := range a.failed {
			again(r)
		}
		q.retryLocked() // what is delayed may have expired
		q.fetchLocked()
		q.dispatchLocked()
	})
}

const (
	// loadRetry is how long a queue waits after a failed read before it reads again.
	loadRetry = time.Second
	// outageGap is for how long no read of a queue has failed when one that does is
	// logged: it belongs to another outage than the last one.
	outageGap = 30 * loadRetry
)
