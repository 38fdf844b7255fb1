// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"math"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// How much of a queue is in memory: a window of pages, smaller if all queues
// together have too much, and none of what a queue at rest can read back.

// The window of each queue when the broker's budget is used up: what is being handed
// out and read ahead has to fit somewhere, and there may be thousands of queues that
// nobody reads from.
const (
	residentFloor = 256 << 10
	unreadFloor   = 16 << 10
)

// residentLimits are how many bytes of messages a queue may keep in memory now:
// with limit, pages that can be read back go; with spill, others are stored so
// that they can go, which is only worth it when memory is short: a consumer that
// is a little behind would be set back by the disk. read says whether the queue has
// consumers.
func (h *Hosts) residentLimits(read bool) (limit, spill uint64) {
	// Once it is used up, it takes some room to go back: going back and forth costs
	// every queue a look at all it has.
	resident, budget := uint64(h.resident.Load()), h.options.ResidentBudget
	if resident > budget {
		h.crowded.Store(true)
	} else if resident < budget-budget/8 && h.crowded.Load() {
		h.crowded.Store(false)
	}
	if h.crowded.Load() {
		limit = min(residentFloor, h.options.ResidentBytes)
		if !read {
			limit = min(unreadFloor, limit)
		}
		return limit, limit
	}
	return h.options.ResidentBytes, math.MaxUint64
}

// trimLocked keeps the queue's pages within its share of memory.
func (q *Queue) trimLocked() {
	read := len(q.engine.Consumers()) > 0
	limit, spill := q.vhost.hosts.residentLimits(read)
	if q.restsLocked() && q.durable && !read {
		limit = 0 // it will keep nothing
	}
	if read || limit > unreadFloor {
		q.engine.Trim(limit, spill, &q.fx)
	} else {
		q.engine.TrimUnread(limit, spill, &q.fx)
	}
	if len(q.fx.Spills) > 0 {
		q.applyLocked()
	} else {
		q.engine.ReleasePages()
	}
	q.pagesChangedLocked()
}

// restLocked lets go of every page that can be read back, and of the room kept for
// the next step's effects: of ten thousand idle queues that is ten megabytes.
func (q *Queue) restLocked() {
	q.engine.Rest()
	q.fx = queue.Effects{}
	if len(q.records) == 0 {
		q.records = nil
	}
	q.pagesChangedLocked()
}

// pagesChangedLocked keeps the broker's count of bytes in memory, and looks for room in a
// queue with limits: sizes of single messages are known only while their page is there.
func (q *Queue) pagesChangedLocked() {
	if q.bounds.set {
		q.stepLocked()
	}
	if now := q.engine.Resident(); now != q.resident {
		q.vhost.hosts.resident.Add(int64(now) - int64(q.resident))
		q.resident = now
	}
}

// keeper is a queue as its engine's [queue.Keeper]: the handles are shares.
type keeper Queue

// Stored implements [queue.Keeper].
func (k *keeper) Stored(r *queue.Run) bool {
	share, ok := r.Stored.(*persistence.Share)
	return ok && share.Stored()
}

// Chill implements [queue.Keeper].
func (k *keeper) Chill(r *queue.Run) (queue.Place, bool) {
	share, ok := r.Stored.(*persistence.Share)
	if !ok {
		return queue.Place{}, false
	}
	place, ok := share.Chill()
	return queue.Place(place), ok
}

// Warm implements [queue.Keeper].
func (k *keeper) Warm(r *queue.Run, p queue.Place) any {
	share := k.vhost.hosts.store.Warm(persistence.Place(p), k.id, r.First, r.Count, r.Bytes, persistence.Settled(r.Settled()))
	if r.Tallied() {
		share.Counted(r.AppendTallies(nil))
	}
	return share
}
