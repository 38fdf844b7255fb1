// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import "math/bits"

const (
	pageSize  = 1 << 16 // sequences per page
	pageWords = pageSize / 64
)

// seqSet is a set of sequences. It costs a bit per sequence while a page fills
// up and next to nothing once a page is complete, so that a run of any length
// can be checked message by message.
type seqSet struct {
	pages []page
	size  uint64
}

// page is the sequences [i*pageSize, (i+1)*pageSize) of the set.
type page struct {
	bits  []uint64 // nil while the page is empty and again when it is full
	count int
}

// add inserts a sequence and reports whether it was new.
func (s *seqSet) add(seq uint64) bool {
	i := int(seq / pageSize)
	for len(s.pages) <= i {
		s.pages = append(s.pages, page{})
	}
	p := &s.pages[i]
	if p.bits == nil {
		if p.count == pageSize {
			return false
		}
		p.bits = make([]uint64, pageWords)
	}
	word, bit := &p.bits[seq%pageSize/64], uint64(1)<<(seq%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	s.size++
	p.count++
	if p.count == pageSize {
		p.bits = nil
	}
	return true
}

// has reports whether the sequence is in the set.
func (s *seqSet) has(seq uint64) bool {
	return s.word(int(seq/pageSize), int(seq%pageSize/64))>>(seq%64)&1 != 0
}

// word returns 64 sequences of a page as bits.
func (s *seqSet) word(i, word int) uint64 {
	switch {
	case i >= len(s.pages) || s.pages[i].count == 0:
		return 0
	case s.pages[i].bits == nil:
		return ^uint64(0)
	}
	return s.pages[i].bits[word]
}

// full reports whether a page holds all its sequences.
func (s *seqSet) full(i int) bool { return i < len(s.pages) && s.pages[i].count == pageSize }

// without counts the sequences that are in s and in neither of the others.
func (s *seqSet) without(a, b *seqSet) uint64 {
	n := 0
	for i := range s.pages {
		if a.full(i) || b.full(i) {
			continue
		}
		for w := range pageWords {
			n += bits.OnesCount64(s.word(i, w) &^ (a.word(i, w) | b.word(i, w)))
		}
	}
	return uint64(n)
}
