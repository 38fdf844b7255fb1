// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// text is a Body.
type text string

func (t text) Size() int                  { return len(t) }
func (t text) AppendTo(dst []byte) []byte { return append(dst, t...) }
func (t text) Release()                   {}

// result is a Waiter for one proposal.
type result chan error

func newResult() result { return make(result, 1) }

func (r result) Durable(err error) { r <- err }
func (r result) Flush()            {}

func (r result) want(t testing.TB) {
	t.Helper()
	if err := <-r; err != nil {
		t.Fatalf("Durable(%v), want nil", err)
	}
}

// journal is a Waiter that writes down its calls.
type journal struct {
	mu    sync.Mutex
	calls []string
}

func (j *journal) note(call string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.calls = append(j.calls, call)
}

// named is a Waiter that notes its calls under a name.
type named struct {
	name string
	*journal
}

func (n *named) Durable(err error) { n.note(fmt.Sprintf("%s durable %v", n.name, err)) }
func (n *named) Flush()            { n.note(n.name + " flush") }

// gate is a Waiter that holds the committer until it is opened.
type gate struct{ reached, open chan struct{} }

func newGate() *gate { return &gate{make(chan struct{}), make(chan struct{})} }

func (g *gate) Durable(error) { close(g.reached); <-g.open }
func (g *gate) Flush()        {}

// holdCommitter returns when the committer is busy, so that what is proposed
// next gathers until the returned gate is opened.
func holdCommitter(s *Store) *gate {
	g := newGate()
	s.Sync(g)
	<-g.reached
	return g
}

func quiet(o Options) Options {
	if o.Dir == "" {
		o.Dir = "data"
	}
	o.MemTableSize = 1 << 20
	o.Logger = slog.New(slog.DiscardHandler)
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
	r := newResult()
	s.Propose(0, r, records...)
	r.want(t)
}

// reopen closes the store orderly and opens it again.
func reopen(t testing.TB, s *Store, fs vfs.FS) *Store {
	t.Helper()
	mustClose(t, s)
	return mustOpen(t, Options{FS: fs})
}

// directory loads a queue's directory.
func directory(t testing.TB, s *Store, queue uint64) (runs []RecoveredRun) {
	t.Helper()
	if err := s.Directory(queue, func(r RecoveredRun) error { runs = append(runs, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return runs
}

// countKeys counts the keys of a key space.
func countKeys(t testing.TB, s *Store, space byte) (n int) {
	t.Helper()
	it, err := s.newIter(spaceBounds(space))
	if err != nil {
		t.Fatal(err)
	}
	for it.First(); it.Valid(); it.Next() {
		n++
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// wantKeys checks how many entries, settled marks and bodies are on disk.
func wantKeys(t testing.TB, s *Store, entries, marks, bodies int) {
	t.Helper()
	got := [3]int{countKeys(t, s, spaceDirectory), countKeys(t, s, spaceSettled), countKeys(t, s, spaceBody)}
	if want := [3]int{entries, marks, bodies}; got != want {
		t.Errorf("entries, marks, bodies: %v, want %v", got, want)
	}
}

func wantBody(t testing.TB, s *Store, sh *Share, want string) {
	t.Helper()
	got, err := s.ReadRun(sh)
	if err != nil || string(got) != want {
		t.Errorf("ReadRun: %q, %v, want %q", got, err, want)
	}
}
