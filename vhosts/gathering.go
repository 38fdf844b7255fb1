// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Messages may die in any order, wherever in a long queue they are, one in each of
// thousands of runs that are not in memory; and their letters are to come in the order of
// death. To read a run for each of them would be to read all of a queue hundreds of times.
// So the pages of many departing messages are gathered at a time: each run is read once
// for all of them, in the order of the store, and what is wanted of it is kept. The more
// are waiting, the fewer reads there are for each.

const (
	// gatherBytes is about how much memory all queues together take for letters that
	// they have gathered. A queue gathers at most half of that at a time, so that the
	// other half can be forwarded meanwhile.
	gatherBytes = 64 << 20
	// gatherLeast is what a queue may gather however little of that is left.
	gatherLeast = 1 << 20
	// mostGathered is how many letters a queue gathers at a time, at most.
	mostGathered = 1 << 17
	// gatherPiece is how many entries of Queue.dead are gone through under one hold of the
	// queue's lock.
	gatherPiece = 8192
	// gatherStep is how many runs are read for a queue before others that wait for a page
	// reader have their turn.
	gatherStep = 64
	// letterOverhead is what a letter takes in memory besides its body, more or less.
	letterOverhead = 256
)

// gathering is the reading of what the first departing messages of a queue need. Its
// fields belong to the page reader that carries out its next step.
type gathering struct {
	queue   *Queue
	most    int        // letters that are gathered
	room    int64      // bytes that it may take
	charge  int64      // bytes that it is taken to take, see pageReaders.gathered
	taken   int64      // bytes that it does take
	letters int        // that are wanted
	wanted  []*excerpt // for each of the messages' entries in Queue.dead
	of      map[*queue.Run]*excerpt
	here    []*excerpt // of these those whose pages were in memory,
	there   []*excerpt // and those that are still to be read
}

// excerpt is what is wanted of one run.
type excerpt struct {
	run   *queue.Run
	share *persistence.Share
	parts []queue.Part // in the order of death
	page  *queue.Page  // held: the run's if it is in memory; then one that has the parts
	whole bool         // page has all messages of the run
	at    uint32       // otherwise, offset in page of what comes next of the parts
	err   error        // why it cannot be read
}

// gatherLocked begins to gather what is departing first if that is not in memory, and not
// enough is there that comes before: ahead letters, and what is gathered.
func (q *Queue) gatherLocked(ahead uint32) {
	if len(q.dead) == 0 || q.gathering != nil || q.dead[0].Run.Page != nil || ahead > 0 && q.blocked.Load() {
		return
	}
	p := q.vhost.hosts.pages
	left := gatherBytes - p.gathered.Load()
	if len(q.gathered) > 0 && left < gatherBytes/4 {
		return
	}
	g := &gathering{queue: q, most: max(lettersAhead, q.appetite), room: max(gatherLeast, min(gatherBytes/2, left))}
	g.of = make(map[*queue.Run]*excerpt)
	q.gathering = g
	p.do(g.begin)
}

func (g *gathering) begin() {
	for g.choose() {
	}
	for _, e := range g.here {
		page := e.page
		g.take(e, page)
		page.Release()
	}
	slices.SortFunc(g.there, func(a, b *excerpt) int { return persistence.ComparePlaces(a.share, b.share) })
	g.step()
}

// choose adds the next of the departing messages to what is gathered. It returns false
// when these are enough.
func (g *gathering) choose() (more bool) {
	q := g.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gathering != g {
		return false
	}
	before := g.charge
	defer func() { q.vhost.hosts.pages.gathered.Add(g.charge - before) }()
	for range gatherPiece {
		if len(g.wanted) == len(q.dead) || g.letters >= g.most || g.charge >= g.room {
			return false
		}
		d := &q.dead[len(g.wanted)]
		e := g.of[d.Run]
		if e == nil {
			e = g.excerptOf(d.Run)
			g.of[d.Run] = e
		}
		e.parts = append(e.parts, queue.Part{From: d.From, Count: d.Count})
		g.wanted = append(g.wanted, e)
		g.letters += int(d.Count)
		g.charge += int64(d.Run.Bytes*uint64(d.Count)/uint64(d.Run.Count)) + letterOverhead*int64(d.Count)
	}
	return true
}

// excerptOf adds an excerpt of a run. Called under the queue's lock.
func (g *gathering) excerptOf(r *queue.Run) *excerpt {
	e := &excerpt{run: r, page: r.Page}
	e.share, _ = r.Stored.(*persistence.Share)
	switch {
	case e.page != nil:
		e.page.Hold()
		g.here = append(g.here, e)
	case e.share != nil:
		g.there = append(g.there, e)
	default:
		e.err = fmt.Errorf("%w: run %d has no page", persistence.ErrDamaged, r.First)
	}
	return e
}

