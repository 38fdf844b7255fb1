// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
)

const (
	// dialTimeout bounds connecting and every answer during set-up.
	dialTimeout = 30 * time.Second
	// closeTimeout bounds how long the server may take to close a connection.
	closeTimeout = 5 * time.Second
	// answerTimeout bounds the exchange of last words with a server that closes
	// the connection.
	answerTimeout = time.Second
	// maxFrame is the largest frame this client asks for, in bytes.
	maxFrame = 128 << 10
	// readSize is the size of the inbound buffer, with room for a whole frame
	// behind the largest incomplete one.
	readSize = 256 << 10
)

// conn is a client connection. It has two lives: from dial to start its caller
// owns it and talks with call, one method at a time; from start on its reader
// and writer do (loops.go).
type conn struct {
	net        net.Conn
	frameMax   int // bytes, frame header and end octet included
	channelMax int
	heartbeat  time.Duration // 0 for none

	in         []byte // in[begin:end] is unread; owned by the reader once started
	begin, end int

	mu      sync.Mutex
	control []byte // guarded by mu: frames for the writer, acknowledgements too

	blocked atomic.Bool // the server said that it does not read for now

	wake    chan struct{} // capacity 1: there may be something to write
	closing atomic.Bool   // set by the reader: write the control frames and end
	written chan struct{} // closed when the writer has ended
	done    chan struct{} // closed when both goroutines have ended

	started   bool // set by start
	onFailure func(error)
	failOnce  sync.Once
	failed    chan struct{} // closed when the connection must end
	err       error         // set before failed is closed; nil after a clean close
}

// serverError is what the server said when it closed a connection, a channel or
// a consumer.
type serverError struct {
	closed string // what was closed
	text   string
}

func (e *serverError) Error() string { return "the server closed " + e.closed + ": " + e.text }

func connectionClosed(m *wire.ConnectionClose) error {
	return &serverError{closed: "the connection", text: fmt.Sprintf("%d %s", m.ReplyCode, m.ReplyText)}
}

func channelClosed(channel uint16, m *wire.ChannelClose) error {
	return &serverError{closed: fmt.Sprintf("channel %d", channel), text: fmt.Sprintf("%d %s", m.ReplyCode, m.ReplyText)}
}

// dial connects, authenticates and opens the virtual host.
func dial(ctx context.Context, o *options, name string) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var dialer interface {
		DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	} = &net.Dialer{}
	if o.endpoint.tls {
		dialer = &tls.Dialer{Config: &tls.Config{
			ServerName:         o.endpoint.host,
			InsecureSkipVerify: o.tlsSkipVerify,
		}}
	}
	nc, err := dialer.DialContext(ctx, "tcp", o.endpoint.addr)
	if err != nil {
		return nil, err
	}
	c := &conn{
		net:      nc,
		frameMax: wire.FrameMinSize,
		in:       make([]byte, readSize),
		wake:     make(chan struct{}, 1),
		written:  make(chan struct{}),
		done:     make(chan struct{}),
		failed:   make(chan struct{}),
	}
	// Whoever cancels ctx ends a set-up that hangs.
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	if err := c.handshake(o, name); err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to %s: %w", o.endpoint.addr, err)
	}
	return c, nil
}

// handshake is AMQP 0-9-1 §2.2.4, from the protocol header to connection.open-ok.
func (c *conn) handshake(o *options, name string) error {
	c.deadline()
	if _, err := io.WriteString(c.net, wire.ProtocolHeader); err != nil {
		return err
	}
	if _, err := receiveMethod[*wire.ConnectionStart](c); err != nil {
		return err
	}
	err := c.transmit(0, &wire.ConnectionStartOk{
		ClientProperties: wire.Table{
			{Name: "product", Value: "lagomq perf"},
			{Name: "connection_name", Value: name},
			{Name: "capabilities", Value: wire.Table{
				{Name: "authentication_failure_close", Value: true},
				{Name: "basic.nack", Value: true},
				{Name: "connection.blocked", Value: true},
				{Name: "consumer_cancel_notify", Value: true},
				{Name: "publisher_confirms", Value: true},
			}},
		},
		Mechanism: "PLAIN",
		Response:  "\x00" + o.endpoint.user + "\x00" + o.endpoint.password,
		Locale:    "en_US",
	})
	if err != nil {
		return err
	}
	tune, err := receiveMethod[*wire.ConnectionTune](c)
	if err != nil {
		return err
	}
	ok := negotiate(tune, o.heartbeat)
	c.frameMax = int(ok.FrameMax)
	c.channelMax = int(ok.ChannelMax)
	c.heartbeat = time.Duration(ok.Heartbeat) * time.Second
	if err := c.transmit(0, ok); err != nil {
		return err
	}
	_, err = c.call(0, &wire.ConnectionOpen{VirtualHost: o.endpoint.vhost})
	return err
}

