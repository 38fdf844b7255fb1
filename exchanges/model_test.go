// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/lagomq/lagomq/amqp/wire"
)

// model is the router as plain lists: slow and obvious. A queue's value is its
// name. Topic keys are matched by topicMatches; headers exchanges are left to
// the scripts.
type model struct {
	exchanges map[string]Declaration
	queues    map[string]bool
	bindings  map[edge]bool
}

// edge is a binding in the model.
type edge struct {
	source, destination string
	toExchange          bool
	key                 string
	variant             int32 // value of an argument, 0 for none
}

func (e edge) binding() Binding[string] {
	b := Binding[string]{Source: e.source, Destination: e.destination, ToExchange: e.toExchange, Key: e.key}
	if e.variant != 0 {
		b.Arguments = wire.Table{{Name: "variant", Value: e.variant}}
	}
	if !e.toExchange {
		b.Queue = e.destination
	}
	return b
}

func edgeOf(b Binding[string]) edge {
	e := edge{source: b.Source, destination: b.Destination, toExchange: b.ToExchange, key: b.Key}
	if value, ok := b.Arguments.Get("variant"); ok {
		e.variant = value.(int32)
	}
	return e
}

// drop removes the edges that gone chooses, and what auto-deletion makes of it.
func (m *model) drop(gone func(edge) bool) {
	var sources []string
	for e := range m.bindings {
		if gone(e) {
			delete(m.bindings, e)
			sources = append(sources, e.source)
		}
	}
	for _, name := range sources {
		inUse := slices.ContainsFunc(slices.Collect(maps.Keys(m.bindings)), func(e edge) bool { return e.source == name })
		if x, ok := m.exchanges[name]; ok && x.AutoDelete && !inUse {
			delete(m.exchanges, name)
			m.drop(func(e edge) bool { return e.toExchange && e.destination == name })
		}
	}
}

func (m *model) matches(e edge, keys []string) bool {
	switch m.exchanges[e.source].Type {
	case TypeFanout:
		return true
	case TypeTopic:
		return slices.ContainsFunc(keys, func(key string) bool {
			return topicMatches(splitTopic(e.key), splitTopic(key))
		})
	default:
		return slices.Contains(keys, e.key)
	}
}

func (m *model) route(exchange string, keys []string) []string {
	seen := map[string]bool{}
	result := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		x, ok := m.exchanges[name]
		if !ok || seen[name] {
			return
		}
		seen[name] = true
		matched := false
		for e := range m.bindings {
			if e.source != name || !m.matches(e, keys) {
				continue
			}
			matched = true
			if e.toExchange {
				visit(e.destination)
			} else {
				result[e.destination] = true
			}
		}
		if alternate, err := x.Alternate("/"); !matched && err == nil && alternate != "" {
			visit(alternate)
		}
	}
	visit(exchange)
	return slices.Sorted(maps.Keys(result))
}

func TestRouterAgainstModel(t *testing.T) {
	t.Parallel()
	names := rapid.SampledFrom([]string{"x1", "x2", "x3", "x4", "x5"})
	queues := rapid.SampledFrom([]string{"q1", "q2", "q3", "q4"})
	keys := rapid.SampledFrom([]string{"", "a", "b", "a.b", "a.*", "#", "#.b"})
	types := rapid.SampledFrom([]string{TypeDirect, TypeFanout, TypeTopic})
	edges := rapid.Custom(func(t *rapid.T) edge {
		e := edge{
			source:     names.Draw(t, "source"),
			toExchange: rapid.Bool().Draw(t, "to exchange"),
			key:        keys.Draw(t, "key"),
			variant:    rapid.Int32Range(0, 1).Draw(t, "variant"),
		}
		if e.toExchange {
			e.destination = names.Draw(t, "destination")
		} else {
			e.destination = queues.Draw(t, "destination")
		}
		return e
	})

	rapid.Check(t, func(t *rapid.T) {
		r := NewRouter[string]("/")
		m := &model{exchanges: map[string]Declaration{}, queues: map[string]bool{}, bindings: map[edge]bool{}}
		var s Scratch[string]
		version := r.Version()
		raised := func(want bool) {
			if got := r.Version() > version; got != want {
				t.Fatalf("version raised: %t, want %t", got, want)
			}
			version = r.Version()
		}

		t.Repeat(map[string]func(*rapid.T){
			"declare": func(t *rapid.T) {
				d := Declaration{Name: names.Draw(t, "name"), Type: types.Draw(t, "type"), AutoDelete: rapid.Bool().Draw(t, "auto")}
				if rapid.Bool().Draw(t, "with alternate") {
					d.Arguments = wire.Table{{Name: alternateArgument, Value: names.Draw(t, "alternate")}}
				}
				old, exists := m.exchanges[d.Name]
				_, created, err := r.Declare(d)
				oldAlternate, _ := old.Alternate("/")
				newAlternate, _ := d.Alternate("/")
				same := old.Type == d.Type && old.AutoDelete == d.AutoDelete && oldAlternate == newAlternate
				if created == exists || (err != nil) != (exists && !same) {
					t.Fatalf("declare %+v over %+v: created %t, %v", d, old, created, err)
				}
				if created {
					m.exchanges[d.Name] = d
				}
				raised(created)
			},
			"delete": func(t *rapid.T) {
				name := names.Draw(t, "name")
				_, exists := m.exchanges[name]
				deleted, _, _, err := r.Delete(name, false)
				if err != nil || (deleted != nil) != exists {
					t.Fatalf("delete %q: %v, %v", name, deleted, err)
				}
				delete(m.exchanges, name)
				m.drop(func(e edge) bool { return e.source == name || e.toExchange && e.destination == name })
				raised(exists)
			},
			"queue": func(t *rapid.T) {
				name := queues.Draw(t, "name")
				if added := r.AddQueue(name, name); added == m.queues[name] {
					t.Fatalf("add queue %q: %t", name, added)
				}
				raised(!m.queues[name])
				m.queues[name] = true
			},
			"remove queue": func(t *rapid.T) {
				name := queues.Draw(t, "name")
				r.RemoveQueue(name, name)
				raised(m.queues[name])
				delete(m.queues, name)
				m.drop(func(e edge) bool { return !e.toExchange && e.destination == name })
			},
			"bind": func(t *rapid.T) {
				e := edges.Draw(t, "edge")
				_, known := m.exchanges[e.source]
				if e.toExchange {
					_, ok := m.exchanges[e.destination]
					known = known && ok
				} else {
					known = known && m.queues[e.destination]
				}
				added, err := r.Bind(e.binding())
				if (err == nil) != known || added != (known && !m.bindings[e]) {
					t.Fatalf("bind %+v: %t, %v", e, added, err)
				}
				if added {
					m.bindings[e] = true
				}
				raised(added)
			},
			"unbind": func(t *rapid.T) {
				e := edges.Draw(t, "edge")
				removed, _, err := r.Unbind(e.binding())
				if err != nil || (len(removed) > 0) != m.bindings[e] {
					t.Fatalf("unbind %+v: %v, %v", e, removed, err)
				}
				raised(m.bindings[e])
				m.drop(func(other edge) bool { return other == e })
			},
			"": func(t *rapid.T) { checkAgainst(t, r, m, &s) },
		})

		for name := range m.queues {
			r.RemoveQueue(name, name)
		}
		for _, x := range r.Exchanges() {
			r.Delete(x.Name, false)
		}
		if left := r.Bindings(); len(left) > 0 {
			t.Fatalf("left when all is gone: %v", left)
		}
	})
}

