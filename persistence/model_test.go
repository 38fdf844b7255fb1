// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// model is what a store must hold after a prefix of the proposals.
type model struct {
	shares map[place]*modelShare
	config map[string]string
}

type place struct{ queue, first uint64 }

type modelShare struct {
	body    string
	settled Settled
	put     bool
	dropped bool
}

// String describes what is visible of the model, for comparison.
func (m *model) String() string {
	var lines []string
	for at, sh := range m.shares {
		if sh.put && !sh.dropped {
			lines = append(lines, fmt.Sprintf("%d/%d %s %x", at.queue, at.first, label(sh.body), sh.settled))
		}
	}
	for k, v := range m.config {
		lines = append(lines, k+"="+v)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// label is the telling part of a body.
func label(body string) string {
	name, _, _ := strings.Cut(body, " ")
	return fmt.Sprintf("%s(%d)", name, len(body))
}

// driver makes random proposals to a store and to the model.
type driver struct {
	rng    *rand.Rand
	store  *Store
	model  model
	queues []uint64
	next   map[uint64]uint64 // the queues' next numbers
	shares map[place]*Share  // not dropped yet
	unput  []*unput          // runs yet to be proposed
	runs   int

	states []string // the model after each proposal; states[0] is the start
	acks   []*ack   // of the proposal that led to states[i+1]
}

type unput struct {
	run    *Run
	places []place
}

// ack is the Waiter of one proposal and what it promises when it is durable.
type ack struct {
	result
	strict bool    // the proposal itself is on disk
	put    []place // these are there, unless dropped by some proposal
	gone   []place // these are not
}

func newDriver(s *Store, rng *rand.Rand) *driver {
	d := &driver{rng: rng, store: s, next: make(map[uint64]uint64), shares: make(map[place]*Share)}
	d.model = model{shares: make(map[place]*modelShare), config: make(map[string]string)}
	for range 4 {
		d.queues = append(d.queues, s.NewID())
	}
	d.states = []string{d.model.String()}
	return d
}

// newRun makes a run with shares in some of the queues.
func (d *driver) newRun() *unput {
	d.runs++
	size := d.rng.IntN(2000)
	if d.rng.IntN(20) == 0 {
		size = 300 << 10
	}
	body := fmt.Sprintf("run%d %s", d.runs, strings.Repeat("x", size))
	u := &unput{run: NewRun(text(body))}
	for _, i := range d.rng.Perm(len(d.queues))[:1+d.rng.IntN(3)] {
		q := d.queues[i]
		at := place{q, d.next[q]}
		d.next[q] += 10
		d.shares[at] = u.run.Share(q, at.first, 10, uint64(len(body)))
		d.model.shares[at] = &modelShare{body: body}
		u.places = append(u.places, at)
	}
	return u
}

// step makes one random proposal.
func (d *driver) step() {
	a := &ack{result: newResult()}
	var records []Record
	for range 1 + d.rng.IntN(4) {
		records = append(records, d.record(a)...)
	}
	if len(records) == 0 {
		a.strict = true
	}
	d.states = append(d.states, d.model.String())
	d.acks = append(d.acks, a)
	if d.rng.IntN(3) == 0 {
		d.store.Propose(0, nil, records...)
		a.result = nil // never heard of
	} else {
		d.store.Propose(0, a.result, records...)
	}
}

func (d *driver) record(a *ack) []Record {
	switch d.rng.IntN(12) {
	case 0, 1, 2, 3:
		u := d.newRun()
		if d.rng.IntN(4) == 0 {
			d.unput = append(d.unput, u)
			return nil
		}
		return d.put(u, a)
	case 4, 5:
		if len(d.unput) == 0 {
			return nil
		}
		u := d.unput[0]
		d.unput = d.unput[1:]
		return d.put(u, a)
	case 6, 7:
		at, ok := d.anyShare()
		if !ok {
			return nil
		}
		m := d.model.shares[at]
		m.settled.Set(d.rng.Uint32N(10))
		return []Record{Settle(d.shares[at], m.settled)}
	case 8, 9:
		at, ok := d.anyShare()
		if !ok {
			return nil
		}
		return []Record{Drop(d.forget(at, a))}
	case 10:
		a.strict = true
		key := fmt.Sprint("key", d.rng.IntN(5))
		if d.rng.IntN(3) == 0 {
			delete(d.model.config, key)
			return []Record{DeleteConfig([]byte(key))}
		}
		value := fmt.Sprint(d.rng.Uint64())
		d.model.config[key] = value
		return []Record{SetConfig([]byte(key), []byte(value))}
	default:
		if d.rng.IntN(8) != 0 {
			return nil
		}
		i := d.rng.IntN(len(d.queues))
		q := d.queues[i]
		d.queues[i] = d.store.NewID()
		var shares []*Share
		for _, at := range d.places() {
			if at.queue == q {
				shares = append(shares, d.forget(at, a))
			}
		}
		return []Record{PurgeQueue(q, shares)}
	}
}

func (d *driver) put(u *unput, a *ack) []Record {
	for _, at := range u.places {
		d.model.shares[at].put = true
		a.put = append(a.put, at)
	}
	return []Record{PutRun(u.run)}
}

func (d *driver) forget(at place, a *ack) *Share {
	sh := d.shares[at]
	delete(d.shares, at)
	d.model.shares[at].dropped = true
	a.gone = append(a.gone, at)
	return sh
}

// places returns where the living shares are, in a repeatable order.
func (d *driver) places() []place {
	return slices.SortedFunc(maps.Keys(d.shares), func(a, b place) int {
		if a.queue != b.queue {
			return int(a.queue) - int(b.queue)
		}
		return int(a.first) - int(b.first)
	})
}

func (d *driver) anyShare() (place, bool) {
	if len(d.shares) == 0 {
		return place{}, false
	}
	places := d.places()
	return places[d.rng.IntN(len(places))], true
}

// promises is what waiters were told up to some moment.
type promises struct {
	atLeast   int // states before this one are out of the question
	put, gone []place
}

// kept collects the promises made so far. It takes what the waiters have been
// told, without waiting for more.
func (d *driver) kept(p *promises, heard map[*ack]bool) {
	for i, a := range d.acks {
		if a.result == nil || heard[a] {
			continue
		}
		select {
		case err := <-a.result:
			heard[a] = true
			if err != nil {
				continue
			}
		default:
			continue
		}
		if a.strict {
			p.atLeast = i + 1
		}
		p.put = append(p.put, a.put...)
		p.gone = append(p.gone, a.gone...)
	}
}

// check loads a store that was recovered from a crash and verifies that it
// holds the effect of a prefix of the proposals, and all that was promised.
func (d *driver) check(t *testing.T, s *Store, p promises) (found model, shares map[place]*Share) {
	t.Helper()
	found = model{shares: make(map[place]*modelShare), config: make(map[string]string)}
	shares = make(map[place]*Share)
	runs := make(map[*Run]bool)
	queues := make(map[uint64]bool)
	for at := range d.model.shares {
		queues[at.queue] = true
	}
	for q := range queues {
		for _, r := range directory(t, s, q) {
			body, err := s.ReadRun(r.Share)
			if err != nil {
				t.Fatal(err)
			}
			at := place{q, r.First}
			found.shares[at] = &modelShare{body: string(body), settled: r.Settled, put: true}
			shares[at] = r.Share
			runs[r.Share.run] = true
		}
	}
	if err := s.Config(func(k, v []byte) error { found.config[string(k)] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if n := countKeys(t, s, spaceBody); n != len(runs) {
		t.Errorf("%d bodies stored for %d runs", n, len(runs))
	}
	got := found.String()
	state := len(d.states) - 1
	for state >= p.atLeast && d.states[state] != got {
		state--
	}
	if state < p.atLeast {
		t.Fatalf("recovered state is that of no proposal from %d to %d:\n%s\nlast state:\n%s", p.atLeast, len(d.states)-1, got, d.states[len(d.states)-1])
	}
	for _, at := range p.put {
		if found.shares[at] == nil && !d.model.shares[at].dropped {
			t.Errorf("confirmed share %v is lost", at)
		}
	}
	for _, at := range p.gone {
		if found.shares[at] != nil {
			t.Errorf("share %v came back after its drop was confirmed", at)
		}
	}
	return found, shares
}

// resume returns a driver that goes on with what was recovered.
func (d *driver) resume(s *Store, found model, shares map[place]*Share) *driver {
	return &driver{
		rng: d.rng, store: s, model: found, shares: shares,
		queues: d.queues, next: d.next, runs: d.runs,
		states: []string{found.String()},
	}
}
