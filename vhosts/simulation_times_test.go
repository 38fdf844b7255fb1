// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
)

// TestCrashTimes is the sibling of TestSimulation for messages that leave by
// themselves: queues have limits, times to live, delivery limits, delayed retries and
// dead letters, and messages are delayed and expire. What has happened at a crash
// depends on when letters were forwarded, so the model is no list of steps: it knows
// for each message where it may be, and why.
func TestCrashTimes(t *testing.T) {
	t.Parallel()
	trySeeds(t, 4*seeds(), func(t *testing.T, seed uint64) (verified int) {
		s := newTimes(t, seed)
		s.history(3)
		if len(s.problems) > 0 {
			t.Errorf("LAGOMQ_CRASH_SEED=%d replays it:\n%s\nqueues:\n%s\nlast operations:\n%s",
				seed, strings.Join(s.problems, "\n"), s.describe(), strings.Join(s.log[max(0, len(s.log)-lastOperations):], "\n"))
		}
		return s.verified
	})
}

// timesRun is one history.
type timesRun struct {
	simSetup
	t         *testing.T
	seed      uint64
	rng       *rand.Rand
	queues    []*timesQueue // dead letters go to later ones
	fs        *vfs.MemFS
	points    *syncPoints
	broker    *broker
	errorLog  *errorLog
	janitor   *janitor
	clock     *clock
	consumers []*timesConsumer
	messages  []*timesMessage
	byID      map[string]*timesMessage
	facts     map[timesPlace]*timesFacts
	problems  []string
	log       []string
	verified  int
	steps     int

	issued, secured atomic.Int64 // steps, as in simClient

	mu        sync.Mutex
	confirmed []*timesMessage
	crashes   []timesCrash
}

// timesCrash is what a failure of the power left, and what is known of it.
type timesCrash struct {
	fs        *vfs.MemFS
	low, high int
	confirmed []*timesMessage
}

func newTimes(t *testing.T, seed uint64) *timesRun {
	rng := rand.New(rand.NewPCG(seed, 50))
	s := &timesRun{
		t: t, seed: seed, rng: rng, simSetup: randomSetup(rng), clock: newClock(), fs: vfs.NewCrashableMem(),
		byID: map[string]*timesMessage{}, facts: map[timesPlace]*timesFacts{},
	}
	refuses := rng.IntN(2) == 0 // a queue of dead letters may refuse some
	for i, name := range []string{"q0", "q1", "q2", "d0", "d1"} {
		q := &timesQueue{name: name, ttl: unset, max: unset, limit: unset}
		if rng.IntN(3) > 0 {
			q.prefetch = uint32(1 + rng.IntN(6))
		}
		s.queues = append(s.queues, q)
		if i > 2 {
			if name == "d0" && refuses {
				q.bound(3, "reject-publish")
			}
			continue
		}
		if rng.IntN(2) == 0 {
			q.ttl = int64(50 + rng.IntN(250))
			q.args = append(q.args, ttl(int(q.ttl)))
		}
		if n := rng.IntN(6); n < 3 {
			q.bound(2+rng.IntN(10), "drop-head")
		} else if n < 5 && refuses {
			q.bound(2+rng.IntN(10), []string{"reject-publish", "reject-publish-dlx"}[n-3])
		}
		if rng.IntN(3) == 0 {
			q.limit = rng.IntN(3)
			q.args = append(q.args, wire.Field{Name: "x-delivery-limit", Value: int32(q.limit)})
		}
		if rng.IntN(4) == 0 {
			q.retry = 40
			q.args = append(q.args, wire.Field{Name: "x-delayed-retry-type", Value: "all"}, wire.Field{Name: "x-delayed-retry-min", Value: int32(q.retry)})
		}
		if rng.IntN(4) == 0 {
			q.kind = simLevels
			q.args = append(q.args, simLevels.arguments()...)
		}
		switch n := rng.IntN(4); {
		case n == 0:
			q.targets = []string{"d0", "d1"}
			q.args = append(q.args, dlx("dead")...)
		case n < 3:
			q.targets = []string{[]string{"q0", "q1", "q2", "d0", "d1"}[i+1+rng.IntN(4-i)]}
			q.args = append(q.args, dlx("", q.targets[0])...)
		}
	}
	s.start()
	for _, q := range s.queues {
		s.broker.declare(t, q.name, "durable", 1, q.args...)
	}
	s.broker.declareDelayed(t, exchanges.TypeDirect, true)
	s.broker.declareExchange(t, exchanges.Declaration{Name: "dead", Type: exchanges.TypeFanout, Durable: true})
	for _, q := range s.queues[3:] {
		s.broker.bind(t, Binding{Source: "dead", Destination: q.name})
	}
	for _, q := range s.queues {
		s.broker.bind(t, Binding{Source: "later", Destination: q.name, Key: q.name})
	}
	s.broker.sync(t)
	s.consumers = s.consume(s.broker, s.clock, false)
	return s
}

