// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/lagomq/lagomq/amqp/wire"
)

// fakeBroker speaks just enough AMQP 0-9-1 for the load generator, and
// misbehaves as told. It routes by routing key whatever the exchange.
type fakeBroker struct {
	faults faults
	addr   string

	mu         sync.Mutex // guards everything below
	queues     map[string]*fakeQueue
	exchanges  []string
	published  int
	acked      int // deliveries acknowledged
	nacks      []wire.BasicNack
	heartbeats int
	deleted    []string
}

// faults are what the broker does wrong. An "every" of n means each n-th
// message, 0 none.
type faults struct {
	loseEvery   int // confirmed, but not kept
	repeatEvery int // delivered twice
	nackEvery   int // nacked, and not kept
	returnEvery int // returned, then confirmed
	mute        bool
	heartbeat   uint16

	onPublish   func(n int)   // called for the n-th message
	onHeartbeat func()        // called for each
	closeAt     int           // the n-th message makes it close the connection
	closeWith   wire.Method   // that is how: connection.close or channel.close
	refuse      wire.MethodID // answered by channel.close
	confirmTag  uint64        // confirmed at once, whatever was published
}

type fakeQueue struct {
	messages  []fakeMessage // waiting for a consumer
	consumers []*fakeConsumer
	next      int
}

type fakeMessage struct {
	key          string
	header, body []byte
	redelivered  bool
}

type fakeConsumer struct {
	session *fakeSession
	channel uint16
	tag     string
	sent    uint64
	held    []fakeMessage // all it got, the first with delivery tag 1
}

// fakeSession is a connection.
type fakeSession struct {
	*fakeBroker
	net     net.Conn
	publish map[uint16]*fakePublish
}

// fakePublish is the state of a channel that publishes.
type fakePublish struct {
	confirms bool
	tag      uint64
	message  fakeMessage
	left     uint64
}

func startFakeBroker(t *testing.T, f faults) *fakeBroker {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &fakeBroker{faults: f, addr: l.Addr().String(), queues: map[string]*fakeQueue{}}
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() { b.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		sessions.Wait()
	})
	return b
}

// queue returns the queue of that name. Callers hold mu.
func (b *fakeBroker) queue(name string) *fakeQueue {
	q := b.queues[name]
	if q == nil {
		q = &fakeQueue{}
		b.queues[name] = q
	}
	return q
}

func (b *fakeBroker) serve(c net.Conn) {
	defer c.Close()
	s := &fakeSession{fakeBroker: b, net: c, publish: map[uint16]*fakePublish{}}
	defer s.forget()
	if _, err := io.ReadFull(c, make([]byte, len(wire.ProtocolHeader))); err != nil {
		return
	}
	s.send(0, &wire.ConnectionStart{VersionMinor: 9, Mechanisms: "PLAIN", Locales: "en_US"})
	var in []byte
	buf := make([]byte, 64<<10)
	for {
		f, n, werr := wire.ParseFrame(in, 0)
		if werr != nil {
			return
		}
		if n == 0 {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			in = append(in, buf[:n]...)
			continue
		}
		if !s.frame(f) {
			return
		}
		in = in[n:]
	}
}

// forget drops the session's consumers.
func (s *fakeSession) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		var others []*fakeConsumer
		for _, c := range q.consumers {
			if c.session != s {
				others = append(others, c)
			}
		}
		q.consumers = others
	}
}

// write ignores errors: whoever reads from the connection sees them.
func (s *fakeSession) write(frames []byte) { _, _ = s.net.Write(frames) }

func (s *fakeSession) send(channel uint16, m wire.Method) {
	s.write(wire.AppendMethod(nil, channel, m))
}

// frame returns false at the end of the connection.
func (s *fakeSession) frame(f wire.Frame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch f.Type {
	case wire.FrameHeartbeat:
		s.heartbeats++
		if s.faults.onHeartbeat != nil {
			s.faults.onHeartbeat()
		}
		return true
	case wire.FrameHeader:
		h, _ := wire.ParseHeader(f.Payload)
		p := s.publish[f.Channel]
		p.message.header, p.message.body, p.left = bytes.Clone(f.Payload), nil, h.BodySize
		if p.left > 0 {
			return true
		}
		return s.route(f.Channel, p)
	case wire.FrameBody:
		p := s.publish[f.Channel]
		p.message.body = append(p.message.body, f.Payload...)
		p.left -= uint64(len(f.Payload))
		if p.left > 0 {
			return true
		}
		return s.route(f.Channel, p)
	}
	m, err := wire.ParseMethod(f.Payload)
	if err != nil {
		return false
	}
	if m.ID() == s.faults.refuse {
		s.send(f.Channel, &wire.ChannelClose{ReplyCode: wire.AccessRefused, ReplyText: "ACCESS_REFUSED - not today"})
		return true
	}
	return s.method(f.Channel, m)
}

