// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "slices"

// Read-ahead: while messages are handed out from one run, the pages of the runs
// after it are asked for, so that a consumer of a backlog does not wait for the
// disk at every run.
const (
	readAheadRuns  = 32
	readAheadBytes = 4 << 20
)

// stepMessages bounds what one Dispatch hands out, so that its deliveries reach
// the sinks, which say when they are full, before more are made.
const stepMessages = MaxRunMessages

// Dispatch hands ready messages, those of the highest level first and in each the
// lowest number, to waiting basic.gets and to consumers with credit until one of
// them runs out, or the step is large enough: then it reports true, and is to be
// called again once the effects have been carried out. After it reported false this
// holds: if a message is ready and the page of the first one is in memory, no
// consumer has credit; and if that page is not, a load of it is under way.
func (e *Engine) Dispatch(fx *Effects) (more bool) {
	handed := uint32(0)
	for len(e.ranks) > 0 || len(e.getters) > 0 {
		l := e.readiest()
		if l == nil {
			break
		}
		if more = handed >= stepMessages; more {
			break
		}
		s := l.nextReady()
		if s.run.Page == nil {
			if e.wanted() {
				e.load(s.run, fx)
				l.readAhead(fx)
			}
			break
		}
		taken := e.share(s, fx)
		if taken == 0 {
			break
		}
		l.take(s, taken, fx)
		handed += taken
	}
	e.answerGetters(fx)
	return more
}

// wanted says whether anybody would take a message if its page were here.
func (e *Engine) wanted() bool {
	if len(e.getters) > 0 {
		return true
	}
	for i := range e.ranks {
		for _, c := range e.ranks[i].consumers {
			if c.credit(1) > 0 && c.Sink.Reserve(1) > 0 {
				c.Sink.Release(1)
				return true
			}
		}
	}
	return false
}

// share gives the messages of s, one after the other, to those who may have
// them, and returns how many found a taker.
func (e *Engine) share(s stretch, fx *Effects) uint32 {
	if len(e.getters) > 0 {
		e.serveGetter(s, fx)
		return 1
	}
	taken := uint32(0)
	for i := range e.ranks {
		if taken = e.shareIn(&e.ranks[i], s, taken, fx); taken == s.count {
			break
		}
	}
	clear(e.eligible[:cap(e.eligible)])
	return taken
}

// shareIn gives the messages of s from offset taken on to consumers of one rank, and
// returns up to where they are taken then.
func (e *Engine) shareIn(r *rank, s stretch, taken uint32, fx *Effects) uint32 {
	e.chooseEligible(r, s.count-taken)
	for len(e.eligible) > 0 && taken < s.count {
		taken += e.round(r, s, taken, fx)
	}
	for _, c := range e.eligible {
		e.finishTurn(c)
	}
	return taken
}

// chooseEligible lists the consumers of a rank that may take a message now, the next
// one in turn first, each with how many it may take.
func (e *Engine) chooseEligible(r *rank, n uint32) {
	e.eligible = e.eligible[:0]
	for i := range r.consumers {
		if uint32(len(e.eligible)) == n {
			break // one message each: nobody after them can have any
		}
		c := r.consumers[(r.turn+i)%len(r.consumers)]
		if credit := c.credit(n); credit > 0 {
			if c.granted = c.Sink.Reserve(credit); c.granted > 0 {
				c.turn = c.granted
				e.eligible = append(e.eligible, c)
			}
		}
	}
}

// round deals messages of s from offset done on to the eligible consumers, one
// each in turn, for as many turns as all of them can take part in, and drops
// those that can take no more. It returns how many messages it dealt.
func (e *Engine) round(r *rank, s stretch, done uint32, fx *Effects) uint32 {
	left, k := s.count-done, uint32(len(e.eligible))
	if left < k {
		// The last, incomplete turn.
		for i := range left {
			e.deal(e.eligible[i], s, done+i, 1, 1, fx)
		}
		r.turnAfter(e.eligible[left-1])
		return left
	}
	turns := left / k
	for _, c := range e.eligible {
		turns = min(turns, c.turn)
	}
	r.turnAfter(e.eligible[k-1])
	for i, c := range e.eligible {
		e.deal(c, s, done+uint32(i), k, turns, fx)
	}
	stay := e.eligible[:0]
	for _, c := range e.eligible {
		if c.turn > 0 {
			stay = append(stay, c)
		} else {
			e.finishTurn(c)
		}
	}
	e.eligible = stay
	return turns * k
}

// turnAfter makes the consumer after c the next one served, even if it has no
// credit now: it may have some by then.
func (r *rank) turnAfter(c *Consumer) {
	r.turn = (slices.Index(r.consumers, c) + 1) % len(r.consumers)
}

// deal gives consumer c every stride-th message of s from offset skip on, count
// in all.
func (e *Engine) deal(c *Consumer, s stretch, skip, stride, count uint32, fx *Effects) {
	fx.Deliveries = append(fx.Deliveries, Delivery{
		Consumer: c, Run: s.run, Page: s.run.Page,
		From: s.from + skip, Stride: stride, Count: count, Redelivered: s.redelivered,
	})
	c.turn -= count
	if c.NoAck {
		e.settleSent(s.run, s.from+skip, stride, count)
	} else {
		c.unacked += count
		e.unacked += uint64(count)
	}
}

// finishTurn gives back what c was granted and did not take.
func (e *Engine) finishTurn(c *Consumer) {
	if c.turn > 0 {
		c.Sink.Release(c.turn)
		c.turn = 0
	}
}

// serveGetter gives the first message of s to the oldest waiting basic.get.
func (e *Engine) serveGetter(s stretch, fx *Effects) {
	c := e.getters[0]
	e.getters = slices.Delete(e.getters, 0, 1)
	fx.Deliveries = append(fx.Deliveries, Delivery{
		Consumer: c, Run: s.run, Page: s.run.Page,
		From: s.from, Stride: 1, Count: 1, Redelivered: s.redelivered,
		Get: true, Remaining: e.Ready() - 1,
	})
	if c.NoAck {
		e.settleSent(s.run, s.from, 1, 1)
	} else {
		e.unacked++
	}
}
