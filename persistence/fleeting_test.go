// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fleeting proposes a run with one share that is expected to be settled at once.
func fleeting(s *Store, queue, first uint64, w Waiter) *Share {
	r := NewRun(text(fmt.Sprint("body ", first)))
	sh := r.Share(queue, first, 1, 6)
	r.Fleeting()
	s.Propose(0, w, PutRun(r))
	return sh
}

// inBubble runs a test with a store in a bubble where time stands still unless all wait.
func inBubble(t *testing.T, test func(t *testing.T, s *Store, queue uint64)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(quiet(Options{FS: vfs.NewMem()}))
		if err != nil {
			t.Fatal(err)
		}
		test(t, s, s.NewID())
		mustClose(t, s)
	})
}

// What is settled in time is answered without the disk, in order, and leaves nothing.
func TestFleetingRunsAreSpared(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, q uint64) {
		var j journal
		a, b := fleeting(s, q, 1, &named{"a", &j}), fleeting(s, q, 2, &named{"b", &j})
		s.Propose(0, nil, Settle(b, Settled{1}))
		s.Propose(0, nil, Drop(b))
		synctest.Wait()
		if calls := j.durable(); len(calls) > 0 {
			t.Errorf("%q although the first run is not settled", calls)
		}
		if s.Fate(a) != Waiting || s.Fate(b) != Spared {
			t.Errorf("fates %d and %d", s.Fate(a), s.Fate(b))
		}
		s.Propose(0, nil, Drop(a))
		s.Propose(0, nil, Drop(a))
		synctest.Wait()
		if want := []string{"a durable <nil>", "b durable <nil>"}; !slices.Equal(j.durable(), want) {
			t.Errorf("calls %q, want %q", j.durable(), want)
		}
		time.Sleep(s.opts.SettleDelay + 2*maxFleetingDelay)
		if n := s.Stats().Commits; n > 0 {
			t.Errorf("%d commits", n)
		}
		if n := s.pendingBytes.Load(); n != 0 {
			t.Errorf("%d bytes count as pending", n)
		}
	})
}

// What is not settled in time is written, all of the list before it too, and what
// comes behind it waits for its own time.
func TestFleetingRunsAreWrittenInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, q uint64) {
		var j journal
		a := fleeting(s, q, 1, &named{"a", &j})
		time.Sleep(s.opts.FleetingDelay / 2)
		b := fleeting(s, q, 2, &named{"b", &j})
		time.Sleep(s.opts.FleetingDelay/2 + 1)
		synctest.Wait()
		if !slices.Equal(j.durable(), []string{"a durable <nil>"}) || !a.Stored() || b.Stored() {
			t.Errorf("calls %q", j.durable())
		}
		if s.Fate(a) != Written || s.Fate(b) != Waiting {
			t.Errorf("fates %d and %d", s.Fate(a), s.Fate(b))
		}
		time.Sleep(s.opts.FleetingDelay)
		synctest.Wait()
		if !b.Stored() {
			t.Error("a run waits for too long")
		}
		wantBody(t, s, a, "body 1")
		wantBody(t, s, b, "body 2")
		wantKeys(t, s, keyCounts{entries: 2, bodies: 2})
	})
}

// What cannot wait takes along what was proposed before it.
func TestFleetingRunsGoWithWhatPresses(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, q uint64) {
		var j journal
		a := fleeting(s, q, 1, &named{"a", &j})
		gone := fleeting(s, q, 2, &named{"gone", &j})
		s.Propose(0, nil, Drop(gone))
		start := time.Now()
		mustPropose(t, s, SetConfig([]byte("k"), []byte("v")))
		if !a.Stored() || time.Since(start) > 0 {
			t.Errorf("stored %t after %v", a.Stored(), time.Since(start))
		}
		if want := []string{"a durable <nil>", "gone durable <nil>"}; !slices.Equal(j.durable(), want) {
			t.Errorf("calls %q, want %q", j.durable(), want)
		}
		wantKeys(t, s, keyCounts{entries: 1, bodies: 1})
	})
}

