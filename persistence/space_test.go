// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// smallDisk is a file system that says how much of it is free, and whose writes
// fail when nothing is.
type smallDisk struct {
	vfs.FS
	free *atomic.Int64
}

func newSmallDisk(free int64) smallDisk {
	d := smallDisk{free: new(atomic.Int64)}
	d.free.Store(free)
	full := errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate:
			if d.free.Load() == 0 {
				return syscall.ENOSPC
			}
		}
		return nil
	})
	d.FS = faultyFS{errorfs.Wrap(vfs.NewMem(), full)}
	return d
}

func (d smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: uint64(d.free.Load())}, nil
}

// look has the housekeeper measure the space, and returns when it has.
func (s *Store) lookAtSpace() {
	for range cap(s.measure) + 2 {
		s.measure <- struct{}{}
	}
}

func TestOutOfSpace(t *testing.T) {
	t.Parallel()
	const reserve = 64 << 10
	disk := newSmallDisk(10 * reserve)
	low := make(chan bool, 100)
	o := newOutages()
	events := o.events()
	events.LowOnSpace = func(is bool) { low <- is }
	s := mustOpen(t, Options{FS: disk, Reserve: reserve, RetryDelay: time.Microsecond, Events: events})
	q := s.NewID()
	if st := s.Stats(); st.FreeBytes != 10*reserve || st.LowOnSpace {
		t.Errorf("%d bytes free, low %v", st.FreeBytes, st.LowOnSpace)
	}
	disk.free.Store(reserve - 1)
	first := put(t, s, q, 1, strings.Repeat("x", reserve/4)) // enough to have a look at once
	if is := <-low; !is || s.Stats().FreeBytes != reserve-1 {
		t.Errorf("LowOnSpace(%v)", is)
	}
	// A little more than the reserve is not enough to go on.
	for _, free := range []int64{reserve, reserve + reserve/8 - 1, reserve - 1} {
		disk.free.Store(free)
		s.lookAtSpace()
		if !s.Stats().LowOnSpace {
			t.Errorf("with %d bytes there is enough again", free)
		}
	}
	disk.free.Store(0)
	r := NewRun(text("waits"))
	sh := r.Share(q, 2, 1, 5)
	done := newReply()
	s.Propose(0, done, PutRun(r))
	if err := <-o.failed; !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Failed(%v)", err)
	}
	wantBody(t, s, first, strings.Repeat("x", reserve/4))
	disk.free.Store(reserve + reserve/8)
	done.want(t)
	<-o.recovered
	wantBody(t, s, sh, "waits")
	s.lookAtSpace()
	if is := <-low; is || s.Stats().LowOnSpace {
		t.Errorf("LowOnSpace(%v)", is)
	}
	disk.free.Store(reserve)
	s.lookAtSpace()
	if len(low) > 0 || s.Stats().LowOnSpace {
		t.Error("a disk that is not below the reserve is low again")
	}
	mustClose(t, s)
}

// TestSpaceIsGivenBack stores and drops many runs: what they took is to be free
// afterwards.
func TestSpaceIsGivenBack(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	q := s.NewID()
	const size, runs = 100 << 10, worthCompacting/(100<<10) + 1
	body := make([]byte, size)
	random := rand.NewChaCha8([32]byte{}) // it cannot be compressed
	var shares []*Share
	for i := range uint64(runs) {
		if _, err := random.Read(body); err != nil {
			t.Fatal(err)
		}
		shares = append(shares, put(t, s, q, i, string(body)))
	}
	if err := s.giveBack(); err != nil {
		t.Fatal(err)
	}
	full := s.Stats().DiskBytes
	for _, sh := range shares {
		s.Propose(0, nil, Drop(sh))
	}
	mustPropose(t, s)
	if freed := s.space.freed.Load(); freed < worthCompacting {
		t.Errorf("%d bytes were counted as freed", freed)
	}
	if err := s.giveBack(); err != nil {
		t.Fatal(err)
	}
	if full < runs*size/2 {
		t.Errorf("the disk held %d bytes", full)
	}
	for s.Stats().DiskBytes > full/4 { // Pebble deletes files in its own time
		mustPropose(t, s)
	}
	if freed := s.space.freed.Load(); freed != 0 {
		t.Errorf("%d bytes are yet to be freed", freed)
	}
	wantKeys(t, s, keyCounts{})
}

