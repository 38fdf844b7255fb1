// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import "slices"

// Messages that come one by one make runs of one message each, which cost as
// much as full ones: an entry here and two keys in the store. Where such runs lie
// unread, neighbours are joined: Scattered gives out a group, the shell makes one
// page of it, outside the lock, and Gather puts one run in its place. A run is
// written again at most about log2(MaxRunMessages) times, usually once.

// Zeal is how eagerly runs are joined.
type Zeal uint8

const (
	// Busy joins only groups that fill a run, and leaves alone what consumers may
	// soon come to.
	Busy Zeal = iota
	// Unread is for a queue without consumers: from the cursor on, a group is joined
	// when the joined run is at least unreadTimes as large as any of its parts. Its
	// messages are written again twice at most, and thousands of queues that each get
	// some messages do not pile up small runs. Runs without their pages are passed
	// over: to read them takes longer than thousands of queues need to get more, and
	// who is late once would lose the pages of what came meanwhile, too.
	Unread
	// Idle is for a queue that nobody has touched for a while: it takes what there
	// is, as long as the joined run is at least twice as large as any of its parts.
	Idle
)

const unreadTimes = 16

// pile is a group of neighbouring runs that may become one, as a sum.
type pile struct {
	first, end uint64 // the numbers of its messages
	runs       int
	messages   uint32
	bytes      uint64
	volatile   bool
}

// takes reports whether the run right after the pile's may join it.
func (p *pile) takes(r *Run, lim *limits) bool {
	return p.runs == 0 || r.First == p.end && r.Volatile == p.volatile &&
		p.messages+r.Count <= lim.runMessages && p.bytes+r.size() <= lim.runBytes
}

func (p *pile) add(r *Run) {
	if p.runs == 0 {
		*p = pile{first: r.First, volatile: r.Volatile}
	}
	p.end = r.end()
	p.runs++
	p.messages += r.Count
	p.bytes += r.size()
}

// fills reports whether the pile makes a run as good as full.
func (p *pile) fills(lim *limits) bool {
	return p.runs > 1 && (p.messages >= lim.runMessages-lim.runMessages/4 || p.bytes >= lim.runBytes-lim.runBytes/4)
}

// size is what the run's messages take, as far as it is known: bodies only,
// unless the page is there.
func (r *Run) size() uint64 {
	if r.Page != nil {
		return uint64(r.Page.Bytes())
	}
	return r.Bytes
}

// fresh says that nothing was done with the run's messages yet.
func (r *Run) fresh() bool { return r.sent == 0 && r.gone == 0 && r.aside == nil && !r.loading }

// Scattered returns neighbouring small runs, oldest first, that are to become
// one: at least 2, of the same kind, together at most MaxRunMessages messages and
// MaxRunBytes bytes of bodies; nil if there are none. They stay in place, marked,
// until they are given to Gather or Scatter; until then it returns nil. All can be
// read back, and those that have their Page can be copied from it by who holds
// it.
//
// A call costs what came since the last one, so the shell may call it after each
// Append.
func (e *Engine) Scattered(z Zeal) []*Run {
	if e.Keeper == nil || e.joining {
		return nil
	}
	for _, l := range e.levels {
		group := l.scatteredHot(z)
		if group == nil {
			group = l.scatteredCold(z)
		}
		if group != nil {
			for _, r := range group {
				r.loose = true
			}
			e.joining = true
			return group
		}
	}
	return nil
}

// scatteredHot goes on adding hot runs to the pile, from where the last call
// ended.
func (l *log) scatteredHot(z Zeal) []*Run {
	lim := l.q.limits()
	from := l.cursor
	if z == Busy {
		from += 1 + lim.aheadRuns
	}
	if z == Idle && l.looked != Idle { // what Unread has passed over
		l.restPile(0)
	}
	l.looked = z
	i := l.dir.position(l.pile.end)
	if z == Busy && l.dir.hot() <= from {
		return nil
	}
	if start := l.dir.position(l.pile.first); start < from || i-start != l.pile.runs {
		// Consumers come near, or some of it was packed.
		l.restPile(l.pile.end)
		i = max(i, from)
	}
	for ; i < l.dir.hot(); i++ {
		r := l.dir.at(i)
		if !r.Done() && !l.q.Keeper.Stored(r) && (r.Stored != nil || r.spilling || r.First >= l.ahead.done) {
			break // on its way to the store, or will be soon
		}
		joins := r.Stored != nil && r.fresh() && (z != Unread || r.Page != nil)
		if !joins || !l.pile.takes(r, lim) {
			if group := l.takePile(i, z); group != nil {
				return group
			}
			l.restPile(r.First)
		}
		if joins {
			l.pile.add(r)
			l.quiet = false
		} else {
			l.restPile(r.end())
		}
		if l.pile.messages == lim.runMessages {
			if group := l.takePile(i+1, z); group != nil {
				return group
			}
			l.restPile(r.end())
		}
	}
	if z != Busy && !l.quiet && l.pile.runs > 1 {
		l.quiet = true
		if group := worthy(l.piled(i), z); group != nil {
			l.restPile(l.pile.first) // what is joined may be joined with the rest of it later
			return group
		}
	}
	return nil
}

