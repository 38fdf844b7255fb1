// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

// Messages that come one by one from many publishers would make a run each. As
// long as the store has not taken the newest run, and nobody has seen it outside
// the queue's lock, the next messages become part of it.

// Extensible returns the run that further messages of a level may be added to, nil
// if there is none: the level's newest one, when it is to be stored and nothing was
// done with its messages yet. The shell knows whether the store has not taken it.
func (e *Engine) Extensible(level uint8) *Run {
	l := e.find(level)
	if l == nil {
		return nil
	}
	list := &l.dir.tail
	if len(l.dir.cold) == 0 {
		list = &l.dir.head
	}
	if list.len() == 0 {
		return nil
	}
	r := list.at(list.len() - 1)
	if r.end() != l.next || r.Stored == nil || r.Page == nil || !r.fresh() || r.spilling || r.loose || r.thinning {
		return nil
	}
	return r
}

// Extended tells that messages were added to the page of the run that Extensible
// returned just before, whose Weight was before.
func (e *Engine) Extended(r *Run, before uint64) {
	bytes, count := r.Page.BodyBytes()-r.Bytes, uint32(r.Page.Len())-r.Count
	known := r.Count
	r.Count += count
	r.Bytes += bytes
	if r.Page.stamped() {
		r.stamped = true
		if due := r.Page.Times().Due; due != 0 {
			e.appended(r, known)
		}
	}
	l := e.find(Level(r.First))
	l.next += uint64(count)
	l.ready += uint64(count)
	e.bytes += bytes
	if e.weighs {
		e.readyBytes += bytes
	}
	e.resident += weight(r.Page) - before
	e.residentMessages += uint64(count)
	e.residentBodies += bytes
}

// extendTime is how long, in milliseconds, a page takes messages after its first.
const extendTime = 1000

// Weight is what the page costs, in bytes of memory, its spare room included.
func (p *Page) Weight() uint64 { return weight(p) }

// extendBytes is the size of a page from which on its messages are not copied into
// another, as that would cost more than a run of their own.
const extendBytes = 4 << 10

// Small reports whether it is worth copying the page's messages into another.
func (p *Page) Small() bool { return len(p.buf) <= extendBytes }

// KeepTimes gives every message of the page a stamp if another, which is to take
// them, would take them for messages of its own time.
func (p *Page) KeepTimes(other *Page) {
	for p.arrived != other.arrived && len(p.stamps) < len(p.messages) {
		p.stamps = append(p.stamps, Stamp{Arrived: p.arrived})
	}
}

// Take appends the messages of a small page, or none and returns false if they
// would make more than a run, or came much later. Without stamps they count as
// having arrived with the page's first.
func (p *Page) Take(other *Page) bool {
	if len(p.messages)+len(other.messages) > MaxRunMessages || p.Spread()+other.Spread() > MaxRunBytes ||
		other.arrived-p.arrived > extendTime {
		return false
	}
	offset := uint32(len(p.buf))
	for _, m := range other.messages {
		m.at += offset
		p.messages = append(p.messages, m)
	}
	p.buf = append(p.buf, other.buf...)
	p.likes += other.likes
	p.shared += other.shared
	p.bodies += other.bodies
	if len(other.stamps) > 0 {
		for len(p.stamps) < len(p.messages)-len(other.messages) {
			p.stamps = append(p.stamps, Stamp{Arrived: p.arrived})
		}
		p.stamps = append(p.stamps, other.stamps...)
	}
	return true
}
