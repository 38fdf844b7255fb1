// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Limits of a queue (RabbitMQ 4.3, queue length limits): how many ready messages it
// may have, and how many bytes their bodies. What is beyond leaves at the head, or is
// refused. What leaves does not count any more.

// bounds are the limits of a queue as its shell looks at them with each step.
type bounds struct {
	most, mostBytes int64 // unset for no limit
	overflow        overflow
	set             bool // there is a limit
}

// boundLocked makes the limits of settings the queue's.
func (q *Queue) boundLocked(s *settings) {
	b := bounds{most: s.maxLength, mostBytes: s.maxBytes, overflow: s.overflow}
	b.set = b.most != unset || b.mostBytes != unset
	if b == q.bounds {
		return
	}
	if (b.mostBytes != unset) != (q.bounds.mostBytes != unset && q.bounds.set) {
		q.engine.Weigh(b.mostBytes != unset)
	}
	q.bounds = b
	q.steps++
	q.roomLocked()
}

// refuses says whether the queue refuses messages that are too many.
func (b *bounds) refuses() bool { return b.set && b.overflow != dropHead }

// limitStep is about how many messages leave, as they are too many, under one hold of
// the queue's lock. More is only too much when limits are lowered by far.
const limitStep = 8192

// limitLocked makes the messages beyond the limits leave, and drops dead letters
// that wait for room elsewhere and are too many: a step of them, after which the timer
// goes on. It reports whether it is to be called once more, after what others make of
// that has been carried out.
func (q *Queue) limitLocked() bool {
	q.crowded = false
	if q.bounds.overflow == dropHead {
		q.crowded = q.engine.ExpelOver(q.bounds.most, q.bounds.mostBytes, limitStep, &q.fx)
	}
	if q.blocked.Load() && q.dropWaitingLocked() {
		q.crowded = true
	}
	if q.crowded {
		q.wakeAtLocked(q.vhost.hosts.timers.now())
	}
	return !q.crowded && len(q.fx.Dead)+len(q.fx.Marked)+len(q.fx.Done)+len(q.fx.Loads) > 0
}

// dropWaitingLocked drops the oldest of the messages that wait for room in another
// queue, as many as are beyond the limits of this one, or a step of them: then it
// reports that there may be more.
func (q *Queue) dropWaitingLocked() (more bool) {
	for dropped := 0; q.bounds.set && q.overLocked(); dropped++ {
		if dropped == limitStep {
			return true
		}
		var gone queue.Interval
		switch {
		case len(q.letters) > 0:
			b := &q.letters[0]
			gone = b.numbers(0, 1)
			letter := b.split(1)
			letter.page.Release()
			if b.Count == 0 {
				b.page.Release()
				q.letters = slices.Delete(q.letters, 0, 1)
			}
		case len(q.dead) > 0:
			q.scatterLocked() // what is being gathered are the first ones
			d := &q.dead[0]
			first := d.split(1)
			gone = first.Numbers()
			if d.Count == 0 {
				q.passLocked(1)
			}
		default:
			return false
		}
		q.stats.LettersLost++
		if err := q.engine.SettleLeaving([]queue.Interval{gone}, &q.fx); err != nil {
			q.vhost.hosts.broken(q, err)
		}
	}
	return false
}

// overLocked says whether the queue's dead letters are beyond its limits.
func (q *Queue) overLocked() bool {
	b := &q.bounds
	return b.most != unset && int64(q.engine.Leaving()) > b.most ||
		b.mostBytes != unset && q.engine.LeavingBytes() > uint64(b.mostBytes)
}

// hasRoom says whether the queue takes another message, if that is small enough.
func (q *Queue) hasRoom() bool {
	b := &q.bounds
	return (b.most == unset || int64(q.engine.Ready()) < b.most) &&
		(b.mostBytes == unset || q.engine.ReadyBytes() <= uint64(b.mostBytes))
}

// refusal is which messages of a publication a queue has refused.
type refusal struct {
	queue    *Queue
	messages queue.Bitmap
	steps    uint64 // Queue.steps before
}

