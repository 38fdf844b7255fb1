// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"fmt"
	"testing"

	"github.com/lagomq/lagomq/amqp/wire"
)

// benchmarkRoute routes keys in turn and expects each to reach want queues.
func benchmarkRoute(b *testing.B, r *Router[*int], p Publish[*int], keys [][]byte, want int) {
	b.Helper()
	b.ReportAllocs()
	var s Scratch[*int]
	for i := 0; b.Loop(); i++ {
		p.Key = keys[i%len(keys)]
		if got := len(r.Route(&s, p)); got != want {
			b.Fatalf("key %q reached %d queues, want %d", p.Key, got, want)
		}
	}
}

func mustExchange(b *testing.B, r *Router[*int], name string) *Exchange[*int] {
	x, ok := r.Exchange(name)
	if !ok {
		b.Fatalf("no exchange %q", name)
	}
	return x
}

// topicRouter has the binding key "region.R.device.D.*" for 100 times 1,000
// numbers, spread over 1,000 queues.
func topicRouter(b *testing.B) *Router[*int] {
	r := NewRouter[*int]("/")
	for d := range 1000 {
		q := fmt.Sprint("q", d)
		r.AddQueue(q, new(int))
		for region := range 100 {
			mustBind(b, r, Binding[*int]{
				Source: "amq.topic", Destination: q, Key: fmt.Sprintf("region.%d.device.%d.*", region, d),
			})
		}
	}
	return r
}

func BenchmarkTopic100kBindings(b *testing.B) {
	r := topicRouter(b)
	p := Publish[*int]{Exchange: mustExchange(b, r, "amq.topic")}
	var bound, unbound [][]byte
	for i := range 1000 {
		bound = append(bound, fmt.Appendf(nil, "region.%d.device.%d.temperature", i%100, i))
		unbound = append(unbound, fmt.Appendf(nil, "region.%d.device.%d.temperature", i%100, i+1000))
	}
	b.Run("bound", func(b *testing.B) { benchmarkRoute(b, r, p, bound, 1) })
	b.Run("unbound", func(b *testing.B) { benchmarkRoute(b, r, p, unbound, 0) })

	for i := range 10 {
		mustBind(b, r, Binding[*int]{Source: "amq.topic", Destination: "q1", Key: fmt.Sprintf("#.device.%d.#", i)})
	}
	b.Run("unbound beside hashes", func(b *testing.B) { benchmarkRoute(b, r, p, unbound, 0) })
}

func BenchmarkDefault(b *testing.B) {
	r := NewRouter[*int]("/")
	var keys [][]byte
	for i := range 10_000 {
		name := fmt.Sprint("queue-", i)
		keys = append(keys, []byte(name))
		r.AddQueue(name, new(int))
	}
	benchmarkRoute(b, r, Publish[*int]{Exchange: mustExchange(b, r, "")}, keys, 1)
}

func BenchmarkDirect(b *testing.B) {
	r := NewRouter[*int]("/")
	var keys [][]byte
	for i := range 10_000 {
		name := fmt.Sprint("queue-", i)
		keys = append(keys, []byte(name))
		r.AddQueue(name, new(int))
		mustBind(b, r, Binding[*int]{Source: "amq.direct", Destination: name, Key: name})
	}
	benchmarkRoute(b, r, Publish[*int]{Exchange: mustExchange(b, r, "amq.direct")}, keys, 1)
}

func BenchmarkFanout(b *testing.B) {
	for _, queues := range []int{10, 1000} {
		b.Run(fmt.Sprint(queues), func(b *testing.B) {
			r := NewRouter[*int]("/")
			for i := range queues {
				name := fmt.Sprint("queue-", i)
				r.AddQueue(name, new(int))
				mustBind(b, r, Binding[*int]{Source: "amq.fanout", Destination: name})
			}
			benchmarkRoute(b, r, Publish[*int]{Exchange: mustExchange(b, r, "amq.fanout")}, [][]byte{nil}, queues)
		})
	}
}

