// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "slices"

// Small runs that were packed before they could be joined, or were recovered
// after an unclean stop, are joined segment by segment: a segment with many of
// them is unpacked, its groups are given out one after the other, and it is packed
// again, into the segment before it if that has room. If the cursor gets there
// meanwhile, its runs are thawed as they are.

// scatteredCold is the next group of packed runs that is to be joined. The last
// segment still grows, so it is left alone unless the queue is idle.
func (e *Engine) scatteredCold(idle bool) []*Run {
	for i := e.dir.segmentOf(e.joined); i < len(e.dir.cold); i = e.dir.segmentOf(e.joined) {
		s := e.dir.cold[i]
		if s.warm.len() == 0 {
			last := i == len(e.dir.cold)-1
			small := s.small >= e.limits().smallRuns
			if last && !(idle && small) {
				return nil
			}
			if !small {
				e.joined = s.end
				continue
			}
			s.unpack(e.Keeper)
		}
		if group := e.scatteredIn(&s.warm); group != nil {
			e.joinedWarm = group[len(group)-1].end()
			return group
		}
		if !e.cool(i) {
			return nil
		}
	}
	return nil
}

// scatteredIn is the first group of a warm segment's runs, from number e.joinedWarm
// on, that is worth joining.
func (e *Engine) scatteredIn(warm *runs) []*Run {
	l := e.limits()
	var p pile
	for i := warm.position(e.joinedWarm); ; i++ {
		joins := i < warm.len() && warm.at(i).fresh() && e.Keeper.Stored(warm.at(i))
		if !joins || !p.takes(warm.at(i), l) {
			group := warm.all()[i-p.runs : i]
			if !p.fills(l) {
				group = worthy(group)
			}
			if group != nil {
				return slices.Clone(group)
			}
			p = pile{}
		}
		if i >= warm.len() {
			return nil
		}
		if joins {
			p.add(warm.at(i))
		}
	}
}

// cool packs a warm segment, the i-th. It returns false while something of it is
// on its way to the store; the rest is packed by a later call.
func (e *Engine) cool(i int) bool {
	s := e.dir.cold[i]
	for s.warm.len() > 0 {
		r := s.warm.at(0)
		if r.Page != nil && e.Keeper.Stored(r) {
			e.dropPage(r)
		}
		p, ok := e.chillRun(r)
		if !ok {
			return false
		}
		s.warm.shift()
		s.pack(r, p)
	}
	s.warm, s.small = runs{}, 0
	s.fit()
	e.joined = max(e.joined, s.end)
	if i > 0 {
		if before := e.dir.cold[i-1]; before.warm.len() == 0 && before.count+s.count <= e.limits().segmentRuns {
			before.absorb(s)
			e.dir.cold = slices.Delete(e.dir.cold, i, i+1)
		}
	}
	return true
}