// fitting is how many messages of a page from one on the queue takes before one does
// not fit.
func (q *Queue) fitting(page *queue.Page, from uint32) (n uint32) {
	b := &q.bounds
	most, size := uint32(page.Len())-from, uint64(0)
	if b.most != unset {
		most = uint32(max(0, min(int64(most), b.most-int64(q.engine.Ready()))))
	}
	for ; n < most && b.mostBytes != unset; n++ {
		if size += page.BodySize(int(from + n)); q.engine.ReadyBytes()+size > uint64(b.mostBytes) {
			return n
		}
	}
	return most
}

// takeLocked puts those messages of a publication at the end of a queue that
// refuses what is too many which fit, one after the other: what a consumer takes at
// once does not count for the next. It notes the others in the publication.
func (q *Queue) takeLocked(p *Publication) {
	n := uint32(p.page.Len())
	dead := q.bounds.overflow == rejectPublishDLX && q.settings.Load().deadLetters != nil
	first := uint32(0) // the first message that fits
	for first < n && q.fitting(p.page, first) == 0 {
		first++
	}
	refused := refusal{queue: q, steps: q.steps}
	refused.messages.SetRange(0, first)
	if first < n || dead {
		run := q.engine.AppendHeld(q.level(p.priority), p.page, p.shareLocked(q))
		for i := first; i < n; {
			if fitting := q.fitting(p.page, i); fitting > 0 {
				q.engine.Admit(run, i, fitting)
				i += fitting
				q.handOutLocked(0) // which may make room
				continue
			}
			refused.messages.Set(i)
			i++
		}
		for i := refused.messages.NextSet(0, n); i < n; {
			end := refused.messages.NextClear(i, n)
			q.engine.Refuse(run, i, end-i, dead, &q.fx)
			i = refused.messages.NextSet(end, n)
		}
		q.dispatchAtLocked(p.page.Arrived())
		q.keepLocked(p, run)
	}
	count := uint64(refused.messages.Count())
	q.stats.Published += uint64(n) - count
	q.stats.Refused += count
	// A dead letter that goes on to this queue's dead letter exchange has been taken.
	if count > 0 && !(dead && p.mailed) {
		p.refused = append(p.refused, refused)
	}
}

// tellRefused returns which messages at least one queue has refused, nil if there are
// none, and tells w, which may be nil.
func tellRefused(refused []refusal, w persistence.Waiter) *queue.Bitmap {
	if len(refused) == 0 {
		return nil
	}
	all := new(queue.Bitmap)
	for i := range refused {
		all.SetAll(&refused[i].messages)
	}
	if r, ok := w.(RefusalWaiter); ok {
		r.Refused(all)
	}
	return all
}

// RefusalWaiter is a [persistence.Waiter] that is told, before Durable, which
// messages of its publication were refused by a queue that had no room for them.
type RefusalWaiter interface {
	persistence.Waiter
	Refused(messages *queue.Bitmap)
}

// waitForRoom has the queue's letters wait until a queue that refused some of them
// has room. Called without locks.
func (q *Queue) waitForRoom(r *refusal) {
	t := r.queue
	t.mu.Lock()
	wait := !t.deleted && t.steps == r.steps
	if wait && !slices.Contains(t.waiting, q) {
		t.waiting = append(t.waiting, q)
	}
	t.mu.Unlock()
	if !wait {
		q.roomMade()
	}
}

// roomMade lets the queue's letters go on that waited for room in another queue.
// It may be called under another queue's lock.
func (q *Queue) roomMade() {
	q.blocked.Store(false)
	q.vhost.hosts.forwarder.leave(q)
}

// stepLocked notes what is ready in a queue with limits, after anything that may have
// changed it. Only a change is a step: who waits for room is not to try again for
// less, as queues that wait for each other, or one that waits for itself, would then
// never come to rest.
func (q *Queue) stepLocked() {
	ready, bytes := q.engine.Ready(), q.engine.ReadyBytes()
	if ready == q.ready && bytes == q.readyBytes {
		return
	}
	q.ready, q.readyBytes = ready, bytes
	q.steps++
	q.roomLocked()
}

// roomLocked tells those whose letters wait for room in this queue, if there is any.
func (q *Queue) roomLocked() {
	if len(q.waiting) == 0 {
		return
	}
	if q.deleted || !q.bounds.refuses() || q.hasRoom() {
		for _, source := range q.waiting {
			source.roomMade()
		}
		q.waiting = nil
	}
}
