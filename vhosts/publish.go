// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Publication is one run on its way into its queues.
type Publication struct {
	priority   Priority
	page       *queue.Page
	run        *persistence.Run     // nil if nothing of it is to be stored
	persistent bool                 // it is to be stored where that is done
	kept       bool                 // page is compact, as it stays longer than the call
	drops      []persistence.Record // what is forgotten for it
	refused    []refusal            // by queues that had no room
	copied     []*Queue             // that get it as a copy later, see follower
	added      []*Queue             // that get it now or later, and are not in its route
	mailed     bool                 // it is of dead letters
	stays      bool                 // a history remembers it, or a queue does not expect it to be settled at once, see haste
	held       []*persistence.Run   // what delayed exchanges on the way store of it, see hold
}

// Publish puts the messages of page into the queues of a route, as one run. If
// they are persistent and the route is durable they are proposed to the store,
// and w, which may be nil, is told when they are durable; otherwise they are
// taken when Publish returns, and w is not used, unless the route says that it
// [Route.Waits]. The page may have other holders afterwards, so the caller can only
// release it.
//
// It returns which of the messages were refused by a queue that had no room, nil if
// none were; w, if it is a [RefusalWaiter], was told of these.
//
// Called by a connection's reader without locks.
func (h *Hosts) Publish(r *Route, page *queue.Page, persistent bool, w persistence.Waiter) (refused *queue.Bitmap) {
	if r.filters != nil {
		return h.publishOnce(r, page, persistent, w)
	}
	page.Arrive(h.timers.now())
	if persistent && r.Durable && r.alone() && page.Small() && r.Queues[0].extend(r.priority, page, w) {
		return nil
	}
	p := newPublication(r, page, persistent)
	letters := p.enter(r, nil)
	refused = tellRefused(p.refused, w)
	switch {
	case p.run != nil && p.drops == nil && p.held == nil:
		p.passes()
		h.store.Propose(0, w, persistence.PutRun(p.run))
	case persistent && r.Durable:
		h.store.Propose(0, w, p.appendRecords(nil)...)
	case p.drops != nil:
		h.store.Propose(0, nil, p.drops...)
	}
	if len(letters) > 0 {
		h.forwarder.forward(letters...)
	}
	return refused
}

// shareLocked is the queue's share of what is stored of the publication, as a
// handle for its engine; nil if it has none. Called under the queue's lock.
func (p *Publication) shareLocked(q *Queue) any {
	if p.run == nil || !q.durable {
		return nil
	}
	next := q.engine.Next(q.level(p.priority))
	return p.run.Share(q.id, next, uint32(p.page.Len()), p.page.BodyBytes())
}

// newPublication makes a publication of a page that has arrived.
func newPublication(r *Route, page *queue.Page, persistent bool) Publication {
	if !persistent || !r.stored {
		return Publication{priority: r.priority, page: page, persistent: persistent}
	}
	page = page.Compact()
	page.Hold() // the store's
	var body persistence.Body = storedPage{page}
	if r.alone() {
		body = growingPage{storedPage{page}} // nobody else reads it while it grows
	}
	return Publication{priority: r.priority, page: page, run: persistence.NewRun(body), persistent: true, kept: true}
}

// enter puts the publication into everything that its route leads to. It appends the
// queues that have letters now.
func (p *Publication) enter(r *Route, letters []*Queue) []*Queue {
	queues := r.Queues
	for _, h := range r.histories {
		queues = h.record(p, r, queues)
	}
	for _, q := range queues {
		if q.publish(p) && !slices.Contains(letters, q) {
			letters = append(letters, q)
		}
	}
	for _, delayer := range r.held {
		if p.hold(delayer) && !slices.Contains(letters, delayer) {
			letters = append(letters, delayer)
		}
	}
	return letters
}

// passes tells the store if all queues expect the publication to be settled at once.
func (p *Publication) passes() {
	if p.run != nil && !p.stays {
		p.run.Fleeting()
	}
}

// appendRecords appends what the store has to know of the publication.
func (p *Publication) appendRecords(records []persistence.Record) []persistence.Record {
	if p.run != nil {
		records = append(records, persistence.PutRun(p.run))
	}
	for _, run := range p.held {
		records = append(records, persistence.PutRun(run))
	}
	return append(records, p.drops...)
}

// outcome is what follows from publications that are one proposal.
type outcome struct {
	records []persistence.Record
	letters []*Queue // queues that have letters now
	copied  []*Queue // of the last publication, see Publication
	added   []*Queue // likewise
	mailed  bool     // the publications are of dead letters
}

// put puts a page, which has arrived, where a route leads to. It returns what queues refused.
func (o *outcome) put(r *Route, page *queue.Page, persistent bool) []refusal {
	p := newPublication(r, page, persistent)
	p.mailed = o.mailed
	o.letters = p.enter(r, o.letters)
	if o.mailed {
		p.passes()
	}
	o.records = p.appendRecords(o.records)
	o.copied, o.added = p.copied, p.added
	return p.refused
}

