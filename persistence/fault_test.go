// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// fault makes operations on some files fail: schedule says by turns how many of
// them pass and how many fail. When it is over, all pass.
type fault struct {
	kinds []errorfs.OpKind
	on    func(path string) bool // nil is all files

	mu       sync.Mutex
	schedule []int
	failed   int // turns that have begun to fail
}

// forever is a turn that does not end by itself.
const forever = 1 << 40

var errFault = errors.New("disk on fire")

func (f *fault) String() string { return fmt.Sprint(f.kinds) }

func (f *fault) MaybeError(op errorfs.Op) error {
	if !slices.Contains(f.kinds, op.Kind) || f.on != nil && !f.on(op.Path) {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for turn := 0; turn < len(f.schedule); turn++ {
		if f.schedule[turn] > 0 {
			f.schedule[turn]--
			if turn%2 == 0 {
				return nil
			}
			f.failed = max(f.failed, turn/2+1)
			return errFault
		}
	}
	return nil
}

// wrap returns a file system whose operations fail as planned.
func (f *fault) wrap(fs vfs.FS) vfs.FS { return faultyFS{errorfs.Wrap(fs, f)} }

// faultyFS makes up for errorfs, which lets files that are used again go without
// faults.
type faultyFS struct{ vfs.FS }

func (fs faultyFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := fs.Remove(oldname); err != nil {
		return nil, err
	}
	return fs.Create(newname, category)
}

// plan sets a new schedule.
func (f *fault) plan(turns ...int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.schedule, f.failed = turns, 0
}

// reached reports whether so many turns have begun to fail.
func (f *fault) reached(turns int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed >= turns
}

func suffix(s string) func(string) bool {
	return func(path string) bool { return strings.HasSuffix(path, s) }
}

func notTable(path string) bool { return !isTable(path) }

var (
	syncs   = []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}
	writes  = []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileWriteAt}
	creates = []errorfs.OpKind{errorfs.OpCreate}
	changes = slices.Concat(syncs, writes, creates, []errorfs.OpKind{errorfs.OpRename, errorfs.OpRemove, errorfs.OpLink})
)

// faults are kinds of trouble with a disk.
func faults() map[string]*fault {
	return map[string]*fault{
		"log sync":       {kinds: syncs, on: suffix(".log")},
		"log write":      {kinds: writes, on: suffix(".log")},
		"log creation":   {kinds: creates, on: suffix(".log")},
		"manifest write": {kinds: writes, on: func(path string) bool { return strings.Contains(path, "MANIFEST") }},
		"manifest sync":  {kinds: syncs, on: func(path string) bool { return strings.Contains(path, "MANIFEST") }},
		"directory sync": {kinds: syncs, on: suffix(databaseDir)},
		"log and rename": {kinds: append([]errorfs.OpKind{errorfs.OpRename}, syncs...), on: func(path string) bool {
			return strings.HasSuffix(path, ".log") || strings.HasSuffix(path, ".dbtmp")
		}},
		"every change":    {kinds: changes},
		"all but tables":  {kinds: changes, on: notTable},
		"sync everywhere": {kinds: syncs},
	}
}

// outages notes what Events tell of them.
type outages struct {
	failed    chan error
	recovered chan struct{}
}

func newOutages() *outages {
	return &outages{make(chan error, 1024), make(chan struct{}, 1024)}
}

func (o *outages) events() Events {
	return Events{Failed: func(err error) { o.failed <- err }, Recovered: func() { o.recovered <- struct{}{} }}
}

// TestDiskFailsUnderTraffic lets the disk fail and work again, several times, in
// the middle of traffic. Nobody may be told that something is durable before it
// is, which crashes at any time find out; in the end everybody is told that it
// is, in order, and everything is there once, settlements that nobody waited for
// included.
func TestDiskFailsUnderTraffic(t *testing.T) {
	t.Parallel()
	seeds := uint64(3)
	if testing.Short() {
		seeds = 1
	}
	for name := range faults() {
		for seed := range seeds {
			t.Run(fmt.Sprint(name, " ", seed), func(t *testing.T) {
				t.Parallel()
				failsUnderTraffic(t, faults()[name], rand.New(rand.NewPCG(seed, 2)))
			})
		}
	}
}

