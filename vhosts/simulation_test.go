// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/lagomq/lagomq/persistence"
)

// simSetup is how a broker is run: nothing of it may change what clients see.
type simSetup struct {
	residentBytes uint64
	pageReaders   int
	memTableSize  int64
	settleDelay   time.Duration
	clock         func() time.Time // nil for the system's
}

func randomSetup(rng *rand.Rand) simSetup {
	return simSetup{
		residentBytes: []uint64{1, 500, 4000, 1 << 20}[rng.IntN(4)],
		pageReaders:   1 + rng.IntN(3),
		memTableSize:  1 << (20 + rng.IntN(3)),
		settleDelay:   []time.Duration{time.Nanosecond, 100 * time.Microsecond, time.Hour}[rng.IntN(3)],
	}
}

// open starts a broker.
func (o simSetup) open(fs vfs.FS, strict bool) (*broker, *errorLog, error) {
	errorLog := newErrorLog()
	log := slog.New(errorLog)
	store, err := persistence.Open(persistence.Options{
		Dir: "data", FS: fs, MemTableSize: o.memTableSize, SettleDelay: o.settleDelay, Logger: log,
	})
	if err != nil {
		return nil, nil, err
	}
	hosts, err := Open(Options{
		Store: store, Users: NewUsers(), ResidentBytes: o.residentBytes, PageReaders: o.pageReaders, Clock: o.clock, Logger: log, Strict: strict,
	})
	if err != nil {
		_ = store.Close(context.Background())
		return nil, nil, err
	}
	v, _ := hosts.VHost("/")
	return &broker{Hosts: hosts, VHost: v, store: store}, errorLog, nil
}

// close is an orderly stop.
func (b *broker) close() error {
	b.Close()
	return b.store.Close(context.Background())
}

// simulation is one run of a broker, from a start to a crash or an orderly stop,
// with its clients.
type simulation struct {
	simSetup
	largeBody         int  // the largest body
	allDurable        bool // nothing is lost by an orderly stop
	consumersPerQueue int

	rng     *rand.Rand // of the phases, not of clients
	fs      *vfs.MemFS
	points  *syncPoints
	broker  *broker
	log     *errorLog
	clients []*simClient

	stopped  atomic.Bool // clients have to stop: something is wrong
	faults   *simFaults  // of the disk, nil if there are none
	branched bool        // what is wrong is wrong in a branch

	mu       sync.Mutex
	problems []string
	crashes  []simCrash // not verified yet
	verified int        // how many were
}

// simCrash is what a failure of the power left.
type simCrash struct {
	fs      *vfs.MemFS
	windows []simWindow // of each client
}

// newSimulation starts a broker with clients that have nothing yet.
func newSimulation(seed uint64, setup simSetup, clients int) *simulation {
	s := &simulation{simSetup: setup, consumersPerQueue: 2, largeBody: 3000, rng: rand.New(rand.NewPCG(seed, 1))}
	for i := range clients {
		s.clients = append(s.clients, newSimClient(s, fmt.Sprint("c", i), rand.New(rand.NewPCG(seed, uint64(2+i))), newSimModel()))
	}
	s.start(vfs.NewCrashableMem())
	return s
}

// start starts the broker on a file system.
func (s *simulation) start(fs *vfs.MemFS) {
	s.fs = fs
	s.crashes = nil // a sync that outlived its run may have added some
	var disk vfs.FS = fs
	if s.faults != nil {
		disk = errorfs.Wrap(fs, s.faults)
	}
	s.points = &syncPoints{FS: disk, rng: rand.New(rand.NewPCG(s.rng.Uint64(), 1)), crash: s.powerFails}
	s.open(s.points)
}

func (s *simulation) open(fs vfs.FS) {
	var err error
	if s.broker, s.log, err = s.simSetup.open(fs, true); err != nil {
		s.problem("the broker does not start: %v", err)
	}
}

// problem notes what is wrong, and stops the clients.
func (s *simulation) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped.Swap(true) {
		s.problems = append(s.problems, fmt.Sprintf(format, args...))
	}
}

// halted says that clients have to stop: something is wrong, or the disk fails
// and has taken the store with it.
func (s *simulation) halted() bool {
	return s.stopped.Load() || s.faults != nil && !recoversInProcess && s.broker.Healthy() != nil
}

// heal ends the faults of the disk once a client has waited for a while: it may
// wait for what the disk keeps from the broker.
func (s *simulation) heal(start time.Time) {
	if s.faults != nil && time.Since(start) > glance {
		s.faults.arm(0, 0)
	}
}

// storeFailed is called for an error instead of a confirm.
func (s *simulation) storeFailed(err error) {
	if s.faults == nil {
		s.problem("the store fails: %v", err)
	}
}