func BenchmarkHeaders(b *testing.B) {
	const bindings = 100
	r := NewRouter[*int]("/")
	for i := range bindings {
		name := fmt.Sprint("queue-", i)
		r.AddQueue(name, new(int))
		mustBind(b, r, Binding[*int]{Source: "amq.headers", Destination: name, Arguments: wire.Table{
			{Name: "kind", Value: "order"}, {Name: "shard", Value: int32(i)},
		}})
	}
	headers := wire.AppendTable(nil, wire.Table{
		{Name: "trace", Value: "0123456789abcdef"}, {Name: "kind", Value: "order"}, {Name: "shard", Value: int64(42)},
	})[4:]
	benchmarkRoute(b, r, Publish[*int]{Exchange: mustExchange(b, r, "amq.headers"), Properties: &wire.PropertyView{Headers: headers}}, [][]byte{nil}, 1)
}

// BenchmarkOneOfMany are the exchange types that choose one of many queues, with
// keys that differ.
func BenchmarkOneOfMany(b *testing.B) {
	var keys [][]byte
	for i := range 10_000 {
		keys = append(keys, fmt.Appendf(nil, "customer-%d", i))
	}
	properties := &wire.PropertyView{Headers: wire.AppendTable(nil, wire.Table{
		{Name: "trace", Value: "0123456789abcdef"}, {Name: "customer", Value: "customer-4711"},
	})[4:]}
	weight := func(i int) string { return "1" }
	for _, bench := range []struct {
		name   string
		d      Declaration
		weight func(int) string
	}{
		{"consistent hash", Declaration{Type: TypeConsistentHash}, weight},
		{"consistent hash, ten weights", Declaration{Type: TypeConsistentHash}, func(i int) string { return fmt.Sprint(i%10 + 1) }},
		{"consistent hash, header", Declaration{
			Type: TypeConsistentHash, Arguments: wire.Table{{Name: hashHeaderArgument, Value: "customer"}},
		}, weight},
		{"modulus hash", Declaration{Type: TypeModulusHash}, weight},
		{"random", Declaration{Type: TypeRandom}, weight},
		{"local random", Declaration{Type: TypeLocalRandom}, func(int) string { return "" }},
	} {
		for _, queues := range []int{10, 1000} {
			b.Run(fmt.Sprintf("%s/%d", bench.name, queues), func(b *testing.B) {
				r := NewRouter[*int]("/")
				bench.d.Name = "x"
				x, _, err := r.Declare(bench.d)
				if err != nil {
					b.Fatal(err)
				}
				for i := range queues {
					name := fmt.Sprint("queue-", i)
					r.AddQueue(name, new(int))
					mustBind(b, r, Binding[*int]{Source: "x", Destination: name, Key: bench.weight(i)})
				}
				benchmarkRoute(b, r, Publish[*int]{Exchange: x, Properties: properties}, keys, 1)
			})
		}
	}
}

func BenchmarkExchangeToExchange(b *testing.B) {
	r := NewRouter[*int]("/")
	r.AddQueue("q", new(int))
	mustBind(b, r, Binding[*int]{Source: "amq.fanout", Destination: "amq.direct", ToExchange: true})
	mustBind(b, r, Binding[*int]{Source: "amq.direct", Destination: "amq.topic", ToExchange: true, Key: "a.b"})
	mustBind(b, r, Binding[*int]{Source: "amq.topic", Destination: "q", Key: "a.*"})
	benchmarkRoute(b, r, Publish[*int]{Exchange: mustExchange(b, r, "amq.fanout")}, [][]byte{[]byte("a.b")}, 1)
}

// One operation is a bind and an unbind beside 100,000 other bindings.
func BenchmarkBindUnbind(b *testing.B) {
	r := topicRouter(b)
	bindings := make([]Binding[*int], 1000)
	for i := range bindings {
		bindings[i] = Binding[*int]{Source: "amq.topic", Destination: "q7", Key: fmt.Sprintf("other.%d.*.#", i)}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		binding := bindings[i%len(bindings)]
		mustBind(b, r, binding)
		if removed, _, err := r.Unbind(binding); err != nil || len(removed) != 1 {
			b.Fatal(removed, err)
		}
	}
}
