// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import "github.com/lagomq/lagomq/amqp/wire"

// directMatcher is the direct exchange: routing key equals binding key
// (AMQP 0-9-1 §3.1.3.1). It maps binding keys to targets, none of them empty.
type directMatcher[Q comparable] map[string]*targets[Q]

func (directMatcher[Q]) validate(*binding[Q]) *wire.Error { return nil }

func (m directMatcher[Q]) add(b *binding[Q]) {
	t, ok := m[b.key]
	if !ok {
		t = new(targets[Q])
		m[b.key] = t
	}
	t.add(b.target())
}

func (m directMatcher[Q]) remove(b *binding[Q]) {
	t, ok := m[b.key]
	if !ok {
		return
	}
	t.remove(b.target())
	if t.empty() {
		delete(m, b.key)
	}
}

func (m directMatcher[Q]) match(s *Scratch[Q]) {
	for key := range s.keys {
		if t, ok := m[string(key)]; ok {
			t.reach(s)
		}
	}
}
