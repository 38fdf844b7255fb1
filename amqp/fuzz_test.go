// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/lagomq/lagomq/amqp/wire"
)

// The fuzz targets let one client send anything to a server that panics at the
// first broken invariant. Afterwards the client hangs up; then nothing of it may
// be left, and another connection must work.

// FuzzConnection sends bytes from the first on, handshake included.
func FuzzConnection(f *testing.F) {
	session := recordedSession()
	f.Add(session)
	f.Add(session[:len(session)/2])
	f.Add([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	f.Add([]byte("AMQP\x00\x01\x00\x00"))
	f.Add(append([]byte(wire.ProtocolHeader), "\x01\x00\x00\xff\xff\xff\xff"...))
	f.Fuzz(func(t *testing.T, sent []byte) {
		s := newTestServer(t)
		sendAndHangUp(t, s.connect(t), sent)
		checkUnharmed(t, s)
	})
}

// FuzzChannel sends frames after a handshake. The input is a list of frames in a
// short form, so that most are well formed: an octet with the frame's type in
// the upper and its channel in the lower half, an octet with the payload's size,
// and the payload.
func FuzzChannel(f *testing.F) {
	for _, frames := range recordedFrames() {
		f.Add(shortForm(frames))
	}
	f.Add(shortForm(recordedFrames()...))
	f.Fuzz(func(t *testing.T, short []byte) {
		s := newTestServer(t)
		p := dialPeer(t, s)
		sendAndHangUp(t, p.net, longForm(short))
		checkUnharmed(t, s)
	})
}

// sendAndHangUp writes to the server while it reads what comes, and closes the
// connection when all has been taken.
func sendAndHangUp(t *testing.T, nc net.Conn, sent []byte) {
	t.Helper()
	received := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(nc) // ends when either side closes
		received <- b
	}()
	_, _ = nc.Write(sent) // the server may have closed before it took all
	_ = nc.Close()
	// What the server says must be frames, to the last complete one.
	answer := <-received
	answer = bytes.TrimPrefix(answer, []byte(wire.ProtocolHeader))
	for len(answer) > 0 {
		_, n, err := wire.ParseFrame(answer, 0)
		if err != nil {
			t.Fatalf("the server sent what is no frame: %v", err)
		}
		if n == 0 {
			break
		}
		answer = answer[n:]
	}
}

// checkUnharmed publishes and gets a message over a new connection. The server's
// shutdown, when the test ends, waits for every goroutine of the other one, and
// goleak looks for more.
func checkUnharmed(t *testing.T, s *Server) {
	t.Helper()
	p := dialPeer(t, s)
	queue := call[*wire.QueueDeclareOk](p, 1, &wire.QueueDeclare{Exclusive: true}).Queue
	p.write(message(queue, 2, []byte("unharmed")))
	call[*wire.BasicGetOk](p, 1, &wire.BasicGet{Queue: queue, NoAck: true})
	if body := p.body(); string(body) != "unharmed" {
		t.Errorf("got %q", body)
	}
	p.send(0, &wire.ConnectionClose{ReplyCode: wire.ReplySuccess})
	expect[*wire.ConnectionCloseOk](p)
	hangUp(p.net)
}

// recordedSession is all that a client sends in a whole session.
func recordedSession() []byte {
	b := []byte(wire.ProtocolHeader)
	for _, m := range []wire.Method{
		&wire.ConnectionStartOk{
			ClientProperties: wire.Table{{Name: "capabilities", Value: wire.Table{{Name: "consumer_cancel_notify", Value: true}}}},
			Mechanism:        "PLAIN", Response: "\x00guest\x00guest", Locale: "en_US",
		},
		&wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 131072},
		&wire.ConnectionOpen{VirtualHost: "/"},
	} {
		b = wire.AppendMethod(b, 0, m)
	}
	b = wire.AppendMethod(b, 1, &wire.ChannelOpen{})
	for _, frames := range recordedFrames() {
		b = append(b, frames...)
	}
	return wire.AppendMethod(b, 0, &wire.ConnectionClose{ReplyCode: wire.ReplySuccess, ReplyText: "bye"})
}

