// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Small neighbouring runs of a queue are joined to one. There may be thousands of
// queues with some each. So what has to be read for it is read for many queues
// together, in the order of the store, where it lies among what others got at the
// same time; and the store is waited for once for all of them.

// joint is a group of runs of one queue on its way to become one run.
type joint struct {
	queue   *Queue
	group   []*queue.Run
	members []member
	err     error // why they cannot be read
}

const (
	// jointBytes is about how much memory the joints take that are carried out together.
	jointBytes = 8 << 20
	// joinedBytes is about how much memory joined runs take that are not stored yet.
	joinedBytes = 64 << 20
)

// joinAll joins all runs that are worth it. What has been joined is in the way of
// what lies behind it until it is stored, so it goes over the queues in rounds. While
// there is an alarm it leaves them: what is joined is on the disk twice for a while,
// which would take up the rest of one that is nearly full.
func (j *janitor) joinAll(queues []*Queue) {
	for round := j.joinRound(queues); len(round) > 0; round = j.joinRound(round) {
		if j.settleJoined() != nil {
			return
		}
	}
}

// settleJoined waits until what has been joined is stored, and lets go of its pages.
// The error says that the store or the janitor is closed.
func (j *janitor) settleJoined() error {
	w := durableWait{done: make(chan error, 1)}
	j.hosts.store.Sync(w)
	if err := w.wait(j.ctx); err != nil {
		return err
	}
	for _, q := range j.joined {
		q.mu.Lock()
		if !q.deleted {
			q.trimLocked()
		}
		q.mu.Unlock()
	}
	clear(j.joined)
	j.joined, j.joinedBytes = j.joined[:0], 0
	return nil
}

// joinRound joins what can be joined without waiting for the store, and returns the
// queues of which something was joined.
func (j *janitor) joinRound(queues []*Queue) []*Queue {
	joined := j.joinOnce(queues)
	for left := joined; len(left) > 0; {
		left = j.joinOnce(left)
	}
	return joined
}

// joinOnce joins one group of runs of each queue, and returns the queues that had
// one.
func (j *janitor) joinOnce(queues []*Queue) (joined []*Queue) {
	var joints []joint
	bytes := uint64(0)
	for _, q := range queues {
		if j.joinedBytes >= joinedBytes && j.settleJoined() != nil {
			break
		}
		if j.hosts.store.Throttle(j.ctx) != nil || j.ctx.Err() != nil || j.hosts.Alarms().Raised() {
			break
		}
		group, members := q.scattered()
		if group == nil {
			continue
		}
		joints = append(joints, joint{queue: q, group: group, members: members})
		for i := range members {
			bytes += members[i].share.Bytes() + memberOverhead*uint64(members[i].count)
		}
		if bytes >= jointBytes {
			joined = j.carryOut(joints, joined)
			j.joinedBytes += bytes
			joints, bytes = joints[:0], 0
		}
	}
	j.joinedBytes += bytes
	return j.carryOut(joints, joined)
}

// memberOverhead is about what a message takes besides its body, in bytes.
const memberOverhead = 64

// carryOut makes one run of each joint, and appends their queues to joined.
func (j *janitor) carryOut(joints []joint, joined []*Queue) []*Queue {
	j.readAll(joints)
	for i := range joints {
		if joints[i].join() {
			joined = append(joined, joints[i].queue)
			j.joined = append(j.joined, joints[i].queue)
		}
	}
	clear(joints)
	return joined
}

// readAll gets the pages that members of the joints do not have from the store.
func (j *janitor) readAll(joints []joint) {
	type missing struct {
		joint  *joint
		member *member
	}
	var list []missing
	for i := range joints {
		for k := range joints[i].members {
			if m := &joints[i].members[k]; m.page == nil {
				list = append(list, missing{&joints[i], m})
			}
		}
	}
	if len(list) == 0 {
		return
	}
	slices.SortFunc(list, func(a, b missing) int { return persistence.ComparePlaces(a.member.share, b.member.share) })
	shares := make([]*persistence.Share, len(list))
	for i := range list {
		shares[i] = list[i].member.share
	}
	j.hosts.pages.readAll(shares, func(i int, page *queue.Page, err error) {
		list[i].member.page = page
		if err != nil {
			list[i].joint.err = err
		}
	})
}

// join makes one run of the joint, whose pages are there or cannot be read. It
// returns false if that is of no use.
func (t *joint) join() bool {
	q, group := t.queue, t.group
	page := t.page()
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.err != nil {
		// The queue finds out about damage when it gets there.
		q.engine.Scatter(group)
		return false
	}
	defer page.Release()
	if page.Bytes() > 2*queue.MaxRunBytes { // sizes were told from bodies alone
		q.engine.Scatter(group)
		return true
	}
	run := newRun(page, group[0].Volatile)
	first, last := &t.members[0], &t.members[len(t.members)-1]
	share := run.Share(q.id, first.first, uint32(last.first-first.first)+last.count, page.BodyBytes())
	if _, ok := q.engine.Gather(group, page, share); !ok {
		return true
	}
	page.Hold() // the store's
	for i := range t.members {
		q.records = append(q.records, persistence.Drop(t.members[i].share))
	}
	q.records = append(q.records, persistence.PutRun(run))
	q.proposeLocked()
	q.engine.ReleasePages()
	q.pagesChangedLocked()
	return true
}

// page returns a page of all messages of the members, whose pages it releases; nil
// if some cannot be read.
func (t *joint) page() (page *queue.Page) {
	if t.err == nil {
		messages, bytes := 0, 0
		for i := range t.members {
			messages += t.members[i].page.Len()
			bytes += t.members[i].page.Bytes()
		}
		page = queue.NewPage(messages, bytes)
		page.Hold()
	}
	for i := range t.members {
		m := &t.members[i]
		for n := 0; page != nil && n < int(m.count); n++ {
			page.AppendFrom(m.page, n)
		}
		if m.page != nil {
			m.page.Release()
		}
	}
	return page
}

// scattered asks the engine for runs to be joined.
func (q *Queue) scattered() (group []*queue.Run, members []member) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.deleted || q.damaged != nil {
		return nil, nil
	}
	zeal := queue.Busy
	switch {
	case q.restsLocked():
		zeal = queue.Idle
	case len(q.engine.Consumers()) == 0:
		zeal = queue.Unread
	}
	group = q.engine.Scattered(zeal)
	for _, r := range group {
		members = append(members, memberOf(r))
	}
	return group, members
}
