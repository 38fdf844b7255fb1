// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"cmp"
	"slices"

	"github.com/lagomq/lagomq/vhosts"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Messages of several priorities for the same queues make a run for each priority,
// as every queue keeps them apart. So that these are not of one message each, all
// are open at the same time: the one that got the last message is the open run, the
// others lie aside.

// asideRuns are the runs that are open besides the one that got the last message.
type asideRuns struct {
	runs  []priorityRun
	turns []turn // which run got how many messages, in the order of their publishes; the last one's are not in yet
	since int    // messages that were in the open run when it became that
}

type priorityRun struct {
	route   *vhosts.Route
	page    *queue.Page
	handles []uint64 // of its confirms, see confirms.open
}

type turn struct {
	route *vhosts.Route
	count uint64
}

// turnTo makes the run of route the open one, which has another now, for the same
// queues.
func (r *openRun) turnTo(route *vhosts.Route, pages *queue.Pages) {
	a := &r.aside
	a.endTurn(r)
	before := priorityRun{route: r.route, page: r.page}
	if i := slices.IndexFunc(a.runs, func(p priorityRun) bool { return p.route.Same(route) }); i >= 0 {
		r.page = a.runs[i].page
		a.runs[i] = before
	} else {
		r.page = pages.New()
		a.runs = append(a.runs, before)
	}
	r.route, a.since = route, r.page.Len()
}

// endTurn notes the messages that the open run has got since it became that.
func (a *asideRuns) endTurn(r *openRun) {
	a.turns = append(a.turns, turn{r.route, uint64(r.page.Len() - a.since)})
}

// publishAside puts the open run and those aside into their queues, the highest
// priority first.
func (c *conn) publishAside() {
	r, a := &c.run, &c.run.aside
	ch := r.channel
	a.endTurn(r)
	runs := append(a.runs, priorityRun{route: r.route, page: r.page})
	slices.SortFunc(runs, func(x, y priorityRun) int { return cmp.Compare(y.route.Priority(), x.route.Priority()) })
	waits := ch.confirming && r.route.Waits(r.persistent)
	if waits {
		ch.openConfirms(runs, a.turns)
	}
	count := uint64(0)
	for i := range runs {
		p := &runs[i]
		count += uint64(p.page.Len())
		if waits {
			c.server.options.Hosts.Publish(p.route, p.page, r.persistent, &turnsConfirm{runConfirm{channel: ch}, p.handles})
		} else {
			c.server.options.Hosts.Publish(p.route, p.page, r.persistent, nil)
		}
		p.page.Release()
	}
	if !waits {
		ch.published(count)
	}
	clear(runs)
	clear(a.turns)
	*r = openRun{aside: asideRuns{runs: runs[:0], turns: a.turns[:0]}}
}

// turnsConfirm decides the publishes of one run of several when it is durable.
type turnsConfirm struct {
	runConfirm
	handles []uint64 // of its turns, see confirms.open
}

// Durable implements persistence.Waiter.
func (t *turnsConfirm) Durable(err error) {
	if err != nil {
		return
	}
	t.channel.mu.Lock()
	defer t.channel.mu.Unlock()
	for _, handle := range t.handles {
		t.channel.confirms.settle(handle)
	}
}

// openConfirms is openConfirm for several runs whose messages came in turns.
func (ch *channel) openConfirms(runs []priorityRun, turns []turn) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for _, t := range turns {
		ch.stats.Published += t.count
		i := slices.IndexFunc(runs, func(p priorityRun) bool { return p.route.Same(t.route) })
		runs[i].handles = append(runs[i].handles, ch.confirms.open(t.count))
	}
}
