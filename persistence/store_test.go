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

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

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
	if a.Stored() {
		t.Error("stored before it is proposed")
	}
	if _, err := s.ReadRun(a); !errors.Is(err, ErrNotStored) {
		t.Errorf("ReadRun before commit: %v", err)
	}
	mustPropose(t, s, PutRun(r))
	wantKeys(t, s, 2, 0, 1)
	if !a.Stored() || !b.Stored() {
		t.Error("not stored after Durable")
	}
	wantBody(t, s, a, "hello")
	var settled Settled
	settled.Set(1)
	s.Propose(0, nil, Settle(b, settled), Delivered(q1, 2))

	s = reopen(t, s, fs)
	if !s.Orderly() {
		t.Error("not orderly after Close")
	}
	d1, d2 := directory(t, s, q1), directory(t, s, q2)
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	if len(d1) != 1 || len(d2) != 1 || d1[0].Share.run != d2[0].Share.run {
		t.Fatalf("directories %+v and %+v do not share one run", d1, d2)
	}
	if got := d2[0]; got.First != 77 || got.Count != 2 || got.Bytes != 5 || got.Settled != settled {
		t.Errorf("recovered %+v", got)
	}
	if !d1[0].Settled.IsZero() {
		t.Errorf("settled in the wrong queue: %v", d1[0].Settled)
	}
	if upTo, ok := s.DeliveredUpTo(q1); upTo != 2 || !ok {
		t.Errorf("DeliveredUpTo: %d, %v", upTo, ok)
	}
	if _, ok := s.DeliveredUpTo(q2); ok {
		t.Error("delivered mark out of nowhere")
	}
	wantBody(t, s, d2[0].Share, "hello")

	mustPropose(t, s, Drop(d1[0].Share))
	wantKeys(t, s, 1, 1, 1)
	wantBody(t, s, d2[0].Share, "hello")
	mustPropose(t, s, Drop(d2[0].Share), Drop(d2[0].Share))
	wantKeys(t, s, 0, 0, 0)
	if _, err := s.ReadRun(d2[0].Share); !errors.Is(err, ErrNotStored) {
		t.Errorf("ReadRun after Drop: %v", err)
	}
}

func TestSettledBeforeCommitIsNotWritten(t *testing.T) {
	t.Parallel()
	var written atomic.Int64
	s := mustOpen(t, Options{FS: vfs.NewMem(), Events: Events{Committed: func(i CommitInfo) { written.Add(int64(i.Bytes)) }}})
	q := s.NewID()
	for _, dropFirst := range []bool{false, true} {
		g := holdCommitter(s)
		r := NewRun(text("gone"))
		sh := r.Share(q, 1, 1, 4)
		done := newResult()
		if dropFirst {
			s.Propose(0, nil, Drop(sh))
		}
		s.Propose(0, done, PutRun(r))
		if !dropFirst {
			s.Propose(0, nil, Drop(sh))
		}
		close(g.open)
		done.want(t)
		wantKeys(t, s, 0, 0, 0)
		if sh.Stored() {
			t.Error("stored although dropped before")
		}
	}
	mustClose(t, s)
	if n := written.Load(); n != 0 {
		t.Errorf("%d bytes were written", n)
	}
}

func TestRecordsBeforeTheirPutRun(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	q1, q2, q3 := s.NewID(), s.NewID(), s.NewID()
	r := NewRun(text("body"))
	a, b, c := r.Share(q1, 1, 3, 4), r.Share(q2, 1, 3, 4), r.Share(q3, 1, 3, 4)
	var settled Settled
	settled.Set(2)
	mustPropose(t, s, Settle(a, settled), Drop(b))
	mustPropose(t, s, PurgeQueue(q3, []*Share{c}))
	wantKeys(t, s, 0, 0, 0)
	mustPropose(t, s, PutRun(r))
	wantKeys(t, s, 1, 1, 1)
	if b.Stored() || c.Stored() {
		t.Error("a share dropped before its PutRun is stored")
	}
	mustPropose(t, s, Drop(a))
	wantKeys(t, s, 0, 0, 0)
}

func TestOnlyTheLastBitmapIsWritten(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	q := s.NewID()
	r := NewRun(text("body"))
	sh := r.Share(q, 1, 200, 4)
	mustPropose(t, s, PutRun(r))
	g := holdCommitter(s)
	var settled Settled
	for i := range uint32(199) {
		settled.Set(i)
		s.Propose(0, nil, Settle(sh, settled))
	}
	close(g.open)
	mustPropose(t, s)
	s = reopen(t, s, fs)
	got := directory(t, s, q)
	if len(got) != 1 || got[0].Settled != settled {
		t.Errorf("recovered %+v, want settled %x", got, settled)
	}
	if got[0].Settled.Has(199) || !got[0].Settled.Has(198) {
		t.Error("Has disagrees with Set")
	}
}

