// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Dead lettering (RabbitMQ 4.3, dead lettering) of rejected messages. A message
// on its way to the dead letter exchange stays unacked in its queue until the
// copies are taken: copies and removal are one proposal, so a crash leaves either
// the original or the copies. Routing and publishing happen without any queue's
// lock, as the target may be any queue, the same one included.

// deadLetterTarget is where a queue's dead letters go.
type deadLetterTarget struct {
	exchange string
	key      string // replaces the message's own keys, if rekeyed
	rekeyed  bool
}

// letter is one message that leaves its queue, in a page that is held for it.
type letter struct {
	number uint64
	page   *queue.Page
	offset int
}

// size is how many bytes a copy of the message takes, about.
func (l *letter) size() int {
	envelope, header, body := l.page.Message(l.offset)
	return len(envelope) + len(header) + len(body)
}

// reject dead-letters unacked messages of consumer c, in the order of numbers.
func (q *Queue) reject(c *queue.Consumer, numbers []uint64) {
	q.mu.Lock()
	if q.deleted {
		q.mu.Unlock()
		return
	}
	q.stats.Rejected += uint64(len(numbers))
	q.engine.Credit(c, uint32(len(numbers)))
	q.leaving = append(q.leaving, numbers...)
	q.fetchLocked()
	q.dispatchLocked()
	q.mu.Unlock()
	q.forward()
}

// fetchLocked makes letters of the leaving messages, in order, up to the first
// whose page has to be read: it goes on from there when that is loaded.
func (q *Queue) fetchLocked() {
	for len(q.leaving) > 0 {
		n := q.leaving[0]
		switch r := q.engine.Locate(n, &q.fx); {
		case r == nil:
			q.vhost.hosts.broken(q, errNotUnacked)
		case r.Page == nil:
			return
		default:
			r.Page.Hold()
			q.letters = append(q.letters, letter{n, r.Page, int(n - r.First)})
		}
		q.leaving = q.leaving[1:]
	}
	q.leaving = nil
}

// forward publishes the queue's letters to the dead letter exchange and takes the
// originals out of the queue, one caller at a time, so that they stay in order.
// Called without locks.
func (q *Queue) forward() {
	q.forwarding.Lock()
	defer q.forwarding.Unlock()
	for letters := q.takeLetters(); len(letters) > 0; letters = q.takeLetters() {
		q.forwardAll(letters)
	}
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

// forwardAll forwards letters in one proposal. What has no destination is dropped.
func (q *Queue) forwardAll(letters []letter) {
	var scratch exchanges.Scratch[*Queue]
	var publications []TxPublication
	numbers := make([]uint64, len(letters))
	now, target := time.Now(), q.settings.Load().deadLetters
	for i, l := range letters {
		numbers[i] = l.number
		if target != nil { // it may have been taken from the queue meanwhile
			publications = q.address(publications, &scratch, target, l, now)
		}
	}
	q.vhost.hosts.CommitTx(publications, []Settlement{{Queue: q, Numbers: numbers, forwarded: true}}, nil)
	for _, l := range letters {
		l.page.Release()
	}
}

// address routes one letter to target and appends it to the publications.
func (q *Queue) address(publications []TxPublication, scratch *exchanges.Scratch[*Queue], target *deadLetterTarget, l letter, now time.Time) []TxPublication {
	envelope, header, body := l.page.Message(l.offset)
	e := wire.PublishView{ExchangeAndKey: envelope}
	d := death{queue: q.name, reason: reasonRejected, exchange: string(e.Exchange()), key: string(e.RoutingKey()), at: now}
	var properties wire.PropertyView
	h, err := wire.ParseHeader(header)
	if err == nil {
		err = properties.Scan(h.Properties)
	}
	if err == nil {
		if !l.page.Rekeyed(l.offset) {
			d.cc = ccOf(properties.Headers)
		}
		header, err = d.record(header, l.page.Died(l.offset))
	}
	if err != nil {
		// It was checked when it was published: only damage gets here.
		q.vhost.hosts.log.Error("a dead letter cannot be read and is dropped", "vhost", q.vhost.name, "queue", q.name, "error", err)
		return publications
	}
	key, cc := d.key, d.cc
	if target.rekeyed {
		key, cc = target.key, nil
	}
	route := q.vhost.routeTo(scratch, target.exchange, key, cc, header).For(PriorityOf(&properties))
	if len(route.Queues) == 0 {
		return publications
	}
	envelope = wire.AppendShortString(wire.AppendShortString(nil, target.exchange), key)
	persistent := properties.DeliveryMode == wire.Persistent && route.Durable
	page := openPublication(&publications, route, persistent, len(envelope)+len(header)+len(body))
	page.AppendDead(envelope, header, body, target.rekeyed || l.page.Rekeyed(l.offset))
	return publications
}

// ccOf is the routing keys in the header CC.
func ccOf(headers []byte) (keys []string) {
	if _, _, ok := wire.LookupField(headers, "CC"); !ok {
		return nil
	}
	table, err := wire.ParseTable(headers)
	if err != nil {
		return nil
	}
	value, _ := table.Get("CC")
	list, _ := value.(wire.Array)
	for _, element := range list {
		if key, ok := element.(string); ok {
			keys = append(keys, key)
		}
	}
	return keys
}
