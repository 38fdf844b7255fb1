// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import "github.com/lagomq/lagomq/amqp/wire"

// defaultMatcher is the default exchange: a direct exchange to which every
// queue is bound by its name (AMQP 0-9-1 §3.1.3.1). It is the router's own map
// of queues, so the implicit bindings cost nothing and need no upkeep.
type defaultMatcher[Q comparable] map[string]*queue[Q]

func (defaultMatcher[Q]) validate(*binding[Q]) *wire.Error { return notDefault("") }

// add and remove are never called: Bind and Unbind refuse the default exchange.
func (defaultMatcher[Q]) add(*binding[Q])    {}
func (defaultMatcher[Q]) remove(*binding[Q]) {}

func (m defaultMatcher[Q]) match(s *Scratch[Q]) {
	for key := range s.keys {
		if q, ok := m[string(key)]; ok {
			s.reach(target[Q]{queue: q.value})
		}
	}
}
