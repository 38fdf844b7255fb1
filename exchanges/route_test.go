// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lagomq/lagomq/amqp/wire"
)

// Routing on a warm Scratch is on the path of every message.
func TestRouteDoesNotAllocate(t *testing.T) {
	r := NewRouter[*int]("/")
	for name, d := range map[string]Declaration{
		"hash by key":      {Type: TypeConsistentHash},
		"hash by header":   {Type: TypeConsistentHash, Arguments: wire.Table{{Name: hashHeaderArgument, Value: "h"}}},
		"hash by property": {Type: TypeConsistentHash, Arguments: wire.Table{{Name: hashPropertyArgument, Value: "message_id"}}},
		"modulus":          {Type: TypeModulusHash},
		"random":           {Type: TypeRandom},
		"history":          {Type: TypeRecentHistory},
	} {
		d.Name = name
		if _, _, err := r.Declare(d); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 40 {
		name := fmt.Sprint("q", i)
		r.AddQueue(name, new(int))
		for _, b := range []Binding[*int]{
			{Source: "amq.direct", Key: "a.b.c"},
			{Source: "amq.fanout"},
			{Source: "amq.topic", Key: fmt.Sprint("#.b.#.w", i)},
			{Source: "amq.topic", Key: "#.b.*"},
			{Source: "amq.topic", Key: "a.*.c"},
			{Source: "hash by key", Key: "1"},
			{Source: "hash by header", Key: "1"},
			{Source: "hash by property", Key: fmt.Sprint(i + 1)},
			{Source: "modulus"},
			{Source: "random"},
			{Source: "history"},
		} {
			b.Destination = name
			mustBind(t, r, b)
		}
	}
	properties := &wire.PropertyView{
		MessageID: []byte("id"), Headers: wire.AppendTable(nil, wire.Table{{Name: "h", Value: "value"}})[4:],
	}
	for _, x := range r.Exchanges() {
		name := x.Name
		if x.Type == TypeHeaders || x.Internal {
			continue
		}
		var s Scratch[*int]
		p := Publish[*int]{Exchange: x, Key: []byte("a.b.c"), CC: []string{"q1", "x.b.c"}, Properties: properties}
		var reached int
		if allocs := testing.AllocsPerRun(100, func() { reached = len(r.Route(&s, p)) }); allocs != 0 {
			t.Errorf("%q: %v allocations", name, allocs)
		}
		if reached == 0 {
			t.Errorf("%q: reached no queue", name)
		}
	}
}

func TestSet(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s set[int]
		for range 3 { // what is left from before a reset must not show
			s.reset()
			var want []int
			for _, v := range rapid.SliceOfN(rapid.IntRange(0, 40), 0, 80).Draw(t, "values") {
				has := slices.Contains(want, v)
				if !has {
					want = append(want, v)
				}
				if !has && v%2 == 0 { // addNew and add may alternate
					s.addNew(v)
				} else if s.add(v) == has {
					t.Fatalf("add(%d) to %v: %t", v, want, !has)
				}
			}
			if !slices.Equal(s.list, want) {
				t.Fatalf("got %v, want %v", s.list, want)
			}
		}
	})
}
