// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
)

// initialFrameMax is the largest frame accepted before tune (RabbitMQ 4.3,
// initial_frame_max).
const initialFrameMax = 8192

// handshaker opens one connection. It reads exactly the frames of the handshake,
// so that what follows them stays in the socket for the connection's reader.
type handshaker struct {
	server *Server
	net    net.Conn
}

var (
	errHealthCheck = errors.New("connection closed before a byte came")
	errNotAMQP     = errors.New("the client does not speak AMQP 0-9-1")
)

// handshake goes from the protocol header to connection.open-ok and returns the
// connection, or an error after telling the client what the protocol allows to
// be told (RabbitMQ 4.3, protocol header and handshake). The whole of it is
// bounded by the handshake timeout.
func (s *Server) handshake(nc net.Conn) (*conn, error) {
	h := &handshaker{s, nc}
	if err := nc.SetDeadline(time.Now().Add(s.options.HandshakeTimeout)); err != nil {
		return nil, err
	}
	if err := h.protocolHeader(); err != nil {
		return nil, err
	}
	if err := h.send(h.start()); err != nil {
		return nil, err
	}
	c := &conn{server: s, id: s.nextID.Add(1), net: nc, channels: map[uint16]*channel{}}
	if err := h.startOk(c); err != nil {
		return nil, err
	}
	if err := h.tune(c); err != nil {
		return nil, err
	}
	if err := h.open(c); err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	c.connectedAt = time.Now()
	c.routes = vhosts.NewRoutes(c.vhost)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.writer = newWriter(nc)
	c.writer.frameMax = c.frameMax
	c.log = s.options.Logger.With("connection", c.name(), "user", c.user.Name, "vhost", c.vhost.Name())
	return c, nil
}

// protocolHeader reads the client's protocol header and answers a wrong one with
// the right one.
func (h *handshaker) protocolHeader() error {
	var header [8]byte
	n, err := io.ReadFull(h.net, header[:])
	switch {
	case err == nil && (string(header[:]) == wire.ProtocolHeader || string(header[:]) == "AMQP\x01\x01\x00\x09"):
		return nil
	case n == 0 && errors.Is(err, io.EOF):
		return errHealthCheck
	case errors.Is(err, io.ErrUnexpectedEOF) || err == nil:
		// Something else, perhaps shorter than a header.
	default:
		return fmt.Errorf("read protocol header: %w", err)
	}
	if _, err := io.WriteString(h.net, wire.ProtocolHeader); err != nil {
		return fmt.Errorf("answer a wrong protocol header: %w", err)
	}
	return fmt.Errorf("%w: it sent %s", errNotAMQP, guessProtocol(header[:n]))
}

func guessProtocol(header []byte) string {
	for _, verb := range []string{"GET ", "POST ", "HEAD ", "PUT ", "OPTIONS "} {
		if bytes.HasPrefix(header, []byte(verb)) {
			return "an HTTP request"
		}
	}
	if bytes.HasPrefix(header, []byte{0x16, 3}) {
		return "a TLS handshake to the plain port"
	}
	return fmt.Sprintf("%q", header)
}

func (h *handshaker) send(m wire.Method) error {
	if _, err := h.net.Write(wire.AppendMethod(nil, 0, m)); err != nil {
		return fmt.Errorf("send %v: %w", m.ID(), err)
	}
	return nil
}

// receive reads one method of channel 0, passing over heartbeats.
func (h *handshaker) receive() (wire.Method, error) {
	for {
		f, err := h.frame()
		if err != nil {
			return nil, err
		}
		switch {
		case f.Type == wire.FrameHeartbeat:
			continue
		case f.Type != wire.FrameMethod || f.Channel != 0:
			return nil, wire.UnexpectedFrameError(f)
		}
		m, perr := wire.ParseMethod(f.Payload)
		if perr != nil {
			return nil, perr
		}
		return m, nil
	}
}

// frame reads one frame. Nothing is reserved for a size that is too large.
func (h *handshaker) frame() (wire.Frame, error) {
	head := make([]byte, wire.FrameHeaderSize, 512)
	if _, err := io.ReadFull(h.net, head); err != nil {
		return wire.Frame{}, fmt.Errorf("read a frame of the handshake: %w", err)
	}
	if _, _, err := wire.ParseFrame(head, initialFrameMax); err != nil {
		return wire.Frame{}, err
	}
	whole := append(head, make([]byte, binary.BigEndian.Uint32(head[3:])+1)...)
	if _, err := io.ReadFull(h.net, whole[len(head):]); err != nil {
		return wire.Frame{}, fmt.Errorf("read a frame of the handshake: %w", err)
	}
	f, _, err := wire.ParseFrame(whole, initialFrameMax)
	if err != nil {
		return wire.Frame{}, err
	}
	return f, nil
}

// start is the server's connection.start.
func (h *handshaker) start() *wire.ConnectionStart {
	capabilities := wire.Table{}
	for _, name := range []string{
		"authentication_failure_close", "basic.nack", "connection.blocked", "consumer_cancel_notify", "consumer_priorities",
		"direct_reply_to", "exchange_exchange_bindings", "per_consumer_qos", "publisher_confirms",
	} {
		capabilities = append(capabilities, wire.Field{Name: name, Value: true})
	}
	o := &h.server.options
	return &wire.ConnectionStart{
		VersionMajor: 0,
		VersionMinor: 9,
		ServerProperties: wire.Table{
			{Name: "capabilities", Value: capabilities},
			{Name: "cluster_name", Value: o.ClusterName},
			{Name: "copyright", Value: "Copyright 2026 The LagoMQ Authors"},
			{Name: "information", Value: "Licensed under the Apache License 2.0"},
			{Name: "platform", Value: "Go"},
			{Name: "product", Value: o.Product},
			{Name: "version", Value: o.Version},
		},
		Mechanisms: "PLAIN AMQPLAIN",
		Locales:    "en_US",
	}
}

