// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Everything that happens to a queue because time has passed hangs on one timer
// of the broker: messages that expire or become due, leases that run out,
// consumers that take too long. A queue asks to be woken at the earliest of these
// (Queue.wakeAtLocked), works off what is due then (Queue.tick) and asks again. A
// queue that has nothing to wait for is not in the list and costs nothing.
//
// Times are milliseconds since 1970 on the clock of Options.Clock, as they are
// stored.

// timers is the list of queues that wait for a time, and the goroutine that wakes
// them.
type timers struct {
	clock   func() time.Time
	worker  sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
	changed chan struct{} // the earliest alarm may be another

	mu     sync.Mutex
	alarms alarms
}

// alarm is a queue's entry in the list.
type alarm struct {
	queue *Queue
	at    uint64
	index int // position in the heap plus one, 0 if it is not there
}

// maxTimerSleep bounds how long the goroutine sleeps, so that it notices when the
// system's clock is set.
const maxTimerSleep = time.Second

func newTimers(clock func() time.Time) *timers {
	t := &timers{clock: clock, changed: make(chan struct{}, 1)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// now is the time in milliseconds since 1970.
func (t *timers) now() uint64 { return uint64(t.clock().UnixMilli()) }

func (t *timers) start() { t.worker.Go(t.work) }

// stop ends the goroutine; alarms stay in the list.
func (t *timers) stop() {
	t.cancel()
	t.worker.Wait()
}

func (t *timers) work() {
	timer := time.NewTimer(maxTimerSleep)
	defer timer.Stop()
	for {
		sleep, armed := t.fire()
		if armed {
			timer.Reset(min(sleep, maxTimerSleep))
		} else {
			timer.Stop()
		}
		select {
		case <-timer.C:
		case <-t.changed:
		case <-t.ctx.Done():
			return
		}
	}
}

// fire wakes every queue whose time has come, and returns how long it is until
// the next one's; armed is false if no queue waits.
func (t *timers) fire() (sleep time.Duration, armed bool) {
	for {
		q, sleep, armed := t.next()
		if q == nil {
			return sleep, armed
		}
		q.tick()
	}
}

// next takes a queue whose time has come off the list.
func (t *timers) next() (due *Queue, sleep time.Duration, armed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.alarms) == 0 {
		return nil, 0, false
	}
	first := t.alarms[0]
	if now := t.now(); now < first.at {
		return nil, time.Duration(min(first.at-now, uint64(maxTimerSleep/time.Millisecond))) * time.Millisecond, true
	}
	heap.Pop(&t.alarms)
	return first.queue, 0, true
}

// set puts the queue's alarm at a time, whether it is in the list or not.
func (t *timers) set(a *alarm, at uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.at = at
	if a.index == 0 {
		heap.Push(&t.alarms, a)
	} else {
		heap.Fix(&t.alarms, a.index-1)
	}
	if a.index == 1 {
		select {
		case t.changed <- struct{}{}:
		default:
		}
	}
}

// remove takes the queue's alarm off the list.
func (t *timers) remove(a *alarm) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.index > 0 {
		heap.Remove(&t.alarms, a.index-1)
	}
}

// alarms is a heap by time.
type alarms []*alarm

// Len implements [heap.Interface].
func (a alarms) Len() int { return len(a) }

// Less implements [heap.Interface].
func (a alarms) Less(i, j int) bool { return a[i].at < a[j].at }

// Swap implements [heap.Interface].
func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i+1, j+1
}

// Push implements [heap.Interface].
func (a *alarms) Push(x any) {
	entry := x.(*alarm)
	*a = append(*a, entry)
	entry.index = len(*a)
}

// Pop implements [heap.Interface].
func (a *alarms) Pop() any {
	last := (*a)[len(*a)-1]
	(*a)[len(*a)-1] = nil
	*a = (*a)[:len(*a)-1]
	last.index = 0
	return last
}

// wakeAtLocked asks for a tick at a time, or at an earlier one that was asked for
// before. Whoever makes something due calls it; most calls find that the queue is
// woken before that anyway, and cost a comparison.
func (q *Queue) wakeAtLocked(at uint64) {
	if q.wake != 0 && q.wake <= at || q.deleted {
		return
	}
	q.wake = at
	q.vhost.hosts.timers.set(&q.alarm, at)
}

// tick works off what is due in the queue and asks for the next tick. The timer's
// goroutine calls it, without locks. It may come early, and does nothing then.
func (q *Queue) tick() {
	q.mu.Lock()
	q.wake = 0
	if q.deleted {
		q.mu.Unlock()
		return
	}
	timedOut, last := q.timeOutLocked()
	if q.retryLocked() || timedOut || q.crowded || q.engine.Timed() {
		q.dispatchLocked()
	}
	unused := q.unusedLocked()
	q.unlock()
	if last && q.autoDelete {
		q.vhost.deleteUnused(q)
	}
	if unused {
		q.vhost.deleteExpired(q)
	}
}
