// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"cmp"
	"slices"

	"github.com/lagomq/lagomq/vhosts"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Messages that go to several queues in turn, or to one queue with several
// priorities, would make runs of one message each. As it does not matter which of
// two such messages comes first, their runs are open at the same time: the one that
// got the last message is the open run, the others lie aside.

// maxRuns is how many runs may be open at a time: more than a quorum queue has
// priorities. Finding the right one costs more the more there are, but a run costs
// more than a look at a hundred of them.
const maxRuns = 64

// asideRuns are all runs that are open if there are several: the open run is among
// them.
type asideRuns struct {
	runs    []asideRun
	current int    // the open run's position
	turns   []turn // which run got how many messages, in the order of their publishes; the last one's are not in yet
	since   int    // messages that were in the open run when it became that
}

type asideRun struct {
	route   *vhosts.Route
	page    *queue.Page
	handles []uint64 // of its confirms, see confirms.open
	name    int      // its number in turns
}

type turn struct {
	run   int
	count uint64
}

// turnTo makes the run of route, which goes beside the open one, the open run. It
// returns false if there are too many.
func (r *openRun) turnTo(route *vhosts.Route, pages *queue.Pages) bool {
	a := &r.aside
	if len(a.runs) == 0 {
		a.runs, a.current = append(a.runs, asideRun{route: r.route, page: r.page}), 0
	}
	i := slices.IndexFunc(a.runs, func(p asideRun) bool { return p.route == route })
	if i < 0 {
		i = slices.IndexFunc(a.runs, func(p asideRun) bool { return p.route.Same(route) })
	}
	if i < 0 {
		if i = len(a.runs); i == maxRuns {
			return false
		}
		a.runs = append(a.runs, asideRun{route: route, page: pages.New(), name: i})
	}
	a.endTurn(r.page)
	a.current = i
	r.route, r.page = a.runs[i].route, a.runs[i].page
	a.since = r.page.Len()
	return true
}

// endTurn notes the messages that the open run, with that page, has got since it
// became that.
func (a *asideRuns) endTurn(page *queue.Page) {
	a.turns = append(a.turns, turn{a.current, uint64(page.Len() - a.since)})
}

// publishAside puts all open runs into their queues, the highest priority first.
func (c *conn) publishAside() {
	r, a := &c.run, &c.run.aside
	ch, runs := r.channel, a.runs
	a.endTurn(r.page)
	waits := ch.confirming && r.route.Waits(r.persistent)
	t := turnsOf{channel: ch, turns: a.turns}
	if ch.confirming {
		t.first = ch.nextPublish()
	}
	if waits {
		ch.openConfirms(runs, a.turns)
	}
	slices.SortStableFunc(runs, func(x, y asideRun) int { return cmp.Compare(y.route.Priority(), x.route.Priority()) })
	count := uint64(0)
	for i := range runs {
		p := &runs[i]
		count += uint64(p.page.Len())
		if waits {
			c.server.options.Hosts.Publish(p.route, p.page, r.persistent, &turnsConfirm{runConfirm{channel: ch}, p.handles, t, p.name})
		} else if refused := c.server.options.Hosts.Publish(p.route, p.page, r.persistent, nil); refused != nil && ch.confirming {
			t.refuse(p.name, refused)
		}
		p.page.Release()
	}
	if !waits {
		ch.published(count, nil)
	}
	clear(runs)
	*r = openRun{aside: asideRuns{runs: runs[:0], turns: a.turns[:0]}}
}

// turnsConfirm decides the publishes of one run of several when it is durable.
type turnsConfirm struct {
	runConfirm
	handles []uint64 // of its turns, see confirms.open
	turns   turnsOf
	run     int
}

// Refused implements vhosts.RefusalWaiter.
func (t *turnsConfirm) Refused(messages *queue.Bitmap) { t.turns.refuse(t.run, messages) }

// turnsOf are the turns in which the messages of several runs came. They are the
// connection's, and void when all runs are published.
type turnsOf struct {
	channel *channel
	turns   []turn
	first   uint64 // the first publish of all
}

// refuse notes the publishes of a run that were refused.
func (t *turnsOf) refuse(run int, messages *queue.Bitmap) {
	t.channel.mu.Lock()
	defer t.channel.mu.Unlock()
	number, i := t.first, uint32(0)
	for _, turn := range t.turns {
		for range turn.count {
			if turn.run == run {
				if messages.Has(i) {
					t.channel.confirms.refuse(number)
				}
				i++
			}
			number++
		}
	}
}

// nextPublish is the number of the next publish of a channel in confirm mode.
func (ch *channel) nextPublish() uint64 {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.confirms.opened + 1
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
func (ch *channel) openConfirms(runs []asideRun, turns []turn) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for _, t := range turns {
		ch.stats.Published += t.count
		runs[t.run].handles = append(runs[t.run].handles, ch.confirms.open(t.count))
	}
}
