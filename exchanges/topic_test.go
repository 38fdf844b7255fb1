// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// topicMatches is the specification of topic matching, word by word.
func topicMatches(pattern, key []string) bool {
	switch {
	case len(pattern) == 0:
		return len(key) == 0
	case pattern[0] == "#":
		return topicMatches(pattern[1:], key) || len(key) > 0 && topicMatches(pattern, key[1:])
	case len(key) == 0:
		return false
	case pattern[0] == "*", pattern[0] == key[0]:
		return topicMatches(pattern[1:], key[1:])
	}
	return false
}

// topicKeys draws keys of few different words, empty ones among them.
func topicKeys(words ...string) *rapid.Generator[string] {
	return rapid.Map(rapid.SliceOfN(rapid.SampledFrom(words), 0, 6), func(words []string) string {
		return strings.Join(words, ".")
	})
}

func TestTopicAgainstSpecification(t *testing.T) {
	t.Parallel()
	patterns := topicKeys("a", "b", "", "*", "#").Filter(func(key string) bool {
		return (*topicMatcher[string])(nil).validate(&binding[string]{key: key}) == nil
	})
	keys := topicKeys("a", "b", "")
	rapid.Check(t, func(t *rapid.T) {
		r := NewRouter[string]("/")
		x, _ := r.Exchange("amq.topic")
		bound := rapid.SliceOfNDistinct(patterns, 1, 12, rapid.ID).Draw(t, "patterns")
		for _, pattern := range bound {
			r.AddQueue(pattern, pattern) // queues are named like their binding keys
			mustBind(t, r, Binding[string]{Source: "amq.topic", Destination: pattern, Key: pattern})
		}

		var s Scratch[string]
		for len(bound) > 0 {
			for _, key := range rapid.SliceOfN(keys, 1, 8).Draw(t, "keys") {
				want := slices.DeleteFunc(slices.Clone(bound), func(pattern string) bool {
					return !topicMatches(splitTopic(pattern), splitTopic(key))
				})
				got := slices.Clone(r.Route(&s, Publish[string]{Exchange: x, Key: []byte(key)}))
				slices.Sort(want)
				slices.Sort(got)
				if !slices.Equal(want, got) {
					t.Fatalf("key %q: got %q, want %q", key, got, want)
				}
			}
			i := rapid.IntRange(0, len(bound)-1).Draw(t, "unbind")
			if removed, _ := r.RemoveQueue(bound[i], bound[i]); len(removed) != 1 {
				t.Fatalf("removing %q removed %v", bound[i], removed)
			}
			bound = slices.Delete(bound, i, i+1)
		}
		if root := &x.matcher.(*topicMatcher[string]).root; !root.remove(nil, target[string]{}) {
			t.Fatalf("nodes are left after the last binding: %+v", root)
		}
	})
}

func FuzzTopic(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""}, {"#", ""}, {"#", "a.b"}, {"*", "."}, {"a.#.b", "a.b"}, {"#.a.#", "a..a"}, {"*.#.*", "x.y"}, {"#.#", "a"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, key string) {
		if len(pattern) > 255 || len(key) > 255 {
			return // not a short string
		}
		r := NewRouter[int]("/")
		r.AddQueue("q", 1)
		if _, err := r.Bind(Binding[int]{Source: "amq.topic", Destination: "q", Key: pattern}); err != nil {
			return
		}
		x, _ := r.Exchange("amq.topic")
		got := len(r.Route(new(Scratch[int]), Publish[int]{Exchange: x, Key: []byte(key)})) == 1
		if want := topicMatches(splitTopic(pattern), splitTopic(key)); got != want {
			t.Fatalf("pattern %q, key %q: got %t, want %t", pattern, key, got, want)
		}
	})
}

// A long key (CC allows any length) and two '#' must not cost the square of its
// length: a million words would then take hours.
func TestTopicLongKey(t *testing.T) {
	t.Parallel()
	r := NewRouter[string]("/")
	for _, pattern := range []string{"#.a.#.b", "#.a.#.*.*", "#.a.a.#"} {
		r.AddQueue(pattern, pattern)
		mustBind(t, r, Binding[string]{Source: "amq.topic", Destination: pattern, Key: pattern})
	}
	x, _ := r.Exchange("amq.topic")
	got := slices.Clone(r.Route(new(Scratch[string]), Publish[string]{
		Exchange: x, Key: []byte("none"), CC: []string{strings.Repeat("a.", 1_000_000) + "a"},
	}))
	slices.Sort(got)
	if want := []string{"#.a.#.*.*", "#.a.a.#"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// More '#' nodes below one another than a set keeps without its index.
func TestTopicManyHashes(t *testing.T) {
	t.Parallel()
	r := NewRouter[string]("/")
	var key []string
	for i := range 100 {
		word := fmt.Sprint("w", i)
		key = append(key, word)
		r.AddQueue(word, word)
		mustBind(t, r, Binding[string]{Source: "amq.topic", Destination: word, Key: "#." + word + ".#"})
	}
	x, _ := r.Exchange("amq.topic")
	var s Scratch[string]
	for range 2 {
		got := r.Route(&s, Publish[string]{Exchange: x, Key: []byte(strings.Join(key, "."))})
		if len(got) != len(key) {
			t.Fatalf("reached %d queues of %d", len(got), len(key))
		}
	}
}

func mustBind[Q comparable](t interface{ Fatal(...any) }, r *Router[Q], b Binding[Q]) {
	if added, err := r.Bind(b); err != nil || !added {
		t.Fatal("bind", b, added, err)
	}
}
