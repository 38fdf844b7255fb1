// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/amqp/wire"
)

// wireClient speaks AMQP 0-9-1 frame by frame, for what a client library hides:
// the order of frames, class and method ids of errors, answers that must not
// come. It belongs to the test's goroutine.
type wireClient struct {
	t        testing.TB
	net      net.Conn
	in       []byte // read and not parsed yet
	frameMax int
}

// wireLogin is how a wireClient opens its connection. The zero value takes what
// the server proposes.
type wireLogin struct {
	mechanism, response string
	properties          wire.Table
	tune                wire.ConnectionTuneOk
	vhost               string
}

// allCapabilities are the client properties of one that understands every
// capability the server looks at.
func allCapabilities() wire.Table {
	return wire.Table{{Name: "capabilities", Value: wire.Table{
		{Name: "authentication_failure_close", Value: true},
		{Name: "connection.blocked", Value: true},
		{Name: "consumer_cancel_notify", Value: true},
	}}}
}

// connectWire makes the TCP connection only.
func connectWire(t testing.TB, broker *lagomq.Broker) *wireClient {
	t.Helper()
	return connectTo(t, broker.AMQPAddr().String())
}

func connectTo(t testing.TB, addr string) *wireClient {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() }) // most tests have closed it
	if err := nc.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Fatal(err)
	}
	return &wireClient{t: t, net: nc, frameMax: wire.FrameMinSize}
}

// dialWire opens a connection and its channel 1.
func dialWire(t testing.TB, broker *lagomq.Broker) *wireClient {
	t.Helper()
	c := connectWire(t, broker)
	c.login(wireLogin{})
	call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
	return c
}

// login goes through the handshake, which must succeed.
func (c *wireClient) login(l wireLogin) {
	c.t.Helper()
	c.startOk(l)
	tune := expect[*wire.ConnectionTune](c, 0)
	if l.tune == (wire.ConnectionTuneOk{}) {
		l.tune = wire.ConnectionTuneOk{ChannelMax: tune.ChannelMax, FrameMax: tune.FrameMax}
	}
	c.frameMax = int(l.tune.FrameMax)
	if l.vhost == "" {
		l.vhost = "/"
	}
	c.send(0, &l.tune, &wire.ConnectionOpen{VirtualHost: l.vhost})
	expect[*wire.ConnectionOpenOk](c, 0)
}

// startOk goes through the handshake until the credentials are sent.
func (c *wireClient) startOk(l wireLogin) *wire.ConnectionStart {
	c.t.Helper()
	c.write([]byte(wire.ProtocolHeader))
	start := expect[*wire.ConnectionStart](c, 0)
	if l.mechanism == "" {
		l.mechanism, l.response = "PLAIN", "\x00guest\x00guest"
	}
	if l.properties == nil {
		l.properties = allCapabilities()
	}
	c.send(0, &wire.ConnectionStartOk{ClientProperties: l.properties, Mechanism: l.mechanism, Response: l.response, Locale: "en_US"})
	return start
}