// step reads the next few runs.
func (g *gathering) step() {
	n := min(gatherStep, len(g.there))
	shares := make([]*persistence.Share, n)
	for i, e := range g.there[:n] {
		shares[i] = e.share
	}
	p := g.queue.vhost.hosts.pages
	p.readAll(shares, func(i int, page *queue.Page, err error) {
		e := g.there[i]
		if err != nil {
			e.err = err
			return
		}
		g.take(e, page)
		page.Release()
	})
	if g.there = g.there[n:]; len(g.there) > 0 && g.goesOn() {
		p.do(g.step)
		return
	}
	g.end()
}

// take takes what is wanted from the page of its run.
func (g *gathering) take(e *excerpt, page *queue.Page) {
	wanted := 0
	for _, part := range e.parts {
		wanted += int(part.Count)
	}
	if e.whole = 2*wanted >= page.Len(); e.whole {
		page.Hold()
		e.page = page
	} else {
		e.page = page.Excerpt(e.parts)
	}
	g.taken += int64(e.page.Bytes() + letterOverhead*wanted)
}

// goesOn reports whether the rest is to be read: nothing has come in between, and it
// does not take far more memory than one could tell, as headers are large.
func (g *gathering) goesOn() bool {
	q := g.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.gathering == g && g.taken > 2*g.room && g.most > lettersAhead {
		q.gathering = nil
		q.appetite = g.most / 4
	}
	return q.gathering == g
}

// end has letters made of what was read.
func (g *gathering) end() {
	q := g.queue
	q.vhost.hosts.pages.gathered.Add(-g.charge)
	var read answers
	for more := true; more; {
		q.mu.Lock()
		more = q.gathering == g && q.takeOverLocked(g)
		if q.gathering == g && !more {
			q.gatheredLocked(g, &read)
		}
		if !q.deleted {
			q.fetchLocked()
		}
		if len(q.letters) > 0 {
			q.vhost.hosts.forwarder.leave(q)
		}
		q.mu.Unlock()
	}
	for _, e := range g.of {
		if e.page != nil {
			e.page.Release()
		}
	}
	tellCancelled(read.cancelled)
}

// takeOverLocked takes over the next of what was read. It returns false if there is no
// more, up to the first message that could not be read.
func (q *Queue) takeOverLocked(g *gathering) (more bool) {
	n, bytes := 0, int64(0)
	for ; n < min(gatherPiece, len(g.wanted)) && g.wanted[n].err == nil; n++ {
		e, d := g.wanted[n], &q.dead[n]
		at := d.From
		if !e.whole {
			at = e.at
			e.at += d.Count
		}
		e.page.Hold()
		q.gathered = append(q.gathered, bundle{*d, e.page, at})
		_, size := e.page.Leading(at, d.Count, math.MaxInt)
		bytes += int64(size) + letterOverhead*int64(d.Count)
	}
	q.passLocked(n)
	q.chargeGatheredLocked(bytes)
	g.wanted = g.wanted[n:]
	return len(g.wanted) > 0 && g.wanted[0].err == nil
}

// gatheredLocked ends a gathering of which everything up to the first message that could
// not be read was taken over.
func (q *Queue) gatheredLocked(g *gathering, read *answers) {
	switch {
	case g.taken > g.room:
		q.appetite = max(lettersAhead, g.most/2)
	case g.letters >= g.most:
		q.appetite = min(mostGathered, 2*g.most)
	}
	q.gathering = nil
	if len(g.wanted) == 0 {
		return
	}
	e := g.wanted[0]
	if share, _ := e.run.Stored.(*persistence.Share); share != e.share && errors.Is(e.err, persistence.ErrNotStored) {
		return // it was rewritten meanwhile
	}
	q.gathering = g // until it can be read
	read.takeLocked(q, e.run, e.err)
	read.retryLocked(q, func(*queue.Run) {
		if q.gathering == g {
			q.gathering = nil
		}
	})
}

// takeGatheredLocked takes what was gathered first, of which there is some.
func (q *Queue) takeGatheredLocked() bundle {
	b := q.gathered[0]
	q.chargeGatheredLocked(-q.gatheredBytes / int64(len(q.gathered)))
	q.gathered[0] = bundle{}
	if q.gathered = q.gathered[1:]; len(q.gathered) == 0 {
		q.gathered = nil
	}
	return b
}

// chargeGatheredLocked counts the bytes of memory that gathered takes.
func (q *Queue) chargeGatheredLocked(bytes int64) {
	q.gatheredBytes += bytes
	q.vhost.hosts.pages.gathered.Add(bytes)
}

// scatterLocked ends what is being gathered, and lets go of the pages of what was, which
// is to be gathered again: what waits is not to take memory.
func (q *Queue) scatterLocked() {
	q.gathering, q.appetite = nil, 0
	if len(q.gathered) == 0 {
		return
	}
	dead := make([]departing, 0, len(q.gathered)+len(q.dead))
	for i := range q.gathered {
		dead = append(dead, q.gathered[i].departing)
		q.gathered[i].page.Release()
	}
	q.dead, q.gathered = append(dead, q.dead...), nil
	q.chargeGatheredLocked(-q.gatheredBytes)
}
