// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/amqp/wire"
)

// hostileReadAll reads until the server closes the socket.
func hostileReadAll(c *wireClient) []byte {
	c.t.Helper()
	b, err := io.ReadAll(c.net)
	if err != nil {
		c.t.Fatalf("read: %v: want the end", err)
	}
	return b
}

// TestHostileGarbage talks something else: the answer is the protocol header, and
// the end.
func TestHostileGarbage(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	clientHello := "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x5a", 500)
	for name, sent := range map[string]string{
		"HTTP":           "GET /api/overview HTTP/1.1\r\nHost: localhost:5672\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n",
		"TLS":            clientHello,
		"AMQP1.0":        "AMQP\x00\x01\x00\x00",
		"AMQP1.0SASL":    "AMQP\x03\x01\x00\x00" + "\x00\x00\x00\x10\x02\x01\x00\x00",
		"AMQP0-10":       "AMQP\x01\x01\x00\x0a",
		"AMQP0-8":        "AMQP\x01\x01\x08\x00",
		"LowerCase":      "amqp\x00\x00\x09\x01",
		"AFrame":         string(wire.AppendMethod(nil, 0, &wire.ConnectionOpen{VirtualHost: "/"})),
		"Zeros":          strings.Repeat("\x00", 100_000),
		"Random":         "\x8f\x01\x9c\xe3\x77\x12\xd4\x00\x5b",
		"HalfAHeader":    "AMQP\x00",
		"AByteThenTheFN": "A",
	} {
		t.Run(name, func(t *testing.T) {
			c := connectWire(t, broker)
			c.write([]byte(sent))
			hostileCloseWrite(c)
			if got := hostileReadAll(c); string(got) != wire.ProtocolHeader {
				t.Errorf("answered with %q", got)
			}
		})
	}
	t.Run("NotAByte", func(t *testing.T) {
		c := connectWire(t, broker)
		hostileCloseWrite(c)
		if got := hostileReadAll(c); len(got) != 0 {
			t.Errorf("a health check was answered with %q", got)
		}
	})
	hostileUnharmed(t, broker)
}

// hostileLogin is what a client sends to log in and open its connection and
// channel 1, in one piece.
func hostileLogin() []byte {
	b := []byte(wire.ProtocolHeader)
	for _, m := range []wire.Method{
		&wire.ConnectionStartOk{ClientProperties: allCapabilities(), Mechanism: "PLAIN", Response: "\x00guest\x00guest", Locale: "en_US"},
		&wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072},
		&wire.ConnectionOpen{VirtualHost: "/"},
	} {
		b = wire.AppendMethod(b, 0, m)
	}
	return wire.AppendMethod(b, 1, &wire.ChannelOpen{})
}

// hostileSession is everything a client sends in a session, in one piece.
func hostileSession() []byte {
	b := hostileLogin()
	for _, m := range []wire.Method{
		&wire.QueueDeclare{Queue: "recorded", Exclusive: true},
		&wire.ConfirmSelect{},
		&wire.BasicConsume{Queue: "recorded", ConsumerTag: "c"},
	} {
		b = wire.AppendMethod(b, 1, m)
	}
	for range 2 {
		b = wire.AppendMethod(b, 1, &wire.BasicPublish{RoutingKey: "recorded"})
		b = wire.AppendContent(b, 1, 0, wire.AppendHeader(nil, 4, []byte{0, 0}), []byte("body"))
	}
	b = wire.AppendMethod(b, 1, &wire.BasicCancel{ConsumerTag: "c"})
	return wire.AppendMethod(b, 0, &wire.ConnectionClose{ReplyCode: wire.ReplySuccess})
}

