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

// stamp is what the copies of letters have in place of the originals' envelope and
// headers, and where they go. Letters of a batch are often alike in all that decides
// this: then it is worked out once for all of them, and the other properties of each
// are taken over as they are.
type stamp struct {
	of    original
	valid bool // for all letters like that

	exchange, key string   // to which it is published
	cc            []string // further keys
	envelope      []byte   // exchange and key
	headers       []byte   // a table with its length
	deaths        wire.Array
	hidden        []string // as in queue.Page, like what follows
	died, rekeyed bool
	route         *Route         // for no priority
	due           queue.Deadline // of the copy

	// Of the letter it was put on last:
	page       *queue.Page
	offset     uint32
	original   []byte // its header
	header     []byte // of the copy
	persistent bool
	priority   Priority
	to         *Route // route, for its priority
}

// original is what of a letter decides about its copy, but for properties that are
// taken over. The slices are in its page.
type original struct {
	reason        queue.Reason
	died, rekeyed bool // as in queue.Page
	expires       bool
	envelope      []byte
	headers       []byte
	expiration    []byte
	page          *queue.Page // where its hidden routing keys are
	offset        int
}

// stamper makes the stamps of a mailing.
type stamper struct {
	source  *Queue
	target  *deadLetterTarget // unless the source delays
	now     time.Time
	scratch exchanges.Scratch[*Queue]
	stamp   stamp // the last one
	again   again // of letters that were refused before, the last ones
}

// again is where letters go that were refused when they went a route before, but had
// been taken by some of its queues.
type again struct {
	took        []*Queue
	route, rest *Route
}

// put puts a stamp on the letter at an offset of a bundle, which has that envelope and
// header. It reports whether the copy differs by its body only from that of the letter
// before.
func (m *stamper) put(b *bundle, offset uint32, envelope, header []byte) (s *stamp, like bool, err *wire.Error) {
	s = &m.stamp
	alike := s.valid && b.Reason == s.of.reason
	if alike && b.page == s.page && offset == s.offset+1 && b.page.Like(int(offset)) {
		s.offset = offset
		return s, true, nil
	}
	o := original{
		reason: b.Reason, died: b.page.Died(int(offset)), rekeyed: b.page.Rekeyed(int(offset)), envelope: envelope,
		page: b.page, offset: int(offset),
	}
	alike = alike && o.died == s.of.died && o.rekeyed == s.of.rekeyed &&
		bytes.Equal(envelope, s.of.envelope) && o.page.SameHidden(o.offset, s.of.page, s.of.offset)
	if like = alike && bytes.Equal(header, s.original); !like {
		if err := m.renew(&o, header, alike); err != nil {
			return nil, false, err
		}
	}
	s.page, s.offset, s.original = b.page, offset, header
	return s, like, nil
}

// renew makes the stamp that of a letter with that header. alike says that it is
// already, but for what the header tells.
func (m *stamper) renew(o *original, header []byte, alike bool) *wire.Error {
	s := &m.stamp
	h, err := wire.ParseHeader(header)
	if err != nil {
		return err
	}
	if alike && bytes.Equal(h.Properties, s.original[wire.ContentHeaderSize:]) {
		copy(s.header, header[:wire.ContentHeaderSize])
		return nil
	}
	var view wire.PropertyView
	if err := view.Read(h.Properties); err != nil {
		return err
	}
	o.headers, o.expires, o.expiration = view.Headers, view.Has(wire.FlagExpiration), view.Expiration
	alike = alike && o.expires == s.of.expires && bytes.Equal(o.expiration, s.of.expiration) && bytes.Equal(o.headers, s.of.headers)
	if !alike {
		*s = stamp{of: *o, header: s.header}
		if err := m.make(); err != nil {
			return err
		}
	}
	s.header = append(s.header[:0], header[:wire.ContentHeaderSize]...)
	if m.source.delays {
		s.header = wire.ReplaceHeaders(s.header, h.Properties, s.headers, 0)
	} else {
		s.header = wire.ReplaceHeaders(s.header, h.Properties, s.headers, wire.FlagExpiration)
	}
	s.persistent = view.DeliveryMode == wire.Persistent
	s.priority = PriorityOf(&view)
	if !alike {
		m.direct()
	}
	s.to = s.route.For(s.priority)
	return nil
}

// make works out what the stamp says.
func (m *stamper) make() *wire.Error {
	headers, err := wire.ParseTable(m.stamp.of.headers)
	if err != nil {
		return err
	}
	if s := &m.stamp; m.source.delays || !m.target.rekeyed {
		s.hidden = s.of.page.Hidden(s.of.offset)
	}
	if m.source.delays {
		m.resume(headers)
	} else {
		m.bury(headers)
	}
	return nil
}

// bury makes the stamp of a dead letter with those headers.
func (m *stamper) bury(headers wire.Table) {
	s, e := &m.stamp, wire.PublishView{ExchangeAndKey: m.stamp.of.envelope}
	d := death{
		queue: m.source.name, reason: s.of.reason, exchange: string(e.Exchange()), key: string(e.RoutingKey()), at: m.now,
		expires: s.of.expires, expiration: string(s.of.expiration),
	}
	if !s.of.rekeyed {
		d.cc = copiesIn(headers)
	}
	headers, s.deaths = d.record(headers, s.of.died)
	s.headers = wire.AppendTable(nil, headers)
	s.exchange, s.key, s.cc = m.target.exchange, d.key, append(slices.Clip(d.cc), s.hidden...)
	if m.target.rekeyed {
		s.key, s.cc = m.target.key, nil
	}
	s.envelope = wire.AppendShortString(wire.AppendShortString(nil, s.exchange), s.key)
	s.died, s.rekeyed = true, m.target.rekeyed || s.of.rekeyed
}

// direct finds out where the letter with the stamp goes.
func (m *stamper) direct() {
	s := &m.stamp
	s.route = m.way(nil)
	s.valid = m.scratch.Constant()
	if m.source.delays {
		s.due = lifetime(string(s.of.expiration))
		return
	}
	// Its delay was checked when it was published, or it is none.
	s.route, s.due, _ = s.route.Postpone(s.of.headers, false)
}

// way is the route of the letter with the stamp, as in VHost.routeTo.
func (m *stamper) way(took []*Queue) *Route {
	s := &m.stamp
	route := m.source.vhost.routeTo(&m.scratch, s.exchange, s.key, s.cc, s.header[wire.ContentHeaderSize:], took...)
	if m.source.delays || s.of.reason == queue.Rejected {
		return route
	}
	return route.without(func(target *Queue) bool { return cycle(s.deaths, target.name) })
}

// rest is where a letter goes that has the stamp and was refused before, when those in
// took got it.
func (m *stamper) rest(took []*Queue) *Route {
	if a := &m.again; a.route != m.stamp.route || !slices.Equal(a.took, took) {
		way := m.stamp.route
		if slices.ContainsFunc(took, (*Queue).holdsBack) {
			way = m.way(took)
		}
		*a = again{took, m.stamp.route, way.rest(took)}
	}
	return m.again.rest.For(m.stamp.priority)
}
