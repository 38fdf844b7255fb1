// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

const burst = MaxRunMessages

// traffic passes bursts through a queue: append, dispatch, settle.
type traffic struct {
	engine  Engine
	fx      Effects
	page    *Page
	levels  []uint8 // the page is appended to each
	numbers map[*Consumer][]uint64
}

func newTraffic(count int, consumers ...*Consumer) *traffic {
	t := &traffic{page: newPage(0, count, 16), levels: []uint8{0}, numbers: map[*Consumer][]uint64{}}
	for _, c := range consumers {
		c.Sink = &sink{room: -1}
		t.engine.AddConsumer(c)
		t.numbers[c] = make([]uint64, 0, count)
	}
	return t
}

// pass lets one burst through and returns how many messages came out.
func (t *traffic) pass(tb testing.TB) (out int) {
	for _, level := range t.levels {
		t.engine.Append(level, t.page, nil)
	}
	for more := true; more; {
		more = t.engine.Dispatch(&t.fx)
		for i := range t.fx.Deliveries {
			d := &t.fx.Deliveries[i]
			d.Consumer.Sink.(*sink).took(d.Count)
			out += int(d.Count)
			if !d.Consumer.NoAck {
				for i := range d.Count {
					t.numbers[d.Consumer] = append(t.numbers[d.Consumer], d.Number(i))
				}
			}
		}
		t.fx.Reset()
	}
	for c, numbers := range t.numbers {
		must(tb, t.engine.Settle(numbers, &t.fx))
		t.engine.Credit(c, uint32(len(numbers)))
		t.numbers[c] = numbers[:0]
	}
	t.fx.Reset()
	t.engine.ReleasePages()
	return out
}

var circles = []struct {
	name      string
	consumers func() []*Consumer
}{
	{"1 consumer no ack", func() []*Consumer { return []*Consumer{{NoAck: true}} }},
	{"1 consumer", func() []*Consumer { return []*Consumer{{}} }},
	{"2 consumers", func() []*Consumer { return []*Consumer{{}, {}} }},
	{"3 consumers mixed", func() []*Consumer { return []*Consumer{{}, {NoAck: true}, {Prefetch: 100}} }},
}

// BenchmarkBurst is the way of 256 messages through a queue: append, dispatch,
// settle. ns/message is the time of one message.
func BenchmarkBurst(b *testing.B) {
	for _, circle := range circles {
		b.Run(circle.name, func(b *testing.B) {
			t := newTraffic(burst, circle.consumers()...)
			b.ReportAllocs()
			for b.Loop() {
				t.pass(b)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/burst, "ns/message")
		})
	}
}

// BenchmarkSingle is BenchmarkBurst with bursts of one message.
func BenchmarkSingle(b *testing.B) {
	for _, circle := range circles {
		b.Run(circle.name, func(b *testing.B) {
			t := newTraffic(1, circle.consumers()...)
			b.ReportAllocs()
			for b.Loop() {
				t.pass(b)
			}
		})
	}
}

// BenchmarkLevels is the way of 250 messages of 10 priorities through a queue, which
// come in one burst.
func BenchmarkLevels(b *testing.B) {
	for _, circle := range circles {
		b.Run(circle.name, func(b *testing.B) {
			t := newTraffic(25, circle.consumers()...)
			t.levels = []uint8{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
			b.ReportAllocs()
			for b.Loop() {
				t.pass(b)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/250, "ns/message")
		})
	}
}

// TestOneLevelIsPlain checks that a queue of one level is one object and allocates
// as one without priorities, whatever the level.
func TestOneLevelIsPlain(t *testing.T) {
	c := &Consumer{}
	traffic := newTraffic(16, c)
	traffic.levels = []uint8{4}
	got := testing.AllocsPerRun(100, func() { traffic.pass(t) })
	if e := &traffic.engine; got > 1 || len(e.levels) != 1 || e.levels[0] != &e.plain || &e.levels[0] != &e.room[0] {
		t.Errorf("a burst allocates %.0f times, want 1; levels are %v", got, e.levels)
	}
}

// TestAllocations checks that what a burst allocates does not depend on the
// number of its messages: a run, and nothing for any message.
func TestAllocations(t *testing.T) {
	for _, circle := range circles {
		t.Run(circle.name, func(t *testing.T) {
			for _, count := range []int{1, 16, burst} {
				traffic := newTraffic(count, circle.consumers()...)
				got := testing.AllocsPerRun(100, func() {
					if out := traffic.pass(t); out != count {
						t.Fatalf("%d of %d messages came out", out, count)
					}
				})
				if got > 1 {
					t.Errorf("a burst of %d messages allocates %.0f times, want 1", count, got)
				}
			}
		})
	}
}

// BenchmarkReturn is the end of a channel that held a million messages, given
// out to one consumer or dealt to two.
func BenchmarkReturn(b *testing.B) {
	const million = 1_000_000
	for _, stride := range []uint64{1, 2} {
		b.Run(fmt.Sprintf("1M numbers stride %d", stride), func(b *testing.B) {
			numbers := make([]uint64, million)
			for i := range numbers {
				numbers[i] = uint64(i) * stride
			}
			b.ReportAllocs()
			for b.Loop() {
				var s spans
				s.add(numbers)
				if s.n != million {
					b.Fatal(s.n)
				}
			}
		})
	}
	b.Run("1M one by one backwards", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var s spans
			for n := million; n > 0; n-- {
				s.add([]uint64{uint64(n)})
			}
		}
	})
}

