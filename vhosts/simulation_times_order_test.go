// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import "fmt"

// timesOrder checks the order in which one queue hands out what was published to it
// without a delay and never waited for another delivery: of one level, none goes while
// an earlier one is ready. When dead letters, delayed messages and retries take their
// places depends on the time, so it knows nothing of these.
type timesOrder struct {
	ready  map[*timesMessage]int           // before which delivery each has been ready for sure
	passed map[*timesMessage]*timesMessage // of those that are ready, by which later one
}

func newTimesOrder() *timesOrder {
	return &timesOrder{ready: map[*timesMessage]int{}, passed: map[*timesMessage]*timesMessage{}}
}

// delivered notes the n-th delivery of the queue's consumer. It returns what is wrong
// with it, "" for nothing.
func (o *timesOrder) delivered(m *timesMessage, n int) (problem string) {
	if by := o.passed[m]; by != nil {
		problem = fmt.Sprintf("%s is delivered after %s, and was ready before", m.id, by.id)
	}
	delete(o.ready, m)
	delete(o.passed, m)
	for other, since := range o.ready {
		if other.level == m.level && other.index < m.index && since <= n {
			o.passed[other] = m
		}
	}
	return problem
}

// order is what is known of a queue in a broker that has just been started: its
// messages are ready if they are there at all.
func (s *timesRun) order(q *timesQueue) *timesOrder {
	o := newTimesOrder()
	for _, m := range s.messages {
		if m.root == q.name && s.orders(m) {
			o.ready[m] = 0
		}
	}
	return o
}

// orders says whether the place of a message in its first queue is known.
func (s *timesRun) orders(m *timesMessage) bool {
	return m.delay == 0 && !s.fact(timesPlace{m.id, m.root}).waits
}

// returned notes what a consumer has given back. It may have been delivered again
// already.
func (s *timesRun) returned(c *timesConsumer, places []timesPlace) {
	since := c.deliveries()
	for _, p := range places {
		if m := s.byID[p.id]; p.path == m.root && s.orders(m) {
			c.order.ready[m] = since
		}
	}
}

// inOrder checks a delivery by a queue's consumer.
func (s *timesRun) inOrder(c *timesConsumer, a *timesArrival) {
	m := s.byID[a.place.id]
	if m == nil || a.place.path != m.root || !s.orders(m) {
		return
	}
	if problem := c.order.delivered(m, a.n); problem != "" {
		s.problem("in %s %s", m.root, problem)
	}
}
