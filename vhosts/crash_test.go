// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// seeds is how many histories a crash test makes.
func seeds() uint64 {
	if testing.Short() || raceEnabled {
		return 4
	}
	return 24
}

// TestCrash publishes from several goroutines with confirms and settles from
// another, lets the power fail at a random moment, and checks the promise: what
// was confirmed and not acknowledged is there, once, in its publisher's order.
// A seed replays what is done; when it is done is up to the scheduler.
func TestCrash(t *testing.T) {
	t.Parallel()
	for seed := range seeds() {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			crash(t, seed)
		})
	}
}

// history is what one publisher did.
type history struct {
	mu        sync.Mutex
	confirmed int // its first so many messages are confirmed
	sent      int
}

func (h *history) counts() (confirmed, sent int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.confirmed, h.sent
}

// confirm is the waiter of one run of a publisher.
type confirm struct {
	*history
	upTo int
	done chan<- int
}

func (c *confirm) Durable(err error) {
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.upTo < c.confirmed {
		panic("confirms are out of order")
	}
	c.confirmed = c.upTo
}

func (c *confirm) Flush() { c.done <- c.upTo }

const publishers = 3

func crash(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	fs := vfs.NewCrashableMem()
	b := openWith(t, fs, Options{ResidentBytes: uint64(rng.IntN(4000)), PageReaders: 1})
	b.declare(t, "q", "durable", 1)
	b.declare(t, "copy", "durable", 1) // takes what q takes
	b.declare(t, "transient", "", 1)
	for _, name := range []string{"q", "copy", "transient"} {
		b.bind(t, Binding{Source: "amq.fanout", Destination: name})
	}
	b.sync(t)

	var histories [publishers]history
	var acked sync.Map // bodies that were acknowledged before the crash
	stop := make(chan struct{})
	var work sync.WaitGroup
	for p := range histories {
		work.Go(func() { publishUntil(t, b, stop, p, &histories[p], rand.New(rand.NewPCG(seed, uint64(p)))) })
	}
	work.Go(func() { consumeUntil(t, b, stop, &acked) })

	// Crash once some messages are confirmed.
	moment := 1 + rng.IntN(200)
	for total := 0; total < moment; {
		total = 0
		for p := range histories {
			confirmed, _ := histories[p].counts()
			total += confirmed
		}
		b.sync(t)
	}
	var confirmed, sent [publishers]int
	for p := range histories {
		confirmed[p], _ = histories[p].counts()
	}
	clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng})
	for p := range histories {
		_, sent[p] = histories[p].counts()
	}
	close(stop)
	b.publish(t, "", "q", false, nil, "last") // the consumer may wait for one more before it looks
	work.Wait()

	after := openBroker(t, clone)
	if names := queueNames(after); names != "copy q" {
		t.Fatalf("after the crash there are queues %q", names)
	}
	for _, name := range []string{"q", "copy"} {
		found := strings.Fields(drain(t, after.queue(t, name)))
		checkRecovered(t, name, found, confirmed, sent, func(body string) bool {
			_, ok := acked.Load(body)
			return ok && name == "q"
		})
	}
	// What is settled and then stopped orderly stays gone.
	in := newInbox("c", false, 0)
	q := after.queue(t, "q")
	ready := int(q.Stats().Ready)
	consume(t, q, in)
	messages := in.take(ready)
	q.Cancel(in.Consumer)
	var settle, keep []uint64
	var kept []string
	for _, m := range messages {
		if rng.IntN(2) == 0 {
			settle = append(settle, m.number)
		} else {
			keep = append(keep, m.number)
			kept = append(kept, m.body+"*")
		}
	}
	q.Settle(in.Consumer, settle, false)
	q.Return(in.Consumer, keep, false)
	last := after.restart(t, clone)
	if got := drain(t, last.queue(t, "q")); got != strings.Join(kept, " ") {
		t.Errorf("after an orderly stop there are\n%s\nwant\n%s", got, strings.Join(kept, " "))
	}
}

// publishUntil publishes runs, some of them transient, with a few confirms
// outstanding.
func publishUntil(t *testing.T, b *broker, stop <-chan struct{}, p int, h *history, rng *rand.Rand) {
	const window = 4
	done := make(chan int, 1000)
	for outstanding := 0; ; {
		select {
		case <-stop:
			return
		default:
		}
		for outstanding >= window {
			<-done
			outstanding--
		}
		var bodies []string
		h.mu.Lock()
		for range 1 + rng.IntN(5) {
			bodies = append(bodies, fmt.Sprintf("%d-%d", p, h.sent))
			h.sent++
		}
		upTo := h.sent
		h.mu.Unlock()
		b.publish(t, "amq.fanout", "", true, &confirm{h, upTo, done}, bodies...)
		outstanding++
		if rng.IntN(4) == 0 {
			b.publish(t, "", "q", false, nil, "transient")
		}
	}
}

