// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"slices"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
)

// modulusHashMatcher is RabbitMQ's modulus hash exchange: every message goes to
// one destination, the one whose place in the sorted list of all is the hash of
// the message's routing keys modulo their number. Binding keys mean nothing. As
// long as the bindings stay equal keys go to the same destination, also after a
// restart; a change of bindings moves most keys.
type modulusHashMatcher[Q comparable] struct {
	list []sortedTarget[Q] // sorted by kind and name
}

// sortedTarget is a destination and how many bindings lead to it.
type sortedTarget[Q comparable] struct {
	target[Q]
	name     string
	bindings int
}

// compare puts exchanges before queues, as the terms of RabbitMQ sort.
func (t sortedTarget[Q]) compare(other sortedTarget[Q]) int {
	if isQueue := t.exchange == nil; isQueue != (other.exchange == nil) {
		if isQueue {
			return 1
		}
		return -1
	}
	return strings.Compare(t.name, other.name)
}

func (*modulusHashMatcher[Q]) validate(*binding[Q]) *wire.Error { return nil }

func (m *modulusHashMatcher[Q]) add(b *binding[Q]) {
	d := sortedTarget[Q]{b.target(), b.destination(), 1}
	i, found := slices.BinarySearchFunc(m.list, d, sortedTarget[Q].compare)
	if found {
		m.list[i].bindings++
	} else {
		m.list = slices.Insert(m.list, i, d)
	}
}

func (m *modulusHashMatcher[Q]) remove(b *binding[Q]) {
	d := sortedTarget[Q]{b.target(), b.destination(), 1}
	i, found := slices.BinarySearchFunc(m.list, d, sortedTarget[Q].compare)
	if !found {
		return
	}
	if m.list[i].bindings--; m.list[i].bindings == 0 {
		m.list = slices.Delete(m.list, i, i+1)
	}
}

func (m *modulusHashMatcher[Q]) match(s *Scratch[Q]) {
	if len(m.list) == 0 {
		return
	}
	s.varies = true // as with the consistent hash
	h := uint64(hashOffset)
	for key := range s.keys {
		h = hashBytes(h, key) * hashPrime // a zero byte ends each key
	}
	s.reach(m.list[mix(h)%uint64(len(m.list))].target)
}
