// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

// agenda is a lot of dates, of which few are due at a time: these are a heap, the others
// a list in no order. The zero value is empty.
type agenda struct {
	soon  dates // those before until
	until uint64
	later []date
	first uint64 // not after any in later; 0 if that is empty
}

// agendaStep is how many milliseconds from later come into soon at a time.
const agendaStep = 250

func (a *agenda) len() int { return len(a.soon) + len(a.later) }

func (a *agenda) push(d date) {
	if d.at < a.until {
		a.soon.push(d)
		return
	}
	a.later = append(a.later, d)
	a.first = earlier(a.first, d.at)
}

// next is when the first date is, or something earlier, but not one that has passed at
// the time now; 0 if there is none.
func (a *agenda) next(now uint64) uint64 {
	if a.first != 0 && a.first <= now {
		a.advance(now)
	}
	if len(a.soon) > 0 {
		return a.soon[0].at
	}
	return a.first
}

// advance takes what is due until a little after now into soon.
func (a *agenda) advance(now uint64) {
	a.until, a.first = now+agendaStep, 0
	left := a.later[:0]
	for _, d := range a.later {
		if d.at < a.until {
			a.soon.push(d)
		} else {
			left = append(left, d)
			a.first = earlier(a.first, d.at)
		}
	}
	if cap(left) > 1024 && len(left) < cap(left)/4 {
		left = append(make([]date, 0, 2*len(left)), left...)
	}
	a.later = left
}
