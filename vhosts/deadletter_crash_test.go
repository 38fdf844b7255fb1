// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestRejectCrash rejects from several goroutines while others are acknowledged,
// lets the power fail at several moments, and checks that every rejected message
// is then in its queue, to be delivered again, or in both targets: never in none,
// never in one, never in all. A seed replays what is done; when it is done is up
// to the scheduler.
func TestRejectCrash(t *testing.T) {
	t.Parallel()
	for seed := range seeds() {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			rejectAndCrash(t, seed)
		})
	}
}

func rejectAndCrash(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 15))
	fs := vfs.NewCrashableMem()
	b := openWith(t, fs, Options{ResidentBytes: uint64(1 + rng.IntN(4000))})
	q := b.declare(t, "q", "durable", 1, dlx("amq.fanout")...)
	for _, name := range []string{"one", "two"} {
		b.declare(t, name, "durable", 1)
		b.bind(t, Binding{Source: "amq.fanout", Destination: name})
	}
	in := newInbox("c", false, 0)
	consume(t, q, in)

	// Every third message is acknowledged; the others are rejected, half of them by
	// each of two goroutines.
	const rounds = 120
	for n := 0; n < 3*rounds; {
		var bodies []string
		for range min(1+rng.IntN(9), 3*rounds-n) {
			bodies = append(bodies, fmt.Sprintf("%c%d", "xab"[n%3], n/3))
			n++
		}
		b.post(t, "", "q", persistentMode(), bodies...)
	}
	b.sync(t)
	lots := map[byte][]got{}
	for _, m := range in.take(3 * rounds) {
		lots[m.body[0]] = append(lots[m.body[0]], m)
	}
	moments := make(chan struct{}) // at which the power fails
	var settling, crashing sync.WaitGroup
	for _, lot := range []byte{'a', 'b', 'x'} {
		rng := rand.New(rand.NewPCG(seed, uint64(lot)))
		settling.Go(func() {
			for left := lots[lot]; len(left) > 0; {
				n := min(1+rng.IntN(6), len(left))
				q.Settle(in.Consumer, numbersOf(left[:n]), lot != 'x')
				left = left[n:]
				if rng.IntN(3) == 0 {
					b.sync(t)
				}
				if rng.IntN(20) == 0 {
					moments <- struct{}{}
				}
			}
		})
	}
	var clones []*vfs.MemFS
	crashing.Go(func() {
		for range moments {
			clones = append(clones, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng}))
		}
	})
	settling.Wait()
	close(moments)
	crashing.Wait()
	for _, clone := range clones {
		checkRejected(t, openBroker(t, clone), lots)
	}

	// Without a crash all letters arrive, and an orderly stop keeps that.
	for _, name := range []string{"one", "two"} {
		target, out := b.queue(t, name), newInbox("out", false, 0)
		consume(t, target, out)
		messages := out.take(2 * rounds)
		target.Cancel(out.Consumer)
		target.Return(out.Consumer, numbersOf(messages), false)
	}
	last := b.restart(t, fs)
	for name, want := range map[string]int{"q": 0, "one": 2 * rounds, "two": 2 * rounds} {
		if got := len(strings.Fields(drain(t, last.queue(t, name)))); got != want {
			t.Errorf("after an orderly stop there are %d messages in %s, want %d", got, name, want)
		}
	}
}

// checkRejected checks where the messages are after a crash; those of lot x were
// acknowledged.
func checkRejected(t *testing.T, after *broker, lots map[byte][]got) {
	t.Helper()
	places := map[string][]string{} // which queues a message is in
	for _, name := range []string{"q", "one", "two"} {
		last := map[byte]int{'a': -1, 'b': -1, 'x': -1}
		for _, message := range strings.Fields(drain(t, after.queue(t, name))) {
			body, redelivered := strings.CutSuffix(message, "*")
			var n int
			if _, err := fmt.Sscan(body[1:], &n); err != nil || n <= last[body[0]] || !redelivered {
				t.Errorf("%s: message %s is out of order, twice there or not marked as redelivered", name, message)
			}
			last[body[0]] = n
			places[body] = append(places[body], name)
		}
	}
	for lot, messages := range lots {
		for _, m := range messages {
			in := strings.Join(places[m.body], " ")
			if ok := in == "q" || lot == 'x' && in == "" || lot != 'x' && in == "one two"; !ok {
				t.Errorf("message %s is in queues %q", m.body, in)
			}
		}
	}
}
