// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"

	"github.com/lagomq/lagomq/amqp/wire"
)

// A queue that orders by priority takes each message into the level of its priority
// (see queue.Engine). A run has messages of one level only, so where a message goes
// includes its priority: Route.For.

// Priority is a message's priority: the property's value, or NoPriority.
type Priority int16

// NoPriority stands for a message without the property. It is not the same for
// all: classic queues take it as 0 and quorum queues as 4.
const NoPriority Priority = -1

// PriorityOf is the priority that properties give a message.
func PriorityOf(p *wire.PropertyView) Priority {
	if !p.Has(wire.FlagPriority) {
		return NoPriority
	}
	return Priority(p.Priority)
}

// quorumDefaultPriority is what quorum queues take for a message without one.
const quorumDefaultPriority = 4

// usualPriority is what the queue takes for a message without a priority.
func (q *Queue) usualPriority() Priority {
	if q.Quorum() {
		return quorumDefaultPriority
	}
	return 0
}

// level is the engine's level for a message.
func (q *Queue) level(p Priority) uint8 {
	highest := Priority(q.settings.Load().priorities)
	if highest == 0 {
		return 0
	}
	if p == NoPriority {
		p = q.usualPriority()
	}
	return uint8(min(p, highest))
}

// rank finds out what durability and priorities mean to where a new route leads.
func (r *Route) rank() {
	r.stored = slices.ContainsFunc(r.Queues, (*Queue).Durable) ||
		slices.ContainsFunc(r.histories, func(h *recentHistory) bool { return h.durable })
	r.Durable = r.stored || slices.ContainsFunc(r.held, (*Queue).Durable)
	r.priority = NoPriority
	r.alike = len(r.histories) == 0
	for i, q := range r.Queues {
		highest, usual := Priority(q.settings.Load().priorities), q.usualPriority()
		if i == 0 {
			r.highest, r.usual = highest, usual
			continue
		}
		r.alike = r.alike && r.highest == highest && r.usual == usual
		r.highest = max(r.highest, highest)
		if r.usual != usual {
			r.usual = NoPriority
		}
	}
}

// For returns the route of messages of that priority: r itself if that makes no
// difference to any of its queues. r must come from Routes.Find, and is used by
// one goroutine.
func (r *Route) For(p Priority) *Route {
	if r.highest == 0 || p == NoPriority {
		return r
	}
	if p = min(p, r.highest); p == r.usual && r.priority == NoPriority {
		return r
	}
	if r.byPriority == nil {
		r.byPriority = make([]*Route, r.highest+1)
	}
	if r.byPriority[p] == nil {
		r.byPriority[p] = r.at(p)
	}
	return r.byPriority[p]
}

// at is For without a memory.
func (r *Route) at(p Priority) *Route {
	other := *r
	other.priority, other.byPriority = p, nil
	return &other
}

// Priority is the one that For was asked for, capped; NoPriority for others.
func (r *Route) Priority() Priority { return r.priority }

// Beside reports whether it does not matter which of two messages with these routes,
// which are not the same, comes first: because each has a queue of its own, or both
// go the same way to the same queues, which all have a level for each. What is beside
// one of several routes that are beside each other is so to all of them. The
// confirms of all wait, or those of none.
func (r *Route) Beside(other *Route) bool {
	if len(r.held)+len(other.held) > 0 {
		return false
	}
	if slices.Equal(r.Queues, other.Queues) {
		return r.alike && r.highest > 0 && slices.Equal(r.filters, other.filters)
	}
	return r.alone() && other.alone() && r.Durable == other.Durable && r.filters == nil && other.filters == nil
}