// recordedFrames are pieces of a session after channel.open, each of which makes
// sense by itself.
func recordedFrames() [][]byte {
	methods := func(list ...wire.Method) (b []byte) {
		for _, m := range list {
			b = wire.AppendMethod(b, 1, m)
		}
		return b
	}
	declare := methods(&wire.QueueDeclare{Queue: "q", Durable: true, Arguments: wire.Table{{Name: "x-max-length", Value: int32(9)}}})
	small, large := message("q", 2, []byte("body")), message("q", 1, make([]byte, 250))
	headers := wire.AppendContent(
		methods(&wire.BasicPublish{RoutingKey: "q", Mandatory: true}), 1, 0,
		wire.AppendHeader(nil, 1, wire.AppendProperties(nil, &wire.Properties{
			Flags:   wire.FlagHeaders | wire.FlagExpiration | wire.FlagReplyTo,
			Headers: wire.Table{{Name: "CC", Value: wire.Array{"nowhere"}}, {Name: "BCC", Value: wire.Array{"q"}}}, Expiration: "60000",
			ReplyTo: "amq.rabbitmq.reply-to",
		})), []byte("b"))
	return [][]byte{
		append(declare, small...),
		methods(&wire.BasicQos{PrefetchCount: 2}, &wire.BasicQos{PrefetchCount: 3, Global: true}, &wire.BasicConsume{Queue: "q", ConsumerTag: "c"}),
		append(methods(&wire.ConfirmSelect{}), large...),
		methods(&wire.BasicGet{Queue: "q"}, &wire.BasicAck{DeliveryTag: 1}, &wire.BasicNack{DeliveryTag: 0, Multiple: true, Requeue: true},
			&wire.BasicReject{DeliveryTag: 2}, &wire.BasicRecover{Requeue: true}),
		append(methods(&wire.BasicConsume{Queue: "amq.rabbitmq.reply-to", NoAck: true}), headers...),
		append(append(methods(&wire.TxSelect{}), small...), methods(&wire.TxRollback{}, &wire.TxCommit{})...),
		methods(&wire.ExchangeDeclare{Exchange: "x", Type: "topic"}, &wire.QueueBind{Queue: "q", Exchange: "x", RoutingKey: "a.#"},
			&wire.ExchangeBind{Destination: "x", Source: "amq.topic", RoutingKey: "*"}, &wire.QueueUnbind{Queue: "q", Exchange: "x", RoutingKey: "a.#"},
			&wire.QueuePurge{Queue: "q"}, &wire.QueueDelete{Queue: "q"}, &wire.ExchangeDelete{Exchange: "x"}),
		methods(&wire.ChannelFlow{Active: true}, &wire.BasicCancel{ConsumerTag: "c"}, &wire.ChannelClose{}, &wire.ChannelOpen{}),
		wire.AppendHeartbeat(nil),
		wire.AppendMethod(nil, 0, &wire.ConnectionUpdateSecret{NewSecret: "s", Reason: "r"}),
	}
}

// shortForm writes frames as FuzzChannel reads them.
func shortForm(recorded ...[]byte) (short []byte) {
	for _, frames := range recorded {
		for len(frames) > 0 {
			f, n, err := wire.ParseFrame(frames, 0)
			if err != nil || len(f.Payload) > 255 || f.Channel > 15 {
				panic("recorded frames have a short form")
			}
			short = append(short, f.Type<<4|byte(f.Channel), byte(len(f.Payload)))
			short = append(short, f.Payload...)
			frames = frames[n:]
		}
	}
	return short
}

func longForm(short []byte) (frames []byte) {
	for len(short) >= 2 {
		head, payload := short[0], short[2:]
		payload = payload[:min(int(short[1]), len(payload))]
		frames = wire.AppendFrame(frames, head>>4, uint16(head&15), payload)
		short = short[2+len(payload):]
	}
	return frames
}
