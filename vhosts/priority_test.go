// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
)

// TestRouteByPriority: a priority makes another route only if it makes a difference
// to one of the queues, and messages may change places only if they are apart in all
// of them.
func TestRouteByPriority(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.declare(t, "plain", "durable", 0)
	b.declare(t, "quorum", "durable", 0, wire.Field{Name: "x-queue-type", Value: TypeQuorum})
	for name, highest := range map[string]int32{"zero": 0, "three": 3, "also three": 3, "nine": 9} {
		b.declare(t, name, "durable", 0, wire.Field{Name: "x-max-priority", Value: highest})
	}
	const none = NoPriority
	for _, test := range []struct {
		queues []string
		groups [][]Priority // those in one group have the same route
		beside bool
	}{
		{[]string{"plain"}, [][]Priority{{none, 0, 1, 255}}, false},
		{[]string{"zero"}, [][]Priority{{none, 0}, {1, 2, 255}}, true},
		{[]string{"three"}, [][]Priority{{none, 0}, {1}, {2}, {3, 4, 255}}, true},
		{[]string{"three", "also three"}, [][]Priority{{none, 0}, {1}, {2}, {3, 4, 255}}, true},
		{[]string{"quorum"}, [][]Priority{{0}, {3}, {none, 4}, {5}, {31, 32, 255}}, true},
		{[]string{"plain", "three"}, [][]Priority{{none, 0}, {1}, {2}, {3, 4, 255}}, false},
		{[]string{"three", "nine"}, [][]Priority{{none, 0}, {3}, {4}, {9, 10, 255}}, false},
		{[]string{"three", "quorum"}, [][]Priority{{none}, {0}, {4}, {31, 255}}, false},
	} {
		var queues []*Queue
		for _, name := range test.queues {
			queues = append(queues, b.queue(t, name))
		}
		base := &Route{Queues: queues}
		base.rank()
		for i, group := range test.groups {
			first := base.For(group[0])
			for _, p := range group {
				if r := base.For(p); !r.Same(first) {
					t.Errorf("%v: priority %d has another route than %d", test.queues, p, group[0])
				}
			}
			for _, other := range test.groups[:i] {
				r := base.For(other[0])
				if r.Same(first) {
					t.Errorf("%v: priorities %d and %d have the same route", test.queues, other[0], group[0])
				}
				if r.Beside(first) != test.beside {
					t.Errorf("%v: priorities %d and %d may change places: %t", test.queues, other[0], group[0], !test.beside)
				}
			}
		}
	}
}
