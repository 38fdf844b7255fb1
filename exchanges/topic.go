// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import (
	"bytes"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
)

// maxHashes is how many '#' RabbitMQ 4.3 admits in a topic binding key.
const maxHashes = 2

// topicMatcher is the topic exchange (AMQP 0-9-1 §3.1.3.3). Keys are words
// separated by dots: "" has none, "a..b" has an empty one in the middle. In a
// binding key '*' stands for exactly one word and '#' for zero or more.
type topicMatcher[Q comparable] struct {
	root topicNode[Q] // stands for the binding key without words
}

// topicNode stands for the words of a binding key on the way from the root.
// Every node but the root has targets or children; others are pruned.
type topicNode[Q comparable] struct {
	targets targets[Q]
	words   map[string]*topicNode[Q] // nil if none
	star    *topicNode[Q]
	hash    *topicNode[Q]
}

func (*topicMatcher[Q]) validate(b *binding[Q]) *wire.Error {
	hashes := 0
	for _, word := range splitTopic(b.key) {
		if word == "#" {
			hashes++
		}
	}
	if hashes > maxHashes {
		return wire.Errorf(wire.PreconditionFailed, "Topic binding key '%s' uses %d '#' wildcards, at most %d are allowed",
			b.key, hashes, maxHashes)
	}
	return nil
}

func (m *topicMatcher[Q]) add(b *binding[Q]) {
	n := &m.root
	for _, word := range splitTopic(b.key) {
		child := n.child(word)
		if child == nil {
			child = new(topicNode[Q])
			n.setChild(word, child)
		}
		n = child
	}
	n.targets.add(b.target())
}

func (m *topicMatcher[Q]) remove(b *binding[Q]) {
	m.root.remove(splitTopic(b.key), b.target())
}

func (m *topicMatcher[Q]) match(s *Scratch[Q]) {
	for key := range s.keys {
		s.hashes.reset()
		start := 0
		if len(key) == 0 {
			start = pastEnd(key)
		}
		m.root.match(s, key, start)
	}
}

// pastEnd is the position after a key's last word. A word starts at every
// smaller position that matching comes to, len(key) included when the key ends
// in a dot.
func pastEnd(key []byte) int { return len(key) + 1 }

// nextWord returns the word at pos, which is not past the end, and the position
// after it.
func nextWord(key []byte, pos int) (word []byte, next int) {
	rest := key[pos:]
	if dot := bytes.IndexByte(rest, '.'); dot >= 0 {
		return rest[:dot], pos + dot + 1
	}
	return rest, pastEnd(key)
}

// match reaches the targets of all binding keys below n that match the words
// of key from pos on. It recurses once per word of a binding key.
func (n *topicNode[Q]) match(s *Scratch[Q], key []byte, pos int) {
	if n.hash != nil {
		n.hash.matchHash(s, key, pos)
	}
	if pos == pastEnd(key) {
		n.targets.reach(s)
		return
	}
	if n.words == nil && n.star == nil {
		return
	}
	word, next := nextWord(key, pos)
	if child, ok := n.words[string(word)]; ok {
		child.match(s, key, next)
	}
	if n.star != nil {
		n.star.match(s, key, next)
	}
}

// matchHash is match for a node that stands for '#', which may swallow any
// number of words from pos on.
//
// Such a node is left alone when it is come to again for the same key. Only
// another '#' above it makes that happen, and since that one tries its positions
// in ascending order, the first visit began furthest to the left and has tried
// all that a later one could. This keeps the work linear in the length of the
// key, however many '#' are nested.
func (n *topicNode[Q]) matchHash(s *Scratch[Q], key []byte, pos int) {
	if !s.hashes.add(n) {
		return
	}
	if n.words == nil && n.star == nil && n.hash == nil {
		n.targets.reach(s)
		return
	}
	for pos < pastEnd(key) {
		n.match(s, key, pos)
		_, pos = nextWord(key, pos)
	}
	n.match(s, key, pos)
}

// remove takes a target out of the node that words lead to, prunes what became
// empty on the way, and reports whether n itself did.
func (n *topicNode[Q]) remove(words []string, t target[Q]) (empty bool) {
	if len(words) == 0 {
		n.targets.remove(t)
	} else if child := n.child(words[0]); child != nil && child.remove(words[1:], t) {
		n.setChild(words[0], nil)
	}
	return n.targets.empty() && n.words == nil && n.star == nil && n.hash == nil
}

func (n *topicNode[Q]) child(word string) *topicNode[Q] {
	switch word {
	case "*":
		return n.star
	case "#":
		return n.hash
	default:
		return n.words[word]
	}
}

// setChild replaces the child for a word of a binding key; nil removes it.
func (n *topicNode[Q]) setChild(word string, child *topicNode[Q]) {
	switch {
	case word == "*":
		n.star = child
	case word == "#":
		n.hash = child
	case child != nil:
		if n.words == nil {
			n.words = make(map[string]*topicNode[Q])
		}
		n.words[word] = child
	default:
		delete(n.words, word)
		if len(n.words) == 0 {
			n.words = nil
		}
	}
}

// splitTopic returns the words of a binding key.
func splitTopic(key string) []string {
	if key == "" {
		return nil
	}
	return strings.Split(key, ".")
}
