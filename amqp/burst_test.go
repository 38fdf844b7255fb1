// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/lagomq/lagomq/amqp/wire"
)

// burst is a connection that publishes and a connection that consumes, both over
// TCP, and what one burst of messages looks like on the wire.
type burst struct {
	publisher, consumer *peer
	frames              []byte // to publish
	delivered           int    // bytes that come back
	acks                []byte // for the messages of one burst, if they need any
	buffer              []byte
	tag                 uint64
	manual              bool
	messages            int
}

func newBurst(t testing.TB, messages, size int, manual bool) *burst {
	t.Helper()
	s := newTestServer(t)
	b := &burst{publisher: dialTCP(t, s), consumer: dialTCP(t, s), buffer: make([]byte, 256<<10), messages: messages, manual: manual}
	call[*wire.QueueDeclareOk](b.publisher, 1, &wire.QueueDeclare{Queue: "burst"})
	call[*wire.BasicConsumeOk](b.consumer, 1, &wire.BasicConsume{Queue: "burst", ConsumerTag: "c", NoAck: !manual})
	one := message("burst", 0, make([]byte, size))
	b.frames = bytes.Repeat(one, messages)
	call := len(wire.AppendMethod(nil, 1, &wire.BasicPublish{RoutingKey: "burst"}))
	envelope := []byte("\x00\x05burst")
	b.delivered = messages * (len(one) - call + len(wire.AppendDeliver(nil, 1, "c", 1, false, envelope)))
	return b
}

// run publishes the burst and waits until it was delivered.
func (b *burst) run() {
	b.publisher.write(b.frames)
	b.consumer.skip(b.buffer, b.delivered)
	if b.manual {
		b.tag += uint64(b.messages)
		b.acks = wire.AppendAck(b.acks[:0], 1, b.tag, true)
		b.consumer.write(b.acks)
	}
}

// TestBurstsDoNotAllocate holds the rule that a message in a burst costs no
// allocation on its way from the publisher's socket to the consumer's: a burst
// does a few, for its runs, however many messages it has.
func TestBurstsDoNotAllocate(t *testing.T) {
	for _, manual := range []bool{false, true} {
		t.Run(fmt.Sprintf("manual=%t", manual), func(t *testing.T) {
			const messages = 2000
			b := newBurst(t, messages, 16, manual)
			for range 20 {
				b.run() // buffers grow to their size
			}
			if perBurst := testing.AllocsPerRun(100, b.run); perBurst > messages/20 {
				t.Errorf("%.0f allocations for a burst of %d messages", perBurst, messages)
			} else {
				t.Logf("%.0f allocations for a burst of %d messages", perBurst, messages)
			}
		})
	}
}

func BenchmarkBurst(b *testing.B) {
	for _, c := range []struct {
		size   int
		manual bool
	}{{16, false}, {16, true}, {1024, false}, {65536, false}} {
		b.Run(fmt.Sprintf("size=%d/manual=%t", c.size, c.manual), func(b *testing.B) {
			const messages = 1000
			burst := newBurst(b, messages, c.size, c.manual)
			b.ReportAllocs()
			b.SetBytes(messages * int64(c.size))
			b.ResetTimer()
			for range b.N {
				burst.run()
			}
			b.ReportMetric(float64(b.N)*messages/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
