// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/amqp/wire"
)

// The tests that look at the memory in use are not parallel: whatever else runs
// uses memory too.

const mebibyte = 1 << 20

// hostileGrowth is how much more memory is in use than before.
func hostileGrowth(before int64) string {
	return fmt.Sprintf("%.1f MiB", float64(hostileHeap()-before)/mebibyte)
}

// hostileFill publishes messages to a queue and waits until they are confirmed.
// The body of each ends with its number.
func hostileFill(t testing.TB, broker *lagomq.Broker, queue string, messages, size int) {
	t.Helper()
	c := dialWire(t, broker)
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: queue})
	call[*wire.ConfirmSelectOk](c, 1, &wire.ConfirmSelect{})
	body := make([]byte, size)
	header := wire.AppendHeader(nil, uint64(size), []byte{0, 0})
	var b []byte
	for i := range messages {
		copy(body[size-4:], hostileInteger(4, uint64(i)))
		b = wire.AppendMethod(b, 1, &wire.BasicPublish{RoutingKey: queue})
		b = wire.AppendContent(b, 1, c.frameMax, header, body)
		if len(b) >= 64<<10 || i == messages-1 {
			c.write(b)
			b = b[:0]
		}
	}
	for {
		if expect[*wire.BasicAck](c, 1).DeliveryTag == uint64(messages) {
			break
		}
	}
	call[*wire.ConnectionCloseOk](c, 0, &wire.ConnectionClose{})
	c.wantEnd()
}

// hostileStall writes b again and again until the server takes no more, or until
// most bytes are written, and returns how many were.
func hostileStall(t testing.TB, nc net.Conn, b []byte, most int) int {
	t.Helper()
	var written atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for written.Load() < int64(most) {
			n, err := nc.Write(b)
			written.Add(int64(n))
			if err != nil {
				return // the deadline below; the rest of b is lost, which ends the session
			}
		}
	}()
	before, unchanged := int64(-1), 0
	eventually(t, "the server takes no more", func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		if now := written.Load(); now != before {
			before, unchanged = now, 0
		}
		unchanged++
		return unchanged > 200
	})
	must(t, nc.SetWriteDeadline(time.Unix(1, 0)))
	<-ended
	return int(written.Load())
}

// TestHostileAnnouncedSizes announces far more than comes: a message of 16 MiB on
// each of 2,000 channels, and frames of 128 KiB on 200 connections.
func TestHostileAnnouncedSizes(t *testing.T) {
	broker := startBroker(t)
	before := hostileHeap()
	c := dialWire(t, broker)
	var b []byte
	for channel := uint16(2); channel <= 2001; channel++ {
		b = wire.AppendMethod(b, channel, &wire.ChannelOpen{})
		b = wire.AppendMethod(b, channel, &wire.BasicPublish{RoutingKey: "q"})
		b = wire.AppendFrame(b, wire.FrameHeader, channel, wire.AppendHeader(nil, 16_777_216, []byte{0, 0}))
		b = wire.AppendFrame(b, wire.FrameBody, channel, []byte("b"))
	}
	c.write(b)
	for channel := uint16(2); channel <= 2001; channel++ {
		expect[*wire.ChannelOpenOk](c, channel)
	}
	for range 200 {
		half := dialWire(t, broker)
		half.write([]byte{wire.FrameBody, 0, 1, 0, 1, 0xff, 0xf8, 'b'})
	}
	if hostileHeap()-before > 64*mebibyte {
		t.Errorf("memory grew by %s", hostileGrowth(before))
	}
	hostileUnharmed(t, broker)
}

// TestHostileUnreadReplies asks without end and never reads the answers.
func TestHostileUnreadReplies(t *testing.T) {
	queue := string(bytes.Repeat([]byte("q"), 255))
	declare := wire.AppendMethod(nil, 1, &wire.QueueDeclare{Queue: queue})
	mandatory := wire.AppendMethod(nil, 1, &wire.BasicPublish{RoutingKey: "nowhere", Mandatory: true})
	mandatory = wire.AppendContent(mandatory, 1, 131072, wire.AppendHeader(nil, 60_000, []byte{0, 0}), make([]byte, 60_000))
	get := wire.AppendMethod(nil, 1, &wire.BasicGet{Queue: "backlog", NoAck: true})
	for name, request := range map[string][]byte{
		"Declare": declare, "Returned": mandatory, "Get": get, "Open": wire.AppendMethod(wire.AppendMethod(nil, 2, &wire.ChannelOpen{}), 2, &wire.ChannelClose{}),
	} {
		t.Run(name, func(t *testing.T) {
			broker := startBroker(t)
			const backlog, size = 4000, 30_000
			if name == "Get" {
				hostileFill(t, broker, "backlog", backlog, size)
			}
			c := dialWire(t, broker)
			before := hostileHeap()
			const most = 128 * mebibyte
			taken := hostileStall(t, c.net, bytes.Repeat(request, 1+60_000/len(request)), most)
			if taken >= most {
				t.Errorf("the server took %d bytes of requests whose answers nobody reads", taken)
			}
			if hostileHeap()-before > 48*mebibyte {
				t.Errorf("memory grew by %s", hostileGrowth(before))
			}
			hostileUnharmed(t, broker)

			// Once the client reads, it gets every answer it had asked for, to the last
			// whole request.
			hostileCloseWrite(c)
			answer, err := io.ReadAll(c.net)
			must(t, err)
			if least := taken / 2; name == "Declare" && len(answer) < least {
				t.Errorf("%d bytes of requests got %d bytes of answers", taken, len(answer))
			}
		})
	}
}

