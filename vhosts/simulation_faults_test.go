// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// recoversInProcess says whether a store that failed serves again, without a
// restart, when the disk does.
const recoversInProcess = true

// simFaults lets operations on the disk fail for a while.
type simFaults struct {
	name  string
	kinds map[errorfs.OpKind]bool
	err   error

	mu     sync.Mutex
	wait   int64 // operations that succeed before the first that fails
	fails  int64 // operations that fail then
	failed int64 // operations that have failed
}

// String implements [errorfs.Injector].
func (f *simFaults) String() string { return f.name }

// MaybeError implements [errorfs.Injector].
func (f *simFaults) MaybeError(op errorfs.Op) error {
	if !f.kinds[op.Kind] {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.fails == 0:
		return nil
	case f.wait > 0:
		f.wait--
		return nil
	}
	f.fails--
	f.failed++
	return fmt.Errorf("%s: %w", op.Path, f.err)
}

// arm lets operations fail after some have succeeded; fails of 0 ends it.
func (f *simFaults) arm(wait, fails int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wait, f.fails = wait, fails
}

var errDisk = errors.New("input/output error")

// newFaults are the ways in which a disk fails.
func newFaults() []*simFaults {
	kinds := func(kinds ...errorfs.OpKind) map[errorfs.OpKind]bool {
		set := map[errorfs.OpKind]bool{}
		for _, kind := range kinds {
			set[kind] = true
		}
		return set
	}
	writing := kinds(errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpCreate, errorfs.OpFilePreallocate, errorfs.OpReuseForWrite)
	return []*simFaults{
		{name: "write", err: errDisk, kinds: kinds(errorfs.OpFileWrite, errorfs.OpFileWriteAt)},
		{name: "sync", err: errDisk, kinds: kinds(errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo)},
		{name: "read", err: errDisk, kinds: kinds(errorfs.OpFileRead, errorfs.OpFileReadAt, errorfs.OpOpen)},
		{name: "directory", err: errDisk, kinds: kinds(errorfs.OpCreate, errorfs.OpRemove, errorfs.OpRename, errorfs.OpOpenDir, errorfs.OpLink)},
		{name: "full", err: syscall.ENOSPC, kinds: writing},
	}
}

// TestDiskFaults lets the disk fail for a while in histories of clients: nothing
// is confirmed wrongly or lost, and the process lives. Stores given up leave
// goroutines behind, so this is done in a process of its own.
func TestDiskFaults(t *testing.T) {
	t.Parallel()
	if !inProcessOfItsOwn(t) {
		return
	}
	for i := range newFaults() {
		for seed := range seeds() {
			faults := newFaults()[i]
			t.Run(fmt.Sprint(faults.name, " seed", seed), func(t *testing.T) {
				t.Parallel()
				s := failing(seed, faults)
				if report := s.report(); report != "" {
					t.Errorf("after %d failed operations: %s", faults.failed, report)
				}
			})
		}
	}
}

func failing(seed uint64, faults *simFaults) *simulation {
	rng := rand.New(rand.NewPCG(seed, 4))
	setup := randomSetup(rng)
	setup.memTableSize = 1 << 20
	s := newSimulation(seed, setup, 1+rng.IntN(2))
	s.stop()
	s.faults = faults
	s.largeBody = 100 << 10 // so that there are tables, too
	s.start(s.fs.CrashClone(vfs.CrashCloneCfg{}))
	for range 3 {
		s.run(30, 0)
		faults.arm(rng.Int64N(200), []int64{1, 5, 1 << 40}[rng.IntN(3)])
		s.run(60, 0)
		faults.arm(0, 0)
		if s.broker == nil {
			break // it could not be opened, which is a problem of its own
		}
		if s.recovered() {
			s.restart()
		} else {
			s.crash()
		}
	}
	s.stop()
	return s
}

// recovered says whether the store serves (again), now that the disk does. All
// open confirms have been answered then.
func (s *simulation) recovered() bool {
	for deadline := time.Now().Add(patience); s.broker.Healthy() != nil; runtime.Gosched() {
		switch {
		case !recoversInProcess:
			return false
		case time.Now().After(deadline):
			s.problem("the store does not recover: %v", s.broker.Healthy())
			return false
		}
	}
	for _, c := range s.clients {
		c.awaitConfirms()
		c.settleDown()
	}
	return s.broker.Healthy() == nil
}

// ownProcess is set, to what the test is to know, in the environment of a process
// that runs one test.
const ownProcess = "LAGOMQ_TEST_IN_OWN_PROCESS"

// inProcessOfItsOwn runs the test in a process of its own, where it returns true;
// the test that gets false is done.
func inProcessOfItsOwn(t *testing.T) bool {
	t.Helper()
	if os.Getenv(ownProcess) != "" {
		return true
	}
	if output, err := runProcess(t, "yes"); err != nil {
		t.Errorf("%v:\n%s", err, output)
	}
	return false
}

// runProcess runs the test t, or that whose subtest it is, in a process of its own.
func runProcess(t *testing.T, value string) (output string, err error) {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	args := []string{"-test.run=^" + name + "$", "-test.timeout=10m"}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	command := exec.CommandContext(t.Context(), os.Args[0], args...)
	command.Env = append(os.Environ(), ownProcess+"="+value)
	text, err := command.CombinedOutput()
	return string(text), err
}