// BenchmarkSettleBacklog settles bursts at random places of a long queue.
func BenchmarkSettleBacklog(b *testing.B) {
	for _, runs := range []int{100, 100_000} {
		b.Run(fmt.Sprint(runs, " runs"), func(b *testing.B) {
			var e Engine
			for i := range runs {
				e.plain.dir.push(&Run{First: uint64(i) * burst, Count: burst})
			}
			rng := rand.New(rand.NewPCG(1, 2))
			numbers := make([]uint64, burst)
			b.ReportAllocs()
			for b.Loop() {
				first := rng.Uint64N(uint64(runs-1) * burst)
				for i := range numbers {
					numbers[i] = first + uint64(i)
				}
				at := 0
				for _, n := range numbers {
					if at = e.plain.dir.head.find(n, at); at < 0 {
						b.Fatal(n)
					}
				}
			}
		})
	}
}

// BenchmarkTrim is a publisher at a queue that keeps growing in memory only.
func BenchmarkTrim(b *testing.B) {
	for _, runs := range []int{100, 100_000} {
		b.Run(fmt.Sprint("behind ", runs, " runs in memory"), func(b *testing.B) {
			var e Engine
			var fx Effects
			late := newKeeper(&e).put(0, 1)
			late.late = true
			page := newPage(0, 1, 16)
			for range runs {
				e.Append(0, page, late)
				e.Trim(1000, 1000, &fx)
			}
			b.ReportAllocs()
			for b.Loop() {
				e.Trim(1000, 1000, &fx)
			}
		})
	}
}

// TestTrimLooksAtNewRunsOnly checks that trimming after each append costs what
// was appended, not the queue's length, although nothing can be let go.
func TestTrimLooksAtNewRunsOnly(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{false, true} {
		var e Engine
		var fx Effects
		k := newKeeper(&e)
		for range 2000 {
			var handle any
			if stored {
				d := k.put(e.Next(0), 1)
				d.late = true
				handle = d
			}
			e.Append(0, newPage(e.Next(0), 1, 100), handle)
			e.Trim(10_000, 10_000, &fx)
			e.Scattered(Busy)
		}
		if k.looks > 3*2000 {
			t.Errorf("stored %t: looked at %d runs for 2000 appended", stored, k.looks)
		}
	}
}

// TestTrimKeepsHead checks that the head of a queue that outgrows its window
// stays in memory, and what comes after goes as soon as it is stored.
func TestTrimKeepsHead(t *testing.T) {
	t.Parallel()
	var e Engine
	var fx Effects
	k := newKeeper(&e)
	var waiting []*disk
	one := weight(newPage(0, 1, 100))
	add := func(n int, late bool) {
		for range n {
			d := k.put(e.Next(0), 1)
			if d.late = late; late {
				waiting = append(waiting, d)
			}
			e.Append(0, newPage(e.Next(0), 1, 100), d)
			e.Trim(20*one, 20*one, &fx)
		}
	}
	resident := func() (numbers []uint64) {
		e.Runs(func(r *Run) {
			if r.Page != nil {
				numbers = append(numbers, r.First)
			}
		})
		return numbers
	}
	add(50, false)
	if got := resident(); len(got) != 20 || got[19] != 19 {
		t.Errorf("in memory are %v, want the first 20", got)
	}
	add(5, true)
	if got := resident(); len(got) != 25 || got[20] != 50 {
		t.Errorf("in memory are %v, want the first 20 and those on their way to the store", got)
	}
	for _, d := range waiting {
		d.late = false
	}
	add(1, false)
	if got := resident(); len(got) != 20 || got[19] != 19 {
		t.Errorf("in memory are %v, want the first 20 again", got)
	}
	must(t, e.Check())
	if slices.Contains(resident(), 50) {
		t.Error("a stored page stays")
	}
}

// BenchmarkDelay delays a million messages of full runs one by one, every second one
// longer than its neighbours, and resumes them.
func BenchmarkDelay(b *testing.B) {
	const messages = 1 << 20
	for b.Loop() {
		b.StopTimer()
		var e Engine
		var fx Effects
		page := newPage(0, MaxRunMessages, 1)
		for range messages / MaxRunMessages {
			e.Append(0, page, nil)
		}
		e.AddConsumer(&Consumer{Sink: &sink{room: -1}})
		for more := true; more; fx.Reset() {
			more = e.Dispatch(&fx)
		}
		e.RemoveConsumer(e.consumers[0])
		b.StartTimer()
		before := memory()
		for n := range uint64(messages) {
			must(b, e.Delay([]uint64{n}, 1000+n%2*1000+n/1000))
		}
		b.ReportMetric(float64(memory()-before)/messages, "B/message")
		now := uint64(0)
		for e.Delayed() > 0 {
			now = e.Resume(now, 8192, &fx)
		}
	}
}

// memory is the bytes of the heap in use.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
