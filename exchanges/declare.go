// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
)

// Declaration is what exchange.declare asks for. Carriage returns and line
// feeds are taken out of the name by the caller, as RabbitMQ does.
type Declaration struct {
	Name       string
	Type       string
	Durable    bool
	AutoDelete bool
	Internal   bool
	Arguments  wire.Table
}

// Check makes the checks that come before the permission to configure the
// exchange is looked at: 406 for an unknown type, then 403 for the default
// exchange. [Router.Declare] makes them too.
func (d *Declaration) Check() *wire.Error {
	switch {
	case d.Type == typeJMSTopic:
		return wire.Errorf(wire.PreconditionFailed, "exchange type '%s' is not supported", d.Type)
	case !KnownType(d.Type):
		return wire.Errorf(wire.PreconditionFailed, "unknown exchange type '%s'", d.Type)
	}
	return notDefault(d.Name)
}

// Alternate returns the argument alternate-exchange, or "" when there is none.
// A value that is not a long string is 406. It lets the caller check the
// permissions that declaring a new exchange with an alternate takes.
func (d *Declaration) Alternate(vhost string) (string, *wire.Error) {
	alternate, _, err := d.text(alternateArgument, vhost)
	return alternate, err
}

// text returns an argument that has to be a long string: 406 if it is not.
func (d *Declaration) text(argument, vhost string) (text string, given bool, err *wire.Error) {
	value, given := d.Arguments.Get(argument)
	if !given {
		return "", false, nil
	}
	text, ok := value.(string)
	if !ok {
		return "", true, wire.Errorf(wire.PreconditionFailed, "invalid type '%s' for arg '%s' in exchange '%s' in vhost '%s'",
			wire.TagName(value), argument, d.Name, vhost)
	}
	return text, true, nil
}

// Declare creates an exchange, or finds that it exists with equal properties.
// The checks are RabbitMQ's in their order: [Declaration.Check]; for a missing
// exchange the reserved prefix "amq." (403), the type of alternate-exchange and
// the arguments of the exchange type (406); for an existing one equality of type, durable, auto_delete, internal
// and alternate-exchange (406). Other arguments are stored but not compared.
// The exchange keeps d.Arguments, which must not be changed afterwards.
func (r *Router[Q]) Declare(d Declaration) (x *Exchange[Q], created bool, err *wire.Error) {
	if err := d.Check(); err != nil {
		return nil, false, err
	}
	if x, ok := r.exchanges[d.Name]; ok {
		if err := r.equivalent(x, &d); err != nil {
			return nil, false, err
		}
		return x, false, nil
	}
	if systemName(d.Name) {
		return nil, false, wire.Errorf(wire.AccessRefused, "exchange name '%s' contains reserved prefix 'amq.*'", d.Name)
	}
	alternate, err := d.Alternate(r.vhost)
	if err != nil {
		return nil, false, err
	}
	m, err := newMatcher[Q](&d, r.vhost)
	if err != nil {
		return nil, false, err
	}
	x = newExchange(d, m)
	if d.Type == TypeRecentHistory {
		if x.HistoryLength, err = historyLength(&d); err != nil {
			return nil, false, err
		}
	}
	x.Alternate = alternate
	r.exchanges[d.Name] = x
	r.version++
	return x, true, nil
}

// Passive finds an exchange as a passive declare does: 404 when it is missing,
// 403 for the default exchange, and nothing is compared.
func (r *Router[Q]) Passive(name string) (*Exchange[Q], *wire.Error) {
	if err := notDefault(name); err != nil {
		return nil, err
	}
	x, ok := r.exchanges[name]
	if !ok {
		return nil, r.noExchange(name)
	}
	return x, nil
}

// SetPolicyAlternate applies the alternate-exchange that policies give to an
// exchange, "" for none, and reports whether that changed anything. An exchange
// declared with the argument keeps the argument's value, and the default
// exchange never has an alternate.
func (r *Router[Q]) SetPolicyAlternate(exchange, alternate string) (changed bool) {
	x, ok := r.exchanges[exchange]
	if !ok || exchange == "" || x.Alternate == alternate {
		return false
	}
	if _, declared := x.Arguments.Get(alternateArgument); declared {
		return false
	}
	x.Alternate = alternate
	r.version++
	return true
}

// equivalent compares a redeclaration with the exchange that exists.
func (r *Router[Q]) equivalent(x *Exchange[Q], d *Declaration) *wire.Error {
	properties := []struct{ name, received, current string }{
		{"type", d.Type, x.Type},
		{"durable", strconv.FormatBool(d.Durable), strconv.FormatBool(x.Durable)},
		{"auto_delete", strconv.FormatBool(d.AutoDelete), strconv.FormatBool(x.AutoDelete)},
		{"internal", strconv.FormatBool(d.Internal), strconv.FormatBool(x.Internal)},
	}
	for _, p := range properties {
		if p.received != p.current {
			return r.inequivalent(x, p.name, "'"+p.received+"'", "'"+p.current+"'")
		}
	}

	received, given := d.Arguments.Get(alternateArgument)
	current, declared := x.Arguments.Get(alternateArgument)
	switch {
	// Comparing the interfaces cannot panic: Declare admits only a string as current.
	case given && declared && received != current:
		return r.inequivalent(x, alternateArgument, fmt.Sprintf("'%v'", received), fmt.Sprintf("'%v'", current))
	case given && !declared:
		return r.inequivalent(x, alternateArgument, describe(received), "none")
	case !given && declared:
		return r.inequivalent(x, alternateArgument, "none", describe(current))
	}
	return nil
}

func (r *Router[Q]) inequivalent(x *Exchange[Q], property, received, current string) *wire.Error {
	return wire.Errorf(wire.PreconditionFailed, "inequivalent arg '%s' for exchange '%s' in vhost '%s': received %s but current is %s",
		property, x.Name, r.vhost, received, current)
}

// describe words an argument that only one side of a comparison has.
func describe(value any) string {
	return fmt.Sprintf("the value '%v' of type '%s'", value, wire.TagName(value))
}

// systemName reports whether a name is reserved for the broker.
func systemName(name string) bool { return strings.HasPrefix(name, "amq.") }

func notDefault(name string) *wire.Error {
	if name == "" {
		return wire.Errorf(wire.AccessRefused, "operation not permitted on the default exchange")
	}
	return nil
}
