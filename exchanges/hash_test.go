// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/lagomq/lagomq/amqp/wire"
)

// hashing is an exchange of one of the types that choose one destination, beside
// the list of bindings that it should have.
type hashing struct {
	router   *Router[string]
	exchange *Exchange[string]
	scratch  Scratch[string]
	bindings []Binding[string] // of queues named like their values
}

func newHashing(t interface{ Fatal(...any) }, exchangeType string, args ...wire.Field) *hashing {
	r := NewRouter[string]("/")
	x, _, err := r.Declare(Declaration{Name: "x", Type: exchangeType, Arguments: args})
	if err != nil {
		t.Fatal(err)
	}
	return &hashing{router: r, exchange: x}
}

func (h *hashing) bind(t interface{ Fatal(...any) }, q, key string) {
	h.router.AddQueue(q, q)
	b := Binding[string]{Source: "x", Destination: q, Key: key}
	added, err := h.router.Bind(b)
	if err != nil {
		t.Fatal(err)
	}
	if added {
		h.bindings = append(h.bindings, b)
	}
}

func (h *hashing) unbind(t interface{ Fatal(...any) }, i int) {
	if removed, _, err := h.router.Unbind(h.bindings[i]); err != nil || len(removed) != 1 {
		t.Fatal("unbind", h.bindings[i], removed, err)
	}
	h.bindings = slices.Delete(h.bindings, i, i+1)
}

// route returns the one queue that gets a message with that key, "" for none.
func (h *hashing) route(t interface{ Fatal(...any) }, key string) string {
	queues := h.router.Route(&h.scratch, Publish[string]{Exchange: h.exchange, Key: []byte(key)})
	switch {
	case len(queues) > 1:
		t.Fatal("one message reached", queues)
	case len(queues) == 0:
		return ""
	case h.scratch.Constant():
		t.Fatal("a route that differs by key is worth remembering")
	}
	return queues[0]
}

// shares counts where n different keys go.
func (h *hashing) shares(t interface{ Fatal(...any) }, n int) map[string]int {
	shares := map[string]int{}
	for i := range n {
		shares[h.route(t, "key-"+strconv.Itoa(i))]++
	}
	return shares
}

// checkShares expects shares in proportion to weights, within five standard
// deviations of as many independent draws.
func checkShares(t *testing.T, shares, weights map[string]int, n int) {
	t.Helper()
	sum := 0
	for _, w := range weights {
		sum += w
	}
	for q, w := range weights {
		p := float64(w) / float64(sum)
		want, deviation := p*float64(n), math.Sqrt(float64(n)*p*(1-p))
		if math.Abs(float64(shares[q])-want) > 5*deviation {
			t.Errorf("%s of weight %d gets %d of %d, want %.0f (standard deviation %.1f)", q, w, shares[q], n, want, deviation)
		}
	}
	if len(shares) > len(weights) {
		t.Errorf("shares %v of weights %v", shares, weights)
	}
}

func TestConsistentHashShares(t *testing.T) {
	t.Parallel()
	for _, weights := range []map[string]int{
		{"a": 1},
		{"a": 1, "b": 1},
		{"a": 1, "b": 1, "c": 2, "d": 2},
		{"a": 10000, "b": 5000, "c": 1, "d": 100},
		{"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8, "i": 9},
	} {
		h := newHashing(t, TypeConsistentHash)
		for _, q := range slices.Sorted(maps.Keys(weights)) {
			h.bind(t, q, strconv.Itoa(weights[q]))
		}
		const n = 100_000
		checkShares(t, h.shares(t, n), weights, n)
	}
}

// Names and keys that hardly differ must not hash alike.
func TestConsistentHashManyQueues(t *testing.T) {
	t.Parallel()
	h := newHashing(t, TypeConsistentHash)
	weights := map[string]int{}
	for i := range 100 {
		q := fmt.Sprint("queue-", i)
		h.bind(t, q, "7")
		weights[q] = 7
	}
	const n = 100_000
	checkShares(t, h.shares(t, n), weights, n)
}

// A change of bindings moves only keys of the destination it is about, whatever
// came before, and bindings in another order lead to the same routes.
func TestConsistentHashMovement(t *testing.T) {
	t.Parallel()
	queues := rapid.SampledFrom([]string{"q1", "q2", "q3", "q4", "q5"})
	weights := rapid.SampledFrom([]string{"1", "2", "+2", "3", "100", "10000"})
	rapid.Check(t, func(t *rapid.T) {
		h := newHashing(t, TypeConsistentHash)
		routes := func(h *hashing) (all [200]string) {
			for i := range all {
				all[i] = h.route(t, strconv.Itoa(i))
			}
			return all
		}
		before := routes(h)
		moved := func(about string, gains bool) {
			after := routes(h)
			for i := range after {
				from, to := before[i], after[i]
				if !gains {
					from, to = to, from
				}
				if from != to && to != about {
					t.Fatalf("key %d went from %q to %q when %q changed (gains: %t)", i, before[i], after[i], about, gains)
				}
			}
			before = after
		}
		t.Repeat(map[string]func(*rapid.T){
			"bind": func(t *rapid.T) {
				q := queues.Draw(t, "queue")
				h.bind(t, q, weights.Draw(t, "weight"))
				moved(q, true)
			},
			"unbind": func(t *rapid.T) {
				if len(h.bindings) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(h.bindings)-1).Draw(t, "binding")
				q := h.bindings[i].Destination
				h.unbind(t, i)
				moved(q, false)
			},
			"reorder": func(t *rapid.T) {
				other := newHashing(t, TypeConsistentHash)
				for _, b := range rapid.Permutation(h.bindings).Draw(t, "order") {
					other.bind(t, b.Destination, b.Key)
				}
				if routes(other) != before {
					t.Fatal("the order of bindings matters")
				}
				if len(h.bindings) == 0 && len(h.exchange.matcher.(*consistentHashMatcher[string]).list) != 0 {
					t.Fatal("destinations are left after the last binding")
				}
			},
		})
	})
}

