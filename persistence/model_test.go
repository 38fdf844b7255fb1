// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// model is what a store must hold after a prefix of the proposals.
type model struct {
	shares map[position]*modelShare
	config map[string]string
}

func newModel() model {
	return model{shares: make(map[position]*modelShare), config: make(map[string]string)}
}

type position struct{ queue, first uint64 }

type modelShare struct {
	at       position
	body     string
	settled  Settled
	volatile bool
	put      bool // its PutRun was proposed
	dropped  bool // so was its end
	touched  bool // something else than its PutRun was proposed
	share    *Share
	chilled  *Place // instead of share
}

// String describes what must outlive the boot, for comparison.
func (m *model) String() string {
	var lines []string
	for _, sh := range m.shares {
		if sh.put && !sh.dropped && !sh.volatile {
			lines = append(lines, fmt.Sprintf("%s%x", sh.line(), sh.settled))
		}
	}
	for k, v := range m.config {
		lines = append(lines, k+"="+v)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (sh *modelShare) line() string {
	return fmt.Sprintf("%d/%d %s ", sh.at.queue, sh.at.first, label(sh.body))
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
	large  int // one body of so many is large
	queues []uint64
	next   map[uint64]uint64 // the queues' next numbers
	unput  []*modelRun       // runs yet to be proposed
	runs   int

	states []string // the model after each proposal; states[0] is the start
	spared []spared // what may be missing in a state before the drop
	acks   []*ack   // of the proposal that led to states[i+1]

	mu    sync.Mutex
	heard []int // numbers of the acks that were told, in order
}

type modelRun struct {
	run    *Run
	shares []*modelShare
}

// spared is a share that was dropped by a proposal of settlements alone, which may
// have kept it from being written.
type spared struct {
	line  string // of the share as long as it is there, without what is settled of it
	state int    // the first one without it
}

// ack is the Waiter of one proposal and what it promises when it is durable.
type ack struct {
	driver *driver
	number int
	told   chan struct{} // closed when it was told err
	err    error

	silent bool          // the proposal has no waiter
	strict bool          // the proposal itself must be on disk
	put    []*modelShare // these are there, unless dropped by some proposal
	gone   []*modelShare // these are not
}

func (a *ack) Durable(err error) {
	a.driver.mu.Lock()
	a.driver.heard = append(a.driver.heard, a.number)
	a.driver.mu.Unlock()
	a.err = err
	close(a.told)
}

func (a *ack) Flush() {}

func newDriver(s *Store, rng *rand.Rand) *driver {
	d := &driver{rng: rng, store: s, model: newModel(), next: make(map[uint64]uint64), large: 20}
	for range 4 {
		d.queues = append(d.queues, s.NewID())
	}
	d.states = []string{d.model.String()}
	return d
}

// step makes one random proposal, and may read something back.
func (d *driver) step(t *testing.T) {
	a := &ack{driver: d, number: len(d.acks), told: make(chan struct{}), silent: d.rng.IntN(3) == 0}
	var records []Record
	for range 1 + d.rng.IntN(4) {
		records = append(records, d.record(a)...)
	}
	if len(records) == 0 {
		a.strict = true
	}
	d.states = append(d.states, d.model.String())
	d.acks = append(d.acks, a)
	if a.silent {
		if !slices.ContainsFunc(records, func(r Record) bool { return !r.settles() }) {
			d.spare(records)
		}
		d.store.Propose(0, nil, records...)
	} else {
		d.store.Propose(0, a, records...)
	}
	if d.rng.IntN(8) == 0 {
		d.store.askForRenewal()
	}
	if sh := d.anyShare(); sh != nil && sh.chilled == nil && sh.share.Stored() && d.rng.IntN(4) == 0 {
		d.wantBody(t, sh)
	}
}

// spare notes what need not be in earlier states any more.
func (d *driver) spare(settlements []Record) {
	for _, sh := range d.model.shares {
		for _, r := range settlements {
			if r.kind == kindDrop && r.share == sh.share {
				d.spared = append(d.spared, spared{sh.line(), len(d.states) - 1})
			}
		}
	}
}

// holds reports whether a store's content is that of a state, or of that with some of
// what was spared later left out.
func (d *driver) holds(got string, state int) bool {
	if got == d.states[state] {
		return true
	}
	has := strings.Split(got, "\n")
	var without []string
	for _, line := range strings.Split(d.states[state], "\n") {
		if slices.Contains(has, line) || !slices.ContainsFunc(d.spared, func(s spared) bool {
			return s.state > state && strings.HasPrefix(line, s.line)
		}) {
			without = append(without, line)
		}
	}
	return got == strings.Join(without, "\n")
}

// wantBody reads a share, again when the store is in service if there was no database.
func (d *driver) wantBody(t *testing.T, sh *modelShare) {
	if _, err := readRun(d.store, sh.share); errors.Is(err, ErrFailed) {
		<-d.store.barrier()
	}
	wantBody(t, d.store, sh.share, sh.body)
}

func (d *driver) run(t *testing.T, steps int) {
	for range steps {
		d.step(t)
	}
}

func (d *driver) record(a *ack) []Record {
	switch d.rng.IntN(16) {
	case 0, 1, 2, 3:
		m := d.newRun()
		if d.rng.IntN(4) == 0 {
			d.unput = append(d.unput, m)
			return nil
		}
		return []Record{d.put(m, a)}
	case 4, 5:
		if len(d.unput) == 0 {
			return nil
		}
		m := d.unput[0]
		d.unput = d.unput[1:]
		return []Record{d.put(m, a)}
	case 6, 7, 8:
		sh := d.anyShare()
		if sh == nil {
			return nil
		}
		sh.settled.Set(d.rng.Uint32N(10))
		return []Record{Settle(d.warm(sh), sh.settled)}
	case 9, 10:
		sh := d.anyShare()
		if sh == nil {
			return nil
		}
		return []Record{d.drop(sh, a)}
	case 11:
		a.strict = true
		key := fmt.Sprint("key", d.rng.IntN(5))
		if d.rng.IntN(3) == 0 {
			delete(d.model.config, key)
			return []Record{DeleteConfig([]byte(key))}
		}
		value := fmt.Sprint(d.rng.Uint64())
		d.model.config[key] = value
		return []Record{SetConfig([]byte(key), []byte(value))}
	case 12:
		return d.replace(a)
	case 13:
		d.chill()
		return nil
	case 14:
		return d.forget(a)
	default:
		if d.rng.IntN(8) != 0 {
			return nil
		}
		return d.deleteQueue(a)
	}
}

func (d *driver) newBody() string {
	d.runs++
	size := d.rng.IntN(2000)
	if d.rng.IntN(d.large) == 0 {
		size = 300 << 10
	}
	return fmt.Sprintf("run%d %s", d.runs, strings.Repeat("x", size))
}

// newRun makes a run with shares in some of the queues.
func (d *driver) newRun() *modelRun {
	body := d.newBody()
	m := &modelRun{run: NewRun(text(body))}
	volatile := d.rng.IntN(5) == 0
	if volatile {
		m.run = NewVolatileRun(text(body))
	} else if d.rng.IntN(2) == 0 {
		m.run.Fleeting()
	}
	for _, i := range d.rng.Perm(len(d.queues))[:1+d.rng.IntN(3)] {
		at := position{d.queues[i], d.next[d.queues[i]]}
		d.next[at.queue] += 10
		d.share(m, at, body).volatile = volatile
	}
	return m
}

func (d *driver) share(m *modelRun, at position, body string) *modelShare {
	sh := &modelShare{at: at, body: body, share: m.run.Share(at.queue, at.first, 10, uint64(len(body)))}
	d.model.shares[at] = sh
	m.shares = append(m.shares, sh)
	return sh
}

func (d *driver) put(m *modelRun, a *ack) Record {
	for _, sh := range m.shares {
		sh.put = true
		if !sh.volatile {
			a.put = append(a.put, sh)
		}
	}
	return PutRun(m.run)
}

func (d *driver) drop(sh *modelShare, a *ack) Record {
	share := d.warm(sh)
	sh.dropped = true
	a.gone = append(a.gone, sh)
	return Drop(share)
}

// replace puts a run in the place of another, under the same number.
func (d *driver) replace(a *ack) []Record {
	old := d.anyShare()
	if old == nil || !old.put || old.volatile {
		return nil
	}
	dropped := d.drop(old, a)
	body := d.newBody()
	m := &modelRun{run: NewRun(text(body))}
	d.share(m, old.at, body).settled = old.settled
	records := []Record{dropped, d.put(m, a)}
	if !old.settled.IsZero() {
		records = append(records, Settle(d.warm(m.shares[0]), old.settled))
	}
	return records
}

// chill keeps nothing but the place of a share.
func (d *driver) chill() {
	sh := d.anyShare()
	if sh == nil || sh.touched || sh.chilled != nil {
		return
	}
	if p, ok := sh.share.Chill(); ok {
		sh.share, sh.chilled = nil, &p
	}
}

// warm returns the share, about which something is to be proposed.
func (d *driver) warm(sh *modelShare) *Share {
	sh.touched = true
	if sh.chilled != nil {
		var settled Settled // so far
		sh.share = d.store.Warm(*sh.chilled, sh.at.queue, sh.at.first, 10, uint64(len(sh.body)), settled)
		sh.chilled = nil
	}
	return sh.share
}

// forget forgets as many runs of a queue, from its first on, as may be.
func (d *driver) forget(a *ack) []Record {
	queue := d.queues[d.rng.IntN(len(d.queues))]
	var from, end uint64
	var gone []*modelShare
	for _, sh := range d.living() {
		switch {
		case sh.at.queue != queue:
			continue
		case sh.touched || sh.chilled == nil && !sh.share.Stored():
			if len(gone) > 0 {
				goto found
			}
			from = sh.at.first + 1
		default:
			gone = append(gone, sh)
			end = sh.at.first + 1
		}
	}
found:
	for _, sh := range gone {
		sh.dropped = true
	}
	a.gone = append(a.gone, gone...)
	return []Record{Forget(queue, from, end)}
}

// deleteQueue drops all shares of a queue, which another takes the place of.
func (d *driver) deleteQueue(a *ack) (records []Record) {
	i := d.rng.IntN(len(d.queues))
	queue := d.queues[i]
	d.queues[i] = d.store.NewID()
	for _, sh := range d.living() {
		if sh.at.queue == queue {
			records = append(records, d.drop(sh, a))
		}
	}
	return append(records, DropQueue(queue))
}

// living returns the shares that are not dropped, in a repeatable order.
func (d *driver) living() []*modelShare {
	all := slices.DeleteFunc(slices.Collect(maps.Values(d.model.shares)), func(sh *modelShare) bool { return sh.dropped })
	slices.SortFunc(all, func(a, b *modelShare) int {
		return cmp.Or(cmp.Compare(a.at.queue, b.at.queue), cmp.Compare(a.at.first, b.at.first))
	})
	return all
}

func (d *driver) anyShare() *modelShare {
	all := d.living()
	if len(all) == 0 {
		return nil
	}
	return all[d.rng.IntN(len(all))]
}

// nearest tells how a state differs from the nearest of the model's.
func (d *driver) nearest(got string, from int) (best string) {
	for i := from; i < len(d.states); i++ {
		var b strings.Builder
		fmt.Fprintf(&b, "state %d", i)
		has, wants := strings.Split(got, "\n"), strings.Split(d.states[i], "\n")
		for _, line := range has {
			if !slices.Contains(wants, line) {
				b.WriteString("\n+" + line)
			}
		}
		for _, line := range wants {
			if !slices.Contains(has, line) {
				b.WriteString("\n-" + line)
			}
		}
		if best == "" || b.Len() < len(best) {
			best = b.String()
		}
	}
	return best
}

// promises is what waiters were told up to some moment.
type promises struct {
	atLeast   int // states before this one are out of the question
	put, gone []*modelShare
}

// promised collects the promises made so far.
func (d *driver) promised() (p promises) {
	for i, a := range d.acks {
		select {
		case <-a.told:
		default:
			continue
		}
		if a.err != nil {
			continue
		}
		if a.strict {
			p.atLeast = i + 1
		}
		p.put = append(p.put, a.put...)
		p.gone = append(p.gone, a.gone...)
	}
	return p
}

// everything is the promise of an orderly stop.
func (d *driver) everything() promises { return promises{atLeast: len(d.acks)} }

// check recovers a store and verifies that it holds the effect of a prefix of
// the proposals, and all that was promised. It returns a driver that goes on with
// it.
func (d *driver) check(t *testing.T, s *Store, p promises) *driver {
	t.Helper()
	found := newModel()
	err := s.Recover(func(r *RecoveredRun) (bool, error) {
		sh := &modelShare{at: position{r.Queue, r.First}, put: true, settled: r.Settled, touched: true, share: warm(s, *r)}
		found.shares[sh.at] = sh
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sh := range found.shares {
		if sh.body, err = readRun(s, sh.share); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Config(func(k, v []byte) error { found.config[string(k)] = string(v); return nil }); err != nil {
		t.Fatal(err)
	}
	got := found.String()
	state := len(d.states) - 1
	for state >= p.atLeast && !d.holds(got, state) {
		state--
	}
	if state < p.atLeast {
		t.Fatalf("recovered state is that of no proposal from %d to %d; against the nearest of them:\n%s", p.atLeast, len(d.states)-1, d.nearest(got, p.atLeast))
	}
	for _, sh := range p.put {
		if is := found.shares[sh.at]; !sh.dropped && (is == nil || is.body != sh.body) {
			t.Errorf("confirmed share %v is lost", sh.at)
		}
	}
	for _, sh := range p.gone {
		if is := found.shares[sh.at]; is != nil && is.body == sh.body {
			t.Errorf("share %v came back after its drop was confirmed", sh.at)
		}
	}

	finishReclaiming(t, s)
	bodies := make(map[runName]bool)
	marks := 0
	for _, sh := range found.shares {
		bodies[sh.share.run.name] = true
		if !sh.settled.IsZero() {
			marks++
		}
	}
	wantKeys(t, s, keyCounts{entries: len(found.shares), marks: marks, bodies: len(bodies)})
	return &driver{
		rng: d.rng, store: s, model: found, large: d.large,
		queues: d.queues, next: d.next, runs: d.runs,
		states: []string{found.String()},
	}
}
