// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
)

// TestCloseLeavesNoGoroutine is not parallel, so that no other test runs.
func TestCloseLeavesNoGoroutine(t *testing.T) {
	ignored := goleak.IgnoreCurrent()
	fs := vfs.NewMem()
	for range 3 {
		s := mustOpen(t, Options{FS: fs})
		q := s.NewID()
		recovered(t, s)
		for i := range uint64(10) {
			put(t, s, q, i, strings.Repeat("x", 200<<10))
		}
		s.Propose(0, nil, Forget(q, 0, 10))
		mustClose(t, s)
	}
	goleak.VerifyNone(t, ignored)
}

func TestFanOutSurvivesReopen(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	if !s.Orderly() {
		t.Error("a new store is not orderly")
	}
	q1, q2 := s.NewID(), s.NewID()
	r := NewRun(text("hello"))
	a, b := r.Share(q1, 1, 2, 5), r.Share(q2, 77, 2, 5)
	if _, err := readRun(s, a); a.Stored() || !errors.Is(err, ErrNotStored) {
		t.Errorf("before it is proposed: %v, %v", a.Stored(), err)
	}
	mustPropose(t, s, PutRun(r))
	wantKeys(t, s, keyCounts{entries: 2, bodies: 1})
	if !a.Stored() || !b.Stored() {
		t.Error("not stored after Durable")
	}
	wantBody(t, s, a, "hello")
	var settled Settled
	settled.Set(1)
	s.Propose(0, nil, Settle(b, settled), Delivered(q1, 2, 7))

	s = reopen(t, s, fs)
	if !s.Orderly() {
		t.Error("not orderly after Close")
	}
	got := recovered(t, s)
	if len(got) != 2 || got[0].Place != got[1].Place {
		t.Fatalf("recovered %+v", got)
	}
	got[1].Place = Place{}
	if want := (RecoveredRun{Queue: q2, First: 77, Count: 2, Bytes: 5, Settled: settled}); got[1] != want {
		t.Errorf("recovered %+v, want %+v", got[1], want)
	}
	if !got[0].Settled.IsZero() {
		t.Errorf("settled in the wrong queue: %v", got[0].Settled)
	}
	upTo, err := s.Delivered()
	if err != nil || len(upTo) != 1 || !slices.Equal(upTo[q1], []uint64{2, 7}) {
		t.Errorf("Delivered: %v, %v", upTo, err)
	}
	got[1].Place = got[0].Place
	a, b = warm(s, got[0]), warm(s, got[1])
	wantBody(t, s, b, "hello")
	mustPropose(t, s, Drop(a), DropQueue(q1))
	wantKeys(t, s, keyCounts{entries: 1, marks: 1, bodies: 1})
	wantBody(t, s, b, "hello")
	mustPropose(t, s, Drop(b), Drop(b))
	wantKeys(t, s, keyCounts{})
	if n := countKeys(t, s, spaceDelivered); n != 0 {
		t.Errorf("%d delivered marks left", n)
	}
	if _, err := readRun(s, b); !errors.Is(err, ErrNotStored) {
		t.Errorf("ReadRun after Drop: %v", err)
	}
}

func TestDeliveredOfAnUncleanStop(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, Options{FS: fs})
	mustPropose(t, s, Delivered(s.NewID(), 5))
	s = mustOpen(t, Options{FS: fs.CrashClone(vfs.CrashCloneCfg{})})
	if upTo, err := s.Delivered(); upTo != nil || err != nil {
		t.Errorf("Delivered: %v, %v", upTo, err)
	}
	if n := countKeys(t, s, spaceDelivered); n != 0 {
		t.Errorf("%d marks left for a later stop to be believed", n)
	}
}

