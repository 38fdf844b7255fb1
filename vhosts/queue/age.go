// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "slices"

// Oldest is when the oldest run that has messages left arrived, in milliseconds since
// 1970; 0 if there is none or it is not known. It is exact to the messages that came
// in one burst.
func (e *Engine) Oldest() (arrived uint64) {
	for _, l := range e.levels {
		if at := l.oldest(); at > 0 && (arrived == 0 || at < arrived) {
			arrived = at
		}
	}
	return arrived
}

// oldest is Oldest of one level: of its head, or of what is packed behind that.
func (l *log) oldest() (arrived uint64) {
	found := func(r *Run) bool {
		arrived = r.Arrived
		return !r.Done()
	}
	if slices.ContainsFunc(l.dir.head.all(), found) {
		return arrived
	}
	for _, s := range l.dir.cold {
		u := unpacker{packed: s.packed}
		for range s.count {
			var r Run
			if u.next(&r); found(&r) {
				return arrived
			}
		}
		if slices.ContainsFunc(s.warm.all(), found) {
			return arrived
		}
	}
	return 0
}
