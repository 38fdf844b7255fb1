// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"

	"github.com/lagomq/lagomq/vhosts/queue"
)

// Delayed retry (RabbitMQ 4.3, quorum queues; here on queues of every type): messages
// that come back wait before they are delivered again, longer each time that their
// delivery failed. Meanwhile they are leaving, as far as the engine is concerned:
// neither ready nor unacked. After a restart they are ready at once.

// retry is messages that came back and are ready again at a time.
type retry struct {
	at      uint64
	numbers []uint64
}

// delays reports whether messages that come back like this wait.
func (s *retrySettings) delays(failed bool) bool {
	switch s.kind {
	case retryAll:
		return s.min > 0
	case retryFailed:
		return s.min > 0 && failed
	case retryReturned:
		return s.min > 0 && !failed
	}
	return false
}

// delay is how long a message waits that failed so often: min for each time, at most
// max if there is one.
func (s *retrySettings) delay(failures uint16) uint64 {
	delay := s.min * max(1, int64(failures))
	if s.max > 0 {
		delay = min(delay, s.max)
	}
	return uint64(delay)
}

// holdBackLocked has unacked messages that come back wait. They have been counted.
func (q *Queue) holdBackLocked(numbers []uint64, s *retrySettings) {
	now := q.vhost.hosts.timers.now()
	for len(numbers) > 0 {
		delay := s.delay(q.engine.Failures(numbers[0]))
		n := 1
		for n < len(numbers) && s.delay(q.engine.Failures(numbers[n])) == delay {
			n++
		}
		r := retry{now + delay, slices.Clone(numbers[:n])}
		var aside queue.Effects // they go nowhere
		if err := q.engine.Expel(r.numbers, queue.Due, &aside); err != nil {
			q.vhost.hosts.broken(q, err)
		}
		at, _ := slices.BinarySearchFunc(q.retries, r.at, func(r retry, at uint64) int {
			if r.at <= at {
				return -1
			}
			return 1
		})
		q.retries = slices.Insert(q.retries, at, r)
		q.held += uint64(n)
		numbers = numbers[n:]
	}
	if len(q.retries) > 0 { // else all have come back too often
		q.wakeAtLocked(q.retries[0].at)
	}
}

// retryLocked makes messages ready again that have waited long enough, and asks for a
// tick when others will have. It reports whether there were any.
func (q *Queue) retryLocked() (some bool) {
	now := q.vhost.hosts.timers.now()
	for len(q.retries) > 0 && q.retries[0].at <= now {
		if err := q.engine.ReturnLeaving(q.retries[0].numbers); err != nil {
			q.vhost.hosts.broken(q, err)
		}
		q.held -= uint64(len(q.retries[0].numbers))
		q.retries = slices.Delete(q.retries, 0, 1)
		some = true
	}
	if len(q.retries) > 0 {
		q.wakeAtLocked(q.retries[0].at)
	}
	return some
}
