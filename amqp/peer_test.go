// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newTestServer makes a server over a store in memory. It is shut down, with all
// its connections closed, when the test ends.
func newTestServer(t testing.TB, adjust ...func(*Options)) *Server {
	t.Helper()
	silent := slog.New(slog.DiscardHandler)
	store, err := persistence.Open(persistence.Options{Dir: "memory", FS: vfs.NewMem(), MemTableSize: 1 << 20, Logger: silent})
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := vhosts.Open(vhosts.Options{
		Store: store, Users: vhosts.NewUsers(vhosts.User{Name: "guest", Password: "guest"}), Logger: silent, Strict: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Hosts: hosts, FailureDelay: -1, Strict: true, Logger: silent}
	for _, change := range adjust {
		change(&o)
	}
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		hosts.Close()
		if err := store.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// connect gives the server one end of a pipe, as if a client had connected, and
// returns the other.
func (s *Server) connect(t testing.TB) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	s.serveConn(t, server)
	return client
}

func (s *Server) serveConn(t testing.TB, nc net.Conn) {
	t.Helper()
	if !s.add(nc) {
		t.Fatal("the server is shut down")
	}
	s.running.Go(func() { s.run(nc) })
}

// peer is a client that writes and reads frames. Its connection may be a pipe:
// then nothing may be written while the server has much to say.
type peer struct {
	t   testing.TB
	net net.Conn
	in  []byte
}

// dialPeer opens a connection over a pipe, and channel 1. It is closed when the
// test ends, unless the test does.
func dialPeer(t testing.TB, s *Server) *peer {
	t.Helper()
	return openPeer(t, s.connect(t))
}

// dialTCP is dialPeer over the loopback interface.
func dialTCP(t testing.TB, s *Server) *peer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.serveConn(t, server)
	return openPeer(t, client)
}

func openPeer(t testing.TB, nc net.Conn) *peer {
	t.Helper()
	t.Cleanup(func() { _ = nc.Close() })
	p := &peer{t: t, net: nc}
	p.login()
	call[*wire.ChannelOpenOk](p, 1, &wire.ChannelOpen{})
	return p
}

// login goes through the handshake.
func (p *peer) login() {
	p.t.Helper()
	p.write([]byte(wire.ProtocolHeader))
	expect[*wire.ConnectionStart](p)
	p.send(0, &wire.ConnectionStartOk{Mechanism: "PLAIN", Response: "\x00guest\x00guest", Locale: "en_US"})
	expect[*wire.ConnectionTune](p)
	p.send(0, &wire.ConnectionTuneOk{ChannelMax: 100, FrameMax: 131072})
	p.send(0, &wire.ConnectionOpen{VirtualHost: "/"})
	expect[*wire.ConnectionOpenOk](p)
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.net.Write(b); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

func (p *peer) send(channel uint16, methods ...wire.Method) {
	p.t.Helper()
	var b []byte
	for _, m := range methods {
		b = wire.AppendMethod(b, channel, m)
	}
	p.write(b)
}

// message is the frames of a publish on channel 1 to the default exchange.
func message(key string, deliveryMode byte, body []byte) []byte {
	b := wire.AppendMethod(nil, 1, &wire.BasicPublish{RoutingKey: key})
	properties := []byte{wire.FlagDeliveryMode >> 8, 0, deliveryMode}
	return wire.AppendContent(b, 1, 131072, wire.AppendHeader(nil, uint64(len(body)), properties), body)
}

// frame reads the next frame; its payload is valid until the next call.
func (p *peer) frame() wire.Frame {
	p.t.Helper()
	for {
		f, n, err := wire.ParseFrame(p.in, 0)
		if err != nil {
			p.t.Fatal(err)
		}
		if n > 0 {
			p.in = p.in[n:]
			return f
		}
		buffer := make([]byte, 64<<10)
		read, readErr := p.net.Read(buffer)
		if p.in = append(p.in, buffer[:read]...); readErr != nil {
			p.t.Fatalf("read: %v", readErr)
		}
	}
}

// expect reads the next frame, which must be the method M.
func expect[M wire.Method](p *peer) M {
	p.t.Helper()
	f := p.frame()
	m, err := wire.ParseMethod(f.Payload)
	if f.Type != wire.FrameMethod || err != nil {
		p.t.Fatalf("frame of type %d, %v: want a method", f.Type, err)
	}
	want, ok := m.(M)
	if !ok {
		p.t.Fatalf("got %v %+v: want %T", m.ID(), m, want)
	}
	return want
}

// call sends a method and expects the answer M.
func call[M wire.Method](p *peer, channel uint16, m wire.Method) M {
	p.t.Helper()
	p.send(channel, m)
	return expect[M](p)
}

// body reads a content header and the body after it.
func (p *peer) body() []byte {
	p.t.Helper()
	h, err := wire.ParseHeader(p.frame().Payload)
	if err != nil {
		p.t.Fatal(err)
	}
	body := make([]byte, 0, h.BodySize)
	for uint64(len(body)) < h.BodySize {
		body = append(body, p.frame().Payload...)
	}
	return body
}

// skip reads n bytes and drops them, without looking and without memory.
func (p *peer) skip(buffer []byte, n int) {
	for n > 0 {
		read, err := p.net.Read(buffer[:min(n, len(buffer))])
		if err != nil {
			p.t.Fatalf("read: %v", err)
		}
		n -= read
	}
}

// hangUp closes the socket and reads what the server had still to say.
func hangUp(nc net.Conn) {
	_ = nc.Close()
	_, _ = io.Copy(io.Discard, nc)
}
