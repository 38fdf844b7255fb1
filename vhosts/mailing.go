// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"bytes"
	"slices"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
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
	m := mailing{source: q, letters: q.takeLetters()}
	if len(m.letters) == 0 {
		return nil
	}
	m.address(q.settings.Load().deadLetters)
	again = m.post()
	back := m.sort()
	q.mu.Lock()
	q.putBackLocked(&m, back)
	if len(q.letters) > 0 && len(back) == 0 {
		again = append(again, q)
	}
	q.mu.Unlock()
	for i := range m.refused {
		q.waitForRoom(&m.refused[i].refusal)
	}
	return again
}

// takeLetters takes the first letters, as many as make about one run.
func (q *Queue) takeLetters() (taken []letter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := 0
	for len(taken) < queue.MaxRunMessages && size < queue.MaxRunBytes && len(q.letters) > 0 {
		size += q.letters[0].size()
		taken = append(taken, q.letters[0])
		q.letters[0] = letter{}
		q.letters = q.letters[1:]
	}
	return taken
}

// putBackLocked counts what became of a mailing, and puts the letters back that were
// refused, to be forwarded when there is room.
func (q *Queue) putBackLocked(m *mailing, back []letter) {
	for i := range m.letters {
		switch {
		case m.lost[i]:
			q.stats.LettersLost++
		case !m.waits[i]:
			q.stats.DeadLettered[m.letters[i].reason]++
		}
	}
	if q.deleted {
		for i := range back {
			back[i].page.Release()
		}
		return
	}
	if len(back) > 0 {
		q.letters = append(back, q.letters...)
		q.obstacles = m.refusing()
		q.blocked.Store(true)
	}
	q.fetchLocked()
	q.dispatchLocked()
}

// mailing is a batch of letters on its way.
type mailing struct {
	source       *Queue
	letters      []letter
	publications []TxPublication
	copies       [][]int // of each publication the letters that its messages are copies of
	refused      []mailRefusal
	lost, waits  []bool // of each letter, whether it has nowhere to go, and whether some queue refused it
	stamp        stamp  // of the last letter
	header       []byte // of the last copy
}

// mailRefusal is a refusal of messages of a mailing's publication.
type mailRefusal struct {
	refusal
	publication int
}

// address makes the publications. What has no destination is lost, as everything is
// if there is no target: it was taken from the queue meanwhile.
func (m *mailing) address(target *deadLetterTarget) {
	var scratch exchanges.Scratch[*Queue]
	now := time.Now()
	m.lost, m.waits = make([]bool, len(m.letters)), make([]bool, len(m.letters))
	for i := range m.letters {
		if m.source.delays {
			m.lost[i] = !m.resume(i, &scratch)
		} else {
			m.lost[i] = target == nil || !m.addressOne(i, target, &scratch, now)
		}
	}
}

// addressOne routes a letter and makes its copy. It returns false if it has no
// destination.
func (m *mailing) addressOne(i int, target *deadLetterTarget, scratch *exchanges.Scratch[*Queue], now time.Time) bool {
	l := &m.letters[i]
	envelope, header, body := l.page.Message(l.offset)
	h, err := wire.ParseHeader(header)
	if err == nil && !m.stamp.fits(l, envelope, h.Properties) {
		err = m.stamp.make(m.source, target, l, envelope, h.Properties, scratch, now)
	}
	if err != nil {
		// It was checked when it was published: only damage gets here.
		q := m.source
		q.vhost.hosts.log.Error("a dead letter cannot be read and is dropped", "vhost", q.vhost.name, "queue", q.name, "error", err)
		return false
	}
	s := &m.stamp
	route := s.route
	if l.again {
		route = route.rest(l.took).For(s.priority)
	}
	if route.Nowhere() {
		return len(l.took) > 0
	}
	m.header = wire.AppendHeader(m.header[:0], h.BodySize, s.properties)
	persistent := s.persistent && route.Durable
	at := openPublication(&m.publications, route, persistent, len(s.envelope)+len(m.header)+len(body), m.pages())
	page := m.publications[at].Page
	page.AppendDead(s.envelope, m.header, body, s.rekeyed)
	page.Meet(s.due)
	page.Hide(s.hidden)
	m.copied(i, at)
	return true
}

// copied notes that a publication has a copy of a letter.
func (m *mailing) copied(letter, publication int) {
	if publication == len(m.copies) {
		m.copies = append(m.copies, nil)
	}
	m.copies[publication] = append(m.copies[publication], letter)
}

// pages are where the pages of the copies come from.
func (m *mailing) pages() *queue.Pages { return &m.source.vhost.hosts.pages.pages }