// cut is a copy of the disk as a failure of the power at this moment may leave
// it. The order matters: what was confirmed before the copy is in it, and what
// was issued after is not.
func (s *simulation) cut(rng *rand.Rand) simCrash {
	crash := simCrash{windows: make([]simWindow, len(s.clients))}
	for i, c := range s.clients {
		crash.windows[i].low = int(c.secured.Load())
		crash.windows[i].seen = int(c.issued.Load())
	}
	crash.fs = s.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng})
	for i, c := range s.clients {
		crash.windows[i].high = int(c.issued.Load())
	}
	return crash
}

// powerFails keeps what a failure of the power would leave now.
func (s *simulation) powerFails(rng *rand.Rand) {
	crash := s.cut(rng)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashes = append(s.crashes, crash)
}

// run lets every client do so many things, while the power fails at the given
// share of the syncs.
func (s *simulation) run(operations, percent int) {
	if s.stopped.Load() {
		return
	}
	s.points.arm(percent, s.rng.IntN(4)*s.rng.IntN(100))
	var work sync.WaitGroup
	for _, c := range s.clients {
		work.Go(func() {
			for range operations {
				if s.halted() {
					return
				}
				c.act()
			}
		})
	}
	work.Wait()
	s.points.arm(0, 0)
}

// crash lets the power fail now and goes on with what is left of the broker.
func (s *simulation) crash() {
	if s.stopped.Load() {
		return
	}
	last := s.cut(s.rng)
	s.stop()
	if at := s.verify(last.fs.CrashClone(vfs.CrashCloneCfg{}), last.windows, false); at != nil {
		s.resume(last, at, false)
	}
}

// stop ends the broker, and reports whether that was orderly: on a disk that fails
// it need not be.
func (s *simulation) stop() (orderly bool) {
	if s.broker == nil {
		return true
	}
	err := s.broker.close()
	if err != nil && s.faults == nil {
		s.problem("the broker does not stop: %v", err)
	}
	if errors := s.log.errors(); len(errors) > 0 && s.faults == nil {
		s.problem("the broker reports errors: %v", errors)
	}
	s.broker = nil
	return err == nil
}

// restart stops orderly, lets the power fail, and starts again.
func (s *simulation) restart() {
	if s.stopped.Load() {
		return
	}
	left, orderly := s.end()
	if at := s.verify(left.fs.CrashClone(vfs.CrashCloneCfg{}), left.windows, orderly); at != nil {
		s.resume(left, at, orderly)
	}
}

// end stops orderly and lets the power fail.
func (s *simulation) end() (left simCrash, orderly bool) {
	orderly = s.stop()
	left = simCrash{fs: s.fs.CrashClone(vfs.CrashCloneCfg{})}
	for _, c := range s.clients {
		last := len(c.steps) - 1
		left.windows = append(left.windows, simWindow{last, last, last})
	}
	return left, orderly
}

// resume starts the broker on what is left, which is what a step of each client
// left.
func (s *simulation) resume(left simCrash, at []simLeft, orderly bool) {
	for i, c := range s.clients {
		s.clients[i] = c.resumed(s, at[i], orderly, left.windows[i].seen)
	}
	s.start(left.fs)
}

// resumed is the client as it goes on with a broker started from what is left.
func (c *simClient) resumed(s *simulation, at simLeft, orderly bool, seen int) *simClient {
	n := newSimClient(s, c.prefix, c.rng, at.state.restart(orderly, seen))
	n.serial, n.sent, n.transcript = c.serial, c.sent, c.transcript
	stop := "crash"
	if orderly {
		stop = "orderly stop"
	}
	n.log = append(c.log, fmt.Sprintf("%s %s at step %d", c.prefix, stop, at.step))
	return n
}

// verify opens what is left and compares it with what must be. It returns what is left
// of each client's part, nil if something is wrong.
func (s *simulation) verify(fs vfs.FS, windows []simWindow, orderly bool) (at []simLeft) {
	if s.stopped.Load() {
		return nil
	}
	s.verified++
	b, log, err := s.simSetup.open(fs, true)
	if err != nil {
		s.problem("the broker does not start: %v", err)
		return nil
	}
	found, err := readContents(b, log)
	if closeErr := b.close(); err == nil {
		err = closeErr
	}
	if err != nil {
		s.problem("what is left cannot be read: %v", err)
		return nil
	}
	for i, c := range s.clients {
		left, problems := c.match(found.part(c.prefix), windows[i], orderly)
		if len(problems) > 0 {
			s.problem("%s, after a stop between steps %d and %d: %s",
				c.prefix, windows[i].low, windows[i].high, strings.Join(problems, "\n  "))
		}
		at = append(at, left)
	}
	if len(found.lines) > 0 {
		s.problem("there is what nobody declared: %v", found.lines)
	}
	if s.stopped.Load() {
		return nil
	}
	return at
}

