// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"
	"sync"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// recentHistory is what an exchange of type x-recent-history remembers: the runs with
// the last messages published to it. To the store it is one more queue that takes
// them, so that it shares their bodies and their commits, and comes back after a
// crash, whenever a confirmed message does; what leaves it is dropped run by run.
//
// Destinations that are bound begin with copies of what is remembered, see
// follower.
//
// Lock order: VHost.mu -> VHost.routes, and window.mu -> recentHistory.mu -> the
// store's committer. A history's and a queue's lock are never held together.
type recentHistory struct {
	vhost   *VHost
	name    string // of the exchange
	id      uint64 // the store's name of it as a queue
	durable bool
	length  uint64 // messages to remember

	mu        sync.Mutex
	deleted   bool
	runs      []remembered // oldest first
	next      uint64       // number of the next message
	resident  uint64       // bytes of the runs' pages
	unloaded  int          // runs before it have no page, unless they have to
	followers []*follower
	behind    int    // destinations that are not up to date; while there are any, nothing is forgotten
	version   uint64 // of the routes when the last queue was bound
}

// remembered is a run of a history.
type remembered struct {
	first      uint64
	count      uint32
	persistent bool
	page       *queue.Page        // held; nil if it has to be read
	share      *persistence.Share // nil if the run is in memory only
}

func (r *remembered) end() uint64 { return r.first + uint64(r.count) }

// historyOf is the history of an exchange, nil if it has none.
func historyOf(x *Exchange) *recentHistory {
	h, _ := x.Attached.(*recentHistory)
	return h
}

// attachHistory gives an exchange of type x-recent-history its history; id returns
// its name in the store, if it is to be stored. Called under VHost.mu and
// VHost.routes.
func (v *VHost) attachHistory(x *Exchange, id func() uint64) {
	if x.HistoryLength == 0 {
		return
	}
	h := &recentHistory{vhost: v, name: x.Name, durable: x.Durable, length: x.HistoryLength}
	if x.Durable {
		h.id = id()
	}
	x.Attached = h
}

// appendHistory appends the records that forget the history of an exchange that is
// gone. Called under VHost.mu and VHost.routes.
func appendHistory(records []persistence.Record, x *Exchange) []persistence.Record {
	if h := historyOf(x); h != nil {
		records = append(records, h.remove()...)
	}
	return records
}

// unbound tells the history of a binding's source, if it has one, that the binding
// is gone. Called under VHost.mu and VHost.routes.
func (v *VHost) unbound(b *Binding) {
	if x, ok := v.router.Exchange(b.Source); ok && !b.ToExchange {
		if h := historyOf(x); h != nil {
			h.unbound(b.Queue)
		}
	}
}

// record remembers a publication and returns the queues that are to get it: those
// of route r, with what followers need changed.
func (h *recentHistory) record(p *Publication, r *Route, queues []*Queue) []*Queue {
	p.keep()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.deleted {
		return queues
	}
	run := remembered{first: h.next, count: uint32(p.page.Len()), persistent: p.persistent, page: p.page}
	if p.run != nil && h.durable {
		run.share = p.run.Share(h.id, run.first, run.count, p.page.BodyBytes())
		p.stays = true
	}
	run.page.Hold()
	h.runs = append(h.runs, run)
	h.next = run.end()
	h.countLocked(int64(run.page.Weight()))
	h.forgetLocked(p)
	h.unloadLocked()
	return h.amendLocked(p, queues, r.version)
}

// forgetLocked forgets what is older than the history is long. The store is to know
// that not before it knows the publication that has taken its place.
func (h *recentHistory) forgetLocked(p *Publication) {
	if h.behind > 0 {
		return
	}
	gone := h.searchLocked(h.oldestLocked())
	for i := range gone {
		if r := &h.runs[i]; r.share != nil {
			p.drops = append(p.drops, persistence.Drop(r.share))
		}
		h.letGoLocked(&h.runs[i])
	}
	h.runs = slices.Delete(h.runs, 0, gone)
	h.unloaded = max(0, h.unloaded-gone)
}

// unloadLocked lets go of pages that can be read back if they are too many.
func (h *recentHistory) unloadLocked() {
	for limit := h.vhost.hosts.options.ResidentBytes; h.resident > limit && h.unloaded < len(h.runs); h.unloaded++ {
		r := &h.runs[h.unloaded]
		if r.share != nil && !r.share.Stored() {
			break // nor is what comes after it
		}
		if r.share != nil {
			h.letGoLocked(r)
		}
	}
}

// letGoLocked releases a run's page.
func (h *recentHistory) letGoLocked(r *remembered) {
	if r.page != nil {
		h.countLocked(-int64(r.page.Weight()))
		r.page.Release()
		r.page = nil
	}
}

// searchLocked is the position of the first run that ends above number.
func (h *recentHistory) searchLocked(number uint64) int {
	i, _ := slices.BinarySearchFunc(h.runs, number, func(r remembered, number uint64) int {
		if r.end() <= number {
			return -1
		}
		return 1
	})
	return i
}

func (h *recentHistory) countLocked(bytes int64) {
	h.resident += uint64(bytes)
	h.vhost.hosts.resident.Add(bytes)
}

// oldestLocked is the number of the oldest message that is remembered.
func (h *recentHistory) oldestLocked() uint64 {
	if len(h.runs) == 0 {
		return h.next
	}
	oldest := h.runs[0].first
	if h.next-oldest > h.length {
		oldest = h.next - h.length
	}
	return oldest
}

// remove forgets everything; it returns what the store has to know. Called under
// VHost.mu and VHost.routes, by which nobody finds the history any more.
func (h *recentHistory) remove() (records []persistence.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deleted = true
	for i := range h.runs {
		r := &h.runs[i]
		if r.share != nil {
			records = append(records, persistence.Drop(r.share))
		}
		h.letGoLocked(r)
	}
	if h.durable {
		records = append(records, persistence.DropQueue(h.id))
	}
	for _, f := range h.followers {
		f.gone = true
	}
	h.runs, h.followers = nil, nil
	return records
}

// restoreRun takes back a run found in the store.
func (h *recentHistory) restoreRun(r *persistence.RecoveredRun) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs = append(h.runs, remembered{
		first: r.First, count: r.Count, persistent: true,
		share: h.vhost.hosts.store.Warm(r.Place, r.Queue, r.First, r.Count, r.Bytes, r.Settled),
	})
	h.next = r.First + uint64(r.Count)
	h.unloaded = len(h.runs)
}