// What decides must not be changed by accident: it holds across restarts and
// versions.
func TestHashesAreForEver(t *testing.T) {
	t.Parallel()
	for _, exchangeType := range []string{TypeConsistentHash, TypeModulusHash} {
		h := newHashing(t, exchangeType)
		for i := range 4 {
			h.bind(t, fmt.Sprint("q", i), strconv.Itoa(i+1))
		}
		got := ""
		for i := range 32 {
			got += h.route(t, fmt.Sprint("order-", i))[1:]
		}
		want := map[string]string{
			TypeConsistentHash: "22131312123131223233323322032322",
			TypeModulusHash:    "00200322322321233030113320111102",
		}[exchangeType]
		if got != want {
			t.Errorf("%s: keys go to %s, want %s", exchangeType, got, want)
		}
	}
}

// The modulus hash against its definition.
func TestModulusHash(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		h := newHashing(t, TypeModulusHash)
		names := rapid.SampledFrom([]string{"a", "b", "c", "aa", "", "é"})
		t.Repeat(map[string]func(*rapid.T){
			"bind": func(t *rapid.T) { h.bind(t, "q"+names.Draw(t, "queue"), names.Draw(t, "key")) },
			"unbind": func(t *rapid.T) {
				if len(h.bindings) == 0 {
					t.Skip()
				}
				h.unbind(t, rapid.IntRange(0, len(h.bindings)-1).Draw(t, "binding"))
			},
			"": func(t *rapid.T) {
				bound := map[string]bool{}
				for _, b := range h.bindings {
					bound[b.Destination] = true
				}
				sorted := slices.Sorted(maps.Keys(bound))
				for i := range 20 {
					key := strconv.Itoa(i)
					want := ""
					if len(sorted) > 0 {
						want = sorted[mix(hashBytes(hashOffset, key+"\x00"))%uint64(len(sorted))]
					}
					if got := h.route(t, key); got != want {
						t.Fatalf("key %s goes to %q, want %q of %q", key, got, want, sorted)
					}
				}
			},
		})
	})
	h := newHashing(t, TypeModulusHash)
	weights := map[string]int{}
	for i := range 7 {
		q := fmt.Sprint("shard", i)
		h.bind(t, q, "any")
		weights[q] = 1
	}
	const n = 70_000
	checkShares(t, h.shares(t, n), weights, n)
}

func TestRandomShares(t *testing.T) {
	t.Parallel()
	for _, exchangeType := range []string{TypeRandom, TypeLocalRandom} {
		h := newHashing(t, exchangeType)
		random := rand.New(rand.NewPCG(1, 2))
		h.scratch.Random = random.IntN
		weights := map[string]int{}
		for i := range 20 {
			q := fmt.Sprint("q", i)
			h.bind(t, q, "")
			weights[q] = 1
		}
		for i := range 10 { // the last ones take the places of the first
			h.unbind(t, 0)
			delete(weights, fmt.Sprint("q", i))
		}
		if exchangeType == TypeRandom {
			h.bind(t, "q15", "again") // each binding counts
			weights["q15"]++
		}
		const n = 100_000
		checkShares(t, h.shares(t, n), weights, n)
		h.scratch.Random = nil
		checkShares(t, h.shares(t, n), weights, n)
	}
}

// Whatever arguments a client sends, an exchange is made or refused with a 406,
// and a message reaches at most the one queue that is bound.
func FuzzHashArguments(f *testing.F) {
	for _, args := range []wire.Table{
		nil,
		{{Name: hashHeaderArgument, Value: "h"}},
		{{Name: hashHeaderAlternative, Value: "h"}, {Name: hashPropertyArgument, Value: "message_id"}},
		{{Name: hashPropertyArgument, Value: "timestamp"}},
		{{Name: hashPropertyArgument, Value: wire.Array{int32(1)}}},
	} {
		f.Add(wire.AppendTable(nil, args)[4:], "10", wire.AppendTable(nil, wire.Table{{Name: "h", Value: int64(4)}})[4:])
	}
	f.Fuzz(func(t *testing.T, args []byte, key string, headers []byte) {
		table, err := wire.ParseTable(args)
		if err != nil || len(key) > 255 {
			return
		}
		for _, exchangeType := range []string{TypeConsistentHash, TypeModulusHash, TypeRandom, TypeLocalRandom} {
			r := NewRouter[int]("/")
			r.AddQueue("q", 1)
			x, _, err := r.Declare(Declaration{Name: "x", Type: exchangeType, Arguments: table})
			if err != nil {
				if err.Code != wire.PreconditionFailed {
					t.Fatalf("%s: %v", exchangeType, err)
				}
				continue
			}
			bound, err := r.Bind(Binding[int]{Source: "x", Destination: "q", Key: key})
			if !bound && (err == nil || err.Code != wire.PreconditionFailed) {
				t.Fatalf("%s: bound with %q: %t, %v", exchangeType, key, bound, err)
			}
			p := Publish[int]{Exchange: x, Key: []byte(key), Properties: &wire.PropertyView{Headers: headers}}
			if reached := r.Route(new(Scratch[int]), p); len(reached) == 1 != bound {
				t.Fatalf("%s: bound %t, reached %d queues", exchangeType, bound, len(reached))
			}
		}
	})
}