// TestHostilePipelining sends a whole session before the server has said a word.
func TestHostilePipelining(t *testing.T) {
	t.Parallel()
	c := connectWire(t, startBroker(t))
	c.frameMax = 0
	c.write(hostileSession())
	expect[*wire.ConnectionStart](c, 0)
	expect[*wire.ConnectionTune](c, 0)
	expect[*wire.ConnectionOpenOk](c, 0)
	expect[*wire.ChannelOpenOk](c, 1)
	expect[*wire.QueueDeclareOk](c, 1)
	expect[*wire.ConfirmSelectOk](c, 1)
	expect[*wire.BasicConsumeOk](c, 1)
	for range 2 {
		expect[*wire.BasicDeliver](c, 1)
		if _, body := c.content(1); string(body) != "body" {
			t.Errorf("got %q", body)
		}
	}
	expect[*wire.BasicCancelOk](c, 1)
	if ack := expect[*wire.BasicAck](c, 1); ack.DeliveryTag != 2 || !ack.Multiple {
		t.Errorf("confirmed with %+v", ack)
	}
	expect[*wire.ConnectionCloseOk](c, 0)
	c.wantEnd()
}

// TestHostileHandshakeFrames sends what does not belong into the handshake.
func TestHostileHandshakeFrames(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	started := func(c *wireClient) {
		c.write([]byte(wire.ProtocolHeader))
		expect[*wire.ConnectionStart](c, 0)
	}
	tuning := func(c *wireClient) {
		c.startOk(wireLogin{})
		expect[*wire.ConnectionTune](c, 0)
	}
	tuned := func(c *wireClient) {
		tuning(c)
		c.send(0, &wire.ConnectionTuneOk{ChannelMax: 10, FrameMax: 131072})
	}
	method := func(channel uint16, m wire.Method) []byte { return wire.AppendMethod(nil, channel, m) }
	open := &wire.ConnectionOpen{VirtualHost: "/"}
	silence := exception{} // who has not logged in is told nothing about mistakes
	for name, test := range map[string]struct {
		until func(*wireClient)
		sent  []byte
		exception
	}{
		"OpenForStartOk": {started, method(0, open), silence},
		"OpenForTuneOk": {tuning, method(0, open),
			exception{wire.ChannelError, "unexpected method in connection state tuning", wire.IDConnectionOpen}},
		"TuneOkTwice": {tuned, method(0, &wire.ConnectionTuneOk{}),
			exception{wire.ChannelError, "unexpected method in connection state opening", wire.IDConnectionTuneOk}},
		"ChannelBeforeOpen": {tuned, method(1, &wire.ChannelOpen{}),
			exception{wire.UnexpectedFrame, "type 1, all octets = <<0,20,0,10,0>>", 0}},
		"BodyBeforeOpen": {tuned, hostileBody("body"),
			exception{wire.UnexpectedFrame, `type 3, all octets = <<"body">>`, 0}},
		"FrameTooLargeForStartOk": {started, []byte{wire.FrameMethod, 0, 0, 0, 0, 0x20, 0x01}, silence},
		"FrameTooLarge": {tuned, []byte{wire.FrameMethod, 0, 0, 0, 0, 0x20, 0x01},
			exception{wire.FrameError, "type 1, all octets = <<>>: {frame_too_large,8193,8184}", 0}},
		"FourGigabytes": {tuned, []byte{wire.FrameMethod, 0, 0, 0xff, 0xff, 0xff, 0xff},
			exception{wire.FrameError, "type 1, all octets = <<>>: {frame_too_large,4294967295,8184}", 0}},
		"WrongEndOfStartOk": {started, hostileFrame(wire.FrameMethod, 0, "AB", 0), silence},
		"WrongEnd": {tuning, hostileFrame(wire.FrameMethod, 0, "AB", 0),
			exception{wire.FrameError, `type 1, all octets = <<"AB">>: {invalid_frame_end_marker,0}`, 0}},
		"UnknownMethod": {tuned, hostileMethod(0, 0xffffffff, ""),
			exception{wire.CommandInvalid, "unimplemented method", 0xffffffff}},
		"TruncatedStartOk": {started, hostileMethod(0, wire.IDConnectionStartOk, "\xff"), silence},
		"Truncated": {tuning, hostileMethod(0, wire.IDConnectionTuneOk, "\xff"),
			exception{wire.FrameError, "cannot decode <<255>>", wire.IDConnectionTuneOk}},
		"NotUTF8": {tuned, method(0, &wire.ConnectionOpen{VirtualHost: "\xff"}),
			exception{wire.FrameError, "Malformed UTF-8 in shortstr", wire.IDConnectionOpen}},
	} {
		t.Run(name, func(t *testing.T) {
			c := connectWire(t, broker)
			test.until(c)
			c.write(test.sent)
			if test.exception == silence {
				hostileCloseWrite(c)
				c.wantEnd()
				return
			}
			hostileWantClose(c, test.exception)
		})
	}
	hostileUnharmed(t, broker)
}

