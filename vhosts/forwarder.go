// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import "sync"

// forwarder has the letters of queues forwarded, batch by batch, so that a chain of
// queues, or a circle, is gone through in rounds and not by recursion. Who has made
// letters forwards them as soon as he has released his locks, up to a bound; a
// goroutine of its own does the rest.
type forwarder struct {
	worker sync.WaitGroup

	mu      sync.Mutex // a leaf
	changed sync.Cond
	queues  []*Queue // that may have letters left to the worker, oldest first
	closed  bool
}

// forwardBurst is how many batches of letters a connection's reader forwards before
// he leaves the rest to the worker.
const forwardBurst = 16

func newForwarder() *forwarder {
	f := new(forwarder)
	f.changed.L = &f.mu
	return f
}

// forward forwards the letters of queues, and of those where these go to, and so on.
// Called without locks. The slice is the forwarder's from then on.
func (f *forwarder) forward(queues ...*Queue) {
	for n := 0; n < forwardBurst && len(queues) > 0; n++ {
		queues = append(queues[1:], queues[0].forward()...)
	}
	if len(queues) > 0 {
		f.leave(queues...)
	}
}

// leave has the worker forward the letters of queues. Called by who holds locks, or
// has done enough himself.
func (f *forwarder) leave(queues ...*Queue) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queues = append(f.queues, queues...)
	f.changed.Signal()
}

func (f *forwarder) start() { f.worker.Go(f.work) }

// stop ends the worker after the batch it is at. What is left is stored as leaving, see
// VHost.recordStop, and goes on at the next start.
func (f *forwarder) stop() {
	f.mu.Lock()
	f.closed = true
	f.changed.Signal()
	f.mu.Unlock()
	f.worker.Wait()
}

func (f *forwarder) work() {
	for q := f.next(); q != nil; q = f.next() {
		if again := q.forward(); len(again) > 0 {
			f.leave(again...)
		}
	}
}

// next waits for a queue; nil when the worker is to end.
func (f *forwarder) next() *Queue {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queues) == 0 && !f.closed {
		f.changed.Wait()
	}
	if f.closed {
		return nil
	}
	q := f.queues[0]
	f.queues[0] = nil
	f.queues = f.queues[1:]
	return q
}
