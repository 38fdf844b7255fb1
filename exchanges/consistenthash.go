// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"math"
	"slices"
	"strconv"

	"github.com/lagomq/lagomq/amqp/wire"
)

// The arguments that say what of a message a consistent hash exchange hashes,
// its routing key otherwise; LavinMQ's name for the first is taken too.
const (
	hashHeaderArgument    = "hash-header"
	hashHeaderAlternative = "x-hash-on"
	hashPropertyArgument  = "hash-property"
)

// maxWeight is the largest weight of a binding in RabbitMQ 4.3.
const maxWeight = 10_000

// consistentHashMatcher is RabbitMQ's consistent hash exchange: every message
// goes to one destination, equal keys to the same one, and destinations get
// shares of all keys in proportion to the weights that their binding keys state.
//
// It is weighted rendezvous hashing: each destination draws a number from the key
// and its own name, the weight bends it, and the largest wins. So a change of
// bindings moves only the keys that the destination in question gains or loses,
// neither the order of bindings nor a restart moves any, shares are exact
// whatever the weights, and a binding of weight 10,000 costs no more than one of
// weight 1. A look-up costs a nanosecond or two per destination.
type consistentHashMatcher[Q comparable] struct {
	header   string // name of the header that is hashed, if property is empty
	property string // one of the hash properties
	onHeader bool

	// list is sorted by weight, so that the bending is done once for all
	// destinations of a weight: among them the largest number drawn wins.
	list []weighted[Q]
}

// weighted is a destination and the sum of its bindings' weights.
type weighted[Q comparable] struct {
	target[Q]
	seed   uint64
	weight int
}

// newConsistentHashMatcher reads the arguments; its errors are RabbitMQ's.
func newConsistentHashMatcher[Q comparable](d *Declaration, vhost string) (*consistentHashMatcher[Q], *wire.Error) {
	m := new(consistentHashMatcher[Q])
	var err *wire.Error
	var onProperty bool
	for _, argument := range []string{hashHeaderAlternative, hashHeaderArgument} {
		header, given, err := d.text(argument, vhost)
		switch {
		case err != nil:
			return nil, err
		case given:
			m.header, m.onHeader = header, true
		}
	}
	if m.property, onProperty, err = d.text(hashPropertyArgument, vhost); err != nil {
		return nil, err
	}
	switch {
	case onProperty && m.onHeader:
		return nil, wire.Errorf(wire.PreconditionFailed, "hash-header and hash-property are mutually exclusive")
	case onProperty && !slices.Contains([]string{"correlation_id", "message_id", "timestamp"}, m.property):
		return nil, wire.Errorf(wire.PreconditionFailed, "Unsupported property: %s", m.property)
	}
	return m, nil
}

func (*consistentHashMatcher[Q]) validate(b *binding[Q]) *wire.Error {
	weight, err := strconv.ParseInt(b.key, 10, 64)
	switch {
	case err != nil && weight == 0: // otherwise it is out of range, and weight the end of it
		return wire.Errorf(wire.PreconditionFailed, "The binding key must be an integer: %s", erlangBinary(b.key))
	case weight < 1:
		return wire.Errorf(wire.PreconditionFailed, "The binding key must be greater than 0")
	case weight > maxWeight:
		return wire.Errorf(wire.PreconditionFailed, "The binding key must not exceed %d", maxWeight)
	}
	return nil
}

func (m *consistentHashMatcher[Q]) add(b *binding[Q])    { m.change(b, weightOf(b)) }
func (m *consistentHashMatcher[Q]) remove(b *binding[Q]) { m.change(b, -weightOf(b)) }

// weightOf reads a binding key that validate accepted.
func weightOf[Q comparable](b *binding[Q]) int {
	weight, _ := strconv.Atoi(b.key)
	return weight
}

// change adds to the weight of a binding's destination, which is in the list
// unless that weight is 0.
func (m *consistentHashMatcher[Q]) change(b *binding[Q], by int) {
	d := weighted[Q]{target: b.target(), seed: b.hashDestination()}
	if i := slices.IndexFunc(m.list, func(w weighted[Q]) bool { return w.target == d.target }); i >= 0 {
		d = m.list[i]
		m.list = slices.Delete(m.list, i, i+1)
	}
	if d.weight += by; d.weight > 0 {
		i, _ := slices.BinarySearchFunc(m.list, d, weighted[Q].compare)
		m.list = slices.Insert(m.list, i, d)
	}
}

// compare orders destinations in a way that does not depend on the order of
// bindings, so that not even a tie of two numbers does.
func (w weighted[Q]) compare(other weighted[Q]) int {
	if w.weight != other.weight {
		return w.weight - other.weight
	}
	switch {
	case w.seed < other.seed:
		return -1
	case w.seed > other.seed:
		return 1
	}
	return 0
}

func (m *consistentHashMatcher[Q]) match(s *Scratch[Q]) {
	if len(m.list) == 0 {
		return
	}
	// Keys that are hashed are many, or there would be no need to.
	s.varies = true
	key := m.hash(s)
	winner, best := 0, math.Inf(-1)
	for i := 0; i < len(m.list); {
		first, weight := i, m.list[i].weight
		at, largest := i, uint64(0)
		for ; i < len(m.list) && m.list[i].weight == weight; i++ {
			if drawn := mix(key ^ m.list[i].seed); drawn > largest {
				at, largest = i, drawn
			}
		}
		if first == 0 && i == len(m.list) {
			winner = at
			break
		}
		if score := bend(largest, weight); score > best {
			winner, best = at, score
		}
	}
	s.reach(m.list[winner].target)
}

// bend makes a number drawn from 64 bits the score of a destination, so that the
// probability to have the largest score is in proportion to the weight.
func bend(drawn uint64, weight int) float64 {
	// In (0, 1): both ends are out of reach, and so are their logarithms.
	uniform := (float64(drawn>>11) + 0.5) / (1 << 53)
	return float64(weight) / -math.Log(uniform)
}

// hash hashes what the exchange looks at. Messages without it count as having
// one and the same value.
func (m *consistentHashMatcher[Q]) hash(s *Scratch[Q]) uint64 {
	if m.onHeader {
		// With its type in front: 1 and "1" are different values, as in RabbitMQ.
		tag, value, _ := wire.LookupField(s.publish.headers(), m.header)
		return hashBytes((hashOffset^uint64(tag))*hashPrime, value)
	}
	p := s.publish.Properties
	switch {
	case m.property == "":
		return hashBytes(hashOffset, s.publish.Key)
	case p == nil:
		return hashOffset
	case m.property == "message_id":
		return hashBytes(hashOffset, p.MessageID)
	case m.property == "correlation_id":
		return hashBytes(hashOffset, p.CorrelationID)
	default:
		return hashBytes(hashOffset, p.Timestamp)
	}
}