// write sends bytes as they are.
func (c *wireClient) write(b []byte) {
	c.t.Helper()
	if _, err := c.net.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// send sends methods in one write.
func (c *wireClient) send(channel uint16, methods ...wire.Method) {
	c.t.Helper()
	var b []byte
	for _, m := range methods {
		b = wire.AppendMethod(b, channel, m)
	}
	c.write(b)
}

// publish sends a whole message.
func (c *wireClient) publish(channel uint16, m wire.BasicPublish, p wire.Properties, body string) {
	c.t.Helper()
	b := wire.AppendMethod(nil, channel, &m)
	header := wire.AppendHeader(nil, uint64(len(body)), wire.AppendProperties(nil, &p))
	c.write(wire.AppendContent(b, channel, c.frameMax, header, []byte(body)))
}

// read reads the next frame, heartbeats included. The error is that of the
// socket, or a *wire.Error for what is no frame.
func (c *wireClient) read() (wire.Frame, error) {
	for {
		f, n, err := wire.ParseFrame(c.in, c.frameMax)
		if err != nil {
			return f, err
		}
		if n > 0 {
			f.Payload = bytes.Clone(f.Payload)
			c.in = c.in[n:]
			return f, nil
		}
		var buffer [4096]byte
		read, readErr := c.net.Read(buffer[:])
		c.in = append(c.in, buffer[:read]...)
		if readErr != nil && read == 0 {
			return f, readErr
		}
	}
}

// frame reads the next frame that is not a heartbeat.
func (c *wireClient) frame() wire.Frame {
	c.t.Helper()
	for {
		f, err := c.read()
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		if f.Type != wire.FrameHeartbeat {
			return f
		}
	}
}

// method reads the next frame, which must be a method, and says for which
// channel.
func (c *wireClient) method() (uint16, wire.Method) {
	c.t.Helper()
	f := c.frame()
	if f.Type != wire.FrameMethod {
		c.t.Fatalf("frame of type %d on channel %d: want a method", f.Type, f.Channel)
	}
	m, err := wire.ParseMethod(f.Payload)
	if err != nil {
		c.t.Fatalf("read a method: %v", err)
	}
	return f.Channel, m
}

// expect reads the next frame, which must be the method M on that channel.
func expect[M wire.Method](c *wireClient, channel uint16) M {
	c.t.Helper()
	on, m := c.method()
	want, ok := m.(M)
	if !ok || on != channel {
		c.t.Fatalf("got %v %+v on channel %d: want %T on channel %d", m.ID(), m, on, want, channel)
	}
	return want
}

// call sends a method and expects its answer M.
func call[M wire.Method](c *wireClient, channel uint16, m wire.Method) M {
	c.t.Helper()
	c.send(channel, m)
	return expect[M](c, channel)
}

// content reads the content header and body that follow a method.
func (c *wireClient) content(channel uint16) (p wire.Properties, body []byte) {
	c.t.Helper()
	raw, body := c.rawContent(channel)
	p, err := wire.ParseProperties(raw)
	if err != nil {
		c.t.Fatalf("properties: %v", err)
	}
	return p, body
}

// rawContent is content with the properties as they came.
func (c *wireClient) rawContent(channel uint16) (properties, body []byte) {
	c.t.Helper()
	f := c.frame()
	if f.Type != wire.FrameHeader || f.Channel != channel {
		c.t.Fatalf("frame of type %d on channel %d: want a content header on channel %d", f.Type, f.Channel, channel)
	}
	h, err := wire.ParseHeader(f.Payload)
	if err != nil {
		c.t.Fatalf("content header: %v", err)
	}
	for uint64(len(body)) < h.BodySize {
		f := c.frame()
		if f.Type != wire.FrameBody || f.Channel != channel {
			c.t.Fatalf("frame of type %d on channel %d: want a body on channel %d", f.Type, f.Channel, channel)
		}
		body = append(body, f.Payload...)
	}
	return h.Properties, body
}

// exception is how the server ends a channel or connection.
type exception struct {
	code   wire.ReplyCode
	text   string // without the name of the code
	during wire.MethodID
}

// replyText is the whole text as it is sent, cut to a short string.
func (e exception) replyText() string {
	text := e.code.Name() + " - " + e.text
	if len(text) > 255 {
		text = text[:252] + "..."
	}
	return text
}

// wantException expects the exception on channel 1 or, if it is a hard one, on
// the connection, and answers it. After a soft one channel 1 is opened anew,
// which shows that the connection goes on.
func (c *wireClient) wantException(want exception) {
	c.t.Helper()
	var got wire.ChannelClose
	if want.code.Hard() {
		closed := expect[*wire.ConnectionClose](c, 0)
		got = wire.ChannelClose(*closed)
		c.send(0, &wire.ConnectionCloseOk{})
		defer c.wantEnd()
	} else {
		got = *expect[*wire.ChannelClose](c, 1)
		c.send(1, &wire.ChannelCloseOk{})
		defer call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
	}
	if got.ReplyCode != want.code || got.ReplyText != want.replyText() {
		c.t.Errorf("got %d %q\nwant %d %q", got.ReplyCode, got.ReplyText, want.code, want.replyText())
	}
	if got.ClassID != want.during.Class() || got.MethodID != want.during.Method() {
		c.t.Errorf("failing method %d.%d: want %v", got.ClassID, got.MethodID, want.during)
	}
}

// wantEnd expects the server to close the socket without another frame.
func (c *wireClient) wantEnd() {
	c.t.Helper()
	for {
		f, err := c.read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			c.t.Fatalf("read: %v: want the end", err)
		}
		if f.Type != wire.FrameHeartbeat {
			c.t.Fatalf("frame of type %d on channel %d: want the end", f.Type, f.Channel)
		}
	}
}