// slowDisk is a file system on which a sync of a log takes its time.
type slowDisk struct {
	vfs.FS
	takes *atomic.Int64 // nanoseconds
}

func (d slowDisk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, category)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return slowFile{f, d.takes}, nil
}

type slowFile struct {
	vfs.File
	takes *atomic.Int64
}

func (f slowFile) Sync() error { time.Sleep(time.Duration(f.takes.Load())); return f.File.Sync() }
func (f slowFile) SyncData() error {
	time.Sleep(time.Duration(f.takes.Load()))
	return f.File.SyncData()
}

// logLines takes a store's log.
type logLines struct {
	mu    sync.Mutex
	lines strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines.Write(p)
}

func (l *logLines) count(message string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.lines.String(), message)
}

// TestSlowDiskAndIdleStore lives in a bubble, where time passes at once.
func TestSlowDiskAndIdleStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := slowDisk{vfs.NewMem(), new(atomic.Int64)}
		var lines logLines
		idle := make(chan struct{}, 100)
		s, err := Open(quiet(Options{FS: disk, Logger: slog.New(slog.NewTextHandler(&lines, nil)), Events: Events{Idle: func() { idle <- struct{}{} }}}))
		if err != nil {
			t.Fatal(err)
		}
		q := s.NewID()
		disk.takes.Store(int64(3500 * time.Millisecond))
		done := newReply()
		r := NewRun(text("body"))
		r.Share(q, 1, 1, 4)
		s.Propose(0, done, PutRun(r))
		time.Sleep(3 * time.Second)
		if d := s.Stats().SyncingFor; d < slowSync || d > 3*time.Second {
			t.Errorf("a sync is under way for %v", d)
		}
		done.want(t)
		disk.takes.Store(0)
		time.Sleep(2 * housekeepingInterval)
		for message, want := range map[string]int{"disk hangs": 1, "disk goes on": 1, "disk is slow": 1} {
			if n := lines.count(message); n != want {
				t.Errorf("%q was logged %d times, want %d", message, n, want)
			}
		}
		if d := s.Stats().SyncingFor; d != 0 {
			t.Errorf("a sync is under way for %v", d)
		}
		time.Sleep(2 * idleAfter * housekeepingInterval)
		if n := len(idle); n != 1 {
			t.Errorf("idle %d times", n)
		}
		if g, err := s.beginRead(); err != nil || g.db.Metrics().WAL.BytesIn == 0 || g.db.Metrics().Flush.Count == 0 {
			t.Errorf("an idle store was not flushed: %v", err)
		} else {
			s.endRead(g)
		}
		put(t, s, q, 2, "body")
		time.Sleep(2 * idleAfter * housekeepingInterval)
		if n := len(idle); n != 2 {
			t.Errorf("idle %d times", n)
		}
		mustClose(t, s)
	})
}

// TestSettlementsAreSynced: what is settled and was written without a sync is on the disk
// a moment later, though nothing else is committed.
func TestSettlementsAreSynced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewCrashableMem()
		s, err := Open(quiet(Options{FS: fs}))
		if err != nil {
			t.Fatal(err)
		}
		q := s.NewID()
		r := NewRun(text("two"))
		sh := r.Share(q, 1, 2, 3)
		mustPropose(t, s, PutRun(r))
		s.Propose(0, nil, Settle(sh, Settled{1}))
		time.Sleep(3 * housekeepingInterval)
		after, err := Open(quiet(Options{FS: fs.CrashClone(vfs.CrashCloneCfg{})}))
		if err != nil {
			t.Fatal(err)
		}
		if runs := recovered(t, after); len(runs) != 1 || runs[0].Settled != (Settled{1}) {
			t.Errorf("after a crash there is %+v", runs)
		}
		mustClose(t, after)
		mustClose(t, s)
	})
}