// consumeUntil acknowledges some of what queue q delivers and puts the rest back.
func consumeUntil(t *testing.T, b *broker, stop <-chan struct{}, acked *sync.Map) {
	q := b.queue(t, "q")
	in := newInbox("c", false, 20)
	consume(t, q, in)
	for {
		select {
		case <-stop:
			q.Cancel(in.Consumer)
			return
		default:
		}
		messages := in.take(max(1, in.waiting()))
		var settle, back []uint64
		for _, m := range messages {
			if m.number%3 == 0 || m.redelivered {
				settle = append(settle, m.number)
				acked.Store(m.body, true)
			} else {
				back = append(back, m.number)
			}
		}
		q.Settle(in.Consumer, settle, false)
		q.Return(in.Consumer, back, false)
	}
}

// checkRecovered checks what is in a queue after the crash: of each publisher,
// in order and once, nothing that was not sent, everything confirmed that was
// not acknowledged. All of it may have been delivered.
func checkRecovered(t *testing.T, queue string, found []string, confirmed, sent [publishers]int, acked func(string) bool) {
	t.Helper()
	var next [publishers]int
	there := map[string]bool{}
	for _, message := range found {
		body, redelivered := strings.CutSuffix(message, "*")
		if !redelivered {
			t.Errorf("%s: message %s is not marked as redelivered", queue, body)
		}
		publisher, number, ok := strings.Cut(body, "-")
		if !ok {
			t.Errorf("%s: message %s was transient", queue, body)
			continue
		}
		p, _ := strconv.Atoi(publisher)
		n, _ := strconv.Atoi(number)
		if n < next[p] || n >= sent[p] {
			t.Errorf("%s: message %s is twice there, out of order, or was never sent", queue, body)
		}
		next[p] = n + 1
		there[body] = true
	}
	for p := range publishers {
		for n := range confirmed[p] {
			if body := fmt.Sprintf("%d-%d", p, n); !there[body] && !acked(body) {
				t.Errorf("%s: message %s was confirmed and is gone", queue, body)
			}
		}
	}
}

// TestTxAtomic moves messages between queues by transactions, lets the power
// fail at a random moment, and checks that every transaction happened as a whole
// or not at all, whatever others settle at the same time.
func TestTxAtomic(t *testing.T) {
	t.Parallel()
	for seed := range seeds() {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			transactions(t, seed)
		})
	}
}