// checkAgainst compares all that can be asked of the router with the model.
func checkAgainst(t *rapid.T, r *Router[string], m *model, s *Scratch[string]) {
	all := map[edge]bool{}
	for _, b := range r.Bindings() {
		if b.Source != "" {
			all[edgeOf(b)] = true
		} else if !m.queues[b.Key] || b.Destination != b.Key || b.Queue != b.Key {
			t.Fatalf("implicit binding %+v", b)
		}
	}
	if !maps.Equal(all, m.bindings) {
		t.Fatalf("bindings %v, want %v", all, m.bindings)
	}
	incoming := 0
	for _, x := range r.Exchanges() {
		if _, ok := m.exchanges[x.Name]; !ok && !systemName(x.Name) && x.Name != "" {
			t.Fatalf("exchange %q should be gone", x.Name)
		}
		incoming += len(r.BindingsToExchange(x.Name))
	}
	for name := range m.queues {
		incoming += len(r.BindingsToQueue(name)) - 1
	}
	if incoming != len(m.bindings) {
		t.Fatalf("%d bindings by destination, want %d", incoming, len(m.bindings))
	}

	for name := range m.exchanges {
		x, ok := r.Exchange(name)
		if !ok {
			t.Fatalf("exchange %q is missing", name)
		}
		for _, keys := range [][]string{{""}, {"a"}, {"a.b"}, {"c", "b", "a.a"}} {
			got := slices.Clone(r.Route(s, Publish[string]{Exchange: x, Key: []byte(keys[0]), CC: keys[1:]}))
			slices.Sort(got)
			if want := m.route(name, keys); !slices.Equal(got, want) {
				t.Fatalf("route %s %q: got %v, want %v", name, keys, got, want)
			}
		}
	}
}

// One key, or one fanout, leading to more destinations than are kept without an
// index, and destinations leaving in another order than they came.
func TestManyTargets(t *testing.T) {
	t.Parallel()
	for _, exchange := range []string{"amq.direct", "amq.fanout", "amq.topic", "amq.headers"} {
		t.Run(exchange, func(t *testing.T) {
			t.Parallel()
			const count = 100
			r := NewRouter[int]("/")
			for q := range count {
				r.AddQueue(fmt.Sprint(q), q)
				mustBind(t, r, Binding[int]{Source: exchange, Destination: fmt.Sprint(q), Key: "k"})
			}
			x, _ := r.Exchange(exchange)
			var s Scratch[int]
			left := map[int]bool{}
			for q := range count {
				left[q] = true
			}
			for i := range count {
				got := slices.Clone(r.Route(&s, Publish[int]{Exchange: x, Key: []byte("k")}))
				slices.Sort(got)
				if want := slices.Sorted(maps.Keys(left)); !slices.Equal(got, want) {
					t.Fatalf("got %v, want %v", got, want)
				}
				q := i * 37 % count // coprime: every queue once
				r.RemoveQueue(fmt.Sprint(q), q)
				delete(left, q)
			}
		})
	}
}
