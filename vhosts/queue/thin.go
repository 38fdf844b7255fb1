// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "slices"

// A run whose messages are nearly all settled, but for a few that somebody keeps,
// holds on to its whole body. Thin finds such runs; the shell writes a body in
// which nothing stands for the settled messages, and Replace puts it in place.

// Thin returns at most most runs of the head that are to be rewritten: of each at
// most a quarter of what its body holds is live, and was so when Thin last looked
// at it. The shell reads the body (from Page, which it holds, or from the store)
// and makes a page with an AppendNothing for each message that Settled names now;
// then it calls Replace. Called every few seconds: a call looks at a bounded number
// of runs and goes on where the last one ended.
func (e *Engine) Thin(most int) (list []*Run) {
	if e.Keeper == nil {
		return nil
	}
	for _, l := range e.levels {
		list = l.appendThin(list, most)
	}
	return list
}

// appendThin appends runs of this level until list has most.
func (l *log) appendThin(list []*Run, most int) []*Run {
	l.strays = slices.DeleteFunc(l.strays, func(r *Run) bool { return r.Page == nil })
	lim, head := l.q.limits(), &l.dir.head
	i := head.position(l.thinned)
	for end := min(head.len(), i+lim.thinLooks); i < end && len(list) < most; i++ {
		r := head.at(i)
		seen := r.thin
		r.thin = r.sparse(lim)
		if seen && r.thin && !r.thinning && !r.loading && !r.loose && l.q.Keeper.Stored(r) {
			r.thinning = true
			list = append(list, r)
		}
	}
	l.thinned = 0
	if i < head.len() {
		l.thinned = head.at(i).First
	}
	return list
}

// sparse reports whether the run's body holds much that is settled.
func (r *Run) sparse(lim *limits) bool {
	held := r.Count
	if r.full > 0 {
		held = uint32(r.full)
	}
	return !r.Done() && 4*r.live() <= held && r.Bytes*uint64(held)/uint64(r.Count) >= lim.thinBytes
}

// Replace gives a run that Thin returned its new body: stored is the store's
// handle, with the same First, Count and Bytes as before, nil if there is none
// and the shell gives up; page is the new page, of which the run becomes a holder
// if it needs one, nil if stored can be read back already. It returns false if
// nothing is replaced, as the run was settled or is being read meanwhile: then the
// shell drops what it stored. After true it drops the old handle's body, and states
// Settled for the new one.
func (e *Engine) Replace(r *Run, page *Page, stored any) bool {
	if !r.thinning {
		return false
	}
	r.thinning, r.thin = false, false
	if stored == nil || r.Done() || r.loading {
		return false
	}
	r.Stored = stored
	r.full = uint16(r.live())
	if page != nil && (r.Page != nil || !e.Keeper.Stored(r)) {
		l := e.find(Level(r.First))
		e.dropPage(r)
		before := l.weighed(r)
		e.hold(r, page)
		l.reweigh(r, before)
		l.strays = append(l.strays, r)
	}
	return true
}
