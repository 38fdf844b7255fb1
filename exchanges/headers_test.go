// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"testing"

	"github.com/lagomq/lagomq/amqp/wire"
)

func TestEqualValues(t *testing.T) {
	t.Parallel()
	// Values within a class equal one another, values of two classes never.
	classes := [][]any{
		{int8(1), uint8(1), int16(1), uint16(1), int32(1), uint32(1), int64(1)},
		{int8(-1), int16(-1), int32(-1), int64(-1)},
		{float32(1), float64(1)},
		{float64(1.5), float32(1.5)},
		{"1", []byte("1")},
		{"", []byte{}},
		{true},
		{false},
		{wire.Decimal{Scale: 1, Value: 1}},
		{wire.Decimal{Scale: 2, Value: 1}},
		{wire.Table{{Name: "a", Value: int32(1)}}},
		{wire.Table{{Name: "a", Value: int64(1)}}},
		{wire.Array{"a", true}},
		{wire.Array{}},
		{nil},
	}
	for i, class := range classes {
		for j, other := range classes {
			for _, want := range class {
				for _, got := range other {
					if equal := equalValues(want, got); equal != (i == j) {
						t.Errorf("binding %T(%v), header %T(%v): %t", want, want, got, got, equal)
					}
				}
			}
		}
		for _, value := range class {
			if equalValues(wire.Timestamp(1), value) || equalValues(value, wire.Timestamp(1)) {
				t.Errorf("a timestamp equals %T(%v)", value, value)
			}
		}
	}
	if equalValues(wire.Timestamp(1), wire.Timestamp(1)) {
		t.Error("a timestamp in a binding matches")
	}
}

func TestHeadersThatDoNotParse(t *testing.T) {
	t.Parallel()
	r := NewRouter[int]("/")
	r.AddQueue("q", 1)
	mustBind(t, r, Binding[int]{Source: "amq.headers", Destination: "q", Arguments: wire.Table{{Name: "a"}}})
	x, _ := r.Exchange("amq.headers")
	whole := wire.AppendTable(nil, wire.Table{{Name: "a", Value: "value"}})[4:]
	for n := range len(whole) + 1 {
		got := len(r.Route(new(Scratch[int]), Publish[int]{Exchange: x, Properties: &wire.PropertyView{Headers: whole[:n]}})) == 1
		if want := n == len(whole); got != want {
			t.Errorf("the first %d bytes of %d: matched %t", n, len(whole), got)
		}
	}
}

func TestErlangBinary(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"foo":      `<<"foo">>`,
		"":         `<<"">>`,
		`a"\`:      `<<"a\"\\">>`,
		"\x00\xff": `<<0,255>>`,
	} {
		if got := erlangBinary(in); got != want {
			t.Errorf("erlangBinary(%q) = %s, want %s", in, got, want)
		}
	}
}
