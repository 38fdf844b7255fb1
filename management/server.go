// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package management is the broker's HTTP side: health checks, the reading part
// of RabbitMQ's management API under the same paths and field names, and a page
// for browsers.
//
// An endpoint is a function from a request to a value or an error; serve turns
// either into JSON. What endpoints show comes from snapshots of packages amqp and
// vhosts, taken while the request is answered. The only state kept here are the
// samples that rates are computed from.
package management

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server serves HTTP. Its methods may be called by any goroutine.
type Server struct {
	options Options
	started time.Time
	rates   rates
	http    http.Server
	running sync.WaitGroup // serving and sampling
	stop    context.CancelFunc

	mu   sync.Mutex
	addr net.Addr // nil while it does not listen
}

// NewServer makes a server that does not listen yet. The error lists every
// problem of the options.
func NewServer(o Options) (*Server, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &Server{options: o, started: time.Now(), stop: func() {}}
	s.http = http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	return s, nil
}

// Start listens on addr and begins to serve; ctx bounds the start only. It is
// called once.
func (s *Server) Start(ctx context.Context, addr string) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for management: %w", err)
	}
	sampling, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.mu.Lock()
	s.addr, s.stop = listener.Addr(), stop
	s.mu.Unlock()
	s.rates.record(time.Now(), s.measure)
	s.running.Go(func() { s.sampleLoop(sampling) })
	s.running.Go(func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.options.Logger.Error("management ended", "error", err)
		}
	})
	return nil
}

// Addr is where the server listens; nil before Start and after Shutdown.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Shutdown stops listening and waits for the requests under way. When ctx ends
// first they are cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.addr = nil
	s.stop()
	s.mu.Unlock()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("management requests did not end in time: %w", err), s.http.Close())
	}
	s.running.Wait()
	return err
}
