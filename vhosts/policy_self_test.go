// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// TestPolicyPointsToItself has policies send a queue's dead letters to that queue, or
// what an exchange cannot route to that exchange. What goes round without anybody
// having rejected it is dropped; a rejected message comes back, and all come to rest.
func TestPolicyPointsToItself(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		more        wire.Field // of the policy
		messages    []any
		ready, lost uint64
	}{
		"too old":       {arg("message-ttl", int64(1000)), []any{1, 2, 3}, 0, 3},
		"too many":      {arg("max-length", int64(2)), []any{1, 2, 3}, 2, 1},
		"no room":       {arg("max-length", int64(0)), []any{1, 2, 3}, 0, 3},
		"nothing amiss": {arg("max-length", int64(3)), []any{1, 2, 3}, 3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClock()
			b := c.open(t, vfs.NewMem())
			q := b.declare(t, "q", "durable", 1)
			b.setPolicy(t, UserPolicy, Policy{Name: "p", Pattern: "^q$", Definition: wire.Table{
				arg("dead-letter-exchange", ""), arg("dead-letter-routing-key", "q"), test.more,
			}})
			b.send(t, "", "q", test.messages...)
			c.pass(b, 5*time.Second)
			c.until(t, b, "the messages come to rest", func() bool {
				s := q.Stats()
				return s.Ready == test.ready && s.Leaving == 0 && s.Counters.LettersLost == test.lost
			})
			if test.ready == 0 {
				return
			}
			in := newInbox("c", false, 0)
			consume(t, q, in)
			rejected := in.take(1)
			q.Settle(in.Consumer, numbersOf(rejected), true)
			c.until(t, b, "the rejected message is back", func() bool {
				s := q.Stats()
				return s.Counters.DeadLettered[queue.Rejected] == 1 && s.Unacked == test.ready && s.Leaving == 0
			})
		})
	}
	b := openBroker(t, vfs.NewMem())
	b.declareExchange(t, exchanges.Declaration{Name: "x", Type: "direct"})
	b.setPolicy(t, UserPolicy, Policy{Name: "p", Pattern: "^x$", Definition: wire.Table{arg("alternate-exchange", "x")}})
	if r := NewRoutes(b.VHost).Find(publishView(t, "x", "nowhere"), nil, nil); r.Err != nil || len(r.Queues) != 0 {
		t.Errorf("what cannot be routed leads to %v, %v", r.Queues, r.Err)
	}
}
