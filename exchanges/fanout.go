// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import "github.com/lagomq/lagomq/amqp/wire"

// fanoutMatcher is the fanout exchange: every message goes to every
// destination, whatever the keys (AMQP 0-9-1 §3.1.3.2).
type fanoutMatcher[Q comparable] struct {
	targets targets[Q]
}

func (*fanoutMatcher[Q]) validate(*binding[Q]) *wire.Error { return nil }
func (m *fanoutMatcher[Q]) add(b *binding[Q])              { m.targets.add(b.target()) }
func (m *fanoutMatcher[Q]) remove(b *binding[Q])           { m.targets.remove(b.target()) }
func (m *fanoutMatcher[Q]) match(s *Scratch[Q])            { m.targets.reach(s) }
