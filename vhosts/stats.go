// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
)

// QueueStats is a queue as management shows it: a snapshot, consistent in
// itself.
type QueueStats struct {
	VHost, Name, Type              string
	Durable, AutoDelete, Exclusive bool
	Owner                          uint64 // connection of an exclusive queue, 0 for others
	Arguments                      wire.Table
	Priorities                     []uint64 // of a queue that orders by priority, how many messages of each are ready; nil if all are of one
	Ready, Unacked, Bytes          uint64
	Delayed                        uint64 // messages that came back and wait before they are ready again
	Leaving                        uint64 // messages on their way to the dead letter exchange: none of the three
	Resident                       uint64 // bytes that message pages take in memory, see queue.Engine
	ResidentMessages               uint64 // of all, those in memory
	ResidentBodies                 uint64 // their body bytes
	Runs                           int    // with messages left, in memory or not
	Packed                         int    // bytes of memory that runs far back in the queue take
	Consumers                      int
	ExclusiveConsumer              bool
	SingleActive                   *string // tag of the single active consumer, nil if there is none
	Counters                       QueueCounters
	IdleSince                      time.Time // zero while it is in use or was never used
	Damaged                        error     // why the queue is out of service
	Policies                       AppliedPolicies
	LettersWaitFor                 []string      // queues without room for its dead letters, which wait; empty if none do
	Oldest                         time.Duration // since the oldest message arrived; 0 if there is none or it is not known
}

// Stats takes a snapshot of the queue.
func (q *Queue) Stats() QueueStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	var oldest time.Duration
	if arrived, now := q.engine.Oldest(), q.vhost.hosts.timers.now(); arrived > 0 && arrived < now {
		oldest = time.Duration(now-arrived) * time.Millisecond
	}
	var obstacles []string
	if q.blocked.Load() {
		obstacles = q.obstacles // replaced, never changed
	}
	return QueueStats{
		VHost: q.vhost.name, Name: q.name, Type: typeOf(q.arguments),
		Durable: q.durable, AutoDelete: q.autoDelete, Exclusive: q.exclusive, Owner: q.owner,
		Arguments: q.arguments,
		Ready:     q.engine.Ready(), Unacked: q.engine.Unacked(), Delayed: q.engine.Delayed(), Leaving: q.engine.Leaving(), Bytes: q.engine.Bytes(),
		Resident: q.engine.Resident(), ResidentMessages: q.engine.ResidentMessages(), ResidentBodies: q.engine.ResidentBodies(),
		Runs: q.engine.RunCount(), Packed: q.engine.ColdBytes(),
		Consumers: len(q.engine.Consumers()), ExclusiveConsumer: q.exclusively != nil, SingleActive: q.singleActiveLocked(),
		Counters: q.stats, IdleSince: q.idleSince, Damaged: q.damaged,
		Policies: q.settings.Load().policies, LettersWaitFor: obstacles, Oldest: oldest,
		Priorities: q.readyByPriorityLocked(),
	}
}

// readyByPriorityLocked counts ready messages by priority. Quorum queues all have
// levels: their messages are counted once they use several.
func (q *Queue) readyByPriorityLocked() []uint64 {
	highest := q.settings.Load().priorities
	if highest == 0 || q.Quorum() && q.engine.Levels() < 2 {
		return nil
	}
	ready := make([]uint64, highest+1)
	for level := range ready {
		ready[level] = q.engine.ReadyOf(uint8(level))
	}
	return ready
}

// QueueStats takes a snapshot of every queue, by name.
func (v *VHost) QueueStats() []QueueStats {
	queues := v.listed()
	slices.SortFunc(queues, func(a, b *Queue) int { return strings.Compare(a.name, b.name) })
	list := make([]QueueStats, len(queues))
	for i, q := range queues {
		list[i] = q.Stats()
	}
	return list
}

// VisitQueueStats calls visit with a snapshot of each queue, in any order; it is
// visit's until it returns.
func (v *VHost) VisitQueueStats(visit func(*QueueStats)) {
	var s QueueStats
	for _, q := range v.listed() {
		s = q.Stats()
		visit(&s)
	}
}

// listed is the queues that clients see.
func (v *VHost) listed() []*Queue {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.AppendSeq(make([]*Queue, 0, len(v.queues)), maps.Values(v.queues))
}

// OutOfService takes a snapshot of the queues that are out of service, as some of
// their messages cannot be read, by virtual host and name. It looks for them only
// if there are any.
func (h *Hosts) OutOfService() (list []QueueStats) {
	if h.damaged.Load() == 0 {
		return nil
	}
	for _, v := range h.VHosts() {
		for _, q := range v.QueueStats() {
			if q.Damaged != nil {
				list = append(list, q)
			}
		}
	}
	return list
}

// QueueStatsOf takes a snapshot of one queue; false if it does not exist.
func (v *VHost) QueueStatsOf(name string) (QueueStats, bool) {
	v.mu.Lock()
	q, ok := v.queues[name]
	v.mu.Unlock()
	if !ok {
		return QueueStats{}, false
	}
	return q.Stats(), true
}

// BindingsFrom lists the bindings with that exchange as their source, those of
// reply queues left out.
func (v *VHost) BindingsFrom(exchange string) []Binding {
	v.routes.RLock()
	defer v.routes.RUnlock()
	return withoutReplies(v.router.BindingsFrom(exchange))
}

// BindingsTo lists the bindings that lead to a queue, or with toExchange to an
// exchange.
func (v *VHost) BindingsTo(name string, toExchange bool) []Binding {
	v.routes.RLock()
	defer v.routes.RUnlock()
	if toExchange {
		return v.router.BindingsToExchange(name)
	}
	return withoutReplies(v.router.BindingsToQueue(name))
}

// QueueTotals count what happened to a virtual host's queues since the start.
type QueueTotals struct {
	Declared uint64 // declarations, those of queues that existed included
	Created  uint64 // queues that were new, recovered ones not included
	Deleted  uint64
}

// Totals counts what happened to the virtual host's queues so far.
func (v *VHost) Totals() QueueTotals {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.totals
}
