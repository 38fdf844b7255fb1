// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
)

// matchArgument is the binding argument that says how to match headers.
const matchArgument = "x-match"

// headersMatcher is the headers exchange (AMQP 0-9-1 §3.1.3.4, with RabbitMQ's
// -with-x forms): a binding's arguments are compared with the message's headers.
type headersMatcher[Q comparable] struct {
	rules []headersRule[Q]
	// index finds a binding's place in rules. The first binding makes it.
	index map[*binding[Q]]int
}

// headersRule is a binding made ready for matching.
type headersRule[Q comparable] struct {
	binding  *binding[Q]
	target   target[Q]
	any      bool         // one criterion is enough; otherwise all have to hold
	criteria []wire.Field // a nil value asks for the header's presence only
}

func (*headersMatcher[Q]) validate(b *binding[Q]) *wire.Error {
	value, ok := b.arguments.Get(matchArgument)
	if !ok {
		return nil
	}
	mode, ok := value.(string)
	if !ok {
		return wire.Errorf(wire.PreconditionFailed, "Invalid x-match field type %s (value %v); expected longstr",
			wire.TagName(value), value)
	}
	switch mode {
	case "all", "any", "all-with-x", "any-with-x":
		return nil
	}
	return wire.Errorf(wire.PreconditionFailed,
		"Invalid x-match field value %s; expected all, any, all-with-x, or any-with-x", erlangBinary(mode))
}

func (m *headersMatcher[Q]) add(b *binding[Q]) {
	if m.index == nil {
		m.index = make(map[*binding[Q]]int)
	}
	m.index[b] = len(m.rules)
	m.rules = append(m.rules, newHeadersRule(b))
}

func (m *headersMatcher[Q]) remove(b *binding[Q]) {
	i, ok := m.index[b]
	if !ok {
		return
	}
	last := len(m.rules) - 1
	m.rules[i] = m.rules[last]
	m.index[m.rules[i].binding] = i
	m.rules[last] = headersRule[Q]{}
	m.rules = m.rules[:last]
	delete(m.index, b)
}

func (m *headersMatcher[Q]) match(s *Scratch[Q]) {
	for i := range m.rules {
		if m.rules[i].holds(s) {
			s.reach(m.rules[i].target)
		}
	}
}

// newHeadersRule leaves out the arguments that are no criteria: x-match itself
// and, unless the mode ends in -with-x, all others that start with "x-".
func newHeadersRule[Q comparable](b *binding[Q]) headersRule[Q] {
	value, _ := b.arguments.Get(matchArgument)
	mode, _ := value.(string) // validated; absent means all
	mode, withX := strings.CutSuffix(mode, "-with-x")
	rule := headersRule[Q]{binding: b, target: b.target(), any: mode == "any"}
	for _, f := range b.arguments {
		if f.Name == matchArgument || !withX && strings.HasPrefix(f.Name, "x-") {
			continue
		}
		rule.criteria = append(rule.criteria, f)
	}
	return rule
}

// holds reports whether the message being routed in s satisfies the rule.
// Without criteria "all" always does and "any" never.
func (h *headersRule[Q]) holds(s *Scratch[Q]) bool {
	for i := range h.criteria {
		c := &h.criteria[i]
		value, present := s.header(c.Name)
		if holds := present && (c.Value == nil || equalValues(c.Value, value)); holds == h.any {
			return h.any
		}
	}
	return !h.any
}

// equalValues compares a binding's value with a header as RabbitMQ does:
// integers by value whatever their width, likewise floats, and strings with byte
// arrays by content; otherwise the types have to be the same. A timestamp in a
// binding equals nothing.
func equalValues(want, got any) bool {
	if w, ok := wire.Integer(want); ok {
		g, ok := wire.Integer(got)
		return ok && w == g
	}
	switch w := want.(type) {
	case string:
		switch g := got.(type) {
		case string:
			return w == g
		case []byte:
			return w == string(g)
		}
		return false
	case []byte:
		switch g := got.(type) {
		case string:
			return string(w) == g
		case []byte:
			return bytes.Equal(w, g)
		}
		return false
	case bool:
		g, ok := got.(bool)
		return ok && w == g
	case float64:
		g, ok := float(got)
		return ok && w == g
	case float32:
		g, ok := float(got)
		return ok && float64(w) == g
	case wire.Decimal:
		g, ok := got.(wire.Decimal)
		return ok && w == g
	case wire.Timestamp:
		return false
	}
	// Nested tables and arrays: the types inside count too, as on the wire.
	return bytes.Equal(
		wire.AppendTable(nil, wire.Table{{Value: want}}),
		wire.AppendTable(nil, wire.Table{{Value: got}}))
}

func float(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case float32:
		return float64(v), true
	}
	return 0, false
}

// erlangBinary prints a string as RabbitMQ prints binaries in error texts.
func erlangBinary(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return "<<" + strings.Trim(strings.ReplaceAll(fmt.Sprint([]byte(s)), " ", ","), "[]") + ">>"
		}
	}
	return `<<"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `">>`
}
