// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "slices"

// Who gets messages: consumers of the highest priority that have credit, in turn;
// lower ones what is left then. If only one consumer is to be active at a time, it is
// the only one with a rank.

// rank is the consumers of one priority.
type rank struct {
	priority  int64
	consumers []*Consumer // in the order they were added
	turn      int         // consumers[turn] is the next one served
}

// SingleActive says whether only one consumer gets messages at a time, and how it is
// followed by another.
type SingleActive uint8

const (
	// AllActive is the usual queue: every consumer gets messages.
	AllActive SingleActive = iota
	// Stays is a single active consumer until that is removed. Then comes the one
	// of the highest priority, of several the one that was added first.
	Stays
	// GivesWay is like Stays, but gives way when one of a higher priority is added:
	// from then on it gets nothing, and when nothing it got is unacked the other
	// one follows.
	GivesWay
)

// AddConsumer lets c take part in the distribution of messages.
func (e *Engine) AddConsumer(c *Consumer) {
	e.consumers = append(e.consumers, c)
	if e.Single == AllActive {
		e.addToRank(c)
	} else {
		e.elect()
	}
}

// RemoveConsumer takes c out of the distribution; what it holds stays unacked
// until it is settled or returned. It reports whether c was there.
func (e *Engine) RemoveConsumer(c *Consumer) bool {
	i := slices.Index(e.consumers, c)
	if i < 0 {
		return false
	}
	e.consumers = slices.Delete(e.consumers, i, i+1)
	if e.Single == AllActive {
		e.removeFromRank(c)
		return true
	}
	if e.active == c {
		e.active = nil
	}
	e.elect()
	return true
}

// Consumers are the consumers in the order they were added. The slice is the
// engine's own.
func (e *Engine) Consumers() []*Consumer { return e.consumers }

// Active is the single active consumer; nil if there is none, or if all are active.
func (e *Engine) Active() *Consumer { return e.active }

// Credit tells that consumer c no longer holds n of its messages: they were
// settled or returned.
func (e *Engine) Credit(c *Consumer, n uint32) {
	c.unacked -= min(n, c.unacked)
	if c.unacked == 0 && e.yielding && c == e.active {
		e.elect()
	}
}

// rankOf returns the position of a priority's rank, or where it would be.
func (e *Engine) rankOf(priority int64) (int, bool) {
	return slices.BinarySearchFunc(e.ranks, priority, func(r rank, priority int64) int {
		switch {
		case r.priority > priority:
			return -1
		case r.priority < priority:
			return 1
		}
		return 0
	})
}

func (e *Engine) addToRank(c *Consumer) {
	i, found := e.rankOf(c.Priority)
	if !found {
		e.ranks = slices.Insert(e.ranks, i, rank{priority: c.Priority})
	}
	r := &e.ranks[i]
	r.consumers = append(r.consumers, c)
}

func (e *Engine) removeFromRank(c *Consumer) {
	i, _ := e.rankOf(c.Priority)
	r := &e.ranks[i]
	at := slices.Index(r.consumers, c)
	r.consumers = slices.Delete(r.consumers, at, at+1)
	if len(r.consumers) == 0 {
		e.ranks = slices.Delete(e.ranks, i, i+1)
		return
	}
	if at < r.turn {
		r.turn--
	}
	if r.turn == len(r.consumers) {
		r.turn = 0
	}
}

// elect finds out who is the single active consumer, and whether it gets messages.
func (e *Engine) elect() {
	next := e.heir()
	e.yielding = e.active != nil && e.Single == GivesWay && next != nil && next.Priority > e.active.Priority
	if e.active == nil || e.yielding && e.active.unacked == 0 {
		e.active, e.yielding = next, false
	}
	e.ranks = slices.Delete(e.ranks, 0, len(e.ranks))
	if e.active != nil && !e.yielding {
		e.addToRank(e.active)
	}
}

// heir is the consumer that would follow the single active one now.
func (e *Engine) heir() (best *Consumer) {
	for _, c := range e.consumers {
		if c != e.active && (best == nil || c.Priority > best.Priority) {
			best = c
		}
	}
	return best
}
