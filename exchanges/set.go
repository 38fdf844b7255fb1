// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package exchanges

import "slices"

// setIndexFrom is the size from which a set looks up elements in a map. Below it
// comparing with every element is faster than hashing.
const setIndexFrom = 16

// set is a list without duplicates in order of insertion. The zero value is
// empty. Once it has grown, adding to it does not allocate.
type set[T comparable] struct {
	list    []T
	index   map[T]struct{} // holds list[:indexed]
	indexed int
}

// add appends v and reports true, unless the set has it.
func (s *set[T]) add(v T) bool {
	if len(s.list) < setIndexFrom {
		if slices.Contains(s.list, v) {
			return false
		}
	} else {
		if s.index == nil {
			s.index = make(map[T]struct{}, 2*setIndexFrom)
		}
		for ; s.indexed < len(s.list); s.indexed++ {
			s.index[s.list[s.indexed]] = struct{}{}
		}
		if _, ok := s.index[v]; ok {
			return false
		}
	}
	s.list = append(s.list, v)
	return true
}

// addNew appends v, which the set does not have.
func (s *set[T]) addNew(v T) { s.list = append(s.list, v) }

// reset empties the set, keeps its memory and no reference to its elements.
func (s *set[T]) reset() {
	clear(s.list)
	s.list = s.list[:0]
	if s.indexed > 0 { // clearing costs as much as the map was ever large
		clear(s.index)
		s.indexed = 0
	}
}