// negotiate answers the server's limits. Heartbeats are off when either side
// wants none; a server without a frame limit gets ours.
func negotiate(tune *wire.ConnectionTune, heartbeat int) *wire.ConnectionTuneOk {
	ok := &wire.ConnectionTuneOk{
		ChannelMax: tune.ChannelMax,
		FrameMax:   maxFrame,
		Heartbeat:  min(tune.Heartbeat, uint16(heartbeat)),
	}
	if tune.FrameMax > 0 {
		ok.FrameMax = min(tune.FrameMax, maxFrame)
	}
	if ok.ChannelMax == 0 {
		ok.ChannelMax = 1<<16 - 1
	}
	return ok
}

// openChannels opens the channels 1 to n.
func (c *conn) openChannels(n int) error {
	if n > c.channelMax {
		return fmt.Errorf("the server allows %d channels per connection, not %d", c.channelMax, n)
	}
	for channel := 1; channel <= n; channel++ {
		if _, err := c.call(uint16(channel), &wire.ChannelOpen{}); err != nil {
			return fmt.Errorf("open channel %d: %w", channel, err)
		}
	}
	return nil
}

func (c *conn) deadline() {
	// An error means the connection is closed, which the next read reports.
	_ = c.net.SetDeadline(time.Now().Add(dialTimeout))
}

// transmit writes one method. Only before start.
func (c *conn) transmit(channel uint16, m wire.Method) error {
	c.deadline()
	_, err := c.net.Write(wire.AppendMethod(nil, channel, m))
	return err
}

// call writes one method and returns the answer. Only before start.
func (c *conn) call(channel uint16, m wire.Method) (wire.Method, error) {
	if err := c.transmit(channel, m); err != nil {
		return nil, err
	}
	return c.receive()
}

// receive returns the next method, or as an error what the server closed.
func (c *conn) receive() (wire.Method, error) {
	for {
		f, ok, err := c.nextFrame()
		if err != nil {
			return nil, err
		}
		if !ok {
			if err := c.fill(); err != nil {
				return nil, err
			}
			continue
		}
		if f.Type != wire.FrameMethod {
			continue
		}
		m, werr := wire.ParseMethod(f.Payload)
		if werr != nil {
			return nil, werr
		}
		switch m := m.(type) {
		case *wire.ConnectionClose:
			return nil, connectionClosed(m)
		case *wire.ChannelClose:
			return nil, channelClosed(f.Channel, m)
		case *wire.ConnectionBlocked, *wire.ConnectionUnblocked:
			continue // not an answer; whoever publishes will feel it
		}
		return m, nil
	}
}

// receiveMethod returns the next method, which has to be an M.
func receiveMethod[M wire.Method](c *conn) (m M, err error) {
	got, err := c.receive()
	if err != nil {
		return m, err
	}
	m, ok := got.(M)
	if !ok {
		return m, fmt.Errorf("the server sent %s when %s was due", got.ID(), m.ID())
	}
	return m, nil
}

// nextFrame cuts a frame off the inbound buffer; false when it holds no whole
// one. The frame is valid until fill.
func (c *conn) nextFrame() (wire.Frame, bool, error) {
	f, n, err := wire.ParseFrame(c.in[c.begin:c.end], c.frameMax)
	if err != nil {
		if n := c.end - c.begin; n >= 4 && string(c.in[c.begin:c.begin+4]) == "AMQP" {
			return f, false, errors.New("the server does not speak AMQP 0-9-1")
		}
		return f, false, fmt.Errorf("malformed frame from the server: %w", err)
	}
	c.begin += n
	return f, n > 0, nil
}

// fill reads what the server has sent behind what is unread.
func (c *conn) fill() error {
	switch {
	case c.begin == c.end:
		c.begin, c.end = 0, 0
	case len(c.in)-c.end < len(c.in)/4:
		c.end = copy(c.in, c.in[c.begin:c.end])
		c.begin = 0
	}
	n, err := c.net.Read(c.in[c.end:])
	c.end += n
	if n > 0 {
		return nil
	}
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the server closed the connection without a reason")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("the server sent nothing in time, not even a heartbeat")
	}
	return err
}

// withChannel runs f on a connection of its own with channel 1 open.
func withChannel(ctx context.Context, o *options, name string, f func(*conn) error) error {
	c, err := dial(ctx, o, "lagomq perf "+name)
	if err != nil {
		return err
	}
	defer c.net.Close()
	stop := context.AfterFunc(ctx, func() { c.net.Close() })
	defer stop()
	if err := c.openChannels(1); err != nil {
		return err
	}
	if err := f(c); err != nil {
		return err
	}
	_, err = c.call(0, closeMethod())
	return err
}

func closeMethod() *wire.ConnectionClose {
	return &wire.ConnectionClose{ReplyCode: wire.ReplySuccess, ReplyText: "Goodbye"}
}
