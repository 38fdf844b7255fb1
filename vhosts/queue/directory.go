// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "slices"

// directory is all runs of a queue in order of their numbers, in three parts:
//
//	head   runs: everything that was handed out, the cursor, and runs ahead of it
//	cold   segments of packed runs, which were never handed out
//	tail   runs: the newest, if there is anything cold; empty otherwise
//
// Head and tail are the hot runs. They are counted through: the position of a
// tail run is that of its entry plus the head's length. Positions of runs in the
// head do not change when runs get cold or warm.
type directory struct {
	head runs
	cold []*segment
	tail runs
}

// push puts a run at the queue's end.
func (d *directory) push(r *Run) {
	if len(d.cold) > 0 {
		d.tail.push(r)
	} else {
		d.head.push(r)
	}
}

// appendLists appends the lists of the runs that are not packed, in their order.
func (d *directory) appendLists(to [][]*Run) [][]*Run {
	to = append(to, d.head.all())
	for _, s := range d.cold {
		if s.warm.len() > 0 {
			to = append(to, s.warm.all())
		}
	}
	return append(to, d.tail.all())
}

// hot is the number of hot runs, done ones included.
func (d *directory) hot() int { return d.head.len() + d.tail.len() }

// at is the hot run at a position.
func (d *directory) at(i int) *Run {
	if n := d.head.len(); i >= n {
		return d.tail.at(i - n)
	}
	return d.head.at(i)
}

// position is the position of the first hot run that begins at or above number.
func (d *directory) position(number uint64) int {
	n := d.head.len()
	if i := d.head.position(number); i < n {
		return i
	}
	return n + d.tail.position(number)
}

// segmentOf is the position of the first segment that ends above number; it holds
// number if any segment does.
func (d *directory) segmentOf(number uint64) int {
	i, _ := slices.BinarySearchFunc(d.cold, number, func(s *segment, n uint64) int {
		if s.end <= n {
			return -1
		}
		return 1
	})
	return i
}

// bury counts a run that has just become done, or removes it where only live ones
// are kept.
func (d *directory) bury(r *Run) {
	if len(d.cold) == 0 || r.First < d.cold[0].first {
		d.head.dead++
		return
	}
	i := d.segmentOf(r.First)
	if i == len(d.cold) || r.First < d.cold[i].first {
		d.tail.dead++
		return
	}
	s := d.cold[i]
	s.warm.remove(s.warm.position(r.First))
	if s.runs() == 0 {
		d.cold = slices.Delete(d.cold, i, i+1)
		d.joinTail()
	}
}

// pack puts a run at the end of what is cold, in segments of most runs each. The
// tail must not hold an earlier one.
func (d *directory) pack(r *Run, p Place, most int) {
	if n := len(d.cold); n == 0 || d.cold[n-1].runs() >= most || d.cold[n-1].warm.len() > 0 {
		d.cold = append(d.cold, &segment{first: r.First})
	}
	s := d.cold[len(d.cold)-1]
	s.pack(r, p)
	if s.count >= most {
		s.fit()
	}
}

// takeCold removes the first segment.
func (d *directory) takeCold() *segment {
	s := d.cold[0]
	d.cold[0] = nil
	if d.cold = d.cold[1:]; len(d.cold) == 0 {
		d.cold = nil
	}
	return s
}

// joinTail makes the tail part of the head once nothing between them is cold.
func (d *directory) joinTail() {
	if len(d.cold) == 0 && d.tail.len() > 0 {
		d.head.join(d.tail)
		d.tail = runs{}
	}
}