// TestHostileUnreadDeliveries has clients that consume a backlog and never read:
// what they are sent stays bounded, the rest stays in the queue, and everything
// comes back when they are gone.
func TestHostileUnreadDeliveries(t *testing.T) {
	broker := startBroker(t)
	const messages, size, clients = 60_000, 1000, 10
	hostileFill(t, broker, "backlog", messages, size)
	witness := dial(t, broker)
	channel := openChannel(t, witness)
	before := hostileHeap()
	var stalled []*wireClient
	for range clients {
		c := dialWire(t, broker)
		must(t, c.net.(*net.TCPConn).SetReadBuffer(16<<10))
		c.send(1, &wire.BasicConsume{Queue: "backlog"})
		stalled = append(stalled, c)
	}
	ready := func() int {
		n, _ := waiting(t, channel, "backlog")
		return n
	}
	last, unchanged := -1, 0
	eventually(t, "deliveries stop", func() bool {
		if now := ready(); now != last {
			last, unchanged = now, 0
		}
		unchanged++
		return unchanged > 50
	})
	if last == 0 || last == messages {
		t.Errorf("%d messages are still in the queue", last)
	}
	if hostileHeap()-before > clients*4*mebibyte {
		t.Errorf("memory grew by %s", hostileGrowth(before))
	}
	hostileUnharmed(t, broker)
	for _, c := range stalled {
		must(t, c.net.Close())
	}
	eventually(t, "every message is back", func() bool { return ready() == messages })
}

// TestHostileStalledReader takes a million messages, and stops reading for as
// long as other clients work.
func TestHostileStalledReader(t *testing.T) {
	messages := 1_000_000
	if testing.Short() {
		messages = 50_000
	}
	broker := startBroker(t)
	hostileFill(t, broker, "backlog", messages, 16)
	before := hostileHeap()
	c := dialWire(t, broker)
	call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{Queue: "backlog", NoAck: true})
	for range 10 {
		hostileUnharmed(t, broker)
	}
	if hostileHeap()-before > 16*mebibyte {
		t.Errorf("memory grew by %s", hostileGrowth(before))
	}
	// The rest is read without the helpers, which are too slow for a million.
	in, buffer, next := c.in, make([]byte, 256<<10), 0
	for next < messages {
		f, n, err := wire.ParseFrame(in, 0)
		must(t, hostileError(err))
		if n == 0 {
			read, err := c.net.Read(buffer)
			must(t, err)
			in = append(append([]byte(nil), in...), buffer[:read]...)
			continue
		}
		if in = in[n:]; f.Type != wire.FrameBody {
			continue
		}
		if want := hostileInteger(4, uint64(next)); string(f.Payload[12:]) != want {
			t.Fatalf("message %d ends with %x", next, f.Payload[12:])
		}
		next++
	}
}

// hostileError keeps a nil *wire.Error from becoming an error that is not nil.
func hostileError(err *wire.Error) error {
	if err == nil {
		return nil
	}
	return err
}

// TestHostileChannels opens as many channels as there may be, and one more; then
// it opens and closes thousands.
func TestHostileChannels(t *testing.T) {
	broker := startBroker(t)
	c := dialWire(t, broker)
	open := func(from, to uint16) {
		var b []byte
		for channel := from; channel <= to; channel++ {
			b = wire.AppendMethod(b, channel, &wire.ChannelOpen{})
		}
		c.write(b)
		for channel := from; channel <= to; channel++ {
			expect[*wire.ChannelOpenOk](c, channel)
		}
	}
	closeAll := func(from, to uint16) {
		var b []byte
		for channel := from; channel <= to; channel++ {
			b = wire.AppendMethod(b, channel, &wire.ChannelClose{})
		}
		c.write(b)
		for channel := from; channel <= to; channel++ {
			expect[*wire.ChannelCloseOk](c, channel)
		}
	}
	open(2, 1000)
	closeAll(2, 1000)
	before := hostileHeap()
	for range 10 {
		open(2, 1000)
		closeAll(2, 1000)
	}
	if hostileHeap()-before > 4*mebibyte {
		t.Errorf("memory grew by %s", hostileGrowth(before))
	}
	open(60_001, 60_000+2046) // the numbers may be above channel_max, the count may not
	c.send(7, &wire.ChannelOpen{})
	c.wantException(exception{
		wire.NotAllowed, "number of channels opened (2047) has reached the negotiated channel_max (2047)", 0,
	})
	hostileUnharmed(t, broker)
}

