// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"bytes"
	"maps"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lagomq/lagomq/amqp/wire"
)

func TestIdentityRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		run := rapid.Uint16().Draw(t, "run")
		producer := rapid.IntRange(0, maxProducers-1).Draw(t, "producer")
		seq := rapid.Uint64Range(0, maxSequence).Draw(t, "sequence")
		id := newIdentity(run, producer, seq)
		if id.run() != run || id.producer() != producer || id.sequence() != seq {
			t.Fatalf("%d %d %d became %d %d %d", run, producer, seq, id.run(), id.producer(), id.sequence())
		}
	})
}

// However the clock moves, a pacer never runs ahead of its rate, and keeps up
// with it when it is asked often enough.
func TestPacerKeepsItsRate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(0.1, 1e6).Draw(t, "rate")
		start := time.Unix(1e9, 0)
		p := newPacer(rate, start)
		elapsed, passed := time.Duration(0), 0
		for _, step := range rapid.SliceOf(rapid.Int64Range(0, int64(maxArrears))).Draw(t, "steps") {
			elapsed += time.Duration(step)
			n := p.due(start.Add(elapsed))
			p.take(n)
			passed += n
			due := 1 + elapsed.Seconds()*rate
			if math.Abs(float64(passed)-due) > 1.001 {
				t.Fatalf("%d messages after %v at %g/s", passed, elapsed, rate)
			}
			next := start.Add(elapsed + p.wait(start.Add(elapsed)) + time.Nanosecond)
			if p.due(next) == 0 {
				t.Fatalf("nothing is due when the wait of %v is over", p.wait(start.Add(elapsed)))
			}
		}
	})
}

func TestPacerForgetsLongStalls(t *testing.T) {
	t.Parallel()
	start := time.Unix(1e9, 0)
	p := newPacer(100, start)
	if n := p.due(start.Add(time.Hour)); n != 101 {
		t.Errorf("%d messages are due at once after an hour", n)
	}
	var none *pacer
	none.take(1)
	if none.due(start) != unlimited || none.wait(start) != 0 || newPacer(0, start) != nil {
		t.Error("a pacer without a rate limits")
	}
}

func TestSeqSetAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const end = 2 * pageSize
		var sets [3]seqSet
		var models [3][]bool
		for i := range sets {
			models[i] = make([]bool, end)
			add := func(seq uint64) {
				if sets[i].add(seq) == models[i][seq] {
					t.Fatalf("add(%d) does not know whether it is new", seq)
				}
				models[i][seq] = true
			}
			first := rapid.Uint64Range(0, pageSize).Draw(t, "first")
			n := rapid.SampledFrom([]uint64{0, 1, 64, 1000, pageSize}).Draw(t, "n")
			for seq := first; seq < first+n; seq++ {
				add(seq)
			}
			for _, seq := range rapid.SliceOf(rapid.Uint64Range(0, end-1)).Draw(t, "more") {
				add(seq)
			}
		}
		var size, without uint64
		for seq := range uint64(end) {
			if sets[0].has(seq) != models[0][seq] {
				t.Fatalf("has(%d) is wrong", seq)
			}
			if models[0][seq] {
				size++
				if !models[1][seq] && !models[2][seq] {
					without++
				}
			}
		}
		if got := sets[0].without(&sets[1], &sets[2]); sets[0].size != size || got != without {
			t.Fatalf("size %d, want %d; without %d, want %d", sets[0].size, size, got, without)
		}
	})
}

