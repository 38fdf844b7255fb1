// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"testing"

	"github.com/lagomq/lagomq/amqp/wire"
)

func TestPropertiesKey(t *testing.T) {
	t.Parallel()
	args := wire.Table{{Name: "b", Value: "1"}, {Name: "a", Value: true}}
	for _, test := range []struct {
		key  string
		args wire.Table
		want string // a prefix if there are arguments
	}{
		{"", nil, "~"},
		{"", wire.Table{}, "~"},
		{"a.b-c_d", nil, "a.b-c_d"},
		{"a b/c~*#é", nil, "a+b%2Fc%7E%2A%23%C3%A9"},
		{"~", nil, "%7E"},
		{"", args, "~"},
		{"a~", args, "a%7E~"},
	} {
		b := Binding[int]{Key: test.key, Arguments: test.args}
		got := b.PropertiesKey()
		if len(test.args) == 0 {
			if got != test.want {
				t.Errorf("key %q: %q, want %q", test.key, got, test.want)
			}
			continue
		}
		const hash = 22 // 16 bytes in base64
		if len(got) != len(test.want)+hash || got[:len(test.want)] != test.want {
			t.Errorf("key %q with arguments: %q, want %q and a hash", test.key, got, test.want)
		}
		reordered := Binding[int]{Key: test.key, Arguments: wire.Table{args[1], args[0]}}
		if got != reordered.PropertiesKey() {
			t.Errorf("key %q: the order of arguments matters", test.key)
		}
		other := Binding[int]{Key: test.key, Arguments: args[:1]}
		if got == other.PropertiesKey() {
			t.Errorf("key %q: the arguments do not matter", test.key)
		}
	}
}
