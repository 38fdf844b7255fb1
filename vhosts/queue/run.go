// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

// Run is a queue's view of one run: consecutive messages that came in one
// burst, or were joined from several. It is what a queue costs in memory for up
// to MaxRunMessages messages whose bytes lie on disk, as long as they are near
// the front of the queue or have just come; further back a run is packed, see
// segment. Its fields belong to the engine that made it and are read and written
// under the queue's lock only.
type Run struct {
	First uint64 // number of the first message
	Bytes uint64 // body bytes of all messages, settled ones included

	// Page holds the messages; nil when they have to be read back from the store.
	Page *Page

	// Stored is the store's handle on this queue's share of the run, nil for a run
	// that is in memory only. It belongs to the shell; the engine passes it on.
	Stored any

	// Arrived is when the first message arrived, in milliseconds since 1970; 0 if that
	// is not known.
	Arrived uint64
	due     uint64 // when the first one is due, 0 if none is

	settled Bitmap // messages that are gone: acked, dropped, purged, or sent without ack
	aside   *aside // what only few runs have, nil for most

	Count uint32 // messages; they are numbered First..First+Count-1
	sent  uint32 // messages 0..sent-1 have been handed out at least once, or were settled unsent
	gone  uint32 // set bits in settled; Count too for a run that was joined to others

	full uint16 // messages that were live when its body was last rewritten, 0 if it never was

	// Volatile says that the run does not survive a restart, as nobody asked for it
	// to be stored. Only runs of one kind are joined.
	Volatile bool

	stamped bool // its messages have times of their own, see Stamp

	asked    bool // a Stamps effect for it is under way
	loading  bool // a Loads effect for it is under way
	spilling bool // a Spills effect for it is under way, or done and the page still here
	loose    bool // Scattered gave it out to be joined
	thin     bool // Thin found that little of it is live
	thinning bool // Thin gave it out to be rewritten
}

// Settled is the set of the run's messages that are settled so far.
func (r *Run) Settled() Bitmap { return r.settled }

// Done says that every message of the run is settled, or that its messages belong
// to another run now.
func (r *Run) Done() bool { return r.gone == r.Count }

// HandedOut says that no message of the run is ready: all are with consumers, on their
// way out or settled.
func (r *Run) HandedOut() bool { return r.nextStaying(r.sent) == r.Count }

// setTimes sets when the run's messages arrived and are due.
func (r *Run) setTimes(t Times) { r.Arrived, r.due, r.stamped = t.Arrived, t.Due, t.Stamped }

// end is the number after the run's last message.
func (r *Run) end() uint64 { return r.First + uint64(r.Count) }

// aside is what is known of single messages of a run, if there is anything.
type aside struct {
	away    Bitmap  // messages that are neither ready nor unacked: leaving, see Expel, or delayed, see Delay
	departs uint32  // how many are leaving
	delays  []delay // those that are delayed, in their order; they neither touch nor overlap if their time is the same
	watched uint64  // of the run's entry in Engine.watches, 0 if it has none or was packed meanwhile
	tallies []Tally // how often each was delivered before; nil if none came back to be counted, nor waits

	departures []departure // of leaving messages that wait, in the order of their offsets
}

// isAway reports whether the message at offset is leaving or delayed.
func (r *Run) isAway(offset uint32) bool { return r.aside != nil && r.aside.away.Has(offset) }

// isLeaving reports whether the message at offset is on its way out.
func (r *Run) isLeaving(offset uint32) bool {
	return r.isAway(offset) && !r.aside.isDelayed(offset)
}

// someAway reports whether any message is leaving or delayed.
func (r *Run) someAway() bool {
	return r.aside != nil && (r.aside.departs > 0 || len(r.aside.delays) > 0)
}

// nextStaying is the offset of the first message at or after from that is neither
// settled nor away, Count if there is none.
func (r *Run) nextStaying(from uint32) uint32 {
	from = r.settled.NextClear(from, r.Count)
	if r.aside == nil {
		return from
	}
	for from < r.Count {
		next := r.aside.away.NextClear(from, r.Count)
		if next == from {
			break
		}
		from = r.settled.NextClear(next, r.Count)
	}
	return from
}

// nextAway is the offset of the first message at or after from that is settled or
// away, Count if there is none.
func (r *Run) nextAway(from uint32) uint32 {
	to := r.settled.NextSet(from, r.Count)
	if r.aside == nil {
		return to
	}
	return r.aside.away.NextSet(from, to)
}

// live is the number of unsettled messages.
func (r *Run) live() uint32 { return r.Count - r.gone }

