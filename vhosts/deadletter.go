// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"

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

// journey is what became of messages that are leaving so far.
type journey struct {
	again bool     // they were refused before
	took  []*Queue // those that have a copy, while others refused it
	noted bool     // it is stored, if the messages are
}

// departing is messages that are leaving and are no letters yet.
type departing struct {
	queue.Dead
	journey
}

// split takes the first n messages off.
func (d *departing) split(n uint32) departing {
	first := *d
	first.Count = n
	d.From += n
	d.Count -= n
	return first
}

// bundle is letters: departing messages that are together in a page, which is held for
// them.
type bundle struct {
	departing
	page *queue.Page
	at   uint32 // offset of the first one in the page
}

// numbers are those of the letters from..to-1 of the bundle.
func (b *bundle) numbers(from, to uint32) queue.Interval {
	first := b.Numbers().First
	return queue.Interval{First: first + uint64(from), End: first + uint64(to)}
}

// split takes the first n letters off.
func (b *bundle) split(n uint32) bundle {
	first := bundle{b.departing.split(n), b.page, b.at}
	b.at += n
	b.page.Hold()
	return first
}

// appendLetter appends letter i of a bundle, which was refused by some queue and that
// those in took have, to others like that.
func appendLetter(letters []bundle, of *bundle, i uint32, took []*Queue) []bundle {
	noted := of.noted && of.again && len(took) == len(of.took) // which only grows
	if n := len(letters); n > 0 {
		last := &letters[n-1]
		if last.page == of.page && last.at+last.Count == of.at+i && last.From+last.Count == of.From+i && last.Reason == of.Reason &&
			last.noted == noted && slices.Equal(last.took, took) {
			last.Count++
			return letters
		}
	}
	of.page.Hold()
	dead := queue.Dead{Run: of.Run, From: of.From + i, Count: 1, Reason: of.Reason}
	return append(letters, bundle{departing{dead, journey{true, took, noted}}, of.page, of.at + i})
}

// lettersAhead is how many letters a queue holds, besides those that are being
// forwarded, before it makes no more of what is leaving: at most two batches.
const lettersAhead = queue.MaxRunMessages

// departLocked takes over what has begun to leave: it goes to the dead letter
// exchange, or away if there is none.
func (q *Queue) departLocked() {
	if len(q.fx.Dead) == 0 {
		return
	}
	forwards := q.delays || q.settings.Load().deadLetters != nil
	for i := range q.fx.Dead {
		d := &q.fx.Dead[i]
		q.stats.Died[d.Reason] += uint64(d.Count)
		if forwards {
			q.dead = append(q.dead, departing{Dead: *d})
			continue
		}
		if err := q.engine.SettleLeaving([]queue.Interval{d.Numbers()}, &q.fx); err != nil {
			q.vhost.hosts.broken(q, err)
		}
	}
	clear(q.fx.Dead)
	q.fx.Dead = q.fx.Dead[:0]
	q.fetchLocked()
	if q.blocked.Load() {
		q.noteLocked()
	}
}

// noteLocked has what is leaving stored as that, as it has to wait or the broker stops.
// It will be leaving after a restart then, in the order in which it was noted. So what is
// noted already comes before what is not.
func (q *Queue) noteLocked() {
	for i := range q.letters {
		q.noteDepartureLocked(&q.letters[i].departing)
	}
	for i := range q.gathered {
		q.noteDepartureLocked(&q.gathered[i].departing)
	}
	first := len(q.dead)
	for first > 0 && !q.dead[first-1].noted {
		first--
	}
	for i := range q.dead[first:] {
		q.noteDepartureLocked(&q.dead[first+i])
	}
}

func (q *Queue) noteDepartureLocked(dead *departing) {
	if dead.noted {
		return
	}
	d := queue.Departure{Reason: dead.Reason, Refused: dead.again}
	for _, target := range dead.took {
		d.Took = append(d.Took, target.id)
	}
	if err := q.engine.Wait(dead.Numbers(), d, &q.fx); err != nil {
		q.vhost.hosts.broken(q, err)
	}
	dead.noted = true
}

// restoreDeparturesLocked goes on with what was leaving and had to wait before the start.
// queues are those that there are, by their ids. Called once, before traffic begins.
func (q *Queue) restoreDeparturesLocked(queues map[uint64]*Queue) {
	var last queue.Departure
	j := journey{noted: true}
	q.engine.Departures(func(dead queue.Dead, d queue.Departure) {
		if j.again = d.Refused; !slices.Equal(d.Took, last.Took) {
			j.took = nil
			for _, id := range d.Took {
				if target, there := queues[id]; there {
					j.took = append(j.took, target)
				}
			}
		}
		last = d
		q.dead = append(q.dead, departing{dead, j})
	})
	if len(q.dead) > 0 {
		q.fetchLocked()
		q.applyLocked()
	}
}

// fetchLocked makes letters of what is leaving, in order, up to the first message
// whose page is not in memory: it goes on from there when that is gathered.
func (q *Queue) fetchLocked() {
	ahead := uint32(0)
	for i := range q.letters {
		ahead += q.letters[i].Count
	}
	for ahead < lettersAhead {
		var b bundle
		switch {
		case len(q.gathered) > 0:
			b = q.takeGatheredLocked()
		case len(q.dead) == 0 || q.gathering != nil || q.dead[0].Run.Page == nil:
			q.gatherLocked(ahead)
			return
		default:
			d := &q.dead[0]
			b = bundle{*d, d.Run.Page, d.From}
			b.page.Hold()
			q.passLocked(1)
		}
		q.letters = append(q.letters, b)
		ahead += b.Count
	}
	q.gatherLocked(ahead)
}

// passLocked takes the first n entries off dead.
func (q *Queue) passLocked(n int) {
	clear(q.dead[:n])
	if q.dead = q.dead[n:]; len(q.dead) == 0 {
		q.dead = nil
	}
}
