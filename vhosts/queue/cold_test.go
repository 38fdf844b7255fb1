// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// placer keeps nothing: the place is the handle.
type placer struct{}

func (placer) Stored(r *Run) bool         { return r.Stored != nil }
func (placer) Chill(r *Run) (Place, bool) { return *r.Stored.(*Place), true }
func (placer) Warm(r *Run, p Place) any   { return &p }

// TestSegmentRoundTrip packs runs with any values and reads them back.
func TestSegmentRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s segment
		var want []Run
		var places []Place
		next, live, bytes := uint64(0), uint64(0), uint64(0)
		edge := rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 3), rapid.SampledFrom([]uint64{1<<64 - 1, 1 << 63}))
		for range rapid.IntRange(1, 20).Draw(t, "runs") {
			r := Run{
				First:    next + rapid.SampledFrom([]uint64{0, 0, 1, 1 << 40}).Draw(t, "gap"),
				Count:    rapid.Uint32Range(1, MaxRunMessages).Draw(t, "count"),
				Bytes:    rapid.Uint64Range(0, 1<<50).Draw(t, "bytes"),
				Volatile: rapid.Bool().Draw(t, "volatile"),
			}
			if rapid.IntRange(0, 2).Draw(t, "settled") == 0 {
				r.settled.SetRange(0, rapid.Uint32Range(0, r.Count-1).Draw(t, "gone"))
				r.gone = r.settled.Count()
			}
			p := Place{edge.Draw(t, "group"), edge.Draw(t, "index"), rapid.Uint32().Draw(t, "part"), rapid.Byte().Draw(t, "flags")}
			s.pack(&r, p)
			want, places = append(want, r), append(places, p)
			next = r.end()
			live += uint64(r.live())
			bytes += r.liveBytes()
		}
		if s.count != len(want) || s.live != live || s.bytes != bytes || s.end != next {
			t.Fatalf("segment %+v, want %d runs up to %d of %d messages and %d bytes", s, len(want), next, live, bytes)
		}
		s.unpack(placer{})
		for i, r := range s.warm.all() {
			if *r.Stored.(*Place) != places[i] {
				t.Fatalf("run %d is at %+v, want %+v", i, r.Stored, places[i])
			}
			if r.Stored = nil; *r != want[i] {
				t.Fatalf("run %d is %+v, want %+v", i, *r, want[i])
			}
		}
		if s.warm.len() != len(want) || s.count != 0 {
			t.Fatalf("%d runs unpacked and %d left, want %d", s.warm.len(), s.count, len(want))
		}
	})
}

// TestLongQueueIsPacked checks what a queue of ten million messages costs, and
// that it comes out whole.
func TestLongQueueIsPacked(t *testing.T) {
	t.Parallel()
	var e Engine
	var fx Effects
	e.Keeper = placer{}
	page := newPage(0, burst, 16)
	const total = 10_000_000 / burst
	for i := range total {
		e.Append(0, page, &Place{Index: uint64(i)})
		e.Trim(10*weight(page), 10*weight(page), &fx)
		e.ReleasePages()
	}
	must(t, e.Check())
	hot := 0
	e.Runs(func(*Run) { hot++ })
	if cold := e.ColdBytes(); e.RunCount() != total || hot > 700 || cold > 10*total {
		t.Errorf("%d runs, of which %d hot, the others in %d bytes", e.RunCount(), hot, cold)
	}
	number := uint64(0)
	e.Cold(func(first, end uint64) { number += end - first })
	if want := uint64(total-hot) * burst; number != want {
		t.Errorf("%d messages are packed, want %d", number, want)
	}
	e.Purge(&fx)
	if len(fx.Forgotten) != 1 || e.RunCount() != 0 || e.Bytes() != 0 || e.ColdBytes() != 0 {
		t.Errorf("after a purge: %d intervals, %d runs, %d bytes", len(fx.Forgotten), e.RunCount(), e.Bytes())
	}
	must(t, e.Check())
}

