// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

// Run is a queue's view of one run: consecutive messages that came in one
// burst. It is what a queue costs in memory for up to MaxRunMessages messages
// whose bytes lie on disk. Its fields belong to the engine that made it and are
// read and written under the queue's lock only.
type Run struct {
	First uint64 // number of the first message
	Count uint32 // messages; they are numbered First..First+Count-1
	Bytes uint64 // body bytes of all messages, settled ones included

	// Page holds the messages; nil when they have to be read back from the store.
	Page *Page

	// Stored is the store's handle on this queue's share of the run, nil for a run
	// that is in memory only. It belongs to the shell; the engine passes it on.
	Stored any

	sent    uint32 // messages 0..sent-1 have been handed out at least once, or were settled unsent
	settled Bitmap // messages that are gone: acked, dropped, purged, or sent without ack
	gone    uint32 // set bits in settled
	loading bool   // a Load effect for it is under way
}

// Settled is the set of the run's messages that are settled so far.
func (r *Run) Settled() Bitmap { return r.settled }

// Done says that every message of the run is settled.
func (r *Run) Done() bool { return r.gone == r.Count }

// end is the number after the run's last message.
func (r *Run) end() uint64 { return r.First + uint64(r.Count) }

// liveBytes is the body bytes of unsettled messages, taking all messages of the
// run to be of one size: bytes of single messages are known only to the page.
func (r *Run) liveBytes() uint64 {
	if r.Count == 0 {
		return 0
	}
	return r.Bytes * uint64(r.Count-r.gone) / uint64(r.Count)
}

// directory is the queue's runs in order of their numbers, from the oldest that
// has an unsettled message on. Runs that were settled behind such a message
// stay as empty entries until compact removes them.
type directory struct {
	runs []*Run // runs[head:] is the directory
	head int
	dead int // done runs in runs[head:]
}

func (d *directory) len() int      { return len(d.runs) - d.head }
func (d *directory) at(i int) *Run { return d.runs[d.head+i] }
func (d *directory) push(r *Run)   { d.runs = append(d.runs, r) }
func (d *directory) live() []*Run  { return d.runs[d.head:] }

// find returns the position of the run that holds number, trying hint first;
// -1 if no run does.
func (d *directory) find(number uint64, hint int) int {
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

// compact drops done runs: those at the front always, those behind a live one
// once they are the majority. It returns how many of the first before entries
// went, so that a position can follow.
func (d *directory) compact(before int) (removed int) {
	for d.head < len(d.runs) && d.runs[d.head].Done() {
		d.runs[d.head] = nil
		d.head++
		d.dead--
		if before > 0 {
			before--
			removed++
		}
	}
	switch {
	case d.head == len(d.runs):
		d.runs, d.head = d.runs[:0], 0
		if cap(d.runs) > 1024 {
			d.runs = nil
		}
	case d.dead > 32 && d.dead > d.len()/2:
		removed += d.squeeze(before)
	case d.head > 32 && d.head > len(d.runs)/2:
		n := copy(d.runs, d.runs[d.head:])
		clear(d.runs[n:])
		d.runs, d.head = d.runs[:n], 0
	}
	return removed
}

// squeeze removes every done run.
func (d *directory) squeeze(before int) (removed int) {
	kept := make([]*Run, 0, d.len()-d.dead+16)
	for i, r := range d.live() {
		if !r.Done() {
			kept = append(kept, r)
		} else if i < before {
			removed++
		}
	}
	d.runs, d.head, d.dead = kept, 0, 0
	return removed
}
