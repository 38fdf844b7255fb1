// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package management is the broker's HTTP side: health checks, RabbitMQ's
// management API and a page for browsers. It reads snapshots of packages amqp
// and vhosts and holds no state of its own.
package management

import (
	"context"
	"log/slog"
	"net"

	"github.com/lagomq/lagomq/amqp"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts"
)

// Options configure a Server.
type Options struct {
	Hosts         *vhosts.Hosts
	AMQP          *amqp.Server
	Store         *persistence.Store
	AMQPAddr      net.Addr
	Product       string
	Version       string
	ServerVersion string
	ClusterName   string
	Logger        *slog.Logger
}

// Server serves HTTP.
type Server struct{ options Options }

// NewServer makes a server.
func NewServer(o Options) (*Server, error) { return &Server{o}, nil }

// Start listens on addr and serves.
func (s *Server) Start(ctx context.Context, addr string) error { return nil }

// Addr is where it listens.
func (s *Server) Addr() net.Addr { return nil }

// Shutdown stops it.
func (s *Server) Shutdown(ctx context.Context) error { return nil }
