// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

// Delayed retry (RabbitMQ 4.3, quorum queues; here on queues of every type): messages
// that come back wait before they are delivered again, longer each time that their
// delivery failed. Meanwhile they are delayed, as the engine calls it. A message's time
// is stored with how often it came back.

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

// retryStep is about how many messages become ready again under one hold of the queue's
// lock.
const retryStep = 8192

// holdBackLocked has unacked messages that come back wait. They have been counted.
func (q *Queue) holdBackLocked(numbers []uint64, s *retrySettings) {
	now := q.vhost.hosts.timers.now()
	for len(numbers) > 0 {
		delay := s.delay(q.engine.Failures(numbers[0]))
		n := 1
		for n < len(numbers) && s.delay(q.engine.Failures(numbers[n])) == delay {
			n++
		}
		if err := q.engine.Delay(numbers[:n], now+delay); err != nil {
			q.vhost.hosts.broken(q, err)
		}
		numbers = numbers[n:]
	}
	q.retryLocked()
}

// retryLocked makes messages ready again that have waited long enough, and asks for a
// tick when others will have. It reports whether there were any.
func (q *Queue) retryLocked() (some bool) {
	before := q.engine.Delayed()
	if before == 0 {
		return false
	}
	if next := q.engine.Resume(q.vhost.hosts.timers.now(), retryStep, &q.fx); next > 0 {
		q.wakeAtLocked(next)
	}
	return q.engine.Delayed() < before
}
