// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
)

// capabilities are what the client said it understands.
type capabilities struct {
	authenticationFailureClose bool
	connectionBlocked          bool
	consumerCancelNotify       bool
}

// conn is one client connection that has been opened: the handshake makes it, so
// there is no conn in a half-open state. It has two goroutines, the reader
// (readLoop) and the writer (writer.writeLoop).
type conn struct {
	// Constant from creation on.
	server           *Server
	id               uint64 // owner of exclusive queues, never reused while the broker runs
	net              net.Conn
	writer           *writer
	log              *slog.Logger
	vhost            *vhosts.VHost
	user             *vhosts.User
	mechanism        string
	clientProperties wire.Table
	capabilities     capabilities
	frameMax         int // largest frame in bytes
	channelMax       int
	heartbeat        time.Duration // 0 for none
	connectedAt      time.Time
	ctx              context.Context // ends with the connection

	// Owned by the reader.
	input      input
	routes     *vhosts.Routes
	current    *channel // the channel of the last frame
	run        openRun
	properties wire.PropertyView // scratch of channel.examine
	settling   []*subscription   // with settled messages their queues do not know of yet
	// confirmable are channels with publishes decided in the running burst.
	confirmable []*channel
	published   bool // the running burst had messages
	closeSent   bool // connection.close was sent: everything but its answer is ignored
	closeSeen   bool // the connection is to end once all is written

	// channels is changed by the reader under mu, and read by it without.
	mu       sync.Mutex
	channels map[uint16]*channel

	received atomic.Uint64              // bytes
	paused   atomic.Bool                // the reader waits for the broker, not for the client
	crowded  atomic.Bool                // the reader waits for the client to read
	blocked  atomic.Bool                // the reader waits for alarms to end
	forced   atomic.Pointer[wire.Error] // close the connection with it: set by others, done by the reader
	dooming  atomic.Bool                // channels are doomed: set by others, done by the reader
	forcing  sync.Mutex                 // held while forced or dooming is set and the reader woken; a leaf
	cancel   context.CancelFunc         // of ctx
	monitor  *time.Timer                // heartbeats, nil if there are none
}

// errEnd ends readLoop without anything to report.
var errEnd = errors.New("connection is closed")

// serve runs the connection until it has ended.
func (c *conn) serve() {
	err := c.readLoop()
	c.teardown()
	if errors.Is(err, errEnd) || errors.Is(err, io.EOF) && c.closeSeen {
		c.log.Info("connection closed")
	} else {
		c.log.Warn("connection lost", "error", err)
	}
}

// readLoop reads bursts: it handles every whole frame that one read brought, then
// does what was saved up for the burst's end.
func (c *conn) readLoop() error {
	for {
		c.writer.cork()
		err := c.handleBurst()
		c.writer.uncork()
		if err != nil {
			return err
		}
		if c.closeSeen {
			return errEnd
		}
		if c.published {
			c.published = false
			c.awaitAlarms()
			c.throttle()
		}
		c.awaitRoom()
		if err := c.input.fill(c.net, c.interrupted); err != nil {
			switch {
			case c.stopped():
				c.close(c.forced.Load())
			case c.dooming.Load():
				c.closeDoomed()
			default:
				return err
			}
			continue
		}
		c.received.Store(c.input.total)
	}
}

// stopped says that somebody wants the connection closed and the reader has not
// done so yet.
func (c *conn) stopped() bool { return c.forced.Load() != nil && !c.closeSent }

// interrupted says that the reader has something else to do than to read.
func (c *conn) interrupted() bool { return c.stopped() || c.dooming.Load() }

// throttle waits, after a burst with messages, while too much of what publishers
// sent is on its way to the disk: to be kept, or because memory is short. The
// client's heartbeats cannot be read meanwhile, so they are not missed.
func (c *conn) throttle() {
	if c.closeSent {
		return
	}
	c.paused.Store(true)
	defer c.paused.Store(false)
	// It ends without room only with ctx, and then the next read tells why.
	_ = c.server.options.Hosts.Throttle(c.ctx)
}

// handleBurst handles the whole frames that have been read.
func (c *conn) handleBurst() error {
	for !c.closeSeen {
		if c.takeWhole() {
			continue
		}
		f, n, err := wire.ParseFrame(c.input.unread(), c.frameMax)
		if err != nil {
			if c.closeSent {
				return err
			}
			c.close(err)
			return c.drain(err)
		}
		if n == 0 {
			break
		}
		c.input.consume(n)
		if err := c.handleFrame(f); err != nil {
			return err
		}
	}
	c.endBurst()
	return nil
}