func TestPurgeQueue(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{1, rangeDeleteFrom - 1, rangeDeleteFrom, 3 * rangeDeleteFrom} {
		s := mustOpen(t, Options{FS: vfs.NewMem()})
		q, other := s.NewID(), s.NewID()
		var shares, kept []*Share
		var settled Settled
		settled.Set(0)
		for i := range n {
			r := NewRun(text("body"))
			shares = append(shares, r.Share(q, i, 1, 4))
			if i%2 == 0 {
				kept = append(kept, r.Share(other, i, 1, 4))
			}
			s.Propose(0, nil, PutRun(r), Settle(shares[i], settled))
		}
		s.Propose(0, nil, Delivered(q, n))
		mustPropose(t, s, PurgeQueue(q, shares))
		wantKeys(t, s, len(kept), 0, len(kept))
		if got := countKeys(t, s, spaceDelivered); got != 0 {
			t.Errorf("%d delivered marks left", got)
		}
		for _, sh := range kept {
			wantBody(t, s, sh, "body")
		}
		mustPropose(t, s, PurgeQueue(other, kept))
		wantKeys(t, s, 0, 0, 0)
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
	r := NewRun(text("body"))
	sh := r.Share(s.NewID(), 1, 1, 4)
	mustPropose(t, s, PutRun(r))
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
	g := holdCommitter(s)
	s.Propose(0, a, SetConfig([]byte("k"), nil))
	s.Propose(0, a, SetConfig([]byte("k"), nil))
	s.Propose(0, nil, SetConfig([]byte("k"), nil))
	s.Propose(0, a)
	s.Propose(0, b)
	close(g.open)
	mustPropose(t, s)
	mustClose(t, s)
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
	g := holdCommitter(s)
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
	wantKeys(t, s, 21, 0, 21)
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
	g := holdCommitter(s)
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
	q := s.NewID()
	g := holdCommitter(s)
	r := NewRun(text("body"))
	sh := r.Share(q, 1, 1, 4)
	done := newResult()
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
	late := newResult()
	s.Propose(0, late, Drop(sh))
	if err := <-late; !errors.Is(err, ErrClosed) {
		t.Errorf("Durable(%v) after Close", err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("Err after Close: %v", err)
	}
	if _, err := s.ReadRun(sh); !errors.Is(err, ErrClosed) {
		t.Errorf("ReadRun after Close: %v", err)
	}
	s = mustOpen(t, Options{FS: fs})
	if got := directory(t, s, q); len(got) != 1 {
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

func TestSweep(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	live, dead1, dead2 := s.NewID(), s.NewID(), s.NewID()
	var settled Settled
	settled.Set(0)
	for i := range uint64(10) {
		r := NewRun(text("body"))
		sh := r.Share(dead1, i, 2, 4)
		r.Share(dead2, i, 2, 4)
		if i < 3 {
			r.Share(live, i, 2, 4)
		}
		s.Propose(0, nil, PutRun(r), Settle(sh, settled))
	}
	s.Propose(0, nil, Delivered(dead1, 1), Delivered(live, 1))
	mustPropose(t, s)
	wantKeys(t, s, 23, 10, 10)
	s = reopen(t, s, fs)
	if n := len(directory(t, s, live)); n != 3 {
		t.Errorf("%d runs", n)
	}
	for range 2 {
		if err := s.Sweep(); err != nil {
			t.Fatal(err)
		}
		wantKeys(t, s, 3, 0, 3)
	}
	if n := countKeys(t, s, spaceDelivered); n != 1 {
		t.Errorf("%d delivered marks, want 1", n)
	}
	if err := s.Directory(dead1, nil); err == nil {
		t.Error("Directory after Sweep is not refused")
	}
}

func TestDamageIsReported(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs})
	q := s.NewID()
	var shares []*Share
	var settled Settled
	settled.Set(1)
	for i := range uint64(4) {
		r := NewRun(text("body"))
		shares = append(shares, r.Share(q, i, 2, 4))
		s.Propose(0, nil, PutRun(r), Settle(shares[i], settled))
	}
	mustPropose(t, s, SetConfig([]byte("k"), []byte("v")))
	bodyKey := func(i int) []byte {
		key := make([]byte, bodyKeyLen)
		putBodyKey(key, shares[i].run.name)
		return key
	}
	flip(t, s, bodyKey(0))
	if err := s.db.Delete(bodyKey(1), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		var damage *DamagedError
		if _, err := s.ReadRun(shares[i]); !errors.As(err, &damage) || damage.Queue != q {
			t.Errorf("ReadRun: %v", err)
		}
	}
	flip(t, s, entryKey(spaceDirectory, q, 2))
	flip(t, s, entryKey(spaceSettled, q, 3))
	flip(t, s, appendConfigKey(nil, []byte("k")))
	s = reopen(t, s, fs)
	if err := s.Config(func(_, _ []byte) error { return nil }); !errors.Is(err, ErrDamaged) {
		t.Errorf("Config: %v", err)
	}
	var seen []uint64
	err := s.Directory(q, func(r RecoveredRun) error {
		seen = append(seen, r.First)
		if r.First == 3 && !r.Settled.IsZero() {
			t.Error("a damaged mark was believed")
		}
		return nil
	})
	if !errors.Is(err, ErrDamaged) || !slices.Equal(seen, []uint64{0, 1, 3}) {
		t.Errorf("Directory: %v, %v", seen, err)
	}
	if err := s.Sweep(); err == nil {
		t.Error("Sweep goes on without a whole directory")
	}
	wantKeys(t, s, 4, 4, 3)
}

// flip changes the last byte of a stored value.
func flip(t *testing.T, s *Store, key []byte) {
	t.Helper()
	value, closer, err := s.db.Get(key)
	if err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(value)
	changed[len(changed)-1] ^= 1
	if err := errors.Join(closer.Close(), s.db.Set(key, changed, pebble.Sync)); err != nil {
		t.Fatal(err)
	}
}
