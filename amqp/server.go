// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package amqp is the server side of AMQP 0-9-1: it accepts connections, speaks
// the protocol with RabbitMQ's extensions and texts, and turns what clients ask
// for into calls of package vhosts.
//
// A message's way in: conn.readLoop parses the frames that one read brought,
// channel.handleFrame assembles messages, conn.gather collects consecutive ones
// into a run, conn.publishRun puts it into its queues. Its way out: a queue's
// engine gives messages to a subscription (queue.Sink), which numbers and
// remembers them and appends their frames to the connection's writer.
//
// Each connection has two goroutines, its reader and its writer; there are none
// per channel or consumer.
package amqp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Server accepts AMQP 0-9-1 connections.
type Server struct {
	options Options
	nextID  atomic.Uint64
	running sync.WaitGroup // accept loops and connections
	pages   queue.Pages    // of what is being published

	mu        sync.Mutex
	closing   bool
	listeners map[net.Listener]struct{}
	opening   map[net.Conn]struct{} // in the handshake
	conns     map[*conn]struct{}
	totals    Totals

	traffic traffic // of closed channels
}

// Totals count connections and channels since the server was made.
type Totals struct {
	ConnectionsOpened, ConnectionsClosed, LoginsRefused uint64
	ChannelsOpened, ChannelsClosed                      uint64
}

// NewServer makes a server. The error lists every problem of the options.
func NewServer(o Options) (*Server, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Server{
		options:   o,
		listeners: map[net.Listener]struct{}{},
		opening:   map[net.Conn]struct{}{},
		conns:     map[*conn]struct{}{},
	}, nil
}

// ErrServerClosed says that the server does not serve any more.
var ErrServerClosed = errors.New("amqp: server is shut down")

// Serve starts accepting connections from l, which it owns from then on, and
// returns at once.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return errors.Join(ErrServerClosed, l.Close())
	}
	s.listeners[l] = struct{}{}
	s.running.Go(func() { s.accept(l) })
	return nil
}

// accept takes connections until the listener is closed.
func (s *Server) accept(l net.Listener) {
	backoff := time.NewTimer(0)
	<-backoff.C
	defer backoff.Stop()
	for {
		nc, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// Out of file descriptors, most likely: others have to hang up first.
			s.options.Logger.Error("cannot accept a connection", "listener", l.Addr().String(), "error", err)
			backoff.Reset(50 * time.Millisecond)
			<-backoff.C
			continue
		}
		if !s.add(nc) {
			_ = nc.Close() // nobody is told: the server goes down
			return
		}
		s.running.Go(func() { s.run(nc) })
	}
}

func (s *Server) add(nc net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.opening[nc] = struct{}{}
	}
	return !s.closing
}

// run is the life of one connection.
func (s *Server) run(nc net.Conn) {
	c, err := s.handshake(nc)
	s.mu.Lock()
	delete(s.opening, nc)
	stop := s.closing
	if err == nil {
		s.conns[c] = struct{}{}
		s.totals.ConnectionsOpened++
	} else {
		s.totals.LoginsRefused++
	}
	s.mu.Unlock()
	if err != nil {
		s.refused(nc, err)
		return
	}
	if stop {
		c.abort(shutdownError())
	}
	c.log.Info("connection opened")
	s.running.Go(c.writer.writeLoop)
	c.startMonitor()
	defer c.survive()
	c.serve()
}

// refused ends a connection that did not get through its handshake.
func (s *Server) refused(nc net.Conn, err error) {
	defer nc.Close()
	s.mu.Lock()
	closing := s.closing
	s.mu.Unlock()
	if errors.Is(err, errHealthCheck) {
		s.options.Logger.Debug("connection closed before a byte came", "remote", nc.RemoteAddr().String())
		return
	}
	s.options.Logger.Warn("connection refused", "remote", nc.RemoteAddr().String(), "error", err)
	if tcp, ok := nc.(*net.TCPConn); ok && !closing {
		// What the client sent and nobody read must not destroy the last answer.
		_ = tcp.CloseWrite()
		_ = nc.SetReadDeadline(time.Now().Add(s.options.lingerTimeout()))
		buffer := make([]byte, smallInput)
		for range 64 {
			if _, err := nc.Read(buffer); err != nil {
				return
			}
		}
	}
}

// survive keeps a bug that one connection ran into from stopping the broker: that
// connection is closed and gives back what it holds, as far as the bug lets it.
// In strict mode, which tests use, the panic goes on.
func (c *conn) survive() {
	if c.server.options.Strict {
		return
	}
	p := recover()
	if p == nil {
		return
	}
	c.log.Error("connection ended by a bug", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	c.cancel()
	c.stopMonitor()
	_ = c.net.Close() // ends the writer
	c.writer.finish(0, 0)
	c.server.remove(c)
	// The bug may have left a lock held: then this goroutine stays, and with it what
	// the lock guards, but nothing else.
	go func() {
		defer func() {
			if p := recover(); p != nil {
				c.log.Error("connection could not be released after a bug", "panic", fmt.Sprint(p))
			}
		}()
		c.release()
	}()
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[c]; ok {
		delete(s.conns, c)
		s.totals.ConnectionsClosed++
	}
}

func shutdownError() *wire.Error {
	return wire.Errorf(wire.ConnectionForced, "broker forced connection closure with reason 'shutdown'")
}

// StopAccepting closes the listeners; open connections go on.
func (s *Server) StopAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		_ = l.Close() // nothing depends on how
		delete(s.listeners, l)
	}
}

// ErrCutOff says that Shutdown did not wait for clients any longer.
var ErrCutOff = errors.New("amqp: some clients did not close in time and were cut off")

// Shutdown closes every connection with 320 and waits until all have ended. When
// ctx ends first, those that are left are cut off, and ErrCutOff is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.StopAccepting()
	s.mu.Lock()
	s.closing = true
	for nc := range s.opening {
		// Ends the handshake, unless it is just done: then run closes the connection.
		_ = nc.SetDeadline(time.Unix(1, 0))
	}
	for c := range s.conns {
		c.abort(shutdownError())
	}
	s.mu.Unlock()

	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		_ = c.net.Close() // ends reader and writer
	}
	s.mu.Unlock()
	<-done
	return ErrCutOff
}

// Addresses are where the server listens.
func (s *Server) Addresses() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []net.Addr
	for l := range s.listeners {
		list = append(list, l.Addr())
	}
	return list
}
