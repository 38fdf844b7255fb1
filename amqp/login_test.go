// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"testing"

	"github.com/lagomq/lagomq/amqp/wire"
)

func TestPlainResponse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		response, name, password string
		ok                       bool
	}{
		{"\x00guest\x00secret", "guest", "secret", true},
		{"\x00\x00", "", "", true},
		{"\x00gäst\x00 p w ", "gäst", " p w ", true},
		{"guest\x00secret", "", "", false},
		{"admin\x00guest\x00secret", "", "", false},
		{"\x00guest\x00sec\x00ret", "", "", false},
		{"\x00guest", "", "", false},
		{"", "", "", false},
	} {
		name, password, err := plainResponse([]byte(c.response))
		if name != c.name || password != c.password || (err == nil) != c.ok {
			t.Errorf("%q: %q %q %v", c.response, name, password, err)
		}
	}
}

func TestAMQPlainResponse(t *testing.T) {
	t.Parallel()
	table := func(fields ...wire.Field) string {
		return string(wire.AppendTable(nil, fields)[4:]) // the length is not sent
	}
	login, secret := wire.Field{Name: "LOGIN", Value: "guest"}, wire.Field{Name: "PASSWORD", Value: "secret"}
	for _, c := range []struct {
		name, response string
		ok             bool
	}{
		{"both", table(login, secret), true},
		{"the other way round, with more", table(wire.Field{Name: "x", Value: true}, secret, login), true},
		{"no password", table(login), false},
		{"no login", table(secret), false},
		{"a number for a password", table(login, wire.Field{Name: "PASSWORD", Value: int32(1)}), false},
		{"with the length", string(wire.AppendTable(nil, wire.Table{login, secret})), false},
		{"cut", table(login, secret)[:20], false},
		{"empty", "", false},
	} {
		name, password, err := amqplainResponse([]byte(c.response))
		if (err == nil) != c.ok || c.ok && (name != "guest" || password != "secret") {
			t.Errorf("%s: %q %q %v", c.name, name, password, err)
		}
	}
}
