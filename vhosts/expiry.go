// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Messages expire (RabbitMQ 4.3, time-to-live): by the queue's x-message-ttl or
// policy key message-ttl, or by their own expiration, whichever is earlier. Unlike
// with RabbitMQ this is so for each message when its time has come, wherever in the
// queue it is. One that has expired is never handed out: before a queue hands out
// anything it expels what is due. What is due when nothing else happens is expelled
// by the timer.

const (
	// expireStep is about how many messages are expelled under one hold of a queue's
	// lock.
	expireStep = 8192
	// expirePace is how many milliseconds lie at least between two ticks in which
	// messages of a queue become due: what is due in between goes together.
	expirePace = 50
)

// dispatchTimedLocked is dispatchLocked for a queue in which messages become due. A
// message whose time to live is 0 may be handed out as it comes, or never.
func (q *Queue) dispatchTimedLocked(now uint64) {
	if _, all := q.expireLocked(now - 1); !all {
		return // some of what is ready is due
	}
	q.dealLocked(now)
	if some, _ := q.expireLocked(now); some {
		q.dealLocked(now) // who waited for the page of what has expired gets what comes after it
	}
}

// expireLocked expels what is due at a time and asks for a tick when more will be. It
// reports whether there was some, and whether that is all that is due already.
func (q *Queue) expireLocked(now uint64) (some, all bool) {
	reason := queue.Expired
	if q.delays {
		reason = queue.Due
	}
	next := q.engine.Expire(now, reason, expireStep, &q.fx)
	if some = len(q.fx.Dead) > 0; some {
		q.expelledAt = now
	}
	if some || len(q.fx.Stamps) > 0 {
		q.applyLocked()
	}
	if next > 0 {
		q.wakeAtLocked(max(next, q.paceLocked(now)))
	}
	return some, next == 0 || next > now
}

// paceLocked is when what is due is expelled next, at the earliest.
func (q *Queue) paceLocked(now uint64) uint64 {
	return min(q.expelledAt, now) + expirePace // the clock may have gone back
}

// readStampsLocked has the stamps of runs read, for stamped.
func (q *Queue) readStampsLocked(runs []*queue.Run) {
	for len(runs) > 0 {
		n := min(len(runs), stampsBatch)
		wanted := make([]wantedRun, n)
		for i, r := range runs[:n] {
			share, _ := r.Stored.(*persistence.Share)
			wanted[i] = wantedRun{r, share, r.Count}
		}
		p := q.vhost.hosts.pages
		p.do(func() { q.stamped(p.stampsOf(wanted)) })
		runs = runs[n:]
	}
}

// stampsBatch is for how many runs stamps are read at a time: their stamps are all in
// memory then.
const stampsBatch = 64

// loadedStamps is the answer for one run.
type loadedStamps struct {
	run    *queue.Run
	stamps []queue.Stamp // of all messages
	err    error
}

// stamped feeds back stamps that a page reader has read from the store.
func (q *Queue) stamped(loaded []loadedStamps) {
	q.mu.Lock()
	var read answers
	for i := range loaded {
		if l := &loaded[i]; !q.deleted && l.run.Done() || read.takeLocked(q, l.run, l.err) {
			q.engine.Stamped(l.run, func(i int) queue.Stamp { return l.stamps[i] })
		}
	}
	read.retryLocked(q, q.engine.StampsFailed)
	now := q.vhost.hosts.timers.now()
	q.wakeAtLocked(max(now, q.paceLocked(now))) // what is due of them leaves together with others
	q.mu.Unlock()
	tellCancelled(read.cancelled)
}

// parseStamps returns the stamps of a run of count messages from their stored form.
func parseStamps(stored []byte, arrived uint64, count uint32) ([]queue.Stamp, error) {
	stamps := make([]queue.Stamp, count)
	for i := range stamps {
		stamps[i].Arrived = arrived
	}
	known := 0
	err := queue.ParseStamps(stored, arrived, func(i int, s queue.Stamp) {
		if known = i + 1; i < len(stamps) {
			stamps[i] = s
		}
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", persistence.ErrDamaged, err)
	case known > len(stamps):
		return nil, fmt.Errorf("%w: a run of %d messages has %d stamps", persistence.ErrDamaged, count, known)
	}
	return stamps, nil
}

// stampsOf reads the stamps of wanted runs.
func (p *pageReaders) stampsOf(wanted []wantedRun) (loaded []loadedStamps) {
	shares := make([]*persistence.Share, len(wanted))
	for i, w := range wanted {
		shares[i] = w.share
	}
	p.store.ReadStamps(shares, func(i int, arrived uint64, stored []byte, err error) {
		l := loadedStamps{run: wanted[i].run, err: err}
		if err == nil {
			l.stamps, l.err = parseStamps(stored, arrived, wanted[i].count)
		}
		loaded = append(loaded, l)
	})
	return loaded
}