func (s *fakeSession) method(channel uint16, m wire.Method) bool {
	switch m := m.(type) {
	case *wire.ConnectionStartOk:
		if m.Response != "\x00guest\x00guest" {
			s.send(0, &wire.ConnectionClose{ReplyCode: wire.AccessRefused, ReplyText: "ACCESS_REFUSED - who are you"})
			return true
		}
		s.send(0, &wire.ConnectionTune{ChannelMax: 2047, FrameMax: 131072, Heartbeat: s.faults.heartbeat})
	case *wire.ConnectionOpen:
		s.send(0, &wire.ConnectionOpenOk{})
	case *wire.ConnectionClose:
		s.send(0, &wire.ConnectionCloseOk{})
		return false
	case *wire.ChannelOpen:
		s.publish[channel] = &fakePublish{}
		s.send(channel, &wire.ChannelOpenOk{})
	case *wire.ExchangeDeclare:
		s.exchanges = append(s.exchanges, m.Exchange+" "+m.Type)
		s.send(channel, &wire.ExchangeDeclareOk{})
	case *wire.QueueDeclare:
		s.queue(m.Queue)
		s.send(channel, &wire.QueueDeclareOk{Queue: m.Queue})
	case *wire.QueueBind:
		s.send(channel, &wire.QueueBindOk{})
	case *wire.QueueDelete:
		s.deleted = append(s.deleted, m.Queue)
		s.send(channel, &wire.QueueDeleteOk{})
	case *wire.ConfirmSelect:
		s.publish[channel].confirms = true
		s.send(channel, &wire.ConfirmSelectOk{})
	case *wire.BasicQos:
		s.send(channel, &wire.BasicQosOk{})
	case *wire.BasicConsume:
		s.send(channel, &wire.BasicConsumeOk{ConsumerTag: m.ConsumerTag})
		q := s.queue(m.Queue)
		q.consumers = append(q.consumers, &fakeConsumer{session: s, channel: channel, tag: m.ConsumerTag})
		waiting := q.messages
		q.messages = nil
		for _, msg := range waiting {
			q.deliver(msg)
		}
	case *wire.BasicCancel:
		s.send(channel, &wire.BasicCancelOk{ConsumerTag: m.ConsumerTag})
	case *wire.BasicAck:
		s.acked++
		if m.Multiple {
			s.acked = int(m.DeliveryTag) // enough for tests with one consumer
		}
	case *wire.BasicNack:
		s.nacks = append(s.nacks, *m)
		if m.Requeue {
			s.requeue(channel, m)
		}
	case *wire.BasicPublish:
		s.publish[channel].message.key = m.RoutingKey
	}
	return true
}

// route takes a complete message.
func (s *fakeSession) route(channel uint16, p *fakePublish) bool {
	s.published++
	p.tag++
	n, f := s.published, s.faults
	every := func(k int) bool { return k > 0 && n%k == 0 }
	if f.onPublish != nil {
		f.onPublish(n)
	}
	if f.closeAt == n {
		if _, hard := f.closeWith.(*wire.ConnectionClose); hard {
			channel = 0
		}
		s.send(channel, f.closeWith)
		return true
	}
	if f.confirmTag > 0 {
		s.send(channel, &wire.BasicAck{DeliveryTag: f.confirmTag})
	}
	copies := 1
	switch {
	case every(f.loseEvery), every(f.nackEvery), every(f.returnEvery):
		copies = 0
	case every(f.repeatEvery):
		copies = 2
	}
	for range copies {
		s.queue(p.message.key).deliver(p.message)
	}
	if every(f.returnEvery) {
		out := wire.AppendMethod(nil, channel, &wire.BasicReturn{ReplyCode: wire.NoRoute, ReplyText: "NO_ROUTE", RoutingKey: p.message.key})
		s.write(wire.AppendContent(out, channel, 131072, p.message.header, p.message.body))
	}
	switch {
	case !p.confirms || f.mute:
	case every(f.nackEvery):
		s.send(channel, &wire.BasicNack{DeliveryTag: p.tag})
	default:
		s.send(channel, &wire.BasicAck{DeliveryTag: p.tag, Multiple: f.nackEvery == 0})
	}
	return true
}

// deliver hands the message to the next consumer, or keeps it.
func (q *fakeQueue) deliver(m fakeMessage) {
	if len(q.consumers) == 0 {
		q.messages = append(q.messages, m)
		return
	}
	c := q.consumers[q.next%len(q.consumers)]
	q.next++
	c.sent++
	c.held = append(c.held, m)
	out := wire.AppendMethod(nil, c.channel, &wire.BasicDeliver{ConsumerTag: c.tag, DeliveryTag: c.sent, Redelivered: m.redelivered, RoutingKey: m.key})
	c.session.write(wire.AppendContent(out, c.channel, 131072, m.header, m.body))
}

// requeue delivers again what is nacked, which the tests do one by one.
func (s *fakeSession) requeue(channel uint16, m *wire.BasicNack) {
	for _, q := range s.queues {
		for _, c := range q.consumers {
			if c.session == s && c.channel == channel {
				message := c.held[m.DeliveryTag-1]
				message.redelivered = true
				q.deliver(message)
			}
		}
	}
}

// uri is how to reach the broker.
func (b *fakeBroker) uri() string { return fmt.Sprintf("amqp://%s/", b.addr) }
