// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// growing is a GrowingBody that takes up to 100 bytes.
type growing struct{ b []byte }

func (g *growing) Size() int                  { return len(g.b) }
func (g *growing) AppendTo(dst []byte) []byte { return append(dst, g.b...) }
func (g *growing) Release()                   {}

func (g *growing) Grow(more Body) bool {
	if len(g.b)+more.Size() > 100 {
		return false
	}
	g.b = more.AppendTo(g.b)
	return true
}

// A run takes further messages until the committer has taken it; they are
// durable and told in the order of proposals.
func TestExtend(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	q := s.NewID()
	var j journal
	a, b := &named{"a", &j}, &named{"b", &j}
	r := NewRun(&growing{[]byte("one")})
	sh := r.Share(q, 7, 1, 3)
	if s.Extend(sh, text("early"), 1, 5, nil) {
		t.Error("extended before it was proposed")
	}
	g := holdCommits(s)
	s.Propose(0, a, PutRun(r))
	s.Propose(0, b, SetConfig([]byte("k"), nil))
	if !s.Extend(sh, text("-two"), 2, 4, a) {
		t.Error("not extended although it is pending")
	}
	if s.Extend(sh, text(strings.Repeat("x", 100)), 1, 100, a) {
		t.Error("extended although the body is full")
	}
	close(g.open)
	mustPropose(t, s)
	if s.Extend(sh, text("late"), 1, 4, nil) {
		t.Error("extended after it was committed")
	}
	wantBody(t, s, sh, "one-two")
	s = reopen(t, s, fs)
	if want := []string{"a durable <nil>", "b durable <nil>", "a durable <nil>", "a flush", "b flush", "a flush"}; !slices.Equal(j.calls, want) {
		t.Errorf("calls %q, want %q", j.calls, want)
	}
	runs := recovered(t, s)
	if len(runs) != 1 || runs[0].First != 7 || runs[0].Count != 3 || runs[0].Bytes != 7 {
		t.Errorf("recovered %+v", runs)
	}
}

// A run that several queues share, one of a proposal that is on its way, and one
// that was dropped meanwhile are left alone or come to nothing.
func TestExtendRefuses(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	q1, q2 := s.NewID(), s.NewID()
	shared := NewRun(&growing{[]byte("shared")})
	one := shared.Share(q1, 1, 1, 6)
	shared.Share(q2, 1, 1, 6)
	rigid := NewRun(text("rigid"))
	other := rigid.Share(q1, 2, 1, 5)
	large := NewRun(&growing{})
	full := large.Share(q1, 3, 1, 0)
	g := holdCommits(s)
	s.Propose(0, nil, PutRun(shared), PutRun(rigid), PutRun(large))
	for name, sh := range map[string]*Share{"shared": one, "rigid": other} {
		if s.Extend(sh, text("more"), 1, 4, nil) {
			t.Errorf("%s run was extended", name)
		}
	}
	// What would make the list two commits could come before what was proposed earlier.
	s.Propose(0, nil, SetConfig([]byte("large"), make([]byte, s.chunkBytes())))
	if s.Extend(full, text("more"), 1, 4, nil) {
		t.Error("extended a run of a list that may be cut")
	}
	close(g.open)
	mustPropose(t, s)
}