// Confirms may come one by one, many at once and in any order; each message is
// answered once, and the window never lets too many out.
func TestConfirmsAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		window := rapid.IntRange(1, 20).Draw(t, "window")
		recorded := newRecorder()
		c := newConfirms(window, recorded)
		open := map[uint64]bool{}
		var last, acked uint64
		for range rapid.IntRange(0, 60).Draw(t, "rounds") {
			if n := uint64(rapid.IntRange(0, c.room(last)).Draw(t, "publish")); n > 0 {
				c.sending(last+1, last+n, int64(last))
				for range n {
					last++
					open[last] = true
				}
			}
			if last == 0 {
				continue
			}
			tag := rapid.Uint64Range(1, last).Draw(t, "tag")
			multiple, refused := rapid.Bool().Draw(t, "multiple"), rapid.Bool().Draw(t, "refused")
			var want uint64
			for seq := range open {
				if seq == tag || multiple && seq < tag {
					delete(open, seq)
					want++
				}
			}
			n, err := c.settle(tag, multiple, refused, int64(last)+1e6)
			if err != nil || n != want {
				t.Fatalf("settle(%d, %t) answered %d, %v, want %d", tag, multiple, n, err, want)
			}
			if !refused {
				acked += n
			}
			oldest := last + 1
			for seq := range open {
				oldest = min(oldest, seq)
			}
			if c.open() != last+1-oldest || c.room(last) != window-int(last+1-oldest) {
				t.Fatalf("open %d, room %d; the oldest of %d is %d", c.open(), c.room(last), last, oldest)
			}
		}
		if _, err := c.settle(last+1, false, false, 0); err == nil {
			t.Fatal("a confirm of an unpublished message is accepted")
		}
		hist := newHistogram()
		recorded.collect(hist)
		if uint64(hist.TotalCount()) != acked {
			t.Fatalf("%d latencies of %d confirms", hist.TotalCount(), acked)
		}
	})
}

func TestNegotiate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		tune      wire.ConnectionTune
		heartbeat int
		want      wire.ConnectionTuneOk
	}{
		{wire.ConnectionTune{ChannelMax: 2047, FrameMax: 131072, Heartbeat: 60}, 60, wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072, Heartbeat: 60}},
		{wire.ConnectionTune{ChannelMax: 0, FrameMax: 0, Heartbeat: 0}, 60, wire.ConnectionTuneOk{ChannelMax: 65535, FrameMax: maxFrame}},
		{wire.ConnectionTune{ChannelMax: 10, FrameMax: 8192, Heartbeat: 60}, 0, wire.ConnectionTuneOk{ChannelMax: 10, FrameMax: 8192}},
		{wire.ConnectionTune{ChannelMax: 10, FrameMax: 1 << 30, Heartbeat: 5}, 60, wire.ConnectionTuneOk{ChannelMax: 10, FrameMax: maxFrame, Heartbeat: 5}},
	} {
		if got := *negotiate(&tt.tune, tt.heartbeat); got != tt.want {
			t.Errorf("%+v with %d: %+v", tt.tune, tt.heartbeat, got)
		}
	}
}

// A batch of messages is made, and taken apart again, without allocating.
func TestMessagePathDoesNotAllocate(t *testing.T) {
	pc, cc, dst := benchConns(16, 500)
	if n := testing.AllocsPerRun(20, func() {
		dst = pc.batch(dst)
		cc.take(dst)
	}); n > 0 {
		t.Errorf("%g allocations per 500 messages", n)
	}
}

func BenchmarkMessagePath(b *testing.B) {
	b.ReportAllocs()
	const messages = 1000
	pc, cc, dst := benchConns(16, messages)
	for b.Loop() {
		dst = pc.batch(dst)
		cc.take(dst)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*messages), "ns/message")
}

// Messages have all the priorities asked for, and nothing else differs.
func TestPriorities(t *testing.T) {
	t.Parallel()
	for expiration, flags := range [][]string{nil, {flagPersistent}, {flagPersistent}} {
		o := &options{size: 3, priorities: 4, flags: flags, expiration: expiration / 2 * 60_000}
		p := &producer{limit: maxSequence, random: rand.New(rand.NewPCG(1, 2)), message: newMessage(o, 1, maxFrame, "", "q")}
		seen := map[uint8]bool{}
		for frames := p.append(nil, 200, 0); len(frames) > 0; frames = frames[len(p.frames):] {
			method, n, err := wire.ParseFrame(frames, maxFrame)
			if err != nil || method.Type != wire.FrameMethod {
				t.Fatalf("%v, %v", method, err)
			}
			content, _, err := wire.ParseFrame(frames[n:], maxFrame)
			if err != nil {
				t.Fatal(err)
			}
			h, err := wire.ParseHeader(content.Payload)
			if err != nil {
				t.Fatal(err)
			}
			properties, err := wire.ParseProperties(h.Properties)
			if err != nil || !properties.Has(wire.FlagPriority) || properties.Has(wire.FlagDeliveryMode) != o.persistent() ||
				(properties.Expiration == "60000") != (o.expiration > 0) {
				t.Fatalf("properties are %+v, %v", properties, err)
			}
			seen[properties.Priority] = true
		}
		if want := map[uint8]bool{0: true, 1: true, 2: true, 3: true}; !maps.Equal(seen, want) {
			t.Errorf("priorities are %v, want %v", seen, want)
		}
	}
}