// TestHostileSlowLoris stops in the middle of the handshake, or goes on one byte
// at a time: the server hangs up without a word.
func TestHostileSlowLoris(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, func(o *lagomq.Options) { o.AMQP.HandshakeTimeout = 300 * time.Millisecond })
	var clients []*wireClient
	for _, until := range []int{0, 1, 7, 8, 9, 20, len(hostileLogin()) - 40} {
		c := connectWire(t, broker)
		c.frameMax = 0
		c.write(hostileLogin()[:until])
		clients = append(clients, c)
	}
	dripping := connectWire(t, broker)
	dripped := make(chan error, 1)
	go func() {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for _, b := range hostileLogin() {
			if _, err := dripping.net.Write([]byte{b}); err != nil {
				dripped <- err
				return
			}
			<-ticker.C
		}
		dripped <- nil
	}()
	for _, c := range append(clients, dripping) {
		answer := hostileReadAll(c)
		for answer = bytes.TrimPrefix(answer, []byte(wire.ProtocolHeader)); len(answer) > 0; {
			f, n, err := wire.ParseFrame(answer, 0)
			if err != nil || n == 0 {
				t.Fatalf("%q is no frame: %v", answer, err)
			}
			m, err := wire.ParseMethod(f.Payload)
			if err != nil || m.ID() != wire.IDConnectionStart && m.ID() != wire.IDConnectionTune {
				t.Errorf("got %v %+v: want the end", m, err)
			}
			answer = answer[n:]
		}
		_ = c.net.Close() // so that the one that drips gets an error
	}
	if err := <-dripped; err == nil {
		t.Error("the server took a whole login that came byte by byte")
	}
}

// TestHostileDroppedSessions cuts a session off after each of its bytes, by
// turns with an orderly end of the connection, with a reset, and with a half
// closed socket. What it held is freed in all cases.
func TestHostileDroppedSessions(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	session := hostileSession()
	address := broker.AMQPAddr().String()
	for length := range session {
		nc, err := net.Dial("tcp", address)
		must(t, err)
		_, err = nc.Write(session[:length])
		must(t, err)
		switch tcp := nc.(*net.TCPConn); length % 3 {
		case 0:
			must(t, tcp.SetLinger(0))
		case 1:
			must(t, tcp.CloseWrite())
			must(t, tcp.SetReadDeadline(time.Now().Add(patience)))
			if _, err := io.Copy(io.Discard, tcp); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("after %d bytes the server does not hang up", length)
			}
		}
		must(t, nc.Close())
	}
	c := dialWire(t, broker)
	eventually(t, "the exclusive queue of every session is gone", func() bool {
		c.send(1, &wire.QueueDeclare{Queue: "recorded", Passive: true})
		_, m := c.method()
		closed := m.(*wire.ChannelClose) // 405 while a session lives, 404 after
		c.send(1, &wire.ChannelCloseOk{})
		call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
		return closed.ReplyCode == wire.NotFound
	})
	hostileUnharmed(t, broker)
}
