// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"

	"github.com/lagomq/lagomq/vhosts/queue"
)

// Consumer timeouts (RabbitMQ 4.3, quorum queues; here on queues of every type): a
// consumer that holds a message for too long loses all it holds, and is cancelled.
// The messages go back to their places as if the client had given them back unharmed.
//
// Channels remember when they got their messages (queue.Delivery.At), in the order of
// delivery. The queue knows only a time before which none of its consumers can be
// overdue. At that time it asks each for the message it has held for longest. So a
// delivery costs a look at the clock, together with others, and an acknowledgement
// nothing. Messages of basic.get may be held for ever.

// timeouts is what a queue has to know of its consumers' timeouts.
type timeouts struct {
	// shortest is the shortest timeout of the consumers, or shorter than that, in
	// milliseconds; 0 if none has one. Without it deliveries have no time.
	shortest uint64
	// at is when the queue asks its consumers; 0 if none held a message when it asked
	// last, and nothing was delivered since.
	at uint64
	// since is when the queue itself got a timeout after it had none: messages whose
	// delivery has no time count from then.
	since uint64
	// left are consumers that their clients have cancelled and that held messages then.
	left []*queue.Consumer
}

// timeoutPace is how many milliseconds lie at least between two times that a queue
// asks its consumers.
const timeoutPace = 50

// timeoutOf is how many milliseconds a consumer may hold a message, 0 if for ever: what
// it says itself, or else what the queue's arguments and policies say.
func (q *Queue) timeoutOf(c *queue.Consumer) uint64 {
	switch {
	case c.NoAck:
		return 0
	case c.Timeout > 0:
		return c.Timeout
	}
	return uint64(q.settings.Load().consumerTimeout)
}

// add takes the timeout of one more consumer, 0 for none, into account.
func (t *timeouts) add(timeout uint64) {
	if timeout > 0 && (t.shortest == 0 || timeout < t.shortest) {
		t.shortest = timeout
	}
}

// markLocked writes the time into the deliveries that are about to be made, and sees to
// it that the consumers are asked in time.
func (q *Queue) markLocked() {
	now := q.vhost.hosts.timers.now()
	for i := range q.fx.Deliveries {
		q.fx.Deliveries[i].At = now
	}
	q.askConsumersLocked(now + q.timeouts.shortest)
}

// askConsumersLocked has the consumers asked at a time, or before.
func (q *Queue) askConsumersLocked(at uint64) {
	if t := &q.timeouts; t.at == 0 || at < t.at {
		t.at = at
		q.wakeAtLocked(at)
	}
}

// timeoutChangedLocked acts on a change of the queue's own timeout. first says that it
// had none before.
func (q *Queue) timeoutChangedLocked(first bool) {
	t, now := &q.timeouts, q.vhost.hosts.timers.now()
	if first {
		t.since = now
	}
	for _, c := range q.engine.Consumers() {
		t.add(q.timeoutOf(c))
	}
	q.askConsumersLocked(now)
}

// consumerLeftLocked keeps an eye on a consumer that was cancelled by its client and
// holds messages.
func (q *Queue) consumerLeftLocked(c *queue.Consumer) {
	t := &q.timeouts
	if c.Unacked() == 0 || q.timeoutOf(c) == 0 || q.deleted {
		return
	}
	if len(t.left) == cap(t.left) {
		t.left = slices.DeleteFunc(t.left, holdsNothing)
	}
	t.left = append(t.left, c)
}

func holdsNothing(c *queue.Consumer) bool { return c.Unacked() == 0 }

// timeOutLocked cancels the consumers that are overdue, if it is time to ask them, and
// takes back what they hold; the caller dispatches the queue then. some reports whether
// there were any, and last whether that was the queue's last consumer.
func (q *Queue) timeOutLocked() (some, last bool) {
	t := &q.timeouts
	if t.at == 0 {
		return false, false
	}
	now := q.vhost.hosts.timers.now()
	if now < t.at {
		q.wakeAtLocked(t.at) // the queue was woken for something else
		return false, false
	}
	t.at, t.shortest = 0, 0
	next := uint64(0)
	for _, c := range slices.Concat(q.engine.Consumers(), t.left) {
		timeout := q.timeoutOf(c)
		if timeout == 0 {
			continue
		}
		t.add(timeout)
		at, held := c.Sink.Oldest()
		if !held {
			continue
		}
		if at == 0 {
			at = t.since
		}
		if deadline := at + timeout; deadline > now {
			if next == 0 || deadline < next {
				next = deadline
			}
			continue
		}
		last = q.timeOutConsumerLocked(c) || last
		some = true
	}
	t.left = slices.DeleteFunc(t.left, holdsNothing)
	if next > 0 {
		q.askConsumersLocked(max(next, now+timeoutPace))
	}
	return some, last
}

// timeOutConsumerLocked cancels one consumer that is overdue, and reports whether it was
// the queue's last one.
func (q *Queue) timeOutConsumerLocked(c *queue.Consumer) (last bool) {
	numbers := c.Sink.TimeOut()
	q.vhost.hosts.log.Warn("consumer cancelled: it held a message for too long", "vhost", q.vhost.name, "queue", q.name,
		"consumer", c.Tag, "timeout_ms", q.timeoutOf(c), "returned", len(numbers))
	q.stats.TimedOut += uint64(len(numbers))
	last = q.removeConsumerLocked(c)
	if len(numbers) > 0 {
		q.giveBackLocked(c, numbers, false)
	}
	return last
}