// restPile makes the pile empty; the next run looked at is the first from number
// on.
func (l *log) restPile(number uint64) {
	l.pile = pile{first: number, end: number}
}

// takePile returns the pile, which ends before position end and grows no more, if
// it is worth joining.
func (l *log) takePile(end int, z Zeal) []*Run {
	fills := l.pile.fills(l.q.limits())
	if !fills && (z == Busy || l.pile.runs < 2) {
		return nil
	}
	group := l.piled(end)
	if !fills || len(group) < l.pile.runs {
		group = worthy(group, z)
	}
	if group != nil {
		l.restPile(l.pile.end)
	}
	return group
}

// piled is the pile's runs, those before position end, from the last on that was
// touched after it was piled.
func (l *log) piled(end int) []*Run {
	group := make([]*Run, 0, l.pile.runs)
	for i := end - l.pile.runs; i < end; i++ {
		if r := l.dir.at(i); r.fresh() {
			group = append(group, r)
		} else {
			group = group[:0]
		}
	}
	return group
}

// worthy returns the longest end of group that makes a run so many times as large as
// its largest member as z asks for; nil if none does.
func worthy(group []*Run, z Zeal) []*Run {
	times := uint32(2)
	if z == Unread {
		times = unreadTimes
	}
	var sum, largest uint32
	worth := len(group)
	for i, r := range slices.Backward(group) {
		sum += r.Count
		largest = max(largest, r.Count)
		if sum >= times*largest {
			worth = i
		}
	}
	if len(group)-worth < 2 {
		return nil
	}
	return group[worth:]
}

// Gather puts one run in the place of a group that Scattered gave out, and
// returns it. page holds all its messages, and the run becomes a holder of it; nil
// if stored, the store's handle, can be read back already. It returns false if the
// group changed meanwhile, as some of it was handed out, asked for or purged: then
// nothing changes, and the shell drops what it stored. After true the shell drops
// the members from the store, by their Stored.
func (e *Engine) Gather(group []*Run, page *Page, stored any) (*Run, bool) {
	e.release(group)
	l := e.find(Level(group[0].First))
	if l == nil {
		return nil, false
	}
	list, at := l.find(group)
	if list == nil {
		return nil, false
	}
	r := &Run{
		First: group[0].First, Stored: stored, Volatile: group[0].Volatile,
		Arrived: group[0].Arrived, stamped: group[0].stamped,
	}
	held := page != nil // do all have their pages
	for _, m := range group {
		r.Count += m.Count
		r.Bytes += m.Bytes
		r.join(m)
		held = held && m.Page != nil
		e.dropPage(m)
		m.gone = m.Count
	}
	list.replace(at, len(group), r)
	if held || page != nil && !e.Keeper.Stored(r) {
		e.hold(r, page)
	}
	if r.Page != nil && !held {
		l.strays = append(l.strays, r)
	}
	l.q.joined(r)
	if r.First < l.ahead.done && l.ahead.done < r.end() { // Trim is to look at it
		l.ahead.done = r.First
		l.ahead.bare = min(l.ahead.bare, r.First)
	}
	return r, true
}

// join takes over the times of a run that becomes part of r.
func (r *Run) join(m *Run) {
	r.stamped = r.stamped || m.stamped || m.Arrived != r.Arrived
	r.due = earlier(r.due, m.due)
}

// Scatter gives a group up that Scattered gave out: its messages could not be
// read, or do not fit into one run after all.
func (e *Engine) Scatter(group []*Run) {
	e.release(group)
	l := e.find(Level(group[0].First))
	if l == nil {
		return
	}
	l.quiet = true
	if end := group[len(group)-1].end(); l.pile.end < end {
		l.restPile(end)
	}
}

func (e *Engine) release(group []*Run) {
	e.joining = false
	for _, r := range group {
		r.loose = false
	}
}

// find returns the list of runs in which the group lies, whole and untouched, and
// its position there; nil if it does not.
func (l *log) find(group []*Run) (list *runs, at int) {
	first := group[0].First
	lists := []*runs{&l.dir.head, &l.dir.tail}
	if i := l.dir.segmentOf(first); i < len(l.dir.cold) {
		lists = append(lists, &l.dir.cold[i].warm)
	}
	for _, list := range lists {
		at := list.position(first)
		if at+len(group) <= list.len() && slices.Equal(group, list.all()[at:at+len(group)]) &&
			!slices.ContainsFunc(group, func(r *Run) bool { return !r.fresh() }) {
			return list, at
		}
	}
	return nil, 0
}