// liveBytes is the body bytes of unsettled messages, taking all messages of the
// run to be of one size: bytes of single messages are known only to the page.
func (r *Run) liveBytes() uint64 {
	if r.Count == 0 {
		return 0
	}
	return r.Bytes * uint64(r.live()) / uint64(r.Count)
}

// runs is a list of runs in order of their numbers. Runs that are done behind a
// live one stay as empty entries until compact removes them.
type runs struct {
	list []*Run // list[head:] is the content
	head int
	dead int // done runs in list[head:]
}

func (d *runs) len() int      { return len(d.list) - d.head }
func (d *runs) at(i int) *Run { return d.list[d.head+i] }
func (d *runs) push(r *Run)   { d.list = append(d.list, r) }
func (d *runs) all() []*Run   { return d.list[d.head:] }

// find returns the position of the run that holds number, trying hint first;
// -1 if no run does.
func (d *runs) find(number uint64, hint int) int {
	if hint < d.len() {
		if r := d.at(hint); number >= r.First && number < r.end() {
			return hint
		}
	}
	low, high := 0, d.len()
	for low < high {
		middle := int(uint(low+high) >> 1)
		if d.at(middle).end() <= number {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low < d.len() && d.at(low).First <= number {
		return low
	}
	return -1
}

// position is the position of the first run that begins at or above number.
func (d *runs) position(number uint64) int {
	if d.len() == 0 || number <= d.at(0).First {
		return 0
	}
	low, high := 1, d.len()
	for low < high {
		middle := int(uint(low+high) >> 1)
		if d.at(middle).First < number {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}

// compact drops done runs: those at the front always, those behind a live one
// once they are the majority. It returns how many of the first before entries
// went, so that a position can follow.
func (d *runs) compact(before int) (removed int) {
	for d.head < len(d.list) && d.list[d.head].Done() {
		d.shift()
		d.dead--
		if before > 0 {
			before--
			removed++
		}
	}
	if d.dead > 32 && d.dead > d.len()/2 {
		return removed + d.squeeze(before)
	}
	d.tidy()
	return removed
}

// shift drops the first run.
func (d *runs) shift() {
	d.list[d.head] = nil
	d.head++
}

// tidy gives the room of dropped runs back once it is most of the list.
func (d *runs) tidy() {
	switch {
	case d.head == len(d.list):
		d.list, d.head = d.list[:0], 0
		if cap(d.list) > 1024 {
			d.list = nil
		}
	case d.head > 32 && d.head > len(d.list)/2:
		if cap(d.list) > 1024 && d.len() < cap(d.list)/4 {
			d.list, d.head = append(make([]*Run, 0, 2*d.len()), d.all()...), 0
			return
		}
		n := copy(d.list, d.all())
		clear(d.list[n:])
		d.list, d.head = d.list[:n], 0
	}
}

// fit gives back all room but for the runs there are.
func (d *runs) fit() {
	if d.len() == 0 {
		d.list, d.head = nil, 0
	} else if cap(d.list) > d.len() {
		d.list, d.head = append(make([]*Run, 0, d.len()), d.all()...), 0
	}
}

// squeeze removes every done run.
func (d *runs) squeeze(before int) (removed int) {
	kept := make([]*Run, 0, d.len()-d.dead+16)
	for i, r := range d.all() {
		if !r.Done() {
			kept = append(kept, r)
		} else if i < before {
			removed++
		}
	}
	d.list, d.head, d.dead = kept, 0, 0
	return removed
}

// split cuts off the runs from position i on.
func (d *runs) split(i int) runs {
	i += d.head
	rest := runs{list: append([]*Run(nil), d.list[i:]...)}
	for _, r := range rest.list {
		if r.Done() {
			rest.dead++
		}
	}
	d.dead -= rest.dead
	clear(d.list[i:])
	d.list = d.list[:i]
	return rest
}

// join appends the runs of rest.
func (d *runs) join(rest runs) {
	if d.len() == 0 {
		*d = rest
		return
	}
	d.list = append(d.list, rest.all()...)
	d.dead += rest.dead
}

// remove takes the run at position i out.
func (d *runs) remove(i int) {
	i += d.head
	d.list = append(d.list[:i], d.list[i+1:]...)
	d.list[:len(d.list)+1][len(d.list)] = nil
}

// replace puts r in the place of the n runs from position i on.
func (d *runs) replace(i, n int, r *Run) {
	i += d.head
	d.list = append(d.list[:i+1], d.list[i+n:]...)
	clear(d.list[len(d.list) : len(d.list)+n-1])
	d.list[i] = r
}