// Messages expire after random times between those asked for, with and without
// priorities.
func TestExpirations(t *testing.T) {
	t.Parallel()
	for priorities := range 2 {
		o := &options{size: 3, priorities: priorities, expiration: 98, expirationMax: 101}
		p := &producer{limit: maxSequence, random: rand.New(rand.NewPCG(1, 2)), message: newMessage(o, 1, maxFrame, "", "q")}
		seen := map[int]bool{}
		for frames := p.append(nil, 200, 0); len(frames) > 0; frames = frames[len(p.frames):] {
			_, n, _ := wire.ParseFrame(frames, maxFrame)
			content, _, err := wire.ParseFrame(frames[n:], maxFrame)
			if err != nil {
				t.Fatal(err)
			}
			h, err := wire.ParseHeader(content.Payload)
			if err != nil {
				t.Fatal(err)
			}
			properties, err := wire.ParseProperties(h.Properties)
			if err != nil {
				t.Fatal(err)
			}
			expiration, bad := strconv.Atoi(properties.Expiration)
			if bad != nil || len(properties.Expiration) != 3 {
				t.Fatalf("expiration %q", properties.Expiration)
			}
			seen[expiration] = true
		}
		if want := map[int]bool{98: true, 99: true, 100: true, 101: true}; !maps.Equal(seen, want) {
			t.Errorf("messages expire after %v ms, want %v", seen, want)
		}
	}
	o := options{expiration: 2, expirationMax: 1}
	if err := o.complete(); err == nil || !strings.Contains(err.Error(), "--expiration-max 1 is less than --expiration 2") {
		t.Errorf("a range that is none: %v", err)
	}
}

// benchProducer and benchConsumer are the two ends of the message path without a
// network between them.
type (
	benchProducer struct {
		*producer
		n int
	}
	benchConsumer struct{ *consumerConn }
)

func benchConns(size, n int) (*benchProducer, *benchConsumer, []byte) {
	clock := newClock()
	o := &options{size: size}
	p := &producer{channel: 1, bodySize: size, run: 7, limit: maxSequence}
	p.message = newMessage(o, 1, maxFrame, "", "q")
	// Deliveries differ from publishes in the method only.
	deliver := wire.AppendMethod(nil, 1, &wire.BasicDeliver{ConsumerTag: "c", DeliveryTag: 1, RoutingKey: "q"})
	publish := wire.AppendMethod(nil, 1, &wire.BasicPublish{RoutingKey: "q"})
	p.frames = append(bytes.Clone(deliver), p.frames[len(publish):]...)
	p.bodyAt += len(deliver) - len(publish)
	cc := &consumerConn{
		conn: &conn{frameMax: maxFrame, wake: make(chan struct{}, 1)}, clock: clock, run: 7, bodySize: size, latency: newRecorder(),
		consumers: []*consumer{{channel: 1, receipts: newReceipts(1), ackEach: 100}},
	}
	cc.sends.into = cc.latency
	return &benchProducer{p, n}, &benchConsumer{cc}, make([]byte, 0, 2*n*len(p.frames))
}

func (p *benchProducer) batch(dst []byte) []byte {
	return p.append(dst[:0], p.n, newClock().now())
}

func (c *benchConsumer) take(deliveries []byte) {
	c.in, c.conn.begin, c.conn.end = deliveries, 0, len(deliveries)
	c.consumerConn.begin()
	for {
		f, ok, err := c.nextFrame()
		if err != nil {
			panic(err)
		}
		if !ok {
			break
		}
		if err := c.frame(f); err != nil {
			panic(err)
		}
	}
	c.finish()
	c.control = c.control[:0]
}
