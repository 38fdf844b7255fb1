// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
)

// TestDedupCrash has several publishers send the same messages again and again, to a
// queue and to an exchange that drop duplicates, and the power fail at a random
// moment. What was confirmed, be it the original or a duplicate, must be there once;
// and when all is sent again, everything must be there once.
func TestDedupCrash(t *testing.T) {
	t.Parallel()
	for seed := range seeds() {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			dedupCrash(t, seed)
		})
	}
}

// dedupMessages is how many different messages there are.
const dedupMessages = 400

// confirmations are the messages that were confirmed, by queue.
type confirmations struct {
	mu    sync.Mutex
	known map[string]map[int]bool
}

// confirming is the waiter of messages for one queue.
type confirming struct {
	*confirmations
	queue string
	ids   []int
}

func (c *confirming) Durable(err error) {
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range c.ids {
		c.known[c.queue][id] = true
	}
}

func (c *confirming) Flush() {}

func dedupCrash(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 11))
	fs := vfs.NewCrashableMem()
	b := openBroker(t, fs)
	size := times(2 * dedupMessages)
	b.declare(t, "q", "durable", 1, once, size)
	b.declare(t, "x", "durable", 1)
	b.declareExchange(t, exchanges.Declaration{Name: "x", Type: "direct", Durable: true, Arguments: wire.Table{once, size}})
	b.bind(t, Binding{Source: "x", Destination: "x", Key: "x"})
	b.sync(t)

	confirmed := &confirmations{known: map[string]map[int]bool{"q": {}, "x": {}}}
	stop := make(chan struct{})
	var work sync.WaitGroup
	for p := range publishers {
		rng := rand.New(rand.NewPCG(seed, uint64(p)))
		work.Go(func() {
			for reach := 0; ; reach++ {
				select {
				case <-stop:
					return
				default:
				}
				c := &confirming{confirmations: confirmed, queue: []string{"q", "x"}[rng.IntN(2)]}
				for range 1 + rng.IntN(6) {
					c.ids = append(c.ids, rng.IntN(min(dedupMessages, 10+reach)))
				}
				b.sendAgain(t, c, rng.IntN(4) == 0)
				if rng.IntN(20) == 0 {
					b.sync(t)
				}
			}
		})
	}
	moment := 1 + rng.IntN(300)
	for total := 0; total < moment; {
		b.sync(t)
		confirmed.mu.Lock()
		total = len(confirmed.known["q"]) + len(confirmed.known["x"])
		confirmed.mu.Unlock()
	}
	confirmed.mu.Lock()
	must := map[string]map[int]bool{"q": {}, "x": {}}
	for queue, ids := range confirmed.known {
		for id := range ids {
			must[queue][id] = true
		}
	}
	confirmed.mu.Unlock()
	clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng})
	close(stop)
	work.Wait()

	after := openBroker(t, clone)
	for _, queue := range []string{"q", "x"} {
		counts := after.countIDs(t, queue)
		for id := range dedupMessages {
			if counts[id] > 1 || must[queue][id] && counts[id] == 0 {
				t.Errorf("%s: after the crash message %d is there %d times, confirmed %t", queue, id, counts[id], must[queue][id])
			}
		}
		for id := range dedupMessages {
			after.sendAgain(t, &confirming{confirmations: confirmed, queue: queue, ids: []int{id}}, false)
		}
		counts = after.countIDs(t, queue)
		for id := range dedupMessages {
			if counts[id] != 1 {
				t.Errorf("%s: after all was sent again message %d is there %d times", queue, id, counts[id])
			}
		}
	}
}

// sendAgain publishes messages for the confirming's queue, whose bodies are their ids,
// as a run or in a transaction.
func (b *broker) sendAgain(t testing.TB, c *confirming, inTx bool) {
	exchange := ""
	if c.queue == "x" {
		exchange = "x"
	}
	p := publishView(t, exchange, c.queue)
	route := NewRoutes(b.VHost).Find(p, nil, nil)
	var publications []TxPublication
	page := b.pages.New()
	for _, id := range c.ids {
		header, body := named(int64(id), true), fmt.Append(nil, id)
		page.Append(p.ExchangeAndKey, header, body)
		OpenPublication(&publications, route, true, len(header)+len(body)).Append(p.ExchangeAndKey, header, body)
	}
	if inTx {
		b.CommitTx(publications, nil, c)
	} else {
		b.Publish(route, page, true, c)
	}
	page.Release()
}

// countIDs counts the messages of each id in a queue.
func (b *broker) countIDs(t testing.TB, queue string) map[int]int {
	t.Helper()
	in := newInbox("count", false, 0)
	q := b.queue(t, queue)
	ready := int(q.Stats().Ready)
	consume(t, q, in)
	messages := in.take(ready)
	q.Cancel(in.Consumer)
	q.Return(in.Consumer, numbersOf(messages), false)
	counts := map[int]int{}
	for _, m := range messages {
		var id int
		if _, err := fmt.Sscan(m.body, &id); err != nil {
			t.Errorf("%s has a message %q", queue, m.body)
		}
		counts[id]++
	}
	return counts
}