func failsUnderTraffic(t *testing.T, f *fault, rng *rand.Rand) {
	mem := vfs.NewCrashableMem()
	o := newOutages()
	s := mustOpen(t, Options{FS: f.wrap(mem), SettleDelay: time.Microsecond, RetryDelay: time.Microsecond, Events: o.events()})
	d := newDriver(s, rng)
	d.large = 3
	d.run(t, 20)
	const rounds = 2
	for range rounds {
		f.plan(rng.IntN(6), 1+rng.IntN(4))
		for range 50 {
			d.run(t, 1+rng.IntN(20))
			if f.reached(1) {
				break
			}
			<-s.barrier()
		}
		if !f.reached(1) {
			t.Fatal("the disk never failed")
		}
		d.run(t, rng.IntN(20))
		p := d.promised()
		clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng})
		after := mustOpen(t, Options{FS: clone})
		d.check(t, after, p)
		mustClose(t, after)
		f.plan()
		if err := <-s.barrier(); err != nil {
			t.Fatal(err)
		}
	}
	p := d.promised() // all of them: a barrier was durable
	after := mustOpen(t, Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
	d.check(t, after, p)
	mustClose(t, after)

	d.run(t, 20)
	mustClose(t, s)
	if st := s.Stats(); st.Failures != st.Reopenings || int(st.Failures) != len(o.failed) || len(o.failed) != len(o.recovered) {
		t.Errorf("%d failures, %d reopenings, told %d and %d", st.Failures, st.Reopenings, len(o.failed), len(o.recovered))
	}
	told := 0
	for _, a := range d.acks {
		if a.silent {
			continue
		}
		if a.err != nil {
			t.Errorf("Durable(%v)", a.err)
		}
		told++
	}
	if !slices.IsSorted(d.heard) || len(d.heard) != told {
		t.Errorf("%d of %d waiters were told, in the order %v", len(d.heard), told, d.heard)
	}
	after = mustOpen(t, Options{FS: mem})
	if !after.Orderly() {
		t.Error("the stop after all that was not orderly")
	}
	d.check(t, after, d.everything())
}

// barrier proposes a barrier and returns where its answer comes.
func (s *Store) barrier() reply {
	r := newReply()
	s.Sync(r)
	return r
}

