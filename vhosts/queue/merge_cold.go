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
func (l *log) scatteredCold(z Zeal) []*Run {
	for i := l.dir.segmentOf(l.joined); i < len(l.dir.cold); i = l.dir.segmentOf(l.joined) {
		s := l.dir.cold[i]
		if s.warm.len() == 0 {
			last := i == len(l.dir.cold)-1
			small := s.small >= l.q.limits().smallRuns
			if last && !(z == Idle && small) {
				return nil
			}
			if !small {
				l.joined = s.end
				continue
			}
			s.unpack(l.q.Keeper)
		}
		if group := l.scatteredIn(&s.warm); group != nil {
			l.joinedWarm = group[len(group)-1].end()
			return group
		}
		if !l.cool(i, true) {
			return nil
		}
	}
	return nil
}

// scatteredIn is the first group of a warm segment's runs, from number l.joinedWarm
// on, that is worth joining.
func (l *log) scatteredIn(warm *runs) []*Run {
	lim := l.q.limits()
	var p pile
	for i := warm.position(l.joinedWarm); ; i++ {
		joins := i < warm.len() && warm.at(i).fresh() && l.q.Keeper.Stored(warm.at(i))
		if !joins || !p.takes(warm.at(i), lim) {
			group := warm.all()[i-p.runs : i]
			if !p.fills(lim) {
				group = worthy(group, Idle)
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

// cool packs a warm segment, the i-th; looked says that it was looked at for joining. It
// returns false while something of it is on its way to the store; the rest is packed by a
// later call.
func (l *log) cool(i int, looked bool) bool {
	s := l.dir.cold[i]
	for s.warm.len() > 0 {
		r := s.warm.at(0)
		if r.Page != nil && l.q.Keeper.Stored(r) {
			l.q.dropPage(r)
		}
		p, ok := l.chillRun(r)
		if !ok {
			return false
		}
		s.warm.shift()
		s.pack(r, p)
	}
	s.warm = runs{}
	s.fit()
	if looked {
		s.small, l.joined = 0, max(l.joined, s.end)
	}
	if i > 0 {
		if before := l.dir.cold[i-1]; before.warm.len() == 0 && before.count+s.count <= l.q.limits().segmentRuns {
			before.absorb(s)
			l.dir.cold = slices.Delete(l.dir.cold, i, i+1)
		}
	}
	return true
}