// stamp is what the copy of a letter has in place of the original's envelope and
// properties, and where it goes. Letters are often alike in all that decides this,
// and then it is worked out once for all of them.
type stamp struct {
	fresh  bool // nothing else than what follows decided
	from   letter
	before struct{ envelope, properties []byte } // of the letter it was made for

	envelope, properties []byte
	hidden               []string // routing keys that nobody sees
	rekeyed, persistent  bool
	priority             Priority
	route                *Route
	due                  queue.Deadline // if the target delays it
}

// fits reports whether the stamp is the one for a letter too.
func (s *stamp) fits(l *letter, envelope, properties []byte) bool {
	return s.fresh && l.reason == s.from.reason &&
		l.page.Died(l.offset) == s.from.page.Died(s.from.offset) && l.page.Rekeyed(l.offset) == s.from.page.Rekeyed(s.from.offset) &&
		l.page.SameHidden(l.offset, s.from.page, s.from.offset) &&
		bytes.Equal(envelope, s.before.envelope) && bytes.Equal(properties, s.before.properties)
}

// make works the stamp for a letter of queue q out.
func (s *stamp) make(q *Queue, target *deadLetterTarget, l *letter, envelope, properties []byte, scratch *exchanges.Scratch[*Queue], now time.Time) *wire.Error {
	*s = stamp{from: *l}
	s.before.envelope, s.before.properties = envelope, properties
	e := wire.PublishView{ExchangeAndKey: envelope}
	d := death{queue: q.name, reason: l.reason, exchange: string(e.Exchange()), key: string(e.RoutingKey()), at: now}
	var view wire.PropertyView
	if err := view.Scan(properties); err != nil {
		return err
	}
	if !l.page.Rekeyed(l.offset) {
		d.cc = ccOf(view.Headers)
	}
	stamped, deaths, err := d.record(properties, l.page.Died(l.offset))
	if err != nil {
		return err
	}
	s.properties = stamped
	key, cc := d.key, d.cc
	if target.rekeyed {
		key, cc = target.key, nil
	} else {
		s.hidden = l.page.Hidden(l.offset)
		cc = append(cc, s.hidden...)
	}
	s.envelope = wire.AppendShortString(wire.AppendShortString(nil, target.exchange), key)
	s.rekeyed = target.rekeyed || l.page.Rekeyed(l.offset)
	s.persistent = view.DeliveryMode == wire.Persistent
	s.priority = PriorityOf(&view)
	route := q.vhost.routeTo(scratch, target.exchange, key, cc, stamped)
	s.fresh = scratch.Constant()
	if l.reason != queue.Rejected {
		route = route.without(func(target *Queue) bool { return cycle(deaths, target.name) })
	}
	// Its delay was checked when it was published, or it is none.
	route, s.due, _ = route.Postpone(view.Headers, false)
	s.route = route.For(s.priority)
	return nil
}

// post publishes the copies and takes the originals away, in one proposal; those of
// refused copies stay. It returns the queues that have letters because they got
// copies.
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
			m.refused = append(m.refused, mailRefusal{r, i})
			for n, letter := range m.copies[i] {
				m.waits[letter] = m.waits[letter] || r.messages.Has(uint32(n))
			}
		}
	}
	numbers := make([]uint64, 0, len(m.letters))
	for i := range m.letters {
		if !m.waits[i] {
			numbers = append(numbers, m.letters[i].number)
		}
	}
	if len(numbers) > 0 {
		o.settle(&Settlement{Queue: m.source, Numbers: numbers, forwarded: true})
		defer m.source.release()
	}
	h.store.Propose(0, nil, o.records...)
	return o.letters
}

// sort returns the letters that are to be forwarded again, knowing which queues have
// their copy, and lets the others go.
func (m *mailing) sort() (back []letter) {
	for i := range m.publications {
		for n, at := range m.copies[i] {
			if !m.waits[at] {
				continue
			}
			l := &m.letters[at]
			l.again = true
			for _, target := range m.publications[i].Route.Queues {
				if !m.refusedBy(target, i, uint32(n)) {
					l.took = append(slices.Clip(l.took), target)
				}
			}
		}
	}
	for i := range m.publications {
		m.publications[i].Page.Release()
	}
	for i, l := range m.letters {
		if m.waits[i] {
			back = append(back, l)
		} else {
			l.page.Release()
		}
	}
	return back
}

// refusing is the names of the queues that refused copies.
func (m *mailing) refusing() (names []string) {
	for i := range m.refused {
		names = append(names, m.refused[i].queue.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (m *mailing) refusedBy(target *Queue, publication int, message uint32) bool {
	return slices.ContainsFunc(m.refused, func(r mailRefusal) bool {
		return r.queue == target && r.publication == publication && r.messages.Has(message)
	})
}
