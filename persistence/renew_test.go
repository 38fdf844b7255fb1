// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// renewNow asks for a renewal until there is another generation.
func renewNow(s *Store) {
	s.mu.Lock()
	old := s.gen
	s.mu.Unlock()
	for renewed := false; !renewed; runtime.Gosched() {
		s.askForRenewal()
		s.mu.Lock()
		renewed = s.gen != old
		s.mu.Unlock()
	}
}

// unopened is a fault that only opening a database meets.
func unopened() *fault { return &fault{kinds: []errorfs.OpKind{errorfs.OpRename}} }

// failRenewal asks for renewals until one has failed.
func failRenewal(s *Store, o *outages) {
	for ; ; runtime.Gosched() {
		s.askForRenewal()
		select {
		case <-o.failed:
			return
		default:
		}
	}
}

// TestRenewal opens the database anew between all kinds of proposals, and while
// others read.
func TestRenewal(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := mustOpen(t, Options{FS: fs, SettleDelay: time.Hour})
	q := s.NewID()
	first := put(t, s, q, 1, "first")

	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					wantBody(t, s, first, "first")
				}
			}
		})
	}
	const renewals = 20
	for i := range uint64(renewals) {
		r := NewRun(text("other"))
		sh := r.Share(q, 2+2*i, 2, 5)
		mustPropose(t, s, PutRun(r))
		renewNow(s)
		// Nobody waits for it, and it is in no log that was synced for it.
		s.Propose(0, nil, Settle(sh, Settled{1}))
		if i%3 == 0 {
			mustPropose(t, s)
		}
	}
	close(stop)
	readers.Wait()
	if st := s.Stats(); st.Failures != 0 || st.Reopenings != 0 || st.Err != nil {
		t.Errorf("renewals count as failures: %+v", st)
	}
	s = reopen(t, s, fs)
	if !s.Orderly() {
		t.Error("the stop was not orderly")
	}
	runs := recovered(t, s)
	if len(runs) != 1+renewals {
		t.Fatalf("%d runs", len(runs))
	}
	for _, r := range runs[1:] {
		if r.Settled != (Settled{1}) {
			t.Errorf("run %d: settled %x", r.First, r.Settled)
		}
	}
}

// TestRenewalWaits holds a renewal off by a read, by a proposal and by a report.
func TestRenewalWaits(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	q := s.NewID()
	sh := put(t, s, q, 1, "body")
	g, err := s.beginRead()
	if err != nil {
		t.Fatal(err)
	}
	s.askForRenewal()
	put(t, s, q, 2, "more")
	s.askForRenewal()
	mustPropose(t, s)
	if s.gen != g {
		t.Error("the database was closed under a read")
	}
	s.endRead(g)
	held := holdCommits(s)
	s.askForRenewal()
	wantBody(t, s, sh, "body")
	if s.gen != g {
		t.Error("the database was closed under a report")
	}
	close(held.open)
	renewNow(s)
	wantBody(t, s, sh, "body")
}

