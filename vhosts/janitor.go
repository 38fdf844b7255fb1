// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// The janitor looks after what traffic leaves behind in the queues: small runs
// are joined, mostly settled ones are written again without what is settled, what large
// queues that were deleted have left is dropped, and pages of queues at rest leave the memory. Dead letters that wait for room are routed
// anew if the routes have changed since the last look: at each change it would cost too
// much where many queues wait and many bindings come and go.

const (
	// janitorInterval is how often the janitor looks at every queue.
	janitorInterval = time.Second
	// restingAfter is how many looks without traffic make a queue one at rest.
	restingAfter = 5
	// thinInterval is how many looks lie between two searches for mostly settled
	// runs.
	thinInterval = 5
	// mostThin is how many runs of a queue are written again at a time.
	mostThin = 64
)

type janitor struct {
	hosts  *Hosts
	ctx    context.Context
	cancel context.CancelFunc
	worker sync.WaitGroup
	looks  int
	queues []*Queue // room for the list of a look

	mu   sync.Mutex     // a leaf
	left [][]*queue.Run // of deleted queues, to be dropped

	joined      []*Queue // of which runs were joined that may not be stored yet
	joinedBytes uint64   // about what those take
}

func newJanitor(h *Hosts) *janitor {
	j := &janitor{hosts: h}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	return j
}

func (j *janitor) start() { j.worker.Go(j.work) }

func (j *janitor) stop() {
	j.cancel()
	j.worker.Wait()
}

func (j *janitor) work() {
	ticker := time.NewTicker(janitorInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			j.look()
		case <-j.ctx.Done():
			return
		}
	}
}

// leave has the janitor drop the runs of a deleted queue. They are his then. It may be
// called under any lock.
func (j *janitor) leave(runs [][]*queue.Run) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.left = append(j.left, runs...)
}

// dropLeft drops what deleted queues have left.
func (j *janitor) dropLeft() {
	j.mu.Lock()
	left := j.left
	j.left = nil
	j.mu.Unlock()
	for _, runs := range left {
		for some := range slices.Chunk(runs, dropRuns) {
			if j.hosts.store.Throttle(j.ctx) != nil {
				return
			}
			if records := appendDrops(nil, some); len(records) > 0 {
				j.hosts.store.Propose(0, nil, records...)
			}
		}
	}
}

// look goes once over all queues.
func (j *janitor) look() {
	j.looks++
	j.dropLeft()
	for _, v := range j.hosts.VHosts() {
		j.queues = v.appendQueues(j.queues)
	}
	defer func() {
		clear(j.queues)
		j.queues = j.queues[:0]
	}()
	thin := j.looks%thinInterval == 0
	queues := slices.DeleteFunc(j.queues, func(q *Queue) bool { return !q.needsCare(thin) })
	j.joinAll(queues)
	for _, q := range queues {
		if j.ctx.Err() != nil {
			return
		}
		if thin {
			j.rewrite(q)
		}
		q.mu.Lock()
		switch {
		case q.deleted:
		case q.restsLocked() && q.durable:
			q.restLocked()
		default:
			q.trimLocked()
		}
		q.mu.Unlock()
	}
}

// needsCare notes whether something has happened to the queue since the last look.
// It returns false once a queue at rest has been looked after, but for what thin
// runs need.
func (q *Queue) needsCare(thin bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.blocked.Load() && q.routed != q.vhost.version.Load() {
		q.roomMade() // its letters may go elsewhere now
	}
	if q.touched {
		q.touched, q.resting = false, 0
	} else {
		q.resting++
	}
	return q.resting <= restingAfter || thin
}

// restsLocked reports whether nothing has happened to the queue for a while.
func (q *Queue) restsLocked() bool { return q.resting >= restingAfter }

// newRun returns a run with a page as its body.
func newRun(page *queue.Page, volatile bool) *persistence.Run {
	if volatile {
		return persistence.NewVolatileRun(storedPage{page})
	}
	return persistence.NewRun(storedPage{page})
}

// member is a run that is to be written anew, as it was under the queue's lock.
type member struct {
	first   uint64
	count   uint32
	page    *queue.Page // held, nil if it is not in memory
	share   *persistence.Share
	settled queue.Bitmap
}

func memberOf(r *queue.Run) member {
	m := member{first: r.First, count: r.Count, page: r.Page, settled: r.Settled()}
	m.share, _ = r.Stored.(*persistence.Share)
	if m.page != nil {
		m.page.Hold()
	}
	return m
}

// rewrite writes runs anew of which little is left.
func (j *janitor) rewrite(q *Queue) {
	q.mu.Lock()
	var members []member
	var thin []*queue.Run
	if !q.deleted && q.damaged == nil {
		thin = q.engine.Thin(mostThin)
	}
	for _, r := range thin {
		members = append(members, memberOf(r))
	}
	q.mu.Unlock()
	for i := range members {
		j.replace(q, thin[i], &members[i])
	}
}

// replace writes one run anew, with nothing in the place of what is settled.
func (j *janitor) replace(q *Queue, r *queue.Run, m *member) {
	if m.page == nil {
		var err error
		if m.page, err = j.hosts.pages.load(m.share, m.count); err != nil {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.engine.Replace(r, nil, nil)
			return
		}
	}
	page := new(queue.Page)
	page.Hold()
	defer page.Release()
	for n := range m.count {
		if m.settled.Has(n) {
			page.AppendNothing()
		} else {
			page.AppendFrom(m.page, int(n))
		}
	}
	m.page.Release()
	q.mu.Lock()
	defer q.mu.Unlock()
	run := newRun(page, m.share.Volatile())
	share := run.Share(q.id, m.first, m.count, m.share.Bytes())
	if q.deleted || !q.engine.Replace(r, page, share) {
		return
	}
	page.Hold() // the store's
	q.records = append(q.records, persistence.Drop(m.share), persistence.PutRun(run),
		persistence.Settle(share, persistence.Settled(r.Settled())))
	if r.Tallied() {
		q.records = append(q.records, persistence.Count(share, r.AppendTallies(nil)))
	}
	q.proposeLocked()
	q.engine.ReleasePages()
	q.pagesChangedLocked()
}

// appendQueues appends all queues.
func (v *VHost) appendQueues(list []*Queue) []*Queue {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, q := range v.queues {
		list = append(list, q)
	}
	for _, q := range v.delayers {
		list = append(list, q)
	}
	return list
}
