// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import "github.com/lagomq/lagomq/amqp/wire"

// An exchange of type x-delayed-message routes as the type that its argument
// x-delayed-type names. Messages that ask for a delay are held back by the router's
// owner and routed when they are due.

const delayedTypeArgument = "x-delayed-type"

// delays notes that the message came from another exchange to x, if that is one that
// can delay it, and reports whether it is.
func (s *Scratch[Q]) delays(x *Exchange[Q]) bool {
	if x.Type != TypeDelayed {
		return false
	}
	s.varies = true // the message's headers decide
	s.delaying = append(s.delaying, x)
	return true
}

// Delaying returns the exchanges of type x-delayed-message that the message of the last
// Route reached from other exchanges, each once. Where Publish.Holds says so it went no
// further. Like the result of Route it belongs to s.
func (s *Scratch[Q]) Delaying() []*Exchange[Q] { return s.delaying }

// newDelayedMatcher returns the matcher of the type that a delayed exchange routes
// by: 406 if the argument names none.
func newDelayedMatcher[Q comparable](d *Declaration, vhost string) (matcher[Q], *wire.Error) {
	value, _ := d.Arguments.Get(delayedTypeArgument)
	name, ok := value.(string)
	inner := *d
	inner.Type = name
	switch {
	case !ok:
		return nil, wire.Errorf(wire.PreconditionFailed, "Invalid argument, 'x-delayed-type' must be an existing exchange type")
	case name == TypeDelayed || name == TypeRecentHistory:
		return nil, wire.Errorf(wire.PreconditionFailed, "Invalid argument, '%s' can't be used for 'x-delayed-type'", name)
	}
	if err := inner.Check(); err != nil {
		return nil, err
	}
	return newMatcher[Q](&inner, vhost)
}
