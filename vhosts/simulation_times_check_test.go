// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// check checks a delivery by itself.
func (s *timesRun) check(a *timesArrival, low, high int) {
	m := s.byID[a.place.id]
	if m == nil || !slices.Contains(s.places(m), a.place) {
		s.problem("%v is delivered and was never to be there", a.place)
		return
	}
	if a.at < m.at+m.delay {
		s.problem("%v is delivered %d ms early", a.place, m.at+m.delay-a.at)
	}
	if f := s.facts[a.place]; f != nil && f.returned <= low && a.at < f.notBefore {
		s.problem("%v is delivered again %d ms early", a.place, f.notBefore-a.at)
	}
	_, to, known := s.arrived(m, a.place, low)
	if lives, expires := s.lives(m, a.place); known && expires && a.at > to+lives {
		s.problem("%v is delivered %d ms after it expired", a.place, a.at-to-lives)
	}
	if m.refused && a.place.path == m.root && (high == math.MaxInt || !s.queue(m.root).dlx) {
		s.problem("%v is delivered and was refused", a.place)
	}
	queues := strings.Split(a.place.path, ">")
	for i, reason := range a.reasons {
		if p := (timesPlace{m.id, strings.Join(queues[:i+1], ">")}); !s.mayDie(m, p, reason, high, a.at) {
			s.problem("%v has died at %s (%s) for no reason", a.place, p.path, reason)
		}
	}
}

// verify starts a broker on what a crash left and has it hand out everything, what is
// due now and then what was delayed: each message must be where it may be, once.
func (s *timesRun) verify(crash timesCrash, orderly bool) map[timesPlace]*timesArrival {
	s.verified++
	clock := &clock{time: s.clock.now()}
	b, log := s.open(crash.fs.CrashClone(vfs.CrashCloneCfg{}), clock)
	found := map[timesPlace]*timesArrival{}
	consumers := s.consume(b, clock, true)
	s.collect(b, consumers, found, crash, true)
	clock.mu.Lock()
	clock.time = clock.time.Add(time.Hour)
	clock.mu.Unlock()
	s.collect(b, consumers, found, crash, false)
	if err := b.close(); err != nil {
		s.problem("the broker does not stop: %v", err)
	}
	if errors := log.errors(); len(errors) > 0 {
		s.problem("the broker reports errors: %v", errors)
	}
	confirmed := map[*timesMessage]bool{}
	for _, m := range crash.confirmed {
		confirmed[m] = true
	}
	for _, m := range s.messages {
		places := s.places(m)
		there := slices.ContainsFunc(places, func(p timesPlace) bool { return found[p] != nil })
		switch {
		case there && !m.persistent:
			s.problem("message %s is there and is transient", m.id)
		case m.persistent && (there || confirmed[m] || orderly && (!m.refused || s.queue(m.root).dlx)):
			s.account(m, places[0], found, crash)
		}
		for _, p := range places {
			f := s.fact(p)
			if orderly && found[p] != nil && f.rejected > 0 && f.rejected >= f.returned {
				s.problem("%v is back, which was rejected", p)
			}
			if found[p] != nil && f.gone {
				s.problem("%v is back", p)
			} else if f.settled > 0 && f.settled <= crash.low {
				for _, back := range places {
					if found[back] != nil && p.comesBy(back) {
						s.problem("%v is back: %v was settled with step %d, and all up to %d is on disk", back, p, f.settled, crash.low)
					}
				}
			}
		}
	}
	if len(s.problems) > 0 {
		s.problem("after a stop (orderly %t) between steps %d and %d", orderly, crash.low, crash.high)
	}
	return found
}

// collect takes all messages until there are none left, or only such as wait for their
// time.
func (s *timesRun) collect(b *broker, consumers []*timesConsumer, found map[timesPlace]*timesArrival, crash timesCrash, waiting bool) {
	for start := time.Now(); ; runtime.Gosched() {
		b.timers.fire()
		b.VHost.mu.Lock()
		delayer := b.delayers["later"]
		b.VHost.mu.Unlock()
		// Before the clock goes on nothing may be on its way: it would have arrived long ago.
		held := delayer.Stats()
		empty := held.Leaving == 0 && (waiting || held.Ready == 0)
		for _, c := range consumers { // sources before targets
			stats := c.shell.Stats()
			empty = empty && stats.Ready == 0 && stats.Leaving == 0 && (waiting || stats.Delayed == 0)
		}
		if empty {
			break
		}
		if time.Since(start) > patience {
			for _, c := range consumers {
				stats := c.shell.Stats()
				s.problem("%s still has %d ready, %d leaving and %d waiting messages", stats.Name, stats.Ready, stats.Leaving, stats.Delayed)
			}
			break
		}
	}
	for _, c := range consumers {
		for _, a := range c.arrivals() {
			s.check(&a, crash.low, crash.high)
			s.inOrder(c, &a)
			if found[a.place] != nil {
				s.problem("%v is there twice", a.place)
			}
			found[a.place] = &a
		}
	}
}

// account checks that a message is at a place or has rightly left it, and is in all
// places then where it went.
func (s *timesRun) account(m *timesMessage, p timesPlace, found map[timesPlace]*timesArrival, crash timesCrash) {
	q, f := s.queue(p.queue()), s.fact(p)
	switch {
	case found[p] != nil:
		for _, other := range s.places(m) {
			if found[other] != nil && other != p && other.comesBy(p) {
				s.problem("%v is there, and its dead letter %s as well", p, other.path)
			}
		}
	case f.ended || f.settled > 0 && f.settled <= crash.high:
	case !s.mayDie(m, p, "", crash.high, s.now()):
		s.problem("%v is missing", p)
	case q.max != unset && slices.ContainsFunc(q.targets, func(t string) bool { return s.queue(t).refuses }):
		// What waits for room elsewhere is dropped when it is too much.
	default:
		for _, target := range q.targets {
			s.account(m, p.in(target), found, crash)
		}
	}
}