func TestSettledBeforeCommitIsNotWritten(t *testing.T) {
	t.Parallel()
	var runs, size atomic.Int64
	s := mustOpen(t, Options{FS: vfs.NewMem(), Events: Events{Committed: func(i CommitInfo) {
		runs.Add(int64(i.Runs))
		size.Add(int64(i.Bytes))
	}}})
	q := s.NewID()
	const body = 100 << 10
	for _, dropFirst := range []bool{false, true} {
		g := holdCommits(s)
		r := NewRun(text(make([]byte, body)))
		sh := r.Share(q, 1, 1, body)
		done := newReply()
		if dropFirst {
			s.Propose(0, nil, Drop(sh))
		}
		s.Propose(0, done, PutRun(r))
		if !dropFirst {
			s.Propose(0, nil, Drop(sh))
		}
		close(g.open)
		done.want(t)
		wantKeys(t, s, keyCounts{})
		if sh.Stored() {
			t.Error("stored although dropped before")
		}
	}
	mustClose(t, s)
	if runs.Load() != 0 || size.Load() >= body {
		t.Errorf("%d runs, %d bytes were written", runs.Load(), size.Load())
	}
}

func TestRecordsBeforeTheirPutRun(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	q1, q2 := s.NewID(), s.NewID()
	r := NewRun(text("body"))
	a, b := r.Share(q1, 1, 3, 4), r.Share(q2, 1, 3, 4)
	var settled Settled
	settled.Set(2)
	mustPropose(t, s, Settle(a, settled), Drop(b))
	wantKeys(t, s, keyCounts{})
	mustPropose(t, s, PutRun(r))
	wantKeys(t, s, keyCounts{entries: 1, marks: 1, bodies: 1})
	if b.Stored() {
		t.Error("a share dropped before its PutRun is stored")
	}
	mustPropose(t, s, Drop(a))
	wantKeys(t, s, keyCounts{})
}

func TestReplaceKeepsTheNumber(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	q := s.NewID()
	sh := put(t, s, q, 7, "version 0")
	var settled Settled
	settled.Set(0)
	const versions = 20
	for i := 1; i <= versions; i++ {
		if i%3 == 0 {
			s.Propose(0, nil, Settle(sh, settled))
		}
		r := NewRun(text(fmt.Sprint("version ", i)))
		next := r.Share(q, 7, 1, 1)
		s.Propose(0, nil, Drop(sh), PutRun(r))
		sh = next
		if i%2 == 0 {
			mustPropose(t, s)
			wantBody(t, s, sh, fmt.Sprint("version ", i))
		}
	}
	s = reopen(t, s, fs)
	got := recovered(t, s)
	if len(got) != 1 || got[0].First != 7 || !got[0].Settled.IsZero() {
		t.Fatalf("recovered %+v", got)
	}
	sh = warm(s, got[0])
	wantBody(t, s, sh, fmt.Sprint("version ", versions))
	wantKeys(t, s, keyCounts{entries: 1, bodies: 1})
	mustPropose(t, s, Drop(sh))
	wantKeys(t, s, keyCounts{})
}

func TestOnlyTheLastBitmapIsWritten(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	r := NewRun(text("body"))
	sh := r.Share(s.NewID(), 1, 200, 4)
	mustPropose(t, s, PutRun(r))
	before := s.Stats().Written
	g := holdCommits(s)
	var settled Settled
	for i := range uint32(199) {
		settled.Set(i)
		s.Propose(0, nil, Settle(sh, settled))
	}
	close(g.open)
	mustPropose(t, s)
	if n := s.Stats().Written - before; n > 1000 {
		t.Errorf("%d bytes written", n)
	}
	s = reopen(t, s, fs)
	got := recovered(t, s)
	if len(got) != 1 || got[0].Settled != settled {
		t.Errorf("recovered %+v, want settled %x", got, settled)
	}
	if got[0].Settled.Has(199) || !got[0].Settled.Has(198) {
		t.Error("Has disagrees with Set")
	}
}