// Answers that need no disk come after those that do and were proposed before.
func TestSparedRunsAreAnsweredInOrder(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	q := s.NewID()
	g := holdCommits(s)
	var j journal
	s.Propose(0, &named{"config", &j}, SetConfig([]byte("k"), nil))
	for i := range uint64(3) {
		s.Propose(0, nil, Drop(fleeting(s, q, i, &named{fmt.Sprint("run ", i), &j})))
	}
	end := newReply()
	s.Propose(0, end)
	if calls := j.durable(); len(calls) > 0 {
		t.Errorf("%q while the disk is busy", calls)
	}
	close(g.open)
	end.want(t)
	if want := []string{"config durable <nil>", "run 0 durable <nil>", "run 1 durable <nil>", "run 2 durable <nil>"}; !slices.Equal(j.durable(), want) {
		t.Errorf("calls %q, want %q", j.durable(), want)
	}
}

// Settlements of what is on disk, and volatile runs, stay in the list when runs around
// them are answered, and are written in their time.
func TestSettlementsStayWhenRunsAreSpared(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, q uint64) {
		stored := put(t, s, q, 1, "stored")
		paged := NewVolatileRun(text("paged"))
		page := paged.Share(q, 3, 1, 5)
		a := fleeting(s, q, 2, nil)
		b := fleeting(s, q, 4, nil)
		s.Propose(0, nil, Settle(stored, Settled{1}))
		s.Propose(0, nil, Settle(a, Settled{1}))
		s.Propose(0, nil, PutRun(paged))
		s.Propose(0, nil, Drop(a))
		s.Propose(0, nil, Drop(b))
		synctest.Wait()
		if n := len(s.pending.records); n != 2 {
			t.Errorf("%d records are left", n)
		}
		commits := s.Stats().Commits
		time.Sleep(s.opts.SettleDelay + 1)
		synctest.Wait()
		if n := s.Stats().Commits; n != commits+1 {
			t.Errorf("%d commits instead of one", n-commits)
		}
		wantBody(t, s, page, "paged")
		wantKeys(t, s, keyCounts{entries: 1, marks: 1, bodies: 1, volatile: 1})
		s.Propose(0, nil, Drop(page))
		s.Propose(0, nil, Drop(stored))
		mustPropose(t, s)
		wantKeys(t, s, keyCounts{})
	})
}

// A drop that is known only together with something else spares nothing before that
// is committed: a crash between the two leaves the original.
func TestDropsOfLettersSpareNothing(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	q := s.NewID()
	g := holdCommits(s)
	original := fleeting(s, q, 1, nil)
	letter := NewRun(text("letter"))
	letter.Share(s.NewID(), 1, 1, 6)
	s.Propose(0, nil, PutRun(letter), Drop(original))
	if original.dropped.Load() {
		t.Error("dropped before it is committed")
	}
	close(g.open)
	mustPropose(t, s)
	wantKeys(t, s, keyCounts{entries: 1, bodies: 1})
}

// What is dropped when some of it was settled together with something else, as a dead
// letter with its copy, waits for that: without the copy it must not go.
func TestBoundSharesAreNotSpared(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	q := s.NewID()
	g := holdCommits(s)
	var j journal
	r := NewRun(text("two"))
	original := r.Share(q, 1, 2, 3)
	r.Fleeting()
	s.Propose(0, &named{"original", &j}, PutRun(r))
	letter := NewRun(text("letter"))
	copied := letter.Share(s.NewID(), 1, 1, 6)
	letter.Fleeting()
	s.Propose(0, nil, PutRun(letter), Settle(original, Settled{1}))
	s.Propose(0, nil, Drop(original))
	if original.dropped.Load() {
		t.Error("dropped before the copy of its letter is committed")
	}
	s.Propose(0, nil, Drop(copied))
	if !copied.dropped.Load() {
		t.Error("the copy is not dropped by a settlement alone")
	}
	close(g.open)
	mustPropose(t, s)
	if want := []string{"original durable <nil>"}; !slices.Equal(j.durable(), want) {
		t.Errorf("calls %q, want %q", j.durable(), want)
	}
	wantKeys(t, s, keyCounts{})
}