// takeWhole takes the message that lies next in the buffer, if it is one for the
// current channel and all of it is there: the same as handling its frames one by
// one, for less.
func (c *conn) takeWhole() bool {
	ch := c.current
	if ch == nil || ch.closing || c.closeSent || ch.content.state != expectMethod {
		return false
	}
	n := ch.content.takeWhole(c.input.unread(), ch.number, c.frameMax)
	if n == 0 {
		return false
	}
	c.input.consume(n)
	if err := ch.assembled(true, ch.judgeHeader()); err != nil {
		c.raise(ch, err)
	}
	return true
}

// endBurst carries out what was put off while frames of one read were handled:
// the open run enters its queues, settled messages leave theirs, and the
// publishers are told what is decided.
func (c *conn) endBurst() {
	c.flush()
	for i, ch := range c.confirmable {
		ch.confirmDue = false
		ch.flushConfirms()
		c.confirmable[i] = nil
	}
	c.confirmable = c.confirmable[:0]
	if c.current != nil {
		c.current.content.own()
	}
}

// flush gives the open run and the settled messages to their queues.
func (c *conn) flush() {
	c.publishRun()
	c.settle()
}

// handleFrame handles one frame. A *wire.Error closes its channel or the
// connection, any other error ends the connection at once.
func (c *conn) handleFrame(f wire.Frame) error {
	if c.closeSent {
		return c.handleClosing(f)
	}
	if f.Type == wire.FrameHeartbeat {
		return nil
	}
	if f.Channel == 0 {
		if err := c.handleMethod(f); err != nil {
			c.close(err)
		}
		return nil
	}
	ch := c.current
	if ch == nil || ch.number != f.Channel {
		if ch != nil {
			ch.content.own()
		}
		ch = c.channels[f.Channel]
		c.current = ch
	}
	var err *wire.Error
	switch {
	case ch == nil:
		err = c.openChannel(f)
	case ch.closing:
		c.handleClosingChannel(ch, f)
	default:
		err = ch.handleFrame(f)
	}
	if err != nil {
		c.raise(ch, err)
	}
	return nil
}

// raise turns an error of channel ch into channel.close or, if it is a hard one,
// connection.close.
func (c *conn) raise(ch *channel, err *wire.Error) {
	if err.Hard() || ch == nil {
		c.close(err)
		return
	}
	c.flush()
	ch.await()
	c.log.Warn("channel closed for an error", "channel", ch.number, "error", err.ReplyText())
	ch.flushConfirms()
	ch.shutdown()
	ch.closing = true
	ch.content = content{}
	ch.send(&wire.ChannelClose{
		ReplyCode: err.Code, ReplyText: err.ReplyText(), ClassID: err.Method.Class(), MethodID: err.Method.Method(),
	})
}

// methodOf is the method a method frame's payload starts with, 0 if it is too
// short for one.
func methodOf(payload []byte) wire.MethodID {
	if len(payload) < 4 {
		return 0
	}
	return wire.MethodID(binary.BigEndian.Uint32(payload))
}

// handleClosingChannel handles a frame on a channel the server has closed:
// everything is dropped until the client answers, or closes it as well.
func (c *conn) handleClosingChannel(ch *channel, f wire.Frame) {
	if f.Type != wire.FrameMethod {
		return
	}
	switch methodOf(f.Payload) {
	case wire.IDChannelCloseOk:
		c.forget(ch)
	case wire.IDChannelClose:
		ch.send(&wire.ChannelCloseOk{})
	}
}

// openChannel handles a frame on a channel number that is not open.
func (c *conn) openChannel(f wire.Frame) *wire.Error {
	if f.Type != wire.FrameMethod {
		return wire.Errorf(wire.UnexpectedFrame, "expected method frame, got non method frame instead")
	}
	m, err := wire.ParseMethod(f.Payload)
	if err != nil {
		return err
	}
	switch m.(type) {
	case *wire.ChannelOpen:
	case *wire.ChannelCloseOk:
		return nil // a late answer to a channel.close that crossed the client's own
	default:
		return wire.Errorf(wire.ChannelError, "expected 'channel.open'").During(m.ID())
	}
	if len(c.channels) >= c.channelMax {
		return wire.Errorf(wire.NotAllowed, "number of channels opened (%d) has reached the negotiated channel_max (%d)",
			len(c.channels), c.channelMax)
	}
	ch := newChannel(c, f.Channel)
	c.server.traffic.opened.Add(1)
	c.mu.Lock()
	c.channels[f.Channel] = ch
	c.mu.Unlock()
	c.current = ch
	ch.send(&wire.ChannelOpenOk{})
	return nil
}

// forget frees a channel's number.
func (c *conn) forget(ch *channel) {
	c.mu.Lock()
	delete(c.channels, ch.number)
	c.mu.Unlock()
	c.current = nil
}

