// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import "github.com/lagomq/lagomq/vhosts/queue"

// singleActive is what the queue's declaration says about single active consumers
// (RabbitMQ 4.3, single active consumer): only those of quorum queues give way to one
// of a higher priority.
func (q *Queue) singleActive() queue.SingleActive {
	switch {
	case !q.settings.Load().singleActive:
		return queue.AllActive
	case q.Quorum():
		return queue.GivesWay
	}
	return queue.Stays
}

// singleActiveLocked is the tag of the single active consumer, nil if there is none.
func (q *Queue) singleActiveLocked() *string {
	c := q.engine.Active()
	if c == nil {
		return nil
	}
	return &c.Tag
}

// ConsumerState is what a consumer does now, for operators.
type ConsumerState struct {
	Active   bool       // it may get messages
	Activity string     // RabbitMQ's word: up, single_active or waiting
	Waits    queue.Wait // why it gets no message now
}

// ConsumerState takes a snapshot of one of the queue's consumers.
func (q *Queue) ConsumerState(c *queue.Consumer) ConsumerState {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := ConsumerState{Active: true, Activity: "up", Waits: q.engine.Waits(c)}
	switch {
	case q.engine.Single == queue.AllActive:
	case c == q.engine.Active():
		s.Activity = "single_active"
	default:
		s.Active, s.Activity = false, "waiting"
	}
	return s
}
