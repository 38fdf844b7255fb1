// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

// target is one end of a binding as matchers see it: a queue, or an exchange
// when that is not nil.
type target[Q comparable] struct {
	queue    Q
	exchange *Exchange[Q]
}

// targets are the destinations that one routing key, or a whole fanout, leads
// to. Bindings that differ only in what does not matter here (their arguments,
// or a fanout's keys) share a target. The zero value is empty.
type targets[Q comparable] struct {
	list []targetRef[Q]
	// index finds a target's place in list, so that taking one out does not cost
	// in proportion to all. Nil while the list is short.
	index map[target[Q]]int
}

type targetRef[Q comparable] struct {
	target[Q]
	bindings int
}

func (t *targets[Q]) empty() bool { return len(t.list) == 0 }

// reach reports all targets to s. They differ from one another, so while s has no
// queue yet they need not be compared: a fanout to thousands then costs no more
// than copying them.
func (t *targets[Q]) reach(s *Scratch[Q]) {
	first := len(s.queues.list) == 0
	for i := range t.list {
		d := &t.list[i].target
		if first && d.exchange == nil {
			s.matched = true
			s.queues.addNew(d.queue)
		} else {
			s.reach(*d)
		}
	}
}

// add counts a binding to d.
func (t *targets[Q]) add(d target[Q]) {
	if i, ok := t.find(d); ok {
		t.list[i].bindings++
		return
	}
	t.list = append(t.list, targetRef[Q]{d, 1})
	switch {
	case t.index != nil:
		t.index[d] = len(t.list) - 1
	case len(t.list) == setIndexFrom:
		t.index = make(map[target[Q]]int)
		for i := range t.list {
			t.index[t.list[i].target] = i
		}
	}
}

// remove undoes one add of d, if there was one.
func (t *targets[Q]) remove(d target[Q]) {
	i, ok := t.find(d)
	if !ok {
		return
	}
	t.list[i].bindings--
	if t.list[i].bindings > 0 {
		return
	}
	last := len(t.list) - 1
	if i != last {
		t.list[i] = t.list[last]
		if t.index != nil {
			t.index[t.list[i].target] = i
		}
	}
	t.list[last] = targetRef[Q]{}
	t.list = t.list[:last]
	delete(t.index, d)
}

func (t *targets[Q]) find(d target[Q]) (int, bool) {
	if t.index != nil {
		i, ok := t.index[d]
		return i, ok
	}
	for i := range t.list {
		if t.list[i].target == d {
			return i, true
		}
	}
	return 0, false
}
