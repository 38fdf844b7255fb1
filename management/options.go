// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/lagomq/lagomq/amqp"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts"
)

// Options configure a Server.
type Options struct {
	// Hosts, AMQP and Store are the broker that is shown. Required; the Server
	// closes none of them, and has to be shut down before Hosts and Store are.
	Hosts *vhosts.Hosts
	AMQP  *amqp.Server
	Store *persistence.Store

	// AMQPAddr is where clients connect, shown among the listeners. Optional.
	AMQPAddr net.Addr

	// Version is LagoMQ's own. ServerVersion, Product and ClusterName are what
	// clients see in connection.start; their defaults are those of amqp.Options.
	Version       string
	ServerVersion string
	Product       string
	ClusterName   string
	// Node names this broker as RabbitMQ names nodes. Default: lagomq@ and the
	// machine's name.
	Node string

	// Ticks says when to take the samples that rates are computed from; the values
	// are the times of the samples. Default: every five seconds.
	Ticks <-chan time.Time

	// Logger gets what goes wrong while serving, and who closes connections.
	// Default: slog.Default().
	Logger *slog.Logger
}

// EnsureDefaults fills unset fields.
func (o *Options) EnsureDefaults() {
	var shown amqp.Options
	shown.EnsureDefaults()
	if o.ServerVersion == "" {
		o.ServerVersion = shown.Version
	}
	if o.Product == "" {
		o.Product = shown.Product
	}
	if o.ClusterName == "" {
		o.ClusterName = shown.ClusterName
	}
	if o.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "localhost"
		}
		o.Node = "lagomq@" + host
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// Validate lists every problem of the options.
func (o *Options) Validate() error {
	var problems []error
	if o.Hosts == nil {
		problems = append(problems, errors.New("management: Options.Hosts is missing"))
	}
	if o.AMQP == nil {
		problems = append(problems, errors.New("management: Options.AMQP is missing"))
	}
	if o.Store == nil {
		problems = append(problems, errors.New("management: Options.Store is missing"))
	}
	return errors.Join(problems...)
}
