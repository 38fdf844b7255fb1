// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"iter"
	"slices"
	"testing"
)

// sink is a channel as the engine sees it: it takes as many messages as there
// is room for, without bound if room is negative.
type sink struct {
	room     int
	reserved int
}

func (s *sink) Reserve(n uint32) uint32 {
	if s.room >= 0 {
		n = uint32(min(int(n), s.room-s.reserved))
	}
	s.reserved += int(n)
	return n
}

// keeper is a store for tests. Its handles are pointers to disk.
type keeper struct {
	places uint64
	looks  int              // calls of Stored
	cold   map[uint64]*disk // chilled and recovered runs, by their first number
}

// disk is a stored run: its messages are numbered first..first+count-1.
type disk struct {
	place Place
	first uint64
	count uint32
	late  bool // on its way
	gone  bool // dropped from the store

	nothing Bitmap // messages whose body was thinned out
}

func (k *keeper) Stored(r *Run) bool {
	k.looks++
	d, ok := r.Stored.(*disk)
	if ok && d.gone {
		panic(fmt.Sprintf("run %d has a handle of what was dropped", r.First))
	}
	return ok && !d.late
}

func (k *keeper) Chill(r *Run) (Place, bool) {
	d := r.Stored.(*disk)
	if d.late {
		return Place{}, false
	}
	k.cold[r.First] = d
	return d.place, true
}

func (k *keeper) Warm(r *Run, p Place) any {
	d := k.cold[r.First]
	if d == nil || d.gone || d.place != p || d.count != r.Count {
		panic(fmt.Sprintf("run %d of %d messages comes from %+v, was put at %+v", r.First, r.Count, p, d))
	}
	delete(k.cold, r.First)
	return d
}

// put makes a handle.
func (k *keeper) put(first uint64, count int) *disk {
	k.places++
	return &disk{place: Place{Group: k.places / 7, Index: k.places * 3, Part: uint32(k.places % 5), Flags: uint8(k.places & 1)}, first: first, count: uint32(count)}
}

// restore makes a place for a run that is to be recovered.
func (k *keeper) restore(first uint64, count int) Place {
	d := k.put(first, count)
	k.cold[first] = d
	return d.place
}

// newKeeper gives the engine a keeper.
func newKeeper(e *Engine) *keeper {
	k := &keeper{cold: map[uint64]*disk{}}
	e.Keeper = k
	return k
}

func (s *sink) Release(n uint32)       { s.reserved -= int(n) }
func (s *sink) Cancelled()             {}
func (s *sink) Oldest() (uint64, bool) { return 0, false }
func (s *sink) TimeOut() []uint64      { return nil }
func (s *sink) Waits() (w Wait) {
	if !s.grants() {
		w = WaitConnection
	}
	return w
}
func (s *sink) Deliver(*Delivery) bool { return true }

// took takes n messages of a delivery off what was reserved.
func (s *sink) took(n uint32) {
	s.reserved -= int(n)
	if s.room >= 0 {
		s.room -= int(n)
	}
}

// grants says whether the sink would take a message.
func (s *sink) grants() bool { return s.room < 0 || s.room > s.reserved }

// newPage makes a page of count messages for the numbers from first on, each
// with a body of size bytes that starts with its number.
func newPage(first uint64, count, size int) *Page {
	return fillPage(new(Page), first, count, size).exact()
}

func fillPage(p *Page, first uint64, count, size int) *Page {
	for i := range count {
		body := make([]byte, size)
		copy(body, label(first+uint64(i)))
		p.Append([]byte("\x00\x01q"), []byte("header"), body)
	}
	return p
}

// content is the page of a run as it was published, if all its messages have the
// same size.
func content(r *Run) *Page { return newPage(r.First, int(r.Count), int(r.Bytes)/int(r.Count)) }

// messages are what test messages are like, by number; others have 10 bytes.
type messages map[uint64]testMessage

type testMessage struct {
	size  int
	stamp Stamp
}

func (m messages) of(number uint64) testMessage {
	if message, ok := m[number]; ok {
		return message
	}
	return testMessage{size: 10}
}

// page is the page with the messages from first on, as it was published or is read.
func (m messages) page(first uint64, count int) *Page { return m.pageWithout(first, count, Bitmap{}) }

// pageWithout is page with nothing in the place of those that are settled.
func (m messages) pageWithout(first uint64, count int, settled Bitmap) *Page {
	return m.fill(new(Page), first, count, settled).exact()
}

// fill is pageWithout for a page that is there.
func (m messages) fill(p *Page, first uint64, count int, settled Bitmap) *Page {
	for i := range count {
		number := first + uint64(i)
		message := m.of(number)
		if settled.Has(uint32(i)) {
			p.AppendNothing()
		} else {
			fillPage(p, number, 1, message.size)
		}
		p.stampLike(message.stamp)
	}
	return p
}

func label(number uint64) string { return NumberText(number) + "." }

// checkDelivery checks that the delivery's page holds the messages that its
// numbers say.
func checkDelivery(d *Delivery) error {
	for i := range d.Count {
		_, _, body := d.Page.Message(int(d.Offset(i)))
		want := make([]byte, len(body))
		copy(want, label(d.Number(i)))
		if len(body) == 0 || string(body) != string(want) {
			return fmt.Errorf("message %d comes with body %q", d.Number(i), body)
		}
	}
	return nil
}

// checkDispatched checks what must hold after every Dispatch: nobody waits who
// could be served, and what is waited for is being loaded.
func checkDispatched(e *Engine) error {
	if err := e.Check(); err != nil {
		return err
	}
	for _, c := range e.consumers {
		if n := c.Sink.(*sink).reserved; n != 0 {
			return fmt.Errorf("consumer %s keeps %d messages reserved", c.Tag, n)
		}
	}
	if (e.Active() == nil) != (e.Single == AllActive || len(e.consumers) == 0) {
		return fmt.Errorf("the single active consumer of %d is %v", len(e.consumers), e.Active())
	}
	if e.readiest() == nil {
		if len(e.getters) > 0 {
			return fmt.Errorf("%d basic.gets wait at an empty queue", len(e.getters))
		}
		return nil
	}
	wanted := len(e.getters) > 0
	for _, c := range e.consumers {
		wanted = wanted || mayGet(e, c) && c.credit(1) > 0 && c.Sink.(*sink).grants()
	}
	if !wanted {
		return nil
	}
	r := e.readiest().nextReady().run
	switch {
	case r.Page != nil:
		return fmt.Errorf("run %d has messages ready in memory that somebody wants", r.First)
	case !r.loading:
		return fmt.Errorf("run %d is wanted but nobody loads it", r.First)
	}
	return nil
}

// mayGet says whether the queue deals messages to a consumer: to all, or only to the
// single active one, unless that gives way to one of a higher priority.
func mayGet(e *Engine, c *Consumer) bool {
	if e.Single == AllActive {
		return true
	}
	yields := e.Single == GivesWay && c.unacked > 0 && slices.ContainsFunc(e.consumers, func(other *Consumer) bool {
		return other.Priority > c.Priority
	})
	return c == e.Active() && !yields
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// each is the numbers one by one.
func (i Interval) each() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for n := i.First; n < i.End && yield(n); n++ {
		}
	}
}

// intervals is numbers in their order, with those that follow each other together.
func intervals(numbers []uint64) (together []Interval) {
	for _, n := range numbers {
		if last := len(together) - 1; last >= 0 && together[last].End == n {
			together[last].End++
		} else {
			together = append(together, Interval{n, n + 1})
		}
	}
	return together
}