// TestSlowConsumerDoesNotKeepRunsHot checks that what lies far back is packed also
// while a consumer keeps making a little room.
func TestSlowConsumerDoesNotKeepRunsHot(t *testing.T) {
	t.Parallel()
	var e Engine
	var fx Effects
	e.Keeper = placer{}
	e.AddConsumer(&Consumer{NoAck: true, Sink: &sink{}})
	for range 20_000 {
		page := newPage(e.Next(0), 1, 16)
		e.Append(0, page, &Place{Index: e.Next(0)})
		e.Trim(200*weight(page), 200*weight(page), &fx)
		if e.Next(0)%20 == 0 {
			e.consumers[0].Sink.(*sink).room = 1
			e.Dispatch(&fx)
			for i := range fx.Deliveries {
				e.consumers[0].Sink.(*sink).took(fx.Deliveries[i].Count)
			}
			for _, r := range fx.Loads {
				e.Loaded(r, content(r))
			}
		}
		fx.Reset()
		e.ReleasePages()
	}
	must(t, e.Check())
	hot := 0
	e.Runs(func(*Run) { hot++ })
	if hot > 1000 || e.Ready() != 19_000 {
		t.Errorf("of %d messages ready %d are in hot runs", e.Ready(), hot)
	}
}

// TestManySmallRunsBecomeFull checks that messages that come one by one end as full
// runs, joined as they come or after a restart.
func TestManySmallRunsBecomeFull(t *testing.T) {
	t.Parallel()
	const total = 100 * MaxRunMessages
	join := func(e *Engine, z Zeal) {
		for group := e.Scattered(z); group != nil; group = e.Scattered(z) {
			if _, ok := e.Gather(group, nil, &Place{}); !ok {
				t.Fatal("an untouched group is not gathered")
			}
			e.ReleasePages()
		}
	}
	t.Run("as they come", func(t *testing.T) {
		t.Parallel()
		var e Engine
		var fx Effects
		e.Keeper = placer{}
		page := newPage(0, 1, 16)
		for range total {
			e.Append(0, page, &Place{})
			e.Trim(20*weight(page), 20*weight(page), &fx)
			join(&e, Busy)
		}
		must(t, e.Check())
		if n := e.RunCount(); n > 100+standard.aheadRuns+MaxRunMessages+1 {
			t.Errorf("%d messages are in %d runs", total, n)
		}
	})
	t.Run("recovered", func(t *testing.T) {
		t.Parallel()
		var e Engine
		e.Keeper = placer{}
		for i := range uint64(total) {
			must(t, e.Restore(i, 1, 16, Bitmap{}, Place{Index: i}, Times{}, nil))
		}
		join(&e, Idle)
		must(t, e.Check())
		if n, segments := e.RunCount(), len(e.plain.dir.cold); n != 100 || segments != 1 {
			t.Errorf("%d messages are in %d runs in %d segments", total, n, segments)
		}
	})
	for zeal, most := range map[Zeal]struct{ runs, rewrites int }{Unread: {100 + 31, 3}, Idle: {100 + 10, 9}} {
		t.Run(fmt.Sprint("trickling in ", zeal), func(t *testing.T) {
			t.Parallel()
			var e Engine
			e.Keeper = placer{}
			written := 0
			for range total {
				e.Append(0, newPage(0, 1, 16), &Place{})
				if group := e.Scattered(zeal); group != nil {
					count := 0
					for _, r := range group {
						count += int(r.Count)
					}
					e.Gather(group, newPage(0, count, 16), &Place{})
					written += count
				}
			}
			must(t, e.Check())
			if n := e.RunCount(); n > most.runs || written > most.rewrites*total {
				t.Errorf("%d messages are in %d runs, %d were written for it", total, n, written)
			}
		})
	}
}

