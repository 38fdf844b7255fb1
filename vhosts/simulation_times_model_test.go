// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// timesQueue is a queue and what may happen to its messages.
type timesQueue struct {
	name     string
	args     wire.Table
	kind     simKind
	ttl      int64 // milliseconds, unset for none
	max      int   // messages, unset for no limit
	refuses  bool  // what is too many, else it drops its head
	dlx      bool  // what it refuses is dead-lettered
	limit    int   // of failed deliveries, unset for none
	retry    uint64
	targets  []string // of its dead letters
	prefetch uint32   // of its consumer, 0 for none
}

// timesMessage is a message as it was published.
type timesMessage struct {
	id         string
	index      int // it is the index-th that was published
	level      Priority
	root       string // the queue it is for
	persistent bool
	at         uint64 // when it was published
	delay      uint64
	expiration int64 // unset for none
	refused    bool  // by its queue
}

// timesPlace is where a message is: the queues it was in, the last one last.
type timesPlace struct{ id, path string }

func (p timesPlace) queue() string { return p.path[strings.LastIndexByte(p.path, '>')+1:] }

// comesBy says that a message is, or was, at another place when it is at this one.
func (p timesPlace) comesBy(other timesPlace) bool {
	return p == other || p.id == other.id && strings.HasPrefix(p.path, other.path+">")
}

func (p timesPlace) in(target string) timesPlace { return timesPlace{p.id, p.path + ">" + target} }

// timesFacts is what the client knows of a message at a place.
type timesFacts struct {
	settled     int    // the step that acknowledged it, or rejected it for good; 0 for none
	rejected    int    // the step that rejected it, 0 for none
	failures    int    // how often its delivery failed, at most
	arrived     uint64 // it had by then, 0 if that is not known
	arrivedStep int    // what comes after that
	returned    int    // the step that gave it back last, 0 for none
	notBefore   uint64 // it waits until then to be delivered again
	waits       bool   // or has waited: it may expire meanwhile
	held        bool   // by the consumer
	ended       bool   // it was settled, or is nowhere, and that may be on disk
	gone        bool   // it is on disk for sure
}

// fact is what is known of a message at a place.
func (s *timesRun) fact(p timesPlace) *timesFacts {
	if s.facts[p] == nil {
		s.facts[p] = &timesFacts{}
	}
	return s.facts[p]
}

func (q *timesQueue) bound(most int, overflow string) {
	q.max, q.refuses, q.dlx = most, overflow != "drop-head", overflow == "reject-publish-dlx"
	q.args = append(q.args, maxLength(most), wire.Field{Name: "x-overflow", Value: overflow})
}

// drops says that the queue may drop messages because they are too many, of those
// that are ready or of those that wait for room elsewhere.
func (q *timesQueue) drops(s *timesRun) bool {
	return q.max != unset && (!q.refuses || slices.ContainsFunc(q.targets, func(t string) bool { return s.queue(t).refuses }))
}

func (s *timesRun) queue(name string) *timesQueue {
	for _, q := range s.queues {
		if q.name == name {
			return q
		}
	}
	return nil
}

// places lists all places where a message may ever be, sources before targets.
func (s *timesRun) places(m *timesMessage) []timesPlace {
	places := []timesPlace{{m.id, m.root}}
	for i := 0; i < len(places); i++ {
		for _, target := range s.queue(places[i].queue()).targets {
			places = append(places, places[i].in(target))
		}
	}
	return places
}

// lives is how long a message lives at a place, ok is false if it does not expire.
func (s *timesRun) lives(m *timesMessage, p timesPlace) (lives uint64, ok bool) {
	ttl := s.queue(p.queue()).ttl
	if p.path == m.root && m.expiration != unset && (ttl == unset || m.expiration < ttl) {
		ttl = m.expiration // a dead letter has none of its own
	}
	return uint64(ttl), ttl != unset
}

// arrived is when a message came to a place: not before from and, if that is known,
// not after to. What is on disk for sure is what comes before step low.
func (s *timesRun) arrived(m *timesMessage, p timesPlace, low int) (from, to uint64, known bool) {
	from = m.at + m.delay
	if p.path == m.root && m.delay == 0 {
		return from, from, true
	}
	f := s.fact(p)
	return from, f.arrived, f.arrived > 0 && f.arrivedStep <= low
}

// mayDie says whether a message may die at a place by a time for a reason, "" for
// any.
func (s *timesRun) mayDie(m *timesMessage, p timesPlace, reason string, high int, now uint64) bool {
	q, f := s.queue(p.queue()), s.fact(p)
	from, _, _ := s.arrived(m, p, 0)
	lives, expires := s.lives(m, p)
	is := func(r queue.Reason) bool { return reason == "" || reason == r.String() }
	return is(queue.Expired) && expires && (from+lives <= now || f.waits) ||
		is(queue.Maxlen) && q.max != unset && (!q.refuses || q.dlx && (m.refused || m.delay > 0 || p.path != m.root)) ||
		is(queue.DeliveryLimit) && q.limit != unset && f.failures > q.limit ||
		is(queue.Rejected) && f.rejected > 0 && f.rejected <= high
}