func transactions(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 8))
	fs := vfs.NewCrashableMem()
	b := openBroker(t, fs)
	from, noise := b.declare(t, "from", "durable", 1), newInbox("noise", false, 0)
	to := []*Queue{b.declare(t, "to 0", "durable", 1), b.declare(t, "to 1", "durable", 1)}

	// Messages m are moved, messages x between them are settled by somebody else.
	const moves = 100
	var bodies []string
	for i := range moves {
		bodies = append(bodies, fmt.Sprint("m", i), fmt.Sprint("x", i))
	}
	w := newResult()
	b.publish(t, "", "from", true, w, bodies...)
	w.want(t)
	mover := newInbox("mover", false, 0)
	consume(t, from, mover)
	messages := mover.take(len(bodies))

	route := func(q *Queue) *Route { return NewRoutes(b.VHost).Find(publishView(t, "", q.name), nil, nil) }
	routes := []*Route{route(to[0]), route(to[1])}
	var done [2]int // transactions of each mover that were confirmed
	var mu sync.Mutex
	move := func(which int) {
		for i := which; i < moves; i += 2 {
			var publications []TxPublication
			for k, r := range routes {
				page := b.pages.New()
				fill(page, []string{fmt.Sprint("m", i), fmt.Sprintf("tail%d-%d", i, k)})
				publications = append(publications, TxPublication{Route: r, Page: page, Persistent: true})
			}
			committed := newResult()
			b.CommitTx(publications, []Settlement{{Queue: from, Consumer: mover.Consumer, Numbers: []uint64{messages[2*i].number}}}, committed)
			if i%7 == 0 {
				if <-committed != nil {
					return
				}
				mu.Lock()
				done[which] = i + 1
				mu.Unlock()
			}
		}
	}
	crashAt := rng.IntN(moves)
	var clone *vfs.MemFS
	var doneThen [2]int
	var work sync.WaitGroup
	work.Go(func() { move(0) })
	work.Go(func() { move(1) })
	work.Go(func() {
		for i := range moves {
			from.Settle(noise.Consumer, []uint64{messages[2*i+1].number}, false)
			if i%8 == 0 {
				b.sync(t)
			}
			if i == crashAt {
				mu.Lock()
				doneThen = done
				mu.Unlock()
				clone = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * rng.IntN(3), RNG: rng})
			}
		}
	})
	work.Wait()

	check := func(b *broker, done [2]int) {
		t.Helper()
		left := strings.Fields(strings.ReplaceAll(drain(t, b.queue(t, "from")), "*", ""))
		var moved [2][]string
		for k := range moved {
			moved[k] = strings.Fields(strings.ReplaceAll(drain(t, b.queue(t, fmt.Sprint("to ", k))), "*", ""))
		}
		for i := range moves {
			name := fmt.Sprint("m", i)
			gone := !slices.Contains(left, name)
			for k := range moved {
				if slices.Contains(moved[k], name) != gone || slices.Contains(moved[k], fmt.Sprintf("tail%d-%d", i, k)) != gone {
					t.Errorf("transaction %d happened in part: gone %t, in queue %d %t", i, gone, k, !gone)
				}
			}
			if !gone && i < done[i%2] {
				t.Errorf("transaction %d was confirmed and did not happen", i)
			}
		}
	}
	check(openBroker(t, clone), doneThen)

	// What everybody settled stays settled after an orderly stop.
	b = b.restart(t, fs)
	check(b, [2]int{moves, moves})
	if got := drain(t, b.queue(t, "from")); got != "" {
		t.Errorf("after an orderly stop there are %q", got)
	}
}

// TestTxHoldsMarks checks that what others settle of a run while a transaction is
// about to settle some of it neither goes before the transaction nor is lost.
func TestTxHoldsMarks(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	b := openBroker(t, fs)
	q := b.declare(t, "q", "durable", 1)
	w := newResult()
	b.publish(t, "", "q", true, w, "1", "2", "3", "4")
	w.want(t)
	in := newInbox("c", false, 0)
	consume(t, q, in)

	records, _ := q.settleInto(nil, &Settlement{Consumer: in.Consumer, Numbers: []uint64{0}})
	q.Settle(in.Consumer, []uint64{1}, false)
	b.sync(t)
	if got := recovered(t, fs); got != "1* 2* 3* 4*" {
		t.Errorf("before the proposal there are %q", got)
	}
	r := newResult()
	b.store.Propose(0, r, records...)
	q.release()
	r.want(t)
	b.sync(t)
	if got := recovered(t, fs); got != "3* 4*" {
		t.Errorf("after the proposal there are %q", got)
	}
	q.Settle(in.Consumer, []uint64{2}, false)
	b.sync(t)
	if got := recovered(t, fs); got != "4*" {
		t.Errorf("after the transaction there are %q", got)
	}
}

// recovered is what queue q holds after a crash now.
func recovered(t *testing.T, fs *vfs.MemFS) string {
	t.Helper()
	return drain(t, openBroker(t, fs.CrashClone(vfs.CrashCloneCfg{})).queue(t, "q"))
}

// TestTransaction checks what a transaction does to the queues in memory.
func TestTransaction(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "durable", 1)
	b.publish(t, "", "q", true, nil, "1", "2", "3")
	in := newInbox("c", false, 3)
	consume(t, q, in)
	in.take(3)
	page := b.pages.New()
	fill(page, []string{"4"})
	w := newResult()
	b.CommitTx(
		[]TxPublication{{Route: NewRoutes(b.VHost).Find(publishView(t, "", "q"), nil, nil), Page: page}},
		[]Settlement{
			{Queue: q, Consumer: in.Consumer, Numbers: []uint64{0}},
			{Queue: q, Consumer: in.Consumer, Numbers: []uint64{1}, Rejected: true},
			{Queue: q, Consumer: in.Consumer, Numbers: []uint64{2}, Requeue: true},
		}, w)
	w.want(t)
	if got := bodiesOf(in.take(2)); got != "4 3*" {
		t.Errorf("delivered are %q, want 4 3*", got)
	}
	if c := q.Stats().Counters; c.Acknowledged != 1 || c.Rejected != 1 || c.Requeued != 1 || c.Published != 4 {
		t.Errorf("counted are %+v", c)
	}
}
