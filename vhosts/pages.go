// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// pageReaders read pages back from the store on a few goroutines, so that
// neither a connection nor a queue's lock ever waits for the disk.
type pageReaders struct {
	store   *persistence.Store
	pages   queue.Pages
	workers sync.WaitGroup

	gathered atomic.Int64 // about the bytes of memory of letters that were read and wait to be forwarded, or will be

	mu      sync.Mutex
	changed sync.Cond
	wanted  []pageRequest // oldest first
	closed  bool
}

// pageRequest is runs of one queue whose pages are wanted, oldest first, or
// something else that waits for the disk.
type pageRequest struct {
	queue *Queue
	runs  []wantedRun
	do    func()
}

// wantedRun is a run and its share, which is only to be looked at under the
// queue's lock.
type wantedRun struct {
	run   *queue.Run
	share *persistence.Share
	count uint32
}

// loadedPage is the answer to a wanted run.
type loadedPage struct {
	run  *queue.Run
	page *queue.Page // held for the receiver, nil with an error
	err  error
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

// read asks for the pages of runs, for q.loaded. Called under the queue's lock.
func (p *pageReaders) read(q *Queue, runs []*queue.Run) {
	request := pageRequest{queue: q, runs: make([]wantedRun, len(runs))}
	for i, r := range runs {
		share, _ := r.Stored.(*persistence.Share)
		request.runs[i] = wantedRun{r, share, r.Count}
	}
	p.add(request)
}

// do has a page reader call job, which may read with load.
func (p *pageReaders) do(job func()) { p.add(pageRequest{do: job}) }

func (p *pageReaders) add(request pageRequest) {
	p.mu.Lock()
	p.wanted = append(p.wanted, request)
	p.mu.Unlock()
	p.changed.Signal()
}

func (p *pageReaders) work() {
	var loaded []loadedPage
	for {
		request, ok := p.next()
		if !ok {
			return
		}
		if request.do != nil {
			request.do()
			continue
		}
		loaded = p.loadAll(loaded[:0], request.runs)
		request.queue.loaded(loaded)
		clear(loaded)
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

// loadAll appends the pages of all runs, in their order.
func (p *pageReaders) loadAll(loaded []loadedPage, wanted []wantedRun) []loadedPage {
	shares := make([]*persistence.Share, len(wanted))
	for i, w := range wanted {
		shares[i] = w.share
	}
	p.store.ReadRuns(shares, func(i int, body []byte, err error) {
		var page *queue.Page
		if err == nil {
			page, err = p.parse(body, wanted[i].count)
		}
		loaded = append(loaded, loadedPage{wanted[i].run, page, err})
	})
	return loaded
}

// readAll reads the pages of shares and calls use for each, in their order, with its
// page, held for the receiver, or an error.
func (p *pageReaders) readAll(shares []*persistence.Share, use func(i int, page *queue.Page, err error)) {
	p.store.ReadRuns(shares, func(i int, body []byte, err error) {
		var page *queue.Page
		if err == nil {
			page, err = p.parse(body, shares[i].Count())
		}
		use(i, page, err)
	})
}

// load reads the page of a share that stands for count messages.
func (p *pageReaders) load(share *persistence.Share, count uint32) (page *queue.Page, err error) {
	err = p.store.ReadRun(share, func(body []byte) error {
		page, err = p.parse(body, count)
		return err
	})
	return page, err
}

// parse returns the page of a body that stands for count messages, held for the
// caller.
func (p *pageReaders) parse(body []byte, count uint32) (*queue.Page, error) {
	page, err := p.pages.Parse(body)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", persistence.ErrDamaged, err)
	}
	if uint32(page.Len()) != count {
		defer page.Release()
		return nil, fmt.Errorf("%w: a run of %d messages has %d", persistence.ErrDamaged, count, page.Len())
	}
	return page, nil
}