// TestVolatileRuns makes room in memory for messages that need not survive.
func TestVolatileRuns(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	infos := make(chan CommitInfo, 16)
	s := mustOpen(t, Options{FS: fs, SettleDelay: time.Millisecond, Events: Events{Committed: func(i CommitInfo) { infos <- i }}})
	q := s.NewID()
	r := NewVolatileRun(text("gone with the boot"))
	a, b := r.Share(q, 1, 1, 4), r.Share(s.NewID(), 1, 1, 4)
	s.Propose(0, nil, PutRun(r))
	if i := <-infos; i.Synced || i.Runs != 1 {
		t.Errorf("commit %+v", i)
	}
	if !a.Volatile() || !a.Stored() {
		t.Error("not stored")
	}
	wantKeys(t, s, keyCounts{volatile: 1})
	p, ok := b.Chill()
	if !ok {
		t.Fatal("a stored share cannot be chilled")
	}
	mustPropose(t, s, Drop(a))
	b = s.Warm(p, b.Queue(), b.First(), b.Count(), b.Bytes(), Settled{})
	wantBody(t, s, b, "gone with the boot")
	mustPropose(t, s, Drop(b))
	wantKeys(t, s, keyCounts{})
	r = NewVolatileRun(text("left"))
	r.Share(q, 2, 1, 4)
	mustPropose(t, s, PutRun(r))
	s = reopen(t, s, fs)
	if got := recovered(t, s); len(got) > 0 {
		t.Errorf("recovered %+v", got)
	}
	wantKeys(t, s, keyCounts{})
}

