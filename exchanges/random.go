// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import "github.com/lagomq/lagomq/amqp/wire"

// randomMatcher is RabbitMQ's random exchange: every message goes the way of one
// binding, all being equally likely. Keys mean nothing.
type randomMatcher[Q comparable] struct {
	list []*binding[Q]
	// index finds a binding's place in list. The first binding makes it.
	index map[*binding[Q]]int
}

func (*randomMatcher[Q]) validate(*binding[Q]) *wire.Error { return nil }

func (m *randomMatcher[Q]) add(b *binding[Q]) {
	if m.index == nil {
		m.index = make(map[*binding[Q]]int)
	}
	m.index[b] = len(m.list)
	m.list = append(m.list, b)
}

func (m *randomMatcher[Q]) remove(b *binding[Q]) {
	i, ok := m.index[b]
	if !ok {
		return
	}
	last := len(m.list) - 1
	m.list[i] = m.list[last]
	m.index[m.list[i]] = i
	m.list[last] = nil
	m.list = m.list[:last]
	delete(m.index, b)
}

func (m *randomMatcher[Q]) match(s *Scratch[Q]) {
	if len(m.list) > 0 {
		s.reach(m.list[s.random(len(m.list))].target())
	}
}

// localRandomMatcher is RabbitMQ's local random exchange: a random exchange that
// leads only to queues on the node the message was published to, which here are
// all. That the queues are classic ones is for the caller of Bind to check.
type localRandomMatcher[Q comparable] struct{ randomMatcher[Q] }

func (*localRandomMatcher[Q]) validate(b *binding[Q]) *wire.Error {
	switch {
	case b.key != "":
		return wire.Errorf(wire.PreconditionFailed, "Non empty binding '%s' key not permitted", b.key)
	case b.exchange != nil:
		return wire.Errorf(wire.PreconditionFailed, "Destination not found")
	}
	return nil
}