// handleMethod handles a frame on channel 0.
func (c *conn) handleMethod(f wire.Frame) *wire.Error {
	if f.Type != wire.FrameMethod {
		return wire.UnexpectedFrameError(f)
	}
	m, err := wire.ParseMethod(f.Payload)
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *wire.ConnectionClose:
		c.flush()
		c.release()
		c.writer.send(0, &wire.ConnectionCloseOk{})
		c.closeSeen = true
	case *wire.ConnectionCloseOk:
		// An answer to a close that was never sent; there is nothing to do.
	case *wire.ConnectionUpdateSecret:
		// The internal users have no secret that expires: it is accepted and changes
		// nothing (RabbitMQ 4.3, secrets).
		c.writer.send(0, &wire.ConnectionUpdateSecretOk{})
	default:
		return wire.Errorf(wire.ChannelError, "unexpected method in connection state running").During(m.ID())
	}
	return nil
}

// drain reads and drops what the client sends after a frame that could not be
// understood, until it hangs up or some time has passed: closing at once could
// destroy the connection.close on its way.
func (c *conn) drain(cause *wire.Error) error {
	c.writer.finish(c.server.options.lingerTimeout(), c.server.options.closeTimeout())
	_ = c.net.SetReadDeadline(time.Now().Add(c.server.options.lingerTimeout())) // as in close
	buffer := make([]byte, smallInput)
	for {
		if _, err := c.net.Read(buffer); err != nil {
			return cause
		}
	}
}

// close releases what the connection holds and sends connection.close; from then
// on everything but the answer is ignored.
func (c *conn) close(err *wire.Error) {
	if c.closeSent || c.closeSeen {
		return
	}
	c.log.Warn("connection closed for an error", "error", err.ReplyText())
	c.flush()
	c.release()
	c.closeSent = true
	c.writer.send(0, &wire.ConnectionClose{
		ReplyCode: err.Code, ReplyText: err.ReplyText(), ClassID: err.Method.Class(), MethodID: err.Method.Method(),
	})
	c.forcing.Lock() // or abort would overwrite the deadline
	defer c.forcing.Unlock()
	// Errors are passed over: a connection that takes no deadline is dead, and the
	// next read says so.
	_ = c.net.SetReadDeadline(time.Now().Add(c.closeTimeout()))
	c.input.deadline = true
}

// closeTimeout is how long the server waits for connection.close-ok.
func (c *conn) closeTimeout() time.Duration {
	if limit := c.server.options.closeTimeout(); c.heartbeat == 0 || c.heartbeat > limit {
		return limit
	}
	return c.heartbeat
}

// handleClosing handles a frame after connection.close was sent.
func (c *conn) handleClosing(f wire.Frame) error {
	if f.Type != wire.FrameMethod || f.Channel != 0 {
		return nil
	}
	switch methodOf(f.Payload) {
	case wire.IDConnectionCloseOk:
		c.closeSeen = true
	case wire.IDConnectionClose:
		c.writer.send(0, &wire.ConnectionCloseOk{})
		c.closeSeen = true
	}
	return nil
}

// abort asks the reader to close the connection with err. Called by anybody,
// under any lock.
func (c *conn) abort(err *wire.Error) {
	c.forcing.Lock()
	if c.forced.CompareAndSwap(nil, err) {
		_ = c.net.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	}
	c.forcing.Unlock()
	c.cancel()
	c.writer.wakeReader()
}

// abortChannel asks the reader to close a channel, which is open, with err. Called
// by anybody under the channel's mu.
func (c *conn) abortChannel(ch *channel, err *wire.Error) {
	ch.doomed = err
	c.forcing.Lock()
	defer c.forcing.Unlock()
	c.dooming.Store(true)
	_ = c.net.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
}

// closeDoomed closes the channels that others want closed.
func (c *conn) closeDoomed() {
	c.forcing.Lock()
	c.dooming.Store(false)
	if c.forced.Load() == nil && !c.input.deadline {
		_ = c.net.SetReadDeadline(time.Time{}) // passed over as in input.fill
		c.input.timed = false
	}
	c.forcing.Unlock()
	for _, ch := range c.channels {
		if err := ch.doom(); err != nil {
			c.raise(ch, err)
		}
	}
}

// release closes every channel and deletes the exclusive queues.
func (c *conn) release() {
	for _, ch := range c.channels {
		if !ch.closing {
			ch.flushConfirms()
			ch.shutdown()
		}
	}
	c.vhost.DeleteExclusive(c.id)
	c.mu.Lock()
	clear(c.channels)
	c.mu.Unlock()
	c.current = nil
}

// teardown ends the connection: what is left is released, what is still to be
// written is written if the client takes it soon.
func (c *conn) teardown() {
	c.cancel()
	c.stopMonitor()
	c.run = openRun{}
	c.settle()
	c.release()
	c.writer.finish(c.server.options.lingerTimeout(), c.server.options.closeTimeout())
	<-c.writer.done
	_ = c.net.Close() // whatever the error, nothing is left to do with it
	c.input.release()
	c.server.remove(c)
}
