// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"github.com/lagomq/lagomq/amqp/wire"
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
	again  bool     // it was refused before
	took   []*Queue // those that have a copy, while others refused it
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
	forwards := q.delays || q.settings.Load().deadLetters != nil
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
			q.letters = append(q.letters, letter{d.Run.First + uint64(offset), d.Run.Page, int(offset), d.Reason, false, nil})
		}
		q.dead[0] = queue.Dead{}
		q.dead = q.dead[1:]
	}
	if len(q.dead) == 0 {
		q.dead = nil
	}
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
	return copiesIn(table)
}
