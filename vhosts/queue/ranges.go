// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"cmp"
	"slices"
)

// span is the numbers first..last, both included.
type span struct{ first, last uint64 }

// spans is a set of message numbers as sorted spans that neither touch nor
// overlap: a million neighbours cost one span.
type spans struct {
	list []span // list[at:] is the set; what lies before was taken
	at   int
	n    uint64 // numbers in the set
}

func (s *spans) empty() bool { return s.at == len(s.list) }

// head is the lowest span; the set must not be empty.
func (s *spans) head() span { return s.list[s.at] }

// take removes the lowest n numbers, all of which must lie in the lowest span.
func (s *spans) take(n uint64) {
	h := &s.list[s.at]
	h.first += n
	s.n -= n
	if h.first > h.last {
		s.at++
		switch {
		case s.at == len(s.list):
			s.list, s.at = s.list[:0], 0
		case s.at > 1024 && s.at > len(s.list)/2:
			s.list, s.at = append(s.list[:0], s.list[s.at:]...), 0
		}
	}
}

// add puts sorted, distinct numbers into the set, none of which is in it.
// One call costs what lies between them and moves what lies after, so callers add
// what comes back together in one call.
func (s *spans) add(numbers []uint64) {
	if len(numbers) == 0 {
		return
	}
	s.n += uint64(len(numbers))
	if s.empty() || numbers[0] > s.list[len(s.list)-1].last {
		s.list = appendNumbers(s.list, s.at, numbers)
		return
	}
	from, to := s.between(numbers[0]-min(numbers[0], 1), numbers[len(numbers)-1]+1)
	old := s.list[from:to]
	var room [4]span
	merged := room[:0]
	for len(old) > 0 {
		below, _ := slices.BinarySearch(numbers, old[0].first)
		merged = appendNumbers(merged, 0, numbers[:below])
		numbers = numbers[below:]
		if len(merged) > 0 && merged[len(merged)-1].last+1 == old[0].first {
			merged[len(merged)-1].last = old[0].last
		} else {
			merged = append(merged, old[0])
		}
		old = old[1:]
	}
	s.list = slices.Replace(s.list, from, to, appendNumbers(merged, 0, numbers)...)
}

// remove takes sorted numbers out of the set, all of which are in it. One call costs
// what lies between them and moves what lies after.
func (s *spans) remove(numbers []uint64) {
	if len(numbers) == 0 {
		return
	}
	s.n -= uint64(len(numbers))
	from, to := s.between(numbers[0], numbers[len(numbers)-1])
	left := make([]span, 0, to-from+len(numbers))
	for _, h := range s.list[from:to] {
		for len(numbers) > 0 && numbers[0] <= h.last {
			if h.first < numbers[0] {
				left = append(left, span{h.first, numbers[0] - 1})
			}
			h.first = numbers[0] + 1
			numbers = numbers[1:]
		}
		if h.first <= h.last {
			left = append(left, h)
		}
	}
	if s.list = slices.Replace(s.list, from, to, left...); s.empty() {
		s.list, s.at = s.list[:0], 0
	}
}

// between returns the positions in list of the spans that have numbers from first to
// last.
func (s *spans) between(first, last uint64) (from, to int) {
	search := func(n uint64, of func(span) uint64) int {
		i, _ := slices.BinarySearchFunc(s.list[s.at:], n, func(s span, n uint64) int { return cmp.Compare(of(s), n) })
		return s.at + i
	}
	from = search(first, func(s span) uint64 { return s.last })
	return from, max(from, search(last+1, func(s span) uint64 { return s.first }))
}

// appendNumbers appends sorted numbers, all above list's last, joining
// neighbours; spans before at are not joined to.
func appendNumbers(list []span, at int, numbers []uint64) []span {
	for _, n := range numbers {
		if l := len(list); l > at && list[l-1].last+1 == n {
			list[l-1].last = n
		} else {
			list = append(list, span{n, n})
		}
	}
	return list
}

// has reports whether n is in the set.
func (s *spans) has(n uint64) bool {
	list := s.list[s.at:]
	i, exact := slices.BinarySearchFunc(list, n, func(s span, n uint64) int {
		switch {
		case s.last < n:
			return -1
		case s.first > n:
			return 1
		}
		return 0
	})
	return exact && i < len(list)
}

// clear empties the set.
func (s *spans) clear() { s.list, s.at, s.n = s.list[:0], 0, 0 }
