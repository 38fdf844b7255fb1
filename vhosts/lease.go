// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import "github.com/lagomq/lagomq/amqp/wire"

// A queue with x-expires, or the policy key expires, is deleted when it has been
// unused for that long: it had no consumer, and nobody declared it again, passive
// declarations included, or asked for a message with basic.get (RabbitMQ 4.3,
// time-to-live: queue TTL). A quorum queue is not kept by declarations. Its
// messages are not dead-lettered. A start begins the lease anew.

// usedLocked begins the queue's lease anew, if it has one.
func (q *Queue) usedLocked() {
	expires := q.settings.Load().expires
	if expires == 0 {
		return
	}
	q.usedAt = q.vhost.hosts.timers.now()
	if len(q.engine.Consumers()) == 0 {
		q.wakeAtLocked(q.usedAt + uint64(expires))
	}
}

// unusedLocked says whether the lease has run out. While it has not it asks for a
// tick when it will have.
func (q *Queue) unusedLocked() bool {
	expires := q.settings.Load().expires
	if expires == 0 || len(q.engine.Consumers()) > 0 || q.volatile {
		return false
	}
	end := q.usedAt + uint64(expires)
	if q.vhost.hosts.timers.now() >= end {
		return true
	}
	q.wakeAtLocked(end)
	return false
}

// deleteExpired deletes a queue whose lease has run out, if that still holds.
func (v *VHost) deleteExpired(q *Queue) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.queues[q.name] != q {
		return
	}
	// There is no consumer to be told, and nobody waits for an answer.
	_, _, err := v.deleteLocked(q, nil, func() *wire.Error {
		if !q.unusedLocked() {
			return errInUse
		}
		return nil
	})
	if err == nil {
		v.hosts.log.Debug("queue was unused for too long and is deleted", "vhost", v.name, "queue", q.name)
	}
}
