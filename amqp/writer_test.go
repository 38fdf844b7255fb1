// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// TestOutbound writes messages with bodies that are copied and bodies that are
// spliced in, and compares the bytes with those of the codec alone.
func TestOutbound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		frameMax := rapid.SampledFrom([]int{wire.FrameMinSize, 131072}).Draw(t, "frame_max")
		sizes := rapid.OneOf(rapid.IntRange(0, 100), rapid.IntRange(referenceFrom-1, referenceFrom+1), rapid.IntRange(0, 300_000))
		var o outbound
		var want []byte
		for i, size := range rapid.SliceOfN(sizes, 0, 8).Draw(t, "bodies") {
			body := bytes.Repeat([]byte{byte(i)}, size)
			header := wire.AppendHeader(nil, uint64(size), []byte{0, 0})
			m := &wire.BasicGetOk{DeliveryTag: uint64(i), RoutingKey: "key"}
			o.method(1, m)
			o.content(1, frameMax, header, body, new(queue.Page))
			want = wire.AppendMethod(want, 1, m)
			want = wire.AppendContent(want, 1, frameMax, header, body)
		}
		if o.size != len(want) {
			t.Fatalf("size is %d, want %d", o.size, len(want))
		}
		client, server := net.Pipe()
		failed := make(chan error, 1)
		go func() {
			failed <- o.writeTo(server, func(int64, error) bool { return false })
			_ = server.Close()
		}()
		got, err := io.ReadAll(client)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("wrote %d bytes that differ from the %d wanted", len(got), len(want))
		}
		if o.reset(); o.size != 0 || len(o.splice) != 0 {
			t.Errorf("not empty after reset")
		}
	})
}

// A large body must be referred to, not copied.
func TestOutboundRefersToLargeBodies(t *testing.T) {
	t.Parallel()
	var o outbound
	o.content(1, 131072, wire.AppendHeader(nil, 1<<20, []byte{0, 0}), make([]byte, 1<<20), new(queue.Page))
	if len(o.buf) > 1024 || len(o.splice) != 9 {
		t.Errorf("%d bytes in the buffer and %d splices", len(o.buf), len(o.splice))
	}
}

// What is delivered must stay as it was published, although pages and buffers are
// used again: while one message waits to be written, many more are published by
// the same connection, some copied and some referred to.
func TestDeliveredBodiesStayIntact(t *testing.T) {
	t.Parallel()
	for _, noAck := range []bool{true, false} {
		t.Run(fmt.Sprintf("noAck=%t", noAck), func(t *testing.T) {
			t.Parallel()
			s := newTestServer(t)
			publisher := dialTCP(t, s)
			consumers := []*peer{dialTCP(t, s), dialTCP(t, s)}
			for i, c := range consumers {
				name := fmt.Sprint("large", i)
				call[*wire.QueueDeclareOk](publisher, 1, &wire.QueueDeclare{Queue: name})
				call[*wire.QueueBindOk](publisher, 1, &wire.QueueBind{Queue: name, Exchange: "amq.fanout"})
				call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{Queue: name, NoAck: noAck})
			}
			const messages = 300
			body := func(i int) []byte {
				size := []int{100, referenceFrom - 1, referenceFrom, 3 * referenceFrom}[i%4]
				return bytes.Repeat([]byte{byte(i)}, size)
			}
			for i := range messages {
				b := wire.AppendMethod(nil, 1, &wire.BasicPublish{Exchange: "amq.fanout"})
				publisher.write(wire.AppendContent(b, 1, 131072, wire.AppendHeader(nil, uint64(len(body(i))), []byte{0, 0}), body(i)))
			}
			for _, c := range consumers {
				for i := range messages {
					tag := expect[*wire.BasicDeliver](c).DeliveryTag
					got := c.body()
					if wrong := slices.IndexFunc(got, func(b byte) bool { return b != byte(i) }); wrong >= 0 || len(got) != len(body(i)) {
						t.Fatalf("message %d of %d bytes differs from byte %d on", i, len(got), wrong)
					}
					if !noAck {
						c.send(1, &wire.BasicAck{DeliveryTag: tag})
					}
				}
			}
		})
	}
}

// A connection that ends must have its last frames whole, however slowly the
// client reads them, but neither one that stops reading nor one that reads a byte
// at a time may hold it for ever.
func TestWriterLingers(t *testing.T) {
	t.Parallel()
	const size, step, limit = 1000, 3 * time.Second, 31 * time.Second
	for _, test := range []struct {
		name       string
		chunk, got int           // bytes read at a time and in all
		pause      time.Duration // before each read
	}{
		{"slow", 100, size, 2 * time.Second},
		{"stops", 100, 0, 4 * time.Second},
		{"drips", 1, 15, 2 * time.Second},
	} {
		for _, spliced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,spliced=%t", test.name, spliced), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					client, server := net.Pipe()
					defer client.Close()
					w := newWriter(server)
					w.out.buf = make([]byte, size)
					w.out.size = size
					if spliced {
						w.out.buf = w.out.buf[:size/2]
						w.out.splice = []splice{{size / 4, make([]byte, size/2), new(queue.Page)}}
					}
					w.finish(step, limit)
					go func() {
						w.writeLoop()
						_ = server.Close()
					}()
					got := 0
					for {
						time.Sleep(test.pause)
						n, err := io.ReadAtLeast(client, make([]byte, test.chunk), test.chunk)
						got += n
						if err != nil {
							break
						}
					}
					if got != test.got {
						t.Errorf("read %d bytes, want %d", got, test.got)
					}
				})
			})
		}
	}
}