// TestHostileStorm connects and disconnects all the time, from many sides and at
// every stage, while a witness goes on.
func TestHostileStorm(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	witness := dialWire(t, broker)
	queue := call[*wire.QueueDeclareOk](witness, 1, &wire.QueueDeclare{Exclusive: true}).Queue
	call[*wire.ConfirmSelectOk](witness, 1, &wire.ConfirmSelect{})
	session, address := hostileSession(), broker.AMQPAddr().String()
	var storm sync.WaitGroup
	for side := range 8 {
		storm.Go(func() {
			for i := range 60 {
				nc, err := net.Dial("tcp", address)
				if err != nil {
					t.Errorf("connect: %v", err)
					return
				}
				// Errors are the server's right: it may have closed already.
				_, _ = nc.Write(session[:(i*97+side*31)%len(session)])
				if i%2 == 0 {
					_ = nc.(*net.TCPConn).SetLinger(0)
				}
				_ = nc.Close()
			}
		})
	}
	done := make(chan struct{})
	go func() {
		storm.Wait()
		close(done)
	}()
	for n := uint64(1); ; n++ {
		hostileRoundTrip(witness, queue, n)
		select {
		case <-done:
			hostileUnharmed(t, broker)
			return
		default:
		}
	}
}

// TestHostileCloseWhileDelivering ends consumers in every way while messages flow
// to them. Nothing is lost: what was not acknowledged comes again.
func TestHostileCloseWhileDelivering(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	const messages = 20_000
	witness := openChannel(t, dial(t, broker))
	declareQueue(t, witness, "flow")
	filled := make(chan struct{})
	go func() {
		defer close(filled)
		hostileFill(t, broker, "flow", messages, 20)
	}()
	for i := range 60 {
		c := dialWire(t, broker)
		call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{Queue: "flow", ConsumerTag: "c"})
		switch i % 6 {
		case 0:
			must(t, c.net.Close())
		case 1:
			must(t, c.net.(*net.TCPConn).SetLinger(0))
			must(t, c.net.Close())
		case 2:
			c.send(1, &wire.ChannelClose{})
			hostileSkipTo[*wire.ChannelCloseOk](c)
			call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
		case 3:
			c.send(1, &wire.BasicCancel{ConsumerTag: "c"}, &wire.BasicRecover{Requeue: true})
			hostileSkipTo[*wire.BasicRecoverOk](c)
		case 4:
			c.send(1, &wire.BasicAck{DeliveryTag: 1 << 60})
			hostileSkipTo[*wire.ChannelClose](c)
		case 5:
			c.send(0, &wire.ConnectionClose{})
			hostileSkipTo[*wire.ConnectionCloseOk](c)
		}
		_ = c.net.Close() // most have been closed
	}
	<-filled
	eventually(t, "every message is back", func() bool {
		n, consumers := waiting(t, witness, "flow")
		return n == messages && consumers == 0
	})

	// A queue that is deleted under its consumers.
	consumer := dialWire(t, broker)
	call[*wire.BasicConsumeOk](consumer, 1, &wire.BasicConsume{Queue: "flow", ConsumerTag: "c"})
	_, err := witness.QueueDelete("flow", false, false, false)
	must(t, err)
	hostileSkipTo[*wire.BasicCancel](consumer)
	hostileUnharmed(t, broker)
}

// hostileSkipTo reads past deliveries to the method M.
func hostileSkipTo[M wire.Method](c *wireClient) M {
	c.t.Helper()
	for {
		f := c.frame()
		if f.Type != wire.FrameMethod {
			continue
		}
		m, err := wire.ParseMethod(f.Payload)
		must(c.t, hostileError(err))
		if want, ok := m.(M); ok {
			return want
		}
	}
}

// TestHostileHalfClosed closes the sending side after its requests: the answers
// still come, then the end.
func TestHostileHalfClosed(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	c := dialWire(t, broker)
	c.send(1, &wire.QueueDeclare{Queue: "half"}, &wire.BasicConsume{Queue: "half", NoAck: true})
	c.publish(1, wire.BasicPublish{RoutingKey: "half"}, wire.Properties{}, "last words")
	hostileCloseWrite(c)
	expect[*wire.QueueDeclareOk](c, 1)
	expect[*wire.BasicConsumeOk](c, 1)
	expect[*wire.BasicDeliver](c, 1)
	if _, body := c.content(1); string(body) != "last words" {
		t.Errorf("got %q", body)
	}
	c.wantEnd()

	// The other way round: a client that hears nothing more but goes on talking.
	deaf := dialWire(t, broker)
	must(t, deaf.net.(*net.TCPConn).CloseRead())
	deaf.publish(1, wire.BasicPublish{RoutingKey: "half"}, wire.Properties{}, "deaf")
	deaf.send(0, &wire.ConnectionClose{})
	reader := dialWire(t, broker)
	call[*wire.BasicConsumeOk](reader, 1, &wire.BasicConsume{Queue: "half", NoAck: true})
	expect[*wire.BasicDeliver](reader, 1)
	if _, err := deaf.net.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the server does not hang up on a client that is deaf")
	}
	hostileUnharmed(t, broker)
}
