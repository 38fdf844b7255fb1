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

// bundle is letters: neighbouring messages of one run that leave their queue, in a
// page that is held for them. Mostly they left together.
type bundle struct {
	page        *queue.Page
	run         uint64 // number of the run's, and the page's, first message
	from, count uint32 // offsets in the page
	reason      queue.Reason
	journey
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

// numbers are those of the letters from..to-1 of the bundle.
func (b *bundle) numbers(from, to uint32) queue.Interval {
	first := b.run + uint64(b.from)
	return queue.Interval{First: first + uint64(from), End: first + uint64(to)}
}

// split takes the first n letters off.
func (b *bundle) split(n uint32) bundle {
	first := *b
	first.count = n
	b.from += n
	b.count -= n
	b.page.Hold()
	return first
}

// appendLetter appends letter i of a bundle, which was refused by some queue and that
// those in took have, to others like that.
func appendLetter(letters []bundle, of *bundle, i uint32, took []*Queue) []bundle {
	offset := of.from + i
	noted := of.noted && of.again && len(took) == len(of.took) // which only grows
	if n := len(letters); n > 0 {
		last := &letters[n-1]
		if last.page == of.page && last.from+last.count == offset && last.reason == of.reason && last.noted == noted && slices.Equal(last.took, took) {
			last.count++
			return letters
		}
	}
	of.page.Hold()
	return append(letters, bundle{of.page, of.run, offset, 1, of.reason, journey{true, took, noted}})
}

// lettersAhead is how many letters a queue holds, besides those that are being
// forwarded, before it makes no more of what is leaving: at most two batches.
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
		if b := &q.letters[i]; !b.noted {
			q.noteJourneyLocked(b.numbers(0, b.count), b.reason, &b.journey)
		}
	}
	first := len(q.dead)
	for first > 0 && !q.dead[first-1].noted {
		first--
	}
	for i := range q.dead[first:] {
		d := &q.dead[first+i]
		q.noteJourneyLocked(d.Numbers(), d.Reason, &d.journey)
	}
}

func (q *Queue) noteJourneyLocked(numbers queue.Interval, reason queue.Reason, j *journey) {
	d := queue.Departure{Reason: reason, Refused: j.again}
	for _, target := range j.took {
		d.Took = append(d.Took, target.id)
	}
	if err := q.engine.Wait(numbers, d, &q.fx); err != nil {
		q.vhost.hosts.broken(q, err)
	}
	j.noted = true
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
// whose page has to be read: it goes on from there when that is loaded.
func (q *Queue) fetchLocked() {
	ahead := uint32(0)
	for i := range q.letters {
		ahead += q.letters[i].count
	}
	for len(q.dead) > 0 && ahead < lettersAhead {
		d := &q.dead[0]
		if d.Run.Page == nil {
			for i := range min(len(q.dead), lettersReadAhead) {
				q.engine.Load(q.dead[i].Run, &q.fx)
			}
			break
		}
		d.Run.Page.Hold()
		q.letters = append(q.letters, bundle{d.Run.Page, d.Run.First, d.From, d.Count, d.Reason, d.journey})
		ahead += d.Count
		*d = departing{}
		q.dead = q.dead[1:]
	}
	if len(q.dead) == 0 {
		q.dead = nil
	}
}
