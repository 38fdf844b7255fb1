// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Direct reply-to (RabbitMQ 4.3, direct reply-to): a channel that consumes from
// ReplyTo gets a queue of its own that is in no list, holds nothing back, and
// goes when the channel does. Being a queue, it is reached through the default
// exchange like any other.

// AddReplyQueue makes the reply queue of a channel with c as its only consumer.
// ready is called, with the queue, before c can get its first message.
func (v *VHost) AddReplyQueue(owner uint64, c *queue.Consumer, ready func(*Queue)) {
	q := &Queue{vhost: v, name: RandomName(RandomName(ReplyTo+".") + "."), owner: owner, volatile: true}
	q.settings.Store(settingsOf(nil, AppliedPolicies{}))
	q.alarm.queue = q
	ready(q)
	q.engine.AddConsumer(c)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changeRoutes(func(r *exchanges.Router[*Queue]) { r.AddQueue(q.name, q) })
}

// RemoveReplyQueue takes a reply queue away; replies that come later are
// unroutable.
func (v *VHost) RemoveReplyQueue(q *Queue) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.changeRoutes(func(r *exchanges.Router[*Queue]) { r.RemoveQueue(q.name, q) })
	q.mu.Lock()
	defer q.mu.Unlock()
	q.removeLocked()
}

// replyQueueExists reports whether somebody waits for replies under that name.
func (v *VHost) replyQueueExists(name string) bool {
	v.routes.RLock()
	defer v.routes.RUnlock()
	return len(v.router.BindingsToQueue(name)) > 0
}