// startOk authenticates the client.
func (h *handshaker) startOk(c *conn) error {
	// Who has not logged in is told nothing about mistakes.
	m, err := h.receive()
	if err != nil {
		if mistake := (*wire.Error)(nil); errors.As(err, &mistake) {
			h.delay()
		}
		return err
	}
	ok, isStartOk := m.(*wire.ConnectionStartOk)
	if !isStartOk {
		h.delay()
		return unexpected(m, "starting")
	}
	c.clientProperties, c.mechanism = ok.ClientProperties, ok.Mechanism
	c.capabilities = clientCapabilities(ok.ClientProperties)
	user, err := h.authenticate(ok.Mechanism, []byte(ok.Response))
	if err == nil {
		c.user = user
		return nil
	}
	if c.capabilities.authenticationFailureClose && !errors.Is(err, errBadResponse) {
		// Like RabbitMQ, the server does not wait for the client's close-ok.
		_ = h.send(&wire.ConnectionClose{ReplyCode: wire.AccessRefused, ReplyText: wire.Errorf(wire.AccessRefused,
			"Login was refused using authentication mechanism %s. For details see the broker logfile.", ok.Mechanism).ReplyText()})
	}
	h.delay()
	return fmt.Errorf("login with %s refused: %w", ok.Mechanism, err)
}

func clientCapabilities(properties wire.Table) (c capabilities) {
	value, _ := properties.Get("capabilities")
	table, _ := value.(wire.Table)
	for name, field := range map[string]*bool{
		"authentication_failure_close": &c.authenticationFailureClose,
		"connection.blocked":           &c.connectionBlocked,
		"consumer_cancel_notify":       &c.consumerCancelNotify,
	} {
		value, _ := table.Get(name)
		*field, _ = value.(bool)
	}
	return c
}

// delay keeps the socket of a refused client open for a while, which slows down
// guessing, or until the client hangs up.
func (h *handshaker) delay() {
	if h.server.options.FailureDelay <= 0 {
		return
	}
	_ = h.net.SetReadDeadline(time.Now().Add(h.server.options.FailureDelay)) // a failure ends the read below
	buffer := make([]byte, 512)
	for {
		if _, err := h.net.Read(buffer); err != nil {
			return
		}
	}
}

func (h *handshaker) tune(c *conn) error {
	o := &h.server.options
	heartbeat := max(0, o.Heartbeat)
	if err := h.send(&wire.ConnectionTune{
		ChannelMax: uint16(o.ChannelMax), FrameMax: uint32(o.FrameMax), Heartbeat: uint16(heartbeat),
	}); err != nil {
		return err
	}
	m, err := h.receive()
	if err != nil {
		return h.refuse(err)
	}
	ok, isTuneOk := m.(*wire.ConnectionTuneOk)
	if !isTuneOk {
		return h.refuse(unexpected(m, "tuning"))
	}
	for _, limit := range []struct {
		name              string
		value, least, top int
	}{
		{"frame_max", int(ok.FrameMax), wire.FrameMinSize, o.FrameMax},
		{"channel_max", int(ok.ChannelMax), 1, o.ChannelMax},
	} {
		switch {
		case limit.value == 0 && limit.name == "channel_max":
			err = tuneRefused("negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (%d)", limit.top)
		case limit.value == 0:
			err = tuneRefused("negotiated %s = 0 is higher than the maximum allowed value (%d)", limit.name, limit.top)
		case limit.value > limit.top:
			err = tuneRefused("negotiated %s = %d is higher than the maximum allowed value (%d)", limit.name, limit.value, limit.top)
		case limit.value < limit.least:
			err = tuneRefused("negotiated %s = %d is lower than the minimum allowed value (%d)", limit.name, limit.value, limit.least)
		}
		if err != nil {
			return h.refuse(err)
		}
	}
	c.frameMax, c.channelMax = int(ok.FrameMax), int(ok.ChannelMax)
	c.heartbeat = time.Duration(ok.Heartbeat) * time.Second
	return nil
}

func tuneRefused(format string, args ...any) *wire.Error {
	return wire.Errorf(wire.NotAllowed, format, args...).During(wire.IDConnectionTune)
}

func (h *handshaker) open(c *conn) error {
	m, err := h.receive()
	if err != nil {
		return h.refuse(err)
	}
	open, isOpen := m.(*wire.ConnectionOpen)
	if !isOpen {
		return h.refuse(unexpected(m, "opening"))
	}
	v, found := h.server.options.Hosts.VHost(open.VirtualHost)
	if !found {
		return h.refuse(wire.Errorf(wire.NotAllowed, "vhost %s not found", open.VirtualHost).During(m.ID()))
	}
	c.vhost = v
	return h.send(&wire.ConnectionOpenOk{})
}

func unexpected(m wire.Method, state string) *wire.Error {
	return wire.Errorf(wire.ChannelError, "unexpected method in connection state %s", state).During(m.ID())
}

// refuse ends the handshake. A *wire.Error is told to the client, which has
// until the handshake timeout to answer.
func (h *handshaker) refuse(err error) error {
	var refusal *wire.Error
	if !errors.As(err, &refusal) {
		return err
	}
	if sendErr := h.send(&wire.ConnectionClose{
		ReplyCode: refusal.Code, ReplyText: refusal.ReplyText(),
		ClassID: refusal.Method.Class(), MethodID: refusal.Method.Method(),
	}); sendErr != nil {
		return err
	}
	for {
		m, receiveErr := h.receive()
		if receiveErr != nil {
			return err
		}
		if _, ok := m.(*wire.ConnectionCloseOk); ok {
			return err
		}
	}
}
