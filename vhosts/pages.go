// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"errors"
	"sync"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// pageReaders read pages back from the store on a few goroutines, so that
// neither a connection nor a queue's lock ever waits for the disk.
type pageReaders struct {
	store   *persistence.Store
	workers sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond
	wanted  []pageRequest // oldest first
	closed  bool
}

type pageRequest struct {
	queue *Queue
	run   *queue.Run
}

func newPageReaders(store *persistence.Store) *pageReaders {
	p := &pageReaders{store: store}
	p.changed.L = &p.mu
	return p
}

func (p *pageReaders) start(n int) {
	for range n {
		p.workers.Go(p.work)
	}
}

// stop ends the readers; requests not served yet are dropped.
func (p *pageReaders) stop() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.changed.Broadcast()
	p.workers.Wait()
}

// read asks for the page of run r, for q.loaded. Called under the queue's lock.
func (p *pageReaders) read(q *Queue, r *queue.Run) {
	p.mu.Lock()
	p.wanted = append(p.wanted, pageRequest{q, r})
	p.mu.Unlock()
	p.changed.Signal()
}

func (p *pageReaders) work() {
	for {
		request, ok := p.next()
		if !ok {
			return
		}
		page, err := p.load(request.run)
		request.queue.loaded(request.run, page, err)
	}
}

func (p *pageReaders) next() (pageRequest, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.wanted) == 0 && !p.closed {
		p.changed.Wait()
	}
	if p.closed {
		return pageRequest{}, false
	}
	request := p.wanted[0]
	p.wanted[0] = pageRequest{}
	p.wanted = p.wanted[1:]
	return request, true
}

var errNotStored = errors.New("the run is neither in memory nor in the store")

func (p *pageReaders) load(r *queue.Run) (*queue.Page, error) {
	share, ok := r.Stored.(*persistence.Share)
	if !ok {
		return nil, errNotStored
	}
	body, err := p.store.ReadRun(share)
	if err != nil {
		return nil, err
	}
	return queue.ParsePage(body)
}
