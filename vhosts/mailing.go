// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"iter"
	"slices"
	"sort"

	"github.com/lagomq/lagomq/vhosts/queue"
)

// forward publishes one batch of the queue's letters to the dead letter exchange
// and takes the originals out of the queue, one caller at a time, so that they stay
// in order. It returns the queues that have letters now, this one or some that got
// copies. Called without locks.
func (q *Queue) forward() (again []*Queue) {
	q.forwarding.Lock()
	defer q.forwarding.Unlock()
	if q.blocked.Load() {
		return nil
	}
	m := mailing{source: q, bundles: q.takeLetters(), target: q.settings.Load().deadLetters, version: q.vhost.version.Load()}
	if len(m.bundles) == 0 {
		return nil
	}
	m.address()
	again = m.post()
	m.release()
	q.mu.Lock()
	q.putBackLocked(&m)
	if len(q.letters) > 0 && !q.blocked.Load() {
		again = append(again, q)
	}
	q.mu.Unlock()
	for i := range m.refused {
		q.waitForRoom(&m.refused[i].refusal)
	}
	return again
}

// takeLetters takes the first letters, as many as make about one run.
func (q *Queue) takeLetters() (taken []bundle) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.letters) == 0 {
		q.fetchLocked() // while they waited for room the first ones may have been dropped
	}
	most, size, whole := uint32(queue.MaxRunMessages), queue.MaxRunBytes, 0
	for ; whole < len(q.letters) && most > 0 && size > 0; whole++ {
		b := &q.letters[whole]
		n, bytes := b.page.Leading(b.at, min(b.Count, most), size)
		most, size = most-n, size-bytes
		if n < b.Count {
			taken = append(taken, b.split(n))
			break
		}
		taken = append(taken, *b)
	}
	q.letters = slices.Delete(q.letters, 0, whole)
	return taken
}

// putBackLocked counts what became of a mailing, and puts the letters back that were
// refused, to be forwarded when there is room, or at once if they are to go elsewhere now.
func (q *Queue) putBackLocked(m *mailing) {
	for first, b := range m.all() {
		for letter := first; letter < first+b.Count; letter++ {
			switch {
			case m.lost.Has(letter):
				q.stats.LettersLost++
			case !m.waits.Has(letter):
				q.stats.DeadLettered[b.Reason]++
			}
		}
	}
	if q.deleted {
		for i := range m.back {
			m.back[i].page.Release()
		}
		return
	}
	if len(m.back) > 0 {
		q.letters = append(m.back, q.letters...)
		q.obstacles, q.routed = m.refusing(), m.version
		q.blocked.Store(q.settings.Load().deadLetters == m.target)
		q.scatterLocked()
	}
	q.fetchLocked()
	if q.blocked.Load() {
		q.noteLocked()
	}
	q.dispatchLocked()
}

// mailing is a batch of letters on its way, at most those of one run. They are
// numbered from 0 on in their order.
type mailing struct {
	source       *Queue
	target       *deadLetterTarget // nil if the source delays, or has none any more
	version      uint64            // of the routes, which may be newer for some letters
	bundles      []bundle
	publications []TxPublication
	latest       int // the publication that has the copy of the letter before, -1 for none
	copies       [queue.MaxRunMessages]letterCopy
	copied       queue.Bitmap // the letters that have a copy
	refused      []mailRefusal
	lost, waits  queue.Bitmap // the letters that have nowhere to go, and those that some queue refused
	back         []bundle     // the latter
}

// letterCopy says which message of which publication is the copy of a letter.
type letterCopy struct{ publication, message uint16 }

// mailRefusal is a refusal of messages of a mailing's publication.
type mailRefusal struct {
	refusal
	publication uint16
}

// all is the bundles with the numbers of their first letters.
func (m *mailing) all() iter.Seq2[uint32, *bundle] {
	return func(yield func(uint32, *bundle) bool) {
		first := uint32(0)
		for i := range m.bundles {
			if !yield(first, &m.bundles[i]) {
				break
			}
			first += m.bundles[i].Count
		}
	}
}

// address makes the publications. What has no destination is lost, as everything is
// if there is no target: it was taken from the queue meanwhile.
func (m *mailing) address() {
	m.latest = -1
	stamper := stamper{source: m.source, target: m.target, now: m.source.vhost.hosts.timers.clock()}
	for first, b := range m.all() {
		if m.target == nil && !m.source.delays {
			m.lost.SetRange(first, first+b.Count)
			continue
		}
		for i := range b.Count {
			if !m.copy(&stamper, first+i, b, b.at+i) {
				m.lost.Set(first + i)
			}
		}
	}
}

