// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Dead lettering (RabbitMQ 4.3, dead lettering). A message on its way to the dead
// letter exchange is leaving its queue until the copies are taken: copies and
// removal are one proposal, so a crash leaves either the original or the copies.
// Routing and publishing happen without any queue's lock, as the target may be any
// queue, the same one included.

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
	reason queue.Reason
}

// size is how many bytes a copy of the message takes, about.
func (l *letter) size() int {
	envelope, header, body := l.page.Message(l.offset)
	return len(envelope) + len(header) + len(body)
}

// lettersAhead is how many letters a queue holds, besides those that are being
// forwarded, before it makes more of what is leaving: about two batches.
const lettersAhead = queue.MaxRunMessages

// lettersReadAhead is how many pages of leaving messages are asked for at a time.
const lettersReadAhead = 16

// departLocked takes over what has begun to leave: it goes to the dead letter
// exchange, or away if there is none.
func (q *Queue) departLocked() {
	if len(q.fx.Dead) == 0 {
		return
	}
	forwards := q.settings.Load().deadLetters != nil
	var numbers []uint64
	for i := range q.fx.Dead {
		d := &q.fx.Dead[i]
		q.stats.Died[d.Reason] += uint64(d.Count)
		if forwards {
			q.dead = append(q.dead, *d)
			continue
		}
		numbers = d.AppendNumbers(numbers[:0])
		if err := q.engine.SettleLeaving(numbers, &q.fx); err != nil {
			q.vhost.hosts.broken(q, err)
		}
	}
	clear(q.fx.Dead)
	q.fx.Dead = q.fx.Dead[:0]
	q.fetchLocked()
}

// fetchLocked makes letters of what is leaving, in order, up to the first message
// whose page has to be read: it goes on from there when that is loaded.
func (q *Queue) fetchLocked() {
	for len(q.dead) > 0 && len(q.letters) < lettersAhead {
		d := &q.dead[0]
		if d.Run.Page == nil {
			for i := range min(len(q.dead), lettersReadAhead) {
				q.engine.Load(q.dead[i].Run, &q.fx)
			}
			break
		}
		for i := range d.Count {
			d.Run.Page.Hold()
			offset := d.From + i
			q.letters = append(q.letters, letter{d.Run.First + uint64(offset), d.Run.Page, int(offset), d.Reason})
		}
		q.dead[0] = queue.Dead{}
		q.dead = q.dead[1:]
	}
	if len(q.dead) == 0 {
		q.dead = nil
	}
}

// forward publishes one batch of the queue's letters to the dead letter exchange
// and takes the originals out of the queue, one caller at a time, so that they stay
// in order. It returns the queues that have letters now, this one or some that got
// copies. Called without locks.
func (q *Queue) forward() (again []*Queue) {
	q.forwarding.Lock()
	defer q.forwarding.Unlock()
	letters := q.takeLetters()
	if len(letters) == 0 {
		return nil
	}
	again = q.forwardAll(letters)
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.deleted {
		q.fetchLocked()
		q.applyLocked()
	}
	if len(q.letters) > 0 {
		again = append(again, q)
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

// forwardAll forwards letters in one proposal. What has no destination is dropped.
// It returns the queues that have letters now because they got copies.
func (q *Queue) forwardAll(letters []letter) []*Queue {
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
	again := q.vhost.hosts.commitTx(publications, []Settlement{{Queue: q, Numbers: numbers, forwarded: true}}, nil)
	for _, l := range letters {
		l.page.Release()
	}
	return again
}

// address routes one letter to target and appends it to the publications.
func (q *Queue) address(publications []TxPublication, scratch *exchanges.Scratch[*Queue], target *deadLetterTarget, l letter, now time.Time) []TxPublication {
	envelope, header, body := l.page.Message(l.offset)
	e := wire.PublishView{ExchangeAndKey: envelope}
	d := death{queue: q.name, reason: l.reason, exchange: string(e.Exchange()), key: string(e.RoutingKey()), at: now}
	var properties wire.PropertyView
	var deaths wire.Array
	h, err := wire.ParseHeader(header)
	if err == nil {
		err = properties.Scan(h.Properties)
	}
	if err == nil {
		if !l.page.Rekeyed(l.offset) {
			d.cc = ccOf(properties.Headers)
		}
		header, deaths, err = d.record(header, l.page.Died(l.offset))
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
	route := q.vhost.routeTo(scratch, target.exchange, key, cc, header)
	if l.reason != queue.Rejected {
		route = route.without(func(target *Queue) bool { return cycle(deaths, target.name) })
	}
	if route.Nowhere() {
		return publications
	}
	route = route.For(PriorityOf(&properties))
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
