// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import "github.com/lagomq/lagomq/amqp/wire"

// An exchange of type x-delayed-message routes as the type that its argument
// x-delayed-type names. Messages that ask for a delay are held back by the router's
// owner and routed when they are due.

const delayedTypeArgument = "x-delayed-type"

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
