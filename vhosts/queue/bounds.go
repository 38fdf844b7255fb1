// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

// A queue may be bounded, in ready messages and in the body bytes of these. The
// bounds are the shell's; the engine makes what is too much leave, oldest of the
// highest level first, or takes only part of a run.
//
// The bytes of ready messages are counted only if the shell asks for it by Weigh. A
// run in memory counts with the true sizes of its ready messages, any other with
// their share of its bytes, which is exact as long as all are ready. What leaves
// because there are too many bytes is read first if need be, so that no message has
// to go for the size of another.

// Weigh makes the engine count the bytes of ready messages, or not. To ask for it
// again counts anew, which takes time in proportion to the number of runs.
func (e *Engine) Weigh(on bool) {
	e.weighs, e.readyBytes = on, 0
	if !on {
		return
	}
	for _, l := range e.levels {
		for _, s := range l.dir.cold {
			if s.aways {
				s.unpack(e.Keeper) // not all is ready
			}
			e.readyBytes += s.bytes
		}
		l.visit(func(r *Run) { e.readyBytes += l.weight(r) })
	}
}

// ReadyBytes is the body bytes of the ready messages, if they are counted.
func (e *Engine) ReadyBytes() uint64 { return e.readyBytes }

// LeavingBytes is the body bytes of leaving messages, about.
func (e *Engine) LeavingBytes() uint64 { return uint64(e.leavingBytes) }

// averageBytes is the size of a message of the run on average.
func (r *Run) averageBytes() int64 { return int64(r.Bytes / uint64(r.Count)) }

// weight is what a run counts for in readyBytes.
func (l *log) weight(r *Run) (n uint64) {
	if r.sent == 0 && r.gone == 0 && r.aside == nil {
		return r.Bytes
	}
	for o := range r.Count {
		switch {
		case r.settled.Has(o) || r.isAway(o) || o < r.sent && (l.returned.empty() || !l.returned.has(r.First+uint64(o))):
		case r.Page == nil:
			n++
		default:
			n += uint64(r.Page.messages[o].body)
		}
	}
	if r.Page == nil {
		n = r.Bytes * n / uint64(r.Count)
	}
	return n
}

// weighed is weight if bytes are counted. What changes a run's ready messages, or
// whether it has its page, calls it before, and reweigh with the result afterwards.
func (l *log) weighed(r *Run) uint64 {
	if !l.q.weighs {
		return 0
	}
	return l.weight(r)
}

func (l *log) reweigh(r *Run, before uint64) {
	if l.q.weighs {
		l.q.readyBytes += l.weight(r) - before
	}
}

// bodyBytes is the body bytes of count messages of a run in memory, from offset on.
func (r *Run) bodyBytes(offset, count uint32) (n uint64) {
	for _, m := range r.Page.messages[offset : offset+count] {
		n += uint64(m.body)
	}
	return n
}

// ExpelOver makes the first ready messages leave until no more than most are left
// and they have no more than mostBytes bytes; either may be negative for no bound.
// Once about step messages have left it stops and returns true: it is to be called
// again. If it has to know the sizes of messages that are not in memory it asks for
// their page, and is to be called again when that has come.
func (e *Engine) ExpelOver(most, mostBytes int64, step uint64, fx *Effects) (more bool) {
	if ready := int64(e.Ready()); most >= 0 && ready > most {
		n := min(uint64(ready-most), step)
		e.ExpelHead(n, Maxlen, fx)
		step -= n
	}
	for mostBytes >= 0 && e.readyBytes > uint64(mostBytes) && step > 0 {
		l := e.readiest()
		s := l.nextReady()
		if s.run.Page == nil {
			e.load(s.run, fx)
			l.readAhead(fx)
			return false
		}
		count := uint32(0)
		for over := int64(e.readyBytes) - mostBytes; count < s.count && over > 0; count++ {
			over -= int64(s.run.bodyBytes(s.from+count, 1))
		}
		l.expel(s, count, Maxlen, fx)
		step -= min(step, uint64(count))
	}
	return step == 0
}

// AppendHeld is Append with all messages held back: they count as leaving until each
// has been given to Admit or Refuse.
func (e *Engine) AppendHeld(level uint8, page *Page, stored any) *Run {
	l := e.level(level)
	r := l.append(page, stored)
	l.ready -= uint64(r.Count)
	before := l.weighed(r)
	r.aside = &aside{departs: r.Count}
	r.aside.away.SetRange(0, r.Count)
	l.reweigh(r, before)
	e.leaving += uint64(r.Count)
	e.leavingBytes += int64(r.Count) * r.averageBytes()
	return r
}

// Admit makes count messages of a run from offset on, which were held back, ready.
// Nothing behind them may have been handed out.
func (e *Engine) Admit(r *Run, offset, count uint32) {
	held := Dead{Run: r, From: offset, Count: count}
	_ = e.ReturnLeaving([]Interval{held.Numbers()}) // they are leaving
}

// Refuse has count messages of a run from offset on, which were held back, leave for
// good, as there are too many: by way of a Dead effect if they are to go somewhere.
func (e *Engine) Refuse(r *Run, offset, count uint32, dead bool, fx *Effects) {
	d := Dead{r, offset, count, Maxlen}
	if dead {
		fx.Dead = append(fx.Dead, d)
		return
	}
	_ = e.SettleLeaving([]Interval{d.Numbers()}, fx) // they are leaving
}

// BodySize is the size of message i's body in bytes.
func (p *Page) BodySize(i int) uint64 { return uint64(p.messages[i].body) }