// settle carries out a settlement. Its queue is released when everything is proposed.
func (o *outcome) settle(s *Settlement) {
	letters := false
	if s.Requeue {
		letters = s.Queue.giveBack(s.Consumer, s.Numbers, s.Failed)
	} else {
		o.records, letters = s.Queue.settleInto(o.records, s)
	}
	if letters {
		o.hasLetters(s.Queue)
	}
}

func (o *outcome) hasLetters(q *Queue) {
	if !slices.Contains(o.letters, q) {
		o.letters = append(o.letters, q)
	}
}

// storedPage is a page as a [persistence.TimedBody].
type storedPage struct{ *queue.Page }

// Times implements [persistence.TimedBody].
func (s storedPage) Times() persistence.Times { return persistence.Times(s.Page.Times()) }

// growingPage is a page as a [persistence.GrowingBody].
type growingPage struct{ storedPage }

// Grow implements [persistence.GrowingBody].
func (g growingPage) Grow(more persistence.Body) bool { return g.Take(more.(growingPage).Page) }

// keep makes the page one that lasts.
func (p *Publication) keep() {
	if !p.kept {
		p.kept = true
		p.page = p.page.Compact()
	}
}

// keepLocked gives the run of one queue, which still holds messages after its
// first dispatch, a page that lasts. Called under that queue's lock, before
// anybody else sees the run.
func (p *Publication) keepLocked(q *Queue, r *queue.Run) {
	p.keep()
	if r.Page != nil && r.Page != p.page {
		q.engine.Exchange(r, p.page)
	}
}

// Settlement is messages of one consumer that leave or go back to their queue.
type Settlement struct {
	Queue    *Queue
	Consumer *queue.Consumer
	Numbers  []uint64
	Rejected bool // by reject or nack, not by ack
	Requeue  bool
	Failed   bool // with Requeue: their delivery counts as failed

	forwarded bool             // of letters, which were counted and credited when they began to leave
	leaving   []queue.Interval // in the place of Numbers then
	waiting   []bundle         // of the letters those that were refused
}

// TxPublication is a run of a transaction.
type TxPublication struct {
	Route      *Route
	Page       *queue.Page
	Persistent bool

	added []*Queue // as in Publication, once it was published
}

// mostBeside is how many publications openPublication looks at.
const mostBeside = 64

// openPublication returns the position of the publication that the next message of
// a transaction goes to: the last one that went the same way, if the order to those
// that came after it does not matter and its page has room for size more bytes, or a
// new one. The page of that is from pages, if that is not nil, and is to be released
// by the caller in the end.
func openPublication(publications *[]TxPublication, r *Route, persistent bool, size int, pages *queue.Pages) int {
	n := len(*publications)
	for i := n - 1; i >= max(0, n-mostBeside); i-- {
		last := &(*publications)[i]
		if last.Persistent != persistent {
			break
		}
		if last.Route.Same(r) {
			if !last.Page.Fits(size) {
				break
			}
			return i
		}
		if !last.Route.Beside(r) {
			break
		}
	}
	page := new(queue.Page)
	if pages != nil {
		page = pages.New()
	}
	*publications = append(*publications, TxPublication{Route: r, Page: page, Persistent: persistent})
	return n
}

// OpenPublication returns the page that takes the next message of a transaction, which is
// of size bytes, and adds it to the publications if it is new.
func OpenPublication(publications *[]TxPublication, r *Route, persistent bool, size int) *queue.Page {
	i := openPublication(publications, r, persistent && r.Durable, size, nil)
	return (*publications)[i].Page
}

// CommitTx carries out a transaction: its publications in order, then its
// settlements. Everything the store has to know of it is one proposal, so after
// a crash all of it is there or nothing; only rejected messages that are
// dead-lettered follow in proposals of their own. w, which may be nil, is told
// when it is durable. The pages are kept. It reports whether a queue refused some of
// the messages, as it had no room; the rest is carried out all the same.
func (h *Hosts) CommitTx(publications []TxPublication, settlements []Settlement, w persistence.Waiter) (refused bool) {
	o, refused := h.commitTx(publications, settlements, w)
	h.forwarder.forward(o.letters...)
	return refused
}

func (h *Hosts) commitTx(publications []TxPublication, settlements []Settlement, w persistence.Waiter) (o outcome, refused bool) {
	h.tx.Lock()
	defer h.tx.Unlock()
	defer func() {
		for i := range settlements {
			settlements[i].Queue.release()
		}
	}()
	var filters []filter
	for i := range publications {
		filters = append(filters, publications[i].Route.filters...)
	}
	if filters != nil {
		defer lockWindows(filters)()
	}
	now := h.timers.now()
	for i := range publications {
		p, refusals := &publications[i], []refusal(nil)
		p.Page.Arrive(now)
		if p.Route.filters == nil {
			refusals = o.put(p.Route, p.Page, p.Persistent)
		} else {
			refusals = o.sift(p.Route, p.Page, p.Persistent, now)
		}
		refused = refused || len(refusals) > 0
	}
	o.keepFresh(filters, now)
	for i := range settlements {
		o.settle(&settlements[i])
	}
	h.store.Propose(0, w, o.records...)
	return o, refused
}
