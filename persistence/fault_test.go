// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package persistence

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// fault makes the operations on some files fail from some moment on.
type fault struct {
	kinds  []errorfs.OpKind
	suffix string
	after  atomic.Int64 // operations that still succeed
}

var errFault = errors.New("disk on fire")

func (f *fault) String() string { return fmt.Sprint(f.kinds, f.suffix) }

func (f *fault) MaybeError(op errorfs.Op) error {
	for _, kind := range f.kinds {
		if op.Kind == kind && strings.Contains(op.Path, f.suffix) && f.after.Add(-1) < 0 {
			return errFault
		}
	}
	return nil
}

// TestFault lets the disk fail in the middle of traffic and checks that the
// process lives, that nothing confirmed is lost, and that everything proposed
// is answered once and in order.
func TestFault(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*fault{
		"log sync":        {kinds: []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}, suffix: ".log"},
		"log write":       {kinds: []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileWriteAt}, suffix: ".log"},
		"log creation":    {kinds: []errorfs.OpKind{errorfs.OpCreate, errorfs.OpReuseForWrite}, suffix: ".log"},
		"manifest sync":   {kinds: []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData}, suffix: "MANIFEST"},
		"everything full": {kinds: []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate}, suffix: ""},
	} {
		for seed := range uint64(3) {
			f := &fault{kinds: f.kinds, suffix: f.suffix}
			t.Run(fmt.Sprint(name, seed), func(t *testing.T) {
				t.Parallel()
				faults(t, f, rand.New(rand.NewPCG(seed, 2)))
			})
		}
	}
}

func faults(t *testing.T, f *fault, rng *rand.Rand) {
	mem := vfs.NewCrashableMem()
	f.after.Store(1 << 40)
	failed := make(chan error, 1)
	s, err := Open(quiet(Options{
		FS:     errorfs.Wrap(mem, f),
		Events: Events{Failed: func(err error) { failed <- err }},
	}))
	if err != nil {
		t.Fatal(err)
	}
	d := newDriver(s, rng)
	d.run(20)
	f.after.Store(rng.Int64N(5))
	var p promises
	heard := make(map[*ack]bool)
	for s.Err() == nil {
		d.run(20)
		// Something for the memtable, so that it is flushed and logs change.
		r := NewRun(text(strings.Repeat("z", 200<<10)))
		r.Share(1, 1, 1, 1)
		filler := newResult()
		s.Propose(0, filler, PutRun(r), Drop(&r.inline), SetConfig([]byte("filler"), make([]byte, 200<<10)))
		d.model.config["filler"] = string(make([]byte, 200<<10))
		d.acks = append(d.acks, &ack{result: filler, strict: true})
		d.states = append(d.states, d.model.String())
		filler.await()
	}
	if err := <-failed; !errors.Is(err, ErrFailed) {
		t.Errorf("Failed(%v)", err)
	}
	d.run(20)
	for i, a := range d.acks {
		if a.result == nil {
			continue
		}
		if err := a.result.await(); err != nil {
			if !errors.Is(err, ErrFailed) {
				t.Errorf("proposal %d: Durable(%v)", i, err)
			}
		} else if i > len(d.acks)-20 {
			t.Errorf("proposal %d after the failure is durable", i)
		}
	}
	d.kept(&p, heard)
	if err := s.Throttle(context.Background()); err != nil {
		t.Error(err)
	}
	if err := s.Close(context.Background()); !errors.Is(err, ErrFailed) {
		t.Errorf("Close: %v", err)
	}
	if _, err := Open(quiet(Options{FS: errorfs.Wrap(mem, f)})); !errors.Is(err, ErrInUse) {
		t.Errorf("a store given up was opened again: %v", err)
	}
	after := mustOpen(t, Options{FS: mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng})})
	d.check(t, after, p)
}

// TestTablesAreWrittenAgain lets the disk refuse tables for a while: their
// content is in the log, so nothing is wrong with the store.
func TestTablesAreWrittenAgain(t *testing.T) {
	t.Parallel()
	f := &fault{kinds: []errorfs.OpKind{errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileSync}, suffix: ".sst"}
	mem := vfs.NewMem()
	s := mustOpen(t, Options{FS: errorfs.Wrap(mem, f)})
	f.after.Store(0)
	q := s.NewID()
	const runs = 30
	for i := range uint64(runs) {
		if i == runs/3 {
			f.after.Store(1 << 40)
		}
		r := NewRun(text(strings.Repeat("t", 100<<10)))
		r.Share(q, i, 1, 1)
		mustPropose(t, s, PutRun(r))
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	s = reopen(t, s, mem)
	for _, r := range directory(t, s, q) {
		wantBody(t, s, r.Share, strings.Repeat("t", 100<<10))
	}
	wantKeys(t, s, runs, 0, runs)
}

func (d *driver) run(steps int) {
	for range steps {
		d.step()
	}
}

// await waits for the answer and puts it back.
func (r result) await() error {
	err := <-r
	r <- err
	return err
}

func TestFaultOnOpen(t *testing.T) {
	t.Parallel()
	for n := range int64(60) {
		f := &fault{kinds: []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpCreate, errorfs.OpMkdirAll, errorfs.OpRename, errorfs.OpLock}}
		f.after.Store(n)
		mem := vfs.NewCrashableMem()
		s, err := Open(quiet(Options{FS: errorfs.Wrap(mem, f)}))
		if err == nil {
			_ = s.Close(context.Background())
			continue
		}
		if !errors.Is(err, errFault) && !strings.Contains(err.Error(), errFault.Error()) {
			t.Errorf("%d: %v", n, err)
		}
		// Whatever is left must be taken up by the next start.
		mustOpen(t, Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
	}
}

// TestFailureWhileReporting fails the store while the committer is calling a
// waiter: answers must still come one at a time and in order.
func TestFailureWhileReporting(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{FS: vfs.NewMem()})
	var j journal
	w := &named{"w", &j}
	g := holdCommitter(s)
	s.fail(errFault)
	s.fail(errFault)
	s.Propose(0, w, SetConfig([]byte("k"), nil))
	last := newResult()
	j.note("opened")
	close(g.open)
	s.Propose(0, last) // answered after w, in this round or the next
	if err := <-last; !errors.Is(err, errFault) || !errors.Is(err, ErrFailed) {
		t.Errorf("Durable(%v)", err)
	}
	want := "opened|w durable " + s.Err().Error() + "|w flush"
	j.mu.Lock()
	defer j.mu.Unlock()
	if got := strings.Join(j.calls, "|"); got != want {
		t.Errorf("calls %q, want %q", got, want)
	}
}