// copy routes a letter and makes its copy. It returns false if it has no destination.
func (m *mailing) copy(stamper *stamper, letter uint32, b *bundle, offset uint32) bool {
	envelope, header, body := b.page.Message(int(offset))
	s, like, err := stamper.put(b, offset, envelope, header)
	if !like {
		m.latest = -1
	}
	if err != nil {
		// It was checked when it was published: only damage gets here.
		q := m.source
		q.vhost.hosts.log.Error("a letter cannot be read and is dropped", "vhost", q.vhost.name, "queue", q.name, "error", err)
		return false
	}
	route := s.to
	if b.again {
		route = stamper.rest(b.took)
	}
	if route.Nowhere() {
		return len(b.took) > 0
	}
	at := openPublication(&m.publications, route, s.persistent && route.Durable, len(s.envelope)+len(s.header)+len(body), m.pages())
	page := m.publications[at].Page
	m.copies[letter] = letterCopy{uint16(at), uint16(page.Len())}
	m.copied.Set(letter)
	switch {
	case at == m.latest:
		page.AppendLike(body)
	case s.died:
		page.AppendDead(s.envelope, s.header, body, s.rekeyed)
	default:
		page.Append(s.envelope, s.header, body)
	}
	m.latest = at
	page.Meet(s.due)
	page.Hide(s.hidden)
	return true
}

// pages are where the pages of the copies come from.
func (m *mailing) pages() *queue.Pages { return &m.source.vhost.hosts.pages.pages }

// post publishes the copies and takes the originals away, in one proposal; those of
// refused copies stay, and it is noted who has them. It returns the queues that have
// letters because they got copies.
func (m *mailing) post() []*Queue {
	h := m.source.vhost.hosts
	h.tx.Lock()
	defer h.tx.Unlock()
	o := outcome{mailed: true}
	now := h.timers.now()
	for i := range m.publications {
		p := &m.publications[i]
		p.Page.Arrive(now)
		for _, r := range o.put(p.Route, p.Page, p.Persistent) {
			m.refused = append(m.refused, mailRefusal{r, uint16(i)})
		}
		p.added = o.added
	}
	m.wait()
	m.sort()
	o.settle(&Settlement{Queue: m.source, forwarded: true, leaving: m.done(), waiting: m.back})
	defer m.source.release()
	if len(o.records) > 0 { // else it would be a barrier, for which the store commits
		h.store.Propose(0, nil, o.records...)
	}
	return o.letters
}

// wait finds out which letters have a copy that was refused.
func (m *mailing) wait() {
	for i := range m.refused {
		r := &m.refused[i]
		for letter, c := range m.copies {
			if m.copied.Has(uint32(letter)) && c.publication == r.publication && r.messages.Has(uint32(c.message)) {
				m.waits.Set(uint32(letter))
			}
		}
	}
}

// refusals are the refusals of the publication that has a letter's copy. They are in
// the order of its route.
func (m *mailing) refusals(letter uint32) []mailRefusal {
	p := m.copies[letter].publication
	find := func(from []mailRefusal, p uint16) int {
		return sort.Search(len(from), func(i int) bool { return from[i].publication >= p })
	}
	rest := m.refused[find(m.refused, p):]
	return rest[:find(rest, p+1)]
}

// done is the messages that are no longer leaving.
func (m *mailing) done() (numbers []queue.Interval) {
	for first, b := range m.all() {
		end := first + b.Count
		for at := m.waits.NextClear(first, end); at < end; {
			to := m.waits.NextSet(at, end)
			numbers = append(numbers, b.numbers(at-first, to-first))
			at = m.waits.NextClear(to, end)
		}
	}
	return numbers
}

// sort finds the letters that are to be forwarded again, knowing which queues have
// their copy.
func (m *mailing) sort() {
	for first, b := range m.all() {
		end := first + b.Count
		before, took := end, []*Queue(nil)
		for letter := m.waits.NextSet(first, end); letter < end; letter = m.waits.NextSet(letter+1, end) {
			if before == end || !m.alike(before, letter) {
				took = m.took(b.took, letter)
			}
			m.back = appendLetter(m.back, b, letter-first, took)
			before = letter
		}
	}
}

// alike says that two letters went the same way and were refused by the same queues.
func (m *mailing) alike(letter, other uint32) bool {
	c, d := m.copies[letter], m.copies[other]
	return c.publication == d.publication && !slices.ContainsFunc(m.refusals(letter), func(r mailRefusal) bool {
		return r.messages.Has(uint32(c.message)) != r.messages.Has(uint32(d.message))
	})
}

// release lets go of all pages but those of the letters that are to be forwarded again.
func (m *mailing) release() {
	for i := range m.publications {
		m.publications[i].Page.Release()
	}
	for i := range m.bundles {
		m.bundles[i].page.Release()
	}
}

// refusing is the names of the queues that refused copies.
func (m *mailing) refusing() (names []string) {
	for i := range m.refused {
		names = append(names, m.refused[i].queue.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// took adds the queues that have taken a letter's copy, which others have refused, to
// those that took it before: those of delayed exchanges and those that a history gives it
// to as well.
func (m *mailing) took(before []*Queue, letter uint32) []*Queue {
	c, refusals := m.copies[letter], m.refusals(letter)
	p := &m.publications[c.publication]
	took := slices.Clip(before)
	for _, targets := range [][]*Queue{p.Route.Queues, p.added, p.Route.held} {
		for _, target := range targets {
			refused := false
			if len(refusals) > 0 && refusals[0].queue == target {
				refused = refusals[0].messages.Has(uint32(c.message))
				refusals = refusals[1:]
			}
			if !refused {
				took = append(took, target)
			}
		}
	}
	return took
}
