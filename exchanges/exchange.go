// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import "github.com/lagomq/lagomq/amqp/wire"

// The exchange types: those of AMQP 0-9-1 §3.1.3, and those that RabbitMQ has
// beside them, in its core or in plugins that it ships.
const (
	TypeDirect         = "direct"
	TypeFanout         = "fanout"
	TypeTopic          = "topic"
	TypeHeaders        = "headers"
	TypeConsistentHash = "x-consistent-hash"
	TypeModulusHash    = "x-modulus-hash"
	TypeRandom         = "x-random"
	TypeLocalRandom    = "x-local-random"
	TypeRecentHistory  = "x-recent-history"
	TypeDelayed        = "x-delayed-message"
)

// typeJMSTopic is a type of RabbitMQ that is known and refused: it selects
// messages by SQL expressions of the Java Message Service.
const typeJMSTopic = "x-jms-topic"

// alternateArgument names the exchange that takes what an exchange cannot route.
const alternateArgument = "alternate-exchange"

// Exchange is a declared exchange. Its exported fields are for reading only.
type Exchange[Q comparable] struct {
	Name       string
	Type       string
	Durable    bool
	AutoDelete bool // goes with its last binding as a source
	Internal   bool // clients may not publish to it; bindings may lead to it
	Arguments  wire.Table

	// Alternate is the name of the exchange in effect for messages this one
	// cannot route, or "". The declared argument wins over a policy's value
	// (see [Router.SetPolicyAlternate]). The exchange named need not exist.
	Alternate string

	// HistoryLength is how many messages an exchange of type x-recent-history
	// remembers, 0 for other types.
	HistoryLength uint64
	// Attached is what the router's owner attaches, while it has the router to
	// itself; the router does not look at it.
	Attached any

	matcher matcher[Q]
	// outgoing are the bindings with this exchange as their source; matcher
	// holds exactly these. Always empty for the default exchange.
	outgoing map[bindingID[Q]]*binding[Q]
	// incoming are the bindings from other exchanges to this one.
	incoming map[*binding[Q]]struct{}
}

// matcher finds the destinations of one exchange's bindings: an exchange type.
type matcher[Q comparable] interface {
	// validate says whether a binding may be added. It changes nothing.
	validate(b *binding[Q]) *wire.Error
	// add takes in a binding that validate accepted and that is not held yet.
	add(b *binding[Q])
	// remove takes out a binding that was added.
	remove(b *binding[Q])
	// match reaches every destination of the message being routed in s. It
	// writes to s alone.
	match(s *Scratch[Q])
}

// KnownType reports whether exchanges of that type can be declared.
func KnownType(name string) bool {
	switch name {
	case TypeDirect, TypeFanout, TypeTopic, TypeHeaders,
		TypeConsistentHash, TypeModulusHash, TypeRandom, TypeLocalRandom, TypeRecentHistory, TypeDelayed:
		return true
	}
	return false
}

// newMatcher returns an empty matcher for a type that KnownType accepts, or a 406
// for arguments that make no sense to it. Arguments that a type does not know are
// passed over.
func newMatcher[Q comparable](d *Declaration, vhost string) (matcher[Q], *wire.Error) {
	switch d.Type {
	case TypeFanout, TypeRecentHistory:
		return new(fanoutMatcher[Q]), nil
	case TypeTopic:
		return new(topicMatcher[Q]), nil
	case TypeHeaders:
		return new(headersMatcher[Q]), nil
	case TypeConsistentHash:
		return newConsistentHashMatcher[Q](d, vhost)
	case TypeModulusHash:
		return new(modulusHashMatcher[Q]), nil
	case TypeRandom:
		return new(randomMatcher[Q]), nil
	case TypeLocalRandom:
		return new(localRandomMatcher[Q]), nil
	case TypeDelayed:
		return newDelayedMatcher[Q](d, vhost)
	default:
		return make(directMatcher[Q]), nil
	}
}

func newExchange[Q comparable](d Declaration, m matcher[Q]) *Exchange[Q] {
	return &Exchange[Q]{
		Name:       d.Name,
		Type:       d.Type,
		Durable:    d.Durable,
		AutoDelete: d.AutoDelete,
		Internal:   d.Internal,
		Arguments:  d.Arguments,
		matcher:    m,
		outgoing:   make(map[bindingID[Q]]*binding[Q]),
		incoming:   make(map[*binding[Q]]struct{}),
	}
}