// TestDiskFailsAgainWhileReopening lets each operation of the reopening fail in
// turn.
func TestDiskFailsAgainWhileReopening(t *testing.T) {
	t.Parallel()
	failedAgain := 0
	for n := range 30 {
		f := &fault{kinds: changes}
		mem := vfs.NewCrashableMem()
		s := mustOpen(t, Options{FS: f.wrap(mem), RetryDelay: time.Microsecond})
		q := s.NewID()
		put(t, s, q, 0, "before")
		f.plan(0, 1, n, 1+n%3)
		put(t, s, q, 1, "meanwhile")
		if f.reached(2) {
			failedAgain++
		}
		f.plan()
		after := mustOpen(t, Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
		if got := recovered(t, after); len(got) != 2 {
			t.Errorf("%d: recovered %+v", n, got)
		}
		put(t, s, q, 2, "after")
		mustClose(t, s)
		after = mustOpen(t, Options{FS: mem})
		if got := recovered(t, after); len(got) != 3 {
			t.Errorf("%d: recovered %+v", n, got)
		}
	}
	if failedAgain < 10 {
		t.Errorf("only %d reopenings met a failure", failedAgain)
	}
}

// outOfService returns a store that is out of service until f.plan is called.
func outOfService(t *testing.T, f *fault, fs vfs.FS) (s *Store, q uint64, stored *Share, o *outages) {
	o = newOutages()
	s = mustOpen(t, Options{FS: fs, RetryDelay: time.Microsecond, Events: o.events()})
	q = s.NewID()
	stored = put(t, s, q, 0, "stored")
	f.plan(0, forever)
	r := NewRun(text("first"))
	r.Share(q, 1, 1, 5)
	s.Propose(0, nil, PutRun(r))
	if err := <-o.failed; !errors.Is(err, ErrFailed) || !errors.Is(err, errFault) {
		t.Errorf("Failed(%v)", err)
	}
	return s, q, stored, o
}

func TestReadsGoOnWhileOutOfService(t *testing.T) {
	t.Parallel()
	f := &fault{kinds: changes}
	s, q, stored, o := outOfService(t, f, f.wrap(vfs.NewMem()))
	for range 10 {
		wantBody(t, s, stored, "stored")
	}
	if err := s.Err(); !errors.Is(err, ErrFailed) {
		t.Errorf("Err() = %v", err)
	}
	if st := s.Stats(); !errors.Is(st.Err, errFault) || st.Failures != 1 || st.SyncingFor != 0 {
		t.Errorf("%+v", st)
	}
	var told bool
	second := newReply()
	r := NewRun(text("second"))
	sh := r.Share(q, 2, 1, 6)
	s.Propose(0, second, PutRun(r))
	select {
	case <-second:
		told = true
	default:
	}
	f.plan()
	if told || second.wait() != nil {
		t.Error("a proposal did not wait for the disk")
	}
	<-o.recovered
	if err := s.Err(); err != nil {
		t.Errorf("Err() = %v in service", err)
	}
	wantBody(t, s, sh, "second")
	wantBody(t, s, stored, "stored")
}

func TestCloseWhileOutOfService(t *testing.T) {
	t.Parallel()
	f := &fault{kinds: changes}
	mem := vfs.NewCrashableMem()
	s, q, _, _ := outOfService(t, f, f.wrap(mem))
	var j journal
	for i := range uint64(5) {
		r := NewRun(text("open"))
		r.Share(q, 10+i, 1, 4)
		s.Propose(0, &named{fmt.Sprint(i), &j}, PutRun(r))
	}
	err := s.Close(context.Background())
	if !errors.Is(err, ErrFailed) || !errors.Is(err, errFault) {
		t.Errorf("Close: %v", err)
	}
	for i, call := range j.calls {
		if want := fmt.Sprintf("%d durable %v", i, err); i < 5 && call != want {
			t.Errorf("call %q, want %q", call, want)
		}
	}
	if len(j.calls) != 10 {
		t.Errorf("calls %q", j.calls)
	}
	late := newReply()
	s.Sync(late)
	if err := late.wait(); !errors.Is(err, ErrFailed) {
		t.Errorf("Durable(%v) after Close", err)
	}
	if err := s.Throttle(context.Background()); err != nil || s.pendingBytes.Load() != 0 {
		t.Errorf("Throttle: %v, %d bytes pending", err, s.pendingBytes.Load())
	}
	f.plan()
	after := mustOpen(t, Options{FS: mem})
	if after.Orderly() {
		t.Error("a store that was given up passes for orderly")
	}
	if got := recovered(t, after); len(got) < 1 {
		t.Errorf("recovered %+v", got)
	}
}

// TestDiskFailsWhileClosing lets each operation of an orderly stop fail in turn.
func TestDiskFailsWhileClosing(t *testing.T) {
	t.Parallel()
	for n := 0; ; n++ {
		f := &fault{kinds: changes, on: notTable}
		mem := vfs.NewCrashableMem()
		s := mustOpen(t, Options{FS: f.wrap(mem)})
		d := newDriver(s, rand.New(rand.NewPCG(uint64(n), 3)))
		d.run(t, 10)
		f.plan(n, forever)
		err := s.Close(context.Background())
		reached := f.reached(1)
		f.plan()
		p := d.promised()
		for _, a := range d.acks {
			if a.silent {
				continue
			}
			select {
			case <-a.told:
			default:
				t.Errorf("%d: a waiter was told nothing", n)
			}
		}
		after := mustOpen(t, Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
		if err == nil {
			p = d.everything()
		}
		if after.Orderly() != (err == nil) {
			t.Errorf("%d: Close: %v, and then Orderly() = %v", n, err, after.Orderly())
		}
		d.check(t, after, p)
		if !reached {
			break
		}
	}
}

// TestDurableCommitLost takes away, while the store is out of service, what had
// been durable: it must never go on as if nothing had happened.
func TestDurableCommitLost(t *testing.T) {
	t.Parallel()
	f := &fault{kinds: changes}
	mem := vfs.NewMem()
	s, _, _, o := outOfService(t, f, f.wrap(mem))
	waiting := s.barrier()
	names, err := mem.List("data/" + databaseDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			if err := mem.Remove("data/" + databaseDir + "/" + name); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.plan()
	if err := waiting.wait(); !errors.Is(err, ErrFailed) || !errors.Is(err, ErrIncomplete) {
		t.Errorf("Durable(%v)", err)
	}
	if err := <-o.failed; !errors.Is(err, ErrIncomplete) {
		t.Errorf("Failed(%v)", err)
	}
	if err := s.Close(context.Background()); !errors.Is(err, ErrIncomplete) {
		t.Errorf("Close: %v", err)
	}
	if len(o.recovered) > 0 {
		t.Error("it came back")
	}
}

// TestTablesAreWrittenAgain lets the disk refuse tables for a while: their
// content is in the log, so nothing is wrong with the store.
func TestTablesAreWrittenAgain(t *testing.T) {
	t.Parallel()
	f := &fault{kinds: changes, on: suffix(".sst")}
	mem := vfs.NewMem()
	s := mustOpen(t, Options{FS: f.wrap(mem)})
	f.plan(0, forever)
	q := s.NewID()
	const runs = 30
	for i := range uint64(runs) {
		if i == runs/3 {
			f.plan()
		}
		put(t, s, q, i, strings.Repeat("t", 100<<10))
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, mem)
	for _, r := range recovered(t, s) {
		wantBody(t, s, warm(s, r), strings.Repeat("t", 100<<10))
	}
	wantKeys(t, s, keyCounts{entries: runs, bodies: runs})
}

// TestDiskFailsWhileOpening lets each operation of a first start fail in turn.
// Whatever is left must be taken up by the next.
func TestDiskFailsWhileOpening(t *testing.T) {
	t.Parallel()
	kinds := append(slices.Clone(changes), errorfs.OpMkdirAll, errorfs.OpLock, errorfs.OpOpen, errorfs.OpOpenDir, errorfs.OpList, errorfs.OpStat)
	for n := 0; ; n++ {
		f := &fault{kinds: kinds}
		f.plan(n, forever)
		mem := vfs.NewCrashableMem()
		s, err := Open(quiet(Options{FS: f.wrap(mem), RetryDelay: time.Microsecond}))
		reached := f.reached(1)
		f.plan()
		if err == nil {
			mustClose(t, s)
		} else if !strings.Contains(err.Error(), errFault.Error()) {
			t.Errorf("%d: %v", n, err)
		}
		mustClose(t, mustOpen(t, Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})}))
		mustClose(t, mustOpen(t, Options{FS: mem}))
		if !reached {
			break
		}
	}
}

// TestFailureWhileReporting gives the store up while a waiter is being called:
// answers must still come one at a time and in order.
func TestFailureWhileReporting(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	var j journal
	g := newGate()
	s.Sync(g)
	<-g.reached
	s.giveUp(nil, errFault)
	s.Propose(0, &named{"w", &j}, SetConfig([]byte("k"), nil))
	last := newReply()
	s.Propose(0, last)
	j.note("opened")
	close(g.open)
	if err := last.wait(); !errors.Is(err, errFault) || !errors.Is(err, ErrFailed) {
		t.Errorf("Durable(%v)", err)
	}
	if err := s.Close(context.Background()); !errors.Is(err, errFault) {
		t.Errorf("Close: %v", err)
	}
	want := "opened|w durable " + s.Err().Error() + "|w flush"
	if got := strings.Join(j.calls, "|"); got != want {
		t.Errorf("calls %q, want %q", got, want)
	}
}
