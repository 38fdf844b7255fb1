// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import "github.com/lagomq/lagomq/amqp/wire"

// The exchange types of AMQP 0-9-1 §3.1.3.
const (
	TypeDirect  = "direct"
	TypeFanout  = "fanout"
	TypeTopic   = "topic"
	TypeHeaders = "headers"
)

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
	validate(key string, args wire.Table) *wire.Error
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
	case TypeDirect, TypeFanout, TypeTopic, TypeHeaders:
		return true
	}
	return false
}

// newMatcher returns an empty matcher for a type that KnownType accepts.
func newMatcher[Q comparable](exchangeType string) matcher[Q] {
	switch exchangeType {
	case TypeFanout:
		return new(fanoutMatcher[Q])
	case TypeTopic:
		return new(topicMatcher[Q])
	case TypeHeaders:
		return new(headersMatcher[Q])
	default:
		return make(directMatcher[Q])
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
