// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"errors"
	"math"
	"slices"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// follower is a destination that was bound to an exchange with a history.
//
// A queue first gets a copy of all that is remembered, in order, and of what is
// published while that goes on; from then on what is published reaches it as
// through any exchange. Both meet under recentHistory.mu: a publisher that found its
// route before the queue was bound is told there that the queue is to get the
// messages too, and one that found it since, that the queue gets them as copies.
// So the queue misses no message, and none comes twice or out of order.
//
// An exchange gets what is remembered when it is bound. Which queues it leads to
// is not known here, so a message that is published at that moment may reach them
// twice or not at all.
type follower struct {
	queue    *Queue // nil if it is an exchange
	exchange string
	bindings int
	since    uint64 // routes of this version and newer ones lead to the queue; 0 until they do
	until    uint64 // number of the message that need not be copied any more
	next     uint64 // number of the message to be copied next
	behind   bool   // it gets what is published as copies
	gone     bool   // it is not bound any more, or the exchange is gone
	copying  bool   // somebody copies
	waiters  []persistence.Waiter
}

// follow makes the destination of a binding that is about to be made a follower,
// one that is behind if it was none before; nil if it does not exist. Called with
// VHost.mu held.
func (h *recentHistory) follow(b *Binding, queues map[string]*Queue) *follower {
	q := queues[b.Destination]
	if q == nil && !b.ToExchange {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if b.ToExchange {
		f := &follower{exchange: b.Destination, until: h.next}
		h.restartLocked(f)
		return f
	}
	f := h.findLocked(q)
	if f == nil {
		f = &follower{queue: q, until: math.MaxUint64}
		h.followers = append(h.followers, f)
		h.restartLocked(f)
	}
	f.bindings++
	return f
}

func (h *recentHistory) findLocked(q *Queue) *follower {
	i := slices.IndexFunc(h.followers, func(f *follower) bool { return f.queue == q })
	if i < 0 {
		return nil
	}
	return h.followers[i]
}

// restartLocked has the whole history copied to a follower.
func (h *recentHistory) restartLocked(f *follower) {
	if !f.behind {
		f.behind = true
		h.behind++
	}
	f.next = h.oldestLocked()
}

// restoreBinding tells of a binding found at the start.
func (h *recentHistory) restoreBinding(q *Queue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.findLocked(q)
	if f == nil {
		f = &follower{queue: q, until: math.MaxUint64, since: 1}
		h.followers = append(h.followers, f)
	}
	f.bindings++
}

// bound tells that the binding was made, in this version of the routes: to another
// one the queue may have had each new one adds the history.
func (h *recentHistory) bound(f *follower, version uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f.since > 0 {
		h.restartLocked(f)
		return
	}
	f.since = version
	h.version = max(h.version, version)
}

// notBound takes a follow back: there is such a binding already, or it is refused.
func (h *recentHistory) notBound(f *follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unboundLocked(f)
}

// unbound tells that a binding of a queue is gone.
func (h *recentHistory) unbound(q *Queue) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.findLocked(q); f != nil {
		h.unboundLocked(f)
	}
}

func (h *recentHistory) unboundLocked(f *follower) {
	if f.bindings--; f.bindings <= 0 {
		f.gone = true
		h.followers = slices.DeleteFunc(h.followers, func(other *follower) bool { return other == f })
		h.caughtUpLocked(f)
	}
}

// caughtUpLocked ends the copying to a follower, for whatever reason.
func (h *recentHistory) caughtUpLocked(f *follower) {
	if f.behind {
		f.behind = false
		h.behind--
	}
}

// amendLocked returns the queues that get a publication: those of its route, with
// what followers need changed.
func (h *recentHistory) amendLocked(p *Publication, queues []*Queue, version uint64) []*Queue {
	if h.behind == 0 && version >= h.version {
		return queues
	}
	queues = slices.Clone(queues)
	for _, f := range h.followers {
		i := slices.Index(queues, f.queue)
		switch {
		case f.behind && i >= 0:
			queues = slices.Delete(queues, i, i+1)
			p.copied = append(p.copied, f.queue)
		case f.behind && f.queue != nil:
			p.added = append(p.added, f.queue)
		case !f.behind && i < 0 && version < f.since:
			queues = append(queues, f.queue)
			p.added = append(p.added, f.queue)
		}
	}
	return queues
}