// verifyCrashes verifies what the power's failures left so far. Now and then the
// clients go on from there, to the next crashes.
func (s *simulation) verifyCrashes(depth int) {
	s.mu.Lock()
	crashes := s.crashes
	s.crashes = nil
	s.mu.Unlock()
	for _, crash := range crashes {
		at := s.verify(crash.fs.CrashClone(vfs.CrashCloneCfg{}), crash.windows, false)
		if at == nil {
			return
		}
		if depth > 0 && s.rng.IntN(10) == 0 {
			b := s.branch(crash, at)
			b.history(1, depth-1)
			s.take(b)
		}
	}
}

// branch is another simulation, in which the power did fail then.
func (s *simulation) branch(crash simCrash, at []simLeft) *simulation {
	b := &simulation{
		simSetup: randomSetup(s.rng), largeBody: s.largeBody, allDurable: s.allDurable, consumersPerQueue: s.consumersPerQueue,
		rng: rand.New(rand.NewPCG(s.rng.Uint64(), 1)),
	}
	for i, c := range s.clients {
		n := c.resumed(b, at[i], false, crash.windows[i].seen)
		n.rng = rand.New(rand.NewPCG(b.rng.Uint64(), 1))
		n.log = append([]string(nil), n.log...)
		b.clients = append(b.clients, n)
	}
	b.start(crash.fs)
	return b
}

// history is several runs of the broker with crashes during them, and crashes
// and orderly stops between them.
func (s *simulation) history(runs, depth int) {
	for range runs {
		s.run(20+s.rng.IntN(60), 1+s.rng.IntN(40))
		if s.stopped.Load() {
			break
		}
		s.verifyCrashes(depth)
		if s.rng.IntN(2) == 0 {
			s.crash()
		} else {
			s.restart()
		}
	}
	s.stop()
}

// take takes over what a branch has found.
func (s *simulation) take(b *simulation) {
	s.verified += b.verified
	if report := b.report(); report != "" {
		s.branched = true
		s.problem("%s", report)
	}
}

// lastOperations is how many lines of each client's log are shown with a problem.
const lastOperations = 25

// report is what is wrong, with the last operations of each client, and "" if
// nothing is.
func (s *simulation) report() string {
	report := strings.Join(s.problems, "\n")
	if report == "" || s.branched {
		return report
	}
	for _, c := range s.clients {
		report += "\n  " + strings.Join(c.log[max(0, len(c.log)-lastOperations):], "\n  ")
	}
	return report
}

// TestSimulation makes random histories of clients on a broker whose power fails
// around random syncs, and compares what every such failure leaves with the
// model. A seed replays what clients do; what the committer does meanwhile is up
// to the scheduler.
func TestSimulation(t *testing.T) {
	t.Parallel()
	trySeeds(t, 6*seeds(), simulate)
}

func simulate(t *testing.T, seed uint64) (verified int) {
	rng := rand.New(rand.NewPCG(seed, 0))
	s := newSimulation(seed, randomSetup(rng), 1+rng.IntN(3))
	if rng.IntN(8) == 0 {
		s.largeBody = 100 << 10
	}
	s.history(3, 2)
	if report := s.report(); report != "" {
		t.Errorf("seed %d (LAGOMQ_CRASH_SEED=%d replays it): %s", seed, seed, report)
	}
	return s.verified
}

// trySeeds tries the first n seeds, several at a time. LAGOMQ_CRASH_SEED sets the only
// seed, and LAGOMQ_CRASH_TIME, a duration, how long random ones are tried, until
// something is wrong.
func trySeeds(t *testing.T, n uint64, simulate func(t *testing.T, seed uint64) (verified int)) {
	var crashes atomic.Int64
	t.Cleanup(func() { t.Logf("%d crashes and stops verified", crashes.Load()) })
	try := func(t *testing.T, seed uint64) { crashes.Add(int64(simulate(t, seed))) }
	if text := os.Getenv("LAGOMQ_CRASH_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		try(t, seed)
		return
	}
	if text := os.Getenv("LAGOMQ_CRASH_TIME"); text != "" {
		limit, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		end := time.Now().Add(limit)
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint("worker", worker), func(worker *testing.T) {
				worker.Parallel()
				for time.Now().Before(end) && !t.Failed() {
					try(worker, rand.Uint64())
				}
			})
		}
		return
	}
	for seed := range n {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			try(t, seed)
		})
	}
}
