// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
)

// tcpPair is both ends of a connection.
func tcpPair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if client, err = net.DialTCP("tcp", nil, listener.Addr().(*net.TCPAddr)); err != nil {
		t.Fatal(err)
	}
	if server, err = listener.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = client.Close(), server.Close() })
	return client, server
}

// smallPair is a tcpPair of which the kernel buffers little.
func smallPair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	client, server = tcpPair(t)
	if err := errors.Join(client.SetReadBuffer(64<<10), server.SetWriteBuffer(64<<10)); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// TestWriterOrder has several goroutines append to one writer, each in its own
// way, to a client that is slow at first: whoever writes, and however much of it
// the kernel takes, all arrives and no sender's frames change their order.
func TestWriterOrder(t *testing.T) {
	t.Parallel()
	const frames = 20_000
	client, server := smallPair(t)
	w := newWriter(server)
	go w.writeLoop()

	senders := []func(tag uint64){
		func(tag uint64) { // as the store does
			w.appendAck(1, tag, false)
			w.flush()
		},
		func(tag uint64) { // as the reader does
			if tag%10 == 1 {
				w.cork()
			}
			w.appendAck(2, tag, false)
			if tag%10 == 0 {
				w.uncork()
			}
		},
		func(tag uint64) { // as others' deliveries do
			w.send(3, &wire.BasicAck{DeliveryTag: tag})
		},
	}
	var sending sync.WaitGroup
	for _, send := range senders {
		sending.Go(func() {
			for tag := uint64(1); tag <= frames; tag++ {
				send(tag)
			}
		})
	}
	sending.Wait() // nothing was read until now: none of them may wait for the client
	w.finish(time.Minute, time.Minute)

	received := make(chan []byte, 1)
	go func() {
		all, err := io.ReadAll(client)
		if err != nil {
			t.Error(err)
		}
		received <- all
	}()
	<-w.done
	_ = server.Close()
	rest := <-received
	if uint64(len(rest)) != w.written.Load() {
		t.Errorf("%d bytes came, %d are counted", len(rest), w.written.Load())
	}
	var last [4]uint64
	for len(rest) > 0 {
		f, n, err := wire.ParseFrame(rest, 0)
		if err != nil || n == 0 {
			t.Fatalf("parse: %v, %d bytes left", err, len(rest))
		}
		tag, _, err := wire.ParseAck(f.Payload[4:])
		if err != nil || tag != last[f.Channel]+1 {
			t.Fatalf("channel %d: tag %d after %d, %v", f.Channel, tag, last[f.Channel], err)
		}
		last[f.Channel] = tag
		rest = rest[n:]
	}
	if last != [4]uint64{0, frames, frames, frames} {
		t.Errorf("last tags are %v", last)
	}
}

// TestDirectWrite checks what a direct write does when writeLoop rests, and when
// the kernel has no more room.
func TestDirectWrite(t *testing.T) {
	t.Parallel()
	client, server := smallPair(t)
	w := newWriter(server)
	w.waits = true // there is no writeLoop: what reaches the client is written directly
	w.cork()
	w.appendAck(1, 1, false)
	w.flush()
	if w.out.size == 0 {
		t.Fatal("written while corked")
	}
	w.uncork()
	want := wire.AppendAck(nil, 1, 1, false)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %x, %v: want %x", got, err, want)
	}
	if !w.waits || !w.emptyLocked() {
		t.Fatal("writeLoop is woken though nothing is left")
	}
	for tag := uint64(2); w.head.size == 0; tag++ {
		w.appendAck(1, tag, false)
		w.flush()
	}
	if w.waits {
		t.Error("writeLoop does not know of what is left")
	}
	before := w.head.size
	w.appendAck(1, 1, false)
	w.flush()
	if w.head.size != before || w.out.size != len(want) {
		t.Error("written past what is left")
	}
}

// BenchmarkConfirm writes one confirm at a time directly.
func BenchmarkConfirm(b *testing.B) {
	client, server := tcpPair(b)
	go func() { _, _ = io.Copy(io.Discard, client) }() // until the pair is closed
	w := newWriter(server)
	go w.writeLoop()
	b.ReportAllocs()
	for tag := uint64(0); b.Loop(); tag++ {
		w.appendAck(1, tag, false)
		w.flush()
	}
	w.finish(time.Minute, time.Minute)
	<-w.done
}