func (s *timesRun) describe() string {
	var lines []string
	for _, q := range s.queues {
		lines = append(lines, fmt.Sprintf("%s %v, prefetch %d", q.name, q.args, q.prefetch))
	}
	return strings.Join(lines, "\n")
}

func (s *timesRun) problem(format string, args ...any) {
	if len(s.problems) < 10 {
		s.problems = append(s.problems, fmt.Sprintf(format, args...))
	}
}

func (s *timesRun) now() uint64 { return uint64(s.clock.now().UnixMilli()) }

// open starts a broker for which time passes by the client alone.
func (s *timesRun) open(fs vfs.FS, c *clock) (*broker, *errorLog) {
	setup := s.simSetup
	setup.clock = c.now
	b, log, err := setup.open(fs, true)
	if err != nil {
		s.t.Fatalf("LAGOMQ_CRASH_SEED=%d: %v", s.seed, err)
	}
	b.timers.stop()
	b.janitor.stop()
	return b, log
}

// start starts the broker; the power may fail while it does.
func (s *timesRun) start() {
	s.points = &syncPoints{FS: s.fs, rng: rand.New(rand.NewPCG(s.rng.Uint64(), 1)), crash: s.powerFails}
	if len(s.messages) > 0 {
		s.points.arm(10, 0)
	}
	s.broker, s.errorLog = s.open(s.points, s.clock)
	s.janitor = newJanitor(s.broker.Hosts)
}

// consume attaches consumers to the queues; all says that they take everything.
func (s *timesRun) consume(b *broker, clock *clock, all bool) (consumers []*timesConsumer) {
	for _, q := range s.queues {
		if q.prefetch == 0 && !all {
			continue
		}
		c := &timesConsumer{shell: b.queue(s.t, q.name), clock: clock, order: s.order(q)}
		if c.Sink = c; !all {
			c.Prefetch = q.prefetch
		}
		consumers = append(consumers, c)
		if err := c.shell.Consume(&c.Consumer, false, func() {}); err != nil {
			s.t.Fatal(err)
		}
	}
	return consumers
}

// cut is as in simulation.
func (s *timesRun) cut(rng *rand.Rand) timesCrash {
	crash := timesCrash{low: int(s.secured.Load())}
	s.mu.Lock()
	crash.confirmed = slices.Clip(s.confirmed)
	s.mu.Unlock()
	crash.fs = s.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng})
	crash.high = int(s.issued.Load())
	return crash
}

func (s *timesRun) powerFails(rng *rand.Rand) {
	crash := s.cut(rng)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.crashes = append(s.crashes, crash)
}

// history is several runs with crashes during them, and crashes and orderly stops
// between them.
func (s *timesRun) history(runs int) {
	for run := range runs {
		s.points.arm(5+s.rng.IntN(20), s.rng.IntN(3)*s.rng.IntN(60))
		for range 40 + s.rng.IntN(60) {
			s.act()
		}
		s.points.arm(0, 0)
		s.mu.Lock()
		crashes := s.crashes
		s.crashes = nil
		s.mu.Unlock()
		for _, crash := range crashes {
			if s.verify(crash, false); len(s.problems) > 0 {
				break
			}
		}
		last, orderly := s.cut(s.rng), s.rng.IntN(2) == 0
		if err := s.broker.close(); err != nil {
			s.problem("the broker does not stop: %v", err)
		}
		if errors := s.errorLog.errors(); len(errors) > 0 {
			s.problem("the broker reports errors: %v", errors)
		}
		if orderly {
			last.fs = s.fs.CrashClone(vfs.CrashCloneCfg{})
			last.low, last.high = s.steps, s.steps
		}
		found := s.verify(last, orderly)
		if len(s.problems) > 0 || run == runs-1 {
			return
		}
		s.resume(last, found)
	}
}

// resume goes on with what is left.
func (s *timesRun) resume(left timesCrash, found map[timesPlace]*timesArrival) {
	for _, m := range s.messages {
		places := s.places(m)
		there := slices.ContainsFunc(places, func(p timesPlace) bool { return found[p] != nil })
		for _, p := range places {
			f := s.fact(p)
			if f.arrivedStep > left.low {
				f.arrived, f.arrivedStep = 0, 0 // perhaps it goes there again
			}
			f.ended = f.ended || found[p] == nil && (f.settled > 0 && f.settled <= left.high || !there)
			f.gone = f.gone || f.ended && !slices.ContainsFunc(places, func(on timesPlace) bool {
				return p.comesBy(on) && (found[on] != nil || s.queue(on.queue()).drops(s) || s.fact(on).waits)
			})
			f.settled, f.held = 0, false
			if f.returned > left.low {
				f.returned, f.notBefore = 0, 0
			}
			if found[p] != nil {
				f.rejected = 0
			}
		}
		if found[places[0]] != nil {
			m.refused = false // it was to be dead-lettered, and is in the queue now
		}
		if there && m.persistent {
			s.confirmed = append(s.confirmed, m)
		}
	}
	s.fs, s.crashes = left.fs, nil
	s.start()
	s.consumers = s.consume(s.broker, s.clock, false)
}
