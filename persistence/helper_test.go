// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// text is a Body.
type text string

func (t text) Size() int                  { return len(t) }
func (t text) AppendTo(dst []byte) []byte { return append(dst, t...) }
func (t text) Release()                   {}

// want waits until the proposal is durable.
func (r reply) want(t testing.TB) {
	t.Helper()
	if err := r.wait(); err != nil {
		t.Fatalf("Durable(%v), want nil", err)
	}
}

// journal is what several waiters were told, in order.
type journal struct {
	mu    sync.Mutex
	calls []string
}

func (j *journal) note(call string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = append(j.calls, call)
}

// durable is what was told to be durable so far.
func (j *journal) durable() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(j.calls), func(call string) bool { return strings.HasSuffix(call, " flush") })
}

// named is a Waiter that notes its calls under a name.
type named struct {
	name string
	*journal
}

func (n *named) Durable(err error) { n.note(fmt.Sprintf("%s durable %v", n.name, err)) }
func (n *named) Flush()            { n.note(n.name + " flush") }

// gate is a Waiter that holds the reporter until it is opened.
type gate struct{ reached, open chan struct{} }

func newGate() *gate { return &gate{make(chan struct{}), make(chan struct{})} }

func (g *gate) Durable(error) { close(g.reached); <-g.open }
func (g *gate) Flush()        {}

// holdCommits returns when the reporter is held and a commit is on its way, so
// that what is proposed next gathers, if it is little, until the returned gate is
// opened.
func holdCommits(s *Store) *gate {
	g := newGate()
	s.Sync(g)
	<-g.reached
	s.Propose(0, nil, SetConfig([]byte("held"), nil), DeleteConfig([]byte("held")))
	for taken := false; !taken; runtime.Gosched() {
		s.mu.Lock()
		taken = s.due == 0 && s.taken == nil
		s.mu.Unlock()
	}
	return g
}

func quiet(o Options) Options {
	if o.Dir == "" {
		o.Dir = "data"
	}
	if o.MemTableSize == 0 {
		o.MemTableSize = minMemTableSize
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(quiet(o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// mustPropose proposes and waits until it is durable.
func mustPropose(t testing.TB, s *Store, records ...Record) {
	t.Helper()
	r := newReply()
	s.Propose(0, r, records...)
	r.want(t)
}

// put proposes a run with one share and waits until it is durable.
func put(t testing.TB, s *Store, queue, first uint64, body string) *Share {
	t.Helper()
	r := NewRun(text(body))
	sh := r.Share(queue, first, 1, uint64(len(body)))
	mustPropose(t, s, PutRun(r))
	return sh
}

// reopen closes the store orderly and opens it again.
func reopen(t testing.TB, s *Store, fs vfs.FS) *Store {
	t.Helper()
	mustClose(t, s)
	return mustOpen(t, Options{FS: fs})
}

// recovered recovers all directories; every queue exists.
func recovered(t testing.TB, s *Store) (runs []RecoveredRun) {
	t.Helper()
	err := s.Recover(func(r *RecoveredRun) (bool, error) { runs = append(runs, *r); return true, nil })
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

// warm returns the share of a recovered run.
func warm(s *Store, r RecoveredRun) *Share {
	return s.Warm(r.Place, r.Queue, r.First, r.Count, r.Bytes, r.Settled)
}

// countKeys counts the keys of a key space.
func countKeys(t testing.TB, s *Store, space byte) (n int) {
	t.Helper()
	g, err := s.beginRead()
	if err != nil {
		t.Fatal(err)
	}
	defer s.endRead(g)
	if err := g.scan(space, func(_, _ []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// keyCounts is how many keys there are of what queues hold.
type keyCounts struct{ entries, marks, condemned, bodies, volatile int }

func wantKeys(t testing.TB, s *Store, want keyCounts) {
	t.Helper()
	got := keyCounts{
		entries:   countKeys(t, s, spaceDirectory),
		marks:     countKeys(t, s, spaceSettled),
		condemned: countKeys(t, s, spaceCondemned),
		bodies:    countKeys(t, s, spaceBody),
		volatile:  countKeys(t, s, spaceVolatileBody),
	}
	if got != want {
		t.Errorf("keys %+v, want %+v", got, want)
	}
}

// finishReclaiming returns when nothing is condemned any more.
func finishReclaiming(t testing.TB, s *Store) {
	t.Helper()
	mustPropose(t, s)
	for s.reclaimer.waiting() > 0 {
		mustPropose(t, s)
	}
}

func readRun(s *Store, sh *Share) (body string, err error) {
	err = s.ReadRun(sh, func(b []byte) error { body = string(b); return nil })
	return body, err
}

func wantBody(t testing.TB, s *Store, sh *Share, want string) {
	t.Helper()
	if got, err := readRun(s, sh); err != nil || got != want {
		t.Errorf("ReadRun: %.40q, %v, want %.40q", got, err, want)
	}
}