// copy brings a follower up to date. w, which may be nil, is told when that is
// done and durable. What is not in memory is read by a page reader, which then
// goes on with all. Called without locks.
func (h *recentHistory) copy(f *follower, w persistence.Waiter) {
	h.mu.Lock()
	if w != nil {
		f.waiters = append(f.waiters, w)
	}
	copying := f.copying
	f.copying = true
	h.mu.Unlock()
	if !copying {
		h.copyRuns(f, false)
	}
}

// copyRuns copies run by run until nothing is left to be copied; mayRead says that
// the caller may wait for the disk.
func (h *recentHistory) copyRuns(f *follower, mayRead bool) {
	for {
		r, from, more := h.nextRun(f)
		switch {
		case !more:
			return
		case r.page == nil && !mayRead:
			h.again(f, r.first+uint64(from))
			h.vhost.hosts.pages.do(func() { h.copyRuns(f, true) })
			return
		case r.page == nil:
			if r.page = h.read(&r); r.page == nil {
				continue
			}
		}
		h.deliver(f, &r, int(from))
		r.page.Release()
	}
}

// nextRun returns the next run to be copied, its page held, and from which message
// on. If there is none more is false: the follower is up to date, and who waits
// for it is told when the store has what it got.
func (h *recentHistory) nextRun(f *follower) (r remembered, from uint32, more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.searchLocked(f.next)
	if f.gone || i == len(h.runs) || f.next >= f.until {
		h.caughtUpLocked(f)
		for _, w := range f.waiters {
			h.vhost.hosts.store.Propose(0, w)
		}
		f.waiters, f.copying = nil, false
		return r, 0, false
	}
	r = h.runs[i]
	from = uint32(max(f.next, r.first) - r.first)
	f.next = r.end()
	if r.page != nil {
		r.page.Hold()
	}
	return r, from, true
}

// again goes back to a message that nextRun returned.
func (h *recentHistory) again(f *follower, number uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.next = min(f.next, number) // a further binding may have restarted it
}

// read gets a run's page from the store, nil if it cannot.
func (h *recentHistory) read(r *remembered) *queue.Page {
	page, err := h.vhost.hosts.pages.load(r.share, r.count)
	if err == nil {
		return page
	}
	if !errors.Is(err, persistence.ErrClosed) && !errors.Is(err, persistence.ErrNotStored) { // else it is gone
		h.vhost.hosts.log.Error("messages of a history cannot be read and are passed over",
			"vhost", h.vhost.name, "exchange", h.name, "messages", r.count, "error", err)
	}
	return nil
}

// deliver publishes copies of a run's messages from one on to the follower.
func (h *recentHistory) deliver(f *follower, r *remembered, first int) {
	var scratch exchanges.Scratch[*Queue]
	var publications []TxPublication
	route := new(Route)
	if f.queue != nil {
		route.Queues = []*Queue{f.queue}
		route.rank()
		route.addFilters(nil)
	}
	for i := first; i < r.page.Len(); i++ {
		envelope, header, body := r.page.Message(i)
		var properties wire.PropertyView
		parsed, err := wire.ParseHeader(header)
		if err == nil {
			_ = properties.Scan(parsed.Properties) // it was checked when it was published
		}
		if f.queue == nil {
			e := wire.PublishView{ExchangeAndKey: envelope}
			var keys []string
			if !r.page.Rekeyed(i) {
				keys = append(ccOf(properties.Headers), r.page.Hidden(i)...)
			}
			route = h.vhost.routeTo(&scratch, f.exchange, string(e.RoutingKey()), keys, parsed.Properties)
		}
		if to := route.For(PriorityOf(&properties)); !to.Nowhere() {
			persistent := r.persistent && to.Durable
			at := openPublication(&publications, to, persistent, len(envelope)+len(header)+len(body), &h.vhost.hosts.pages.pages)
			publications[at].Page.AppendFrom(r.page, i)
			publications[at].Page.Meet(lifetime(string(properties.Expiration)))
		}
	}
	h.vhost.hosts.CommitTx(publications, nil, nil)
	for i := range publications {
		publications[i].Page.Release()
	}
}
