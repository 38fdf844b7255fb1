// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"strconv"
	"strings"
	"testing"

	"github.com/lagomq/lagomq/amqp/wire"
)

func TestCheckExpiration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ value, detail string }{
		{"0", ""},
		{"60000", ""},
		{"007", ""},
		{"+5", ""},
		{"-01", "{value_negative,-1}"},
		{"0315360000001", "{value_too_large,315360000001}"},
		{"315360000000", ""},
		{"99999999999", ""},
		{"1234567890a", `{leftover_string,"a"}`},
		{"315360000001", "{value_too_large,315360000001}"},
		{strings.Repeat("9", 40), "{value_too_large," + strings.Repeat("9", 40) + "}"},
		{"-1", "{value_negative,-1}"},
		{"-" + strings.Repeat("9", 40), "{value_negative,-" + strings.Repeat("9", 40) + "}"},
		{"", "no_integer"},
		{"-", "no_integer"},
		{"abc", "no_integer"},
		{" 1", "no_integer"},
		{"1.5", `{leftover_string,".5"}`},
		{"60s", `{leftover_string,"s"}`},
		{"1 ", `{leftover_string," "}`},
	} {
		ttl, err := expirationOf([]byte(c.value))
		if c.detail == "" {
			if want, _ := strconv.ParseUint(strings.TrimPrefix(c.value, "+"), 10, 64); err != nil || ttl != want {
				t.Errorf("%q: %d, %v, want %d", c.value, ttl, err, want)
			}
			continue
		}
		want := "PRECONDITION_FAILED - invalid expiration '" + c.value + "': " + c.detail
		if err == nil || err.Code != wire.PreconditionFailed || err.ReplyText() != want {
			t.Errorf("%q: %v, want %s", c.value, err, want)
		}
	}
}

func TestKeysIn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		value any
		want  string // the keys with commas, or the error
	}{
		{"CC", wire.Array{"a", "", "b"}, "a,,b"},
		{"CC", wire.Array{}, ""},
		{"BCC", wire.Array{"a"}, ""},
		{"CC", "a", `PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,"CC",longstr}`},
		{"CC", wire.Array{"a", int32(1), "b"}, "a,b"}, // what is no string is passed over
	} {
		headers := wire.AppendTable(nil, wire.Table{{Name: "x", Value: true}, {Name: c.name, Value: c.value}})[4:]
		keys, err := keysIn(headers, "CC")
		got := strings.Join(keys, ",")
		if err != nil {
			got = err.ReplyText()
		}
		if got != c.want {
			t.Errorf("%s %v: %q, want %q", c.name, c.value, got, c.want)
		}
	}
}