func TestChilledShares(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	r := NewRun(text("body"))
	shares := []*Share{r.Share(s.NewID(), 1, 2, 4), r.Share(s.NewID(), 5, 2, 4), r.Share(s.NewID(), 9, 2, 4)}
	if _, ok := shares[0].Chill(); ok {
		t.Error("a share that is not stored was chilled")
	}
	mustPropose(t, s, PutRun(r))
	for i, sh := range shares {
		p, ok := sh.Chill()
		if !ok {
			t.Fatal("a stored share cannot be chilled")
		}
		sh := s.Warm(p, sh.Queue(), sh.First(), sh.Count(), sh.Bytes(), Settled{})
		wantBody(t, s, sh, "body")
		var settled Settled
		settled.Set(1)
		mustPropose(t, s, Settle(sh, settled))
		mustPropose(t, s, Drop(sh))
		left := len(shares) - 1 - i
		wantKeys(t, s, keyCounts{entries: left, bodies: min(left, 1)})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	for i := range 5 {
		s.Propose(0, nil, SetConfig(fmt.Appendf(nil, "k%d", i), fmt.Appendf(nil, "v%d", i)))
	}
	mustPropose(t, s, SetConfig([]byte("k3"), nil), DeleteConfig([]byte("k1")), DeleteConfig([]byte("none")))
	s = reopen(t, s, fs)
	var got []string
	if err := s.Config(func(k, v []byte) error { got = append(got, string(k)+"="+string(v)); return nil }); err != nil {
		t.Fatal(err)
	}
	if want := "k0=v0 k2=v2 k3= k4=v4"; strings.Join(got, " ") != want {
		t.Errorf("Config: %v, want %v", got, want)
	}
	stop := errors.New("stop")
	if err := s.Config(func(_, _ []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Config: %v, want %v", err, stop)
	}
}

func TestSettlementsAreCommittedByThemselves(t *testing.T) {
	t.Parallel()
	infos := make(chan CommitInfo, 16)
	s := mustOpen(t, Options{FS: vfs.NewMem(), SettleDelay: time.Millisecond, Events: Events{Committed: func(i CommitInfo) { infos <- i }}})
	sh := put(t, s, s.NewID(), 1, "body")
	if i := <-infos; !i.Synced || i.Runs != 1 || i.Records != 1 {
		t.Errorf("put: %+v", i)
	}
	s.Propose(0, nil, Drop(sh))
	if i := <-infos; i.Synced || i.Bytes == 0 {
		t.Errorf("settlement: %+v", i)
	}
	mustPropose(t, s)
	if i := <-infos; !i.Synced {
		t.Errorf("barrier after what was not synced: %+v", i)
	}
	mustPropose(t, s)
	if i := <-infos; i.Synced {
		t.Errorf("barrier after what was synced: %+v", i)
	}
}

func TestAnswersComeInOrder(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	var j journal
	a, b := &named{"a", &j}, &named{"b", &j}
	g := holdCommits(s)
	s.Propose(0, a, SetConfig([]byte("k"), nil))
	s.Propose(0, a, SetConfig([]byte("k"), nil))
	s.Propose(0, nil, SetConfig([]byte("k"), nil))
	s.Propose(0, a)
	s.Propose(0, b)
	close(g.open)
	mustClose(t, s) // tells everybody first
	want := []string{"a durable <nil>", "a durable <nil>", "a durable <nil>", "b durable <nil>", "a flush", "b flush"}
	if !slices.Equal(j.calls, want) {
		t.Errorf("calls %q, want %q", j.calls, want)
	}
}

func TestLargeListIsCutIntoBatches(t *testing.T) {
	t.Parallel()
	var sizes []int
	s := mustOpen(t, Options{FS: vfs.NewMem(), Events: Events{Committed: func(i CommitInfo) { sizes = append(sizes, i.Bytes) }}})
	q := s.NewID()
	body := text(strings.Repeat("x", 100<<10))
	g := holdCommits(s)
	for i := range uint64(20) {
		r := NewRun(body)
		r.Share(q, i, 1, uint64(len(body)))
		s.Propose(0, nil, PutRun(r))
	}
	big := NewRun(text(strings.Repeat("y", 3<<20))) // larger than the memtable
	sh := big.Share(q, 20, 1, 3<<20)
	s.Propose(0, nil, PutRun(big))
	close(g.open)
	mustPropose(t, s)
	wantKeys(t, s, keyCounts{entries: 21, bodies: 21})
	wantBody(t, s, sh, strings.Repeat("y", 3<<20))
	mustClose(t, s)
	if len(sizes) < 10 {
		t.Errorf("only %d batches", len(sizes))
	}
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem(), MaxPendingBytes: 1000})
	ctx, cancel := context.WithCancel(context.Background())
	if err := s.Throttle(ctx); err != nil {
		t.Fatal(err)
	}
	g := holdCommits(s)
	r := NewRun(text(strings.Repeat("x", 1000)))
	r.Share(s.NewID(), 1, 1, 1000)
	s.Propose(0, nil, PutRun(r))
	cancel()
	if err := s.Throttle(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Throttle: %v, want it to wait", err)
	}
	throttled := make(chan error)
	go func() { throttled <- s.Throttle(context.Background()) }()
	close(g.open)
	if err := <-throttled; err != nil {
		t.Error(err)
	}
	mustPropose(t, s)
	if n := s.pendingBytes.Load(); n != 0 {
		t.Errorf("%d bytes pending at rest", n)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	g := holdCommits(s)
	r := NewRun(text("body"))
	sh := r.Share(s.NewID(), 1, 1, 4)
	done := newReply()
	s.Propose(0, done, PutRun(r))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v", err)
	}
	close(g.open)
	done.want(t)
	mustClose(t, s)
	mustClose(t, s)
	late := newReply()
	s.Propose(0, late, Drop(sh))
	if err := late.wait(); !errors.Is(err, ErrClosed) {
		t.Errorf("Durable(%v) after Close", err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("Err after Close: %v", err)
	}
	if _, err := readRun(s, sh); !errors.Is(err, ErrClosed) {
		t.Errorf("ReadRun after Close: %v", err)
	}
	s = mustOpen(t, Options{FS: fs})
	if got := recovered(t, s); len(got) != 1 {
		t.Errorf("recovered %+v", got)
	}
}

func TestIDsAreNeverReused(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	first := s.NewID()
	// Use up this boot's ids: the next boot's must not be handed out again.
	s.ids.Store((s.boots+1)<<idBits - 1)
	last := s.NewID()
	mustPropose(t, s, SetConfig([]byte("queue"), nil))
	s = reopen(t, s, fs)
	if id := s.NewID(); id <= last || last <= first {
		t.Errorf("ids %x, %x, then %x", first, last, id)
	}
}

// What was durable is noted before anybody is told, and stays noted when there is
// nothing to write.
func TestNoteOfTheLatestCommit(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	for i := range 10 {
		mustPropose(t, s, SetConfig([]byte("k"), fmt.Append(nil, i)))
		for range 3 {
			mustPropose(t, s)
		}
		if noted, err := readNote(fs, "data"); err != nil || noted != s.durable.Load() || noted < uint64(i)+1 {
			t.Errorf("after commit %d of %d noted is %d: %v", s.durable.Load(), i+1, noted, err)
		}
	}
}