// TestDiskFailsWhileRenewing lets each operation of a renewal fail in turn.
func TestDiskFailsWhileRenewing(t *testing.T) {
	t.Parallel()
	failed := 0
	for n := range 30 {
		f := &fault{kinds: changes}
		mem := vfs.NewCrashableMem()
		s := mustOpen(t, Options{FS: f.wrap(mem), RetryDelay: time.Microsecond})
		q := s.NewID()
		sh := put(t, s, q, 1, "before")
		f.plan(n, 1+n%3)
		renewNow(s)
		wantBody(t, s, sh, "before")
		put(t, s, q, 2, "after")
		if f.reached(1) {
			failed++
		}
		f.plan()
		after := mustOpen(t, Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
		if got := recovered(t, after); len(got) != 2 {
			t.Errorf("%d: recovered %+v", n, got)
		}
		mustClose(t, s)
		after = mustOpen(t, Options{FS: mem})
		if got := recovered(t, after); len(got) != 2 || !after.Orderly() {
			t.Errorf("%d: recovered %+v", n, got)
		}
	}
	if failed < 10 {
		t.Errorf("only %d renewals met a failure", failed)
	}
}

// TestCloseWhileRenewalFails closes a store that cannot open its database any more,
// while a read waits for it.
func TestCloseWhileRenewalFails(t *testing.T) {
	t.Parallel()
	f := unopened()
	o := newOutages()
	s := mustOpen(t, Options{FS: f.wrap(vfs.NewMem()), RetryDelay: time.Microsecond, Events: o.events()})
	sh := put(t, s, s.NewID(), 1, "body")
	f.plan(0, forever)
	failRenewal(s, o)
	read := make(chan error, 1)
	go func() { read <- s.ReadRun(sh, func([]byte) error { return nil }) }()
	if err := s.Close(t.Context()); err == nil || !strings.Contains(err.Error(), errFault.Error()) {
		t.Errorf("Close() = %v", err)
	}
	if err := <-read; err == nil {
		t.Error("a store that is closed was read")
	}
}

// TestReadWhileRenewalFails reads and asks for statistics while there is no database, as
// it cannot be opened any more: that fails, and nobody waits for the disk.
func TestReadWhileRenewalFails(t *testing.T) {
	t.Parallel()
	f := unopened()
	o := newOutages()
	s := mustOpen(t, Options{FS: f.wrap(vfs.NewMem()), RetryDelay: time.Microsecond, Events: o.events()})
	q := s.NewID()
	sh := put(t, s, q, 1, "body")
	put(t, s, q, 2, "purged")
	f.plan(0, forever)
	failRenewal(s, o)
	if err := s.ReadRun(sh, func([]byte) error { return nil }); !errors.Is(err, ErrFailed) {
		t.Errorf("ReadRun() = %v", err)
	}
	if err := s.Backup(t.Context(), "backup"); !errors.Is(err, ErrFailed) {
		t.Errorf("Backup() = %v", err)
	}
	if m, err := s.metrics(); !errors.Is(err, ErrFailed) {
		t.Errorf("metrics() = %v, %v", m, err)
	}
	s.reclaimer.add(condemnedRange{space: spaceDirectory, queue: q, first: 2, last: 2}) // tries again and again
	f.plan()
	<-o.recovered
	wantBody(t, s, sh, "body")
	finishReclaiming(t, s)
	wantKeys(t, s, keyCounts{entries: 1, bodies: 1})
}

// TestRenewalWithoutTables opens the database anew on a disk that takes no tables. That is
// a failure, as everybody waits for it, and over when the disk takes them again.
func TestRenewalWithoutTables(t *testing.T) {
	t.Parallel()
	f := &fault{kinds: changes, on: isTable}
	o := newOutages()
	s := mustOpen(t, Options{FS: f.wrap(vfs.NewMem()), RetryDelay: time.Microsecond, Events: o.events()})
	sh := put(t, s, s.NewID(), 1, "body")
	f.plan(0, forever)
	failRenewal(s, o)
	f.plan()
	<-o.recovered
	wantBody(t, s, sh, "body")
	mustPropose(t, s)
}

// TestIdleStoreIsSlim lives in a bubble, where time passes at once.
func TestIdleStoreIsSlim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		idle := make(chan int64, 100)
		var s *Store
		memTables := func() int64 {
			m, err := s.metrics()
			if err != nil {
				t.Error(err)
				return 0
			}
			return int64(m.MemTable.Size)
		}
		s, err := Open(quiet(Options{
			FS: vfs.NewMem(), MemTableSize: 16 << 20, Events: Events{Idle: func() { idle <- memTables() }},
		}))
		if err != nil {
			t.Fatal(err)
		}
		q := s.NewID()
		body := strings.Repeat("x", 2<<10)
		var sh *Share
		for i := range uint64(4000) {
			r := NewRun(text(body))
			sh = r.Share(q, 1+i, 1, uint64(len(body)))
			s.Propose(0, nil, PutRun(r))
		}
		mustPropose(t, s)
		before := memTables()
		if before <= worthRenewing {
			t.Fatalf("memtables have only %d bytes", before)
		}
		time.Sleep(2 * idleAfter * housekeepingInterval)
		if got := [...]int64{<-idle, <-idle}; got[0] <= worthRenewing || got[1] > worthRenewing || len(idle) > 0 {
			t.Errorf("memtables had %d bytes when the store was idle, %d later; idle %d more times", got[0], got[1], len(idle))
		}
		wantBody(t, s, sh, body)
		mustClose(t, s)
	})
}

// TestAnswersWhileRenewing: what needs no disk and comes while the database is opened
// anew is answered before what comes after it, by one reporter at a time.
func TestAnswersWhileRenewing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		renewing, open := make(chan struct{}), make(chan struct{})
		var once sync.Once
		renews := false
		fs := &markerFS{vfs.NewMem(), func() {
			if renews {
				once.Do(func() { close(renewing); <-open })
			}
		}}
		s, err := Open(quiet(Options{FS: fs}))
		if err != nil {
			t.Fatal(err)
		}
		put(t, s, s.NewID(), 1, "body")
		synctest.Wait()
		renews = true
		s.askForRenewal()
		<-renewing
		slow := newGate()
		s.Propose(0, nil, Drop(fleeting(s, s.NewID(), 1, slow)))
		synctest.Wait()
		close(open)
		var j journal
		s.Propose(0, &named{"next", &j}, SetConfig([]byte("k"), nil))
		synctest.Wait()
		if s.renewal || s.gen.closed {
			t.Error("the database was not opened anew")
		}
		if len(j.calls) > 0 {
			t.Errorf("%q while another waiter is told", j.calls)
		}
		close(slow.open)
		mustClose(t, s)
		if len(j.calls) != 2 {
			t.Errorf("%q", j.calls)
		}
	})
}