// A dead letter that is settled in time takes its original along, and that its own,
// and nothing of them is written.
func TestChainsOfLettersAreSpared(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, q uint64) {
		var j journal
		last := fleeting(s, q, 1, &named{"original", &j})
		for i := range uint64(3) {
			r := NewRun(text("copy"))
			next := r.Share(q, 10+i, 1, 4)
			r.Fleeting()
			s.Propose(0, nil, PutRun(r), Drop(last))
			last = next
		}
		synctest.Wait()
		if calls := j.durable(); len(calls) > 0 {
			t.Errorf("%q although the last copy is not settled", calls)
		}
		s.Propose(0, nil, Drop(last))
		synctest.Wait()
		if want := []string{"original durable <nil>"}; !slices.Equal(j.durable(), want) {
			t.Errorf("calls %q, want %q", j.durable(), want)
		}
		time.Sleep(s.opts.SettleDelay + 2*maxFleetingDelay)
		if n := s.Stats().Commits; n > 0 || len(s.pending.proposals) > 0 {
			t.Errorf("%d commits, %d proposals are left", n, len(s.pending.proposals))
		}
	})
}

// The copy of a dead letter that is settled at once leaves its original, which is on
// disk already, to be dropped with the next settlements.
func TestSettledLettersDropStoredOriginals(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, q uint64) {
		original := put(t, s, q, 1, "original")
		r := NewRun(text("copy"))
		s.Propose(0, nil, Drop(r.Share(q, 2, 1, 4)))
		s.Propose(0, nil, PutRun(r), Drop(original))
		time.Sleep(s.opts.SettleDelay + 1)
		synctest.Wait()
		wantKeys(t, s, keyCounts{})
	})
}

// A run to which messages were added comes into the commit of those that were proposed
// meanwhile, also if these could wait.
func TestExtendedRunsAndWhatIsBetween(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, q uint64) {
		r := NewRun(&growing{[]byte("one")})
		sh := r.Share(q, 1, 1, 3)
		r.Fleeting()
		s.Propose(0, nil, PutRun(r))
		time.Sleep(s.opts.FleetingDelay / 2)
		between := fleeting(s, q, 3, nil)
		if !s.Extend(sh, text("-two"), 1, 4, nil) {
			t.Fatal("not extended")
		}
		behind := fleeting(s, q, 4, nil)
		time.Sleep(s.opts.FleetingDelay/2 + 1)
		synctest.Wait()
		if !sh.Stored() || !between.Stored() || behind.Stored() {
			t.Errorf("stored: %t, between %t, behind %t", sh.Stored(), between.Stored(), behind.Stored())
		}
		wantBody(t, s, sh, "one-two")
	})
}

// What is added to a run that may wait waits with it, and is answered with it.
func TestExtendedFleetingRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, s *Store, q uint64) {
		var j journal
		extended := func(first uint64) *Share {
			r := NewRun(&growing{[]byte("one")})
			sh := r.Share(q, first, 1, 3)
			r.Fleeting()
			s.Propose(0, &named{"one", &j}, PutRun(r))
			if !s.Extend(sh, text("-two"), 1, 4, &named{"two", &j}) {
				t.Fatal("not extended")
			}
			synctest.Wait()
			if calls := j.durable(); len(calls) > 0 {
				t.Errorf("%q although the run may wait", calls)
			}
			return sh
		}
		s.Propose(0, nil, Drop(extended(1)))
		synctest.Wait()
		want := []string{"one durable <nil>", "two durable <nil>"}
		if !slices.Equal(j.durable(), want) || s.Stats().Commits > 0 {
			t.Errorf("calls %q, want %q; %d commits", j.durable(), want, s.Stats().Commits)
		}
		j = journal{}
		sh := extended(3)
		time.Sleep(2*s.opts.FleetingDelay + 1)
		synctest.Wait()
		if !slices.Equal(j.durable(), want) {
			t.Errorf("calls %q, want %q", j.durable(), want)
		}
		wantBody(t, s, sh, "one-two")
	})
}