// TestUnreadIsJoinedInMemory: while messages come, only what is in memory is joined,
// and the rest when they no longer do.
func TestUnreadIsJoinedInMemory(t *testing.T) {
	t.Parallel()
	var e Engine
	var fx Effects
	e.Keeper = placer{}
	join := func(z Zeal) {
		for group := e.Scattered(z); group != nil; group = e.Scattered(z) {
			count := 0
			for _, r := range group {
				if r.Page == nil && z == Unread {
					t.Errorf("the run from %d on would have to be read", r.First)
				}
				count += int(r.Count)
			}
			e.Gather(group, newPage(0, count, 16), &Place{})
			e.ReleasePages()
		}
	}
	const total = 300
	limit := 40 * weight(newPage(0, 1, 16))
	for i := range total {
		e.Append(0, newPage(e.Next(0), 1, 16), &Place{})
		if i > 100 { // before, nobody has the time
			join(Unread)
		}
		e.TrimUnread(limit, limit, &fx)
		e.ReleasePages()
	}
	must(t, e.Check())
	if n := e.RunCount(); n < 60 || n > 60+2*unreadTimes+total/unreadTimes {
		t.Errorf("%d messages are in %d runs", total, n)
	}
	join(Idle)
	must(t, e.Check())
	if n := e.RunCount(); n != 2 {
		t.Errorf("%d messages are in %d runs, want 2", total, n)
	}
}

// BenchmarkColdRun is the life of a run far back in a queue: appended, packed,
// thawed.
func BenchmarkColdRun(b *testing.B) {
	for _, count := range []int{1, burst} {
		b.Run(fmt.Sprint(count, " messages"), func(b *testing.B) {
			var s segment
			r := Run{Count: uint32(count), Bytes: 1024 * uint64(count)}
			for i := range standard.segmentRuns {
				s.pack(&r, Place{Group: 1, Index: 1<<40 + uint64(2*i), Part: 3})
				r.First = r.end()
			}
			s.fit()
			packed := slices.Clone(s.packed)
			b.ReportAllocs()
			for b.Loop() {
				s.warm, s.packed, s.count = runs{}, packed, standard.segmentRuns
				s.unpack(warmer{})
			}
			b.ReportMetric(float64(len(packed)+segmentSize)/float64(standard.segmentRuns), "B/run")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*standard.segmentRuns), "ns/run")
		})
	}
}

// warmer leaves runs without handles.
type warmer struct{ placer }

func (warmer) Warm(*Run, Place) any { return nil }

// BenchmarkRestore recovers queues of 4 runs each.
func BenchmarkRestore(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		e := Engine{Keeper: placer{}}
		for i := range uint64(4) {
			must(b, e.Restore(i*burst, burst, 1024*burst, Bitmap{}, Place{Index: 1<<40 + i}, Times{}, nil))
		}
	}
}

// BenchmarkDrain reads a backlog back: load, hand out 100, settle 100.
func BenchmarkDrain(b *testing.B) {
	var pages Pages
	var e Engine
	var fx Effects
	e.Keeper = placer{}
	stored := newPage(0, burst, 128).AppendTo(nil)
	c := &Consumer{Prefetch: 100, Sink: &sink{room: -1}}
	e.AddConsumer(c)
	numbers := make([]uint64, 0, 100)
	place := &Place{}
	b.ReportAllocs()
	for b.Loop() {
		for len(e.plain.dir.cold) == 0 && e.plain.dir.head.len() < 32 {
			l := e.level(0)
			l.dir.push(&Run{First: l.next, Count: burst, Bytes: 128 * burst, Stored: place})
			l.next += burst
			l.ready += burst
			e.bytes += 128 * burst
		}
		e.Dispatch(&fx)
		for i := range fx.Deliveries {
			d := &fx.Deliveries[i]
			c.Sink.(*sink).took(d.Count)
			for i := range d.Count {
				numbers = append(numbers, d.Number(i))
			}
		}
		for _, r := range fx.Loads {
			page, err := pages.Parse(stored)
			must(b, err)
			e.Loaded(r, page)
			page.Release()
		}
		fx.Reset()
		must(b, e.Settle(numbers, &fx))
		e.Credit(c, uint32(len(numbers)))
		numbers = numbers[:0]
		e.Trim(64<<20, 64<<20, &fx)
		fx.Reset()
		e.ReleasePages()
	}
}
