// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package lagomq is a message broker that RabbitMQ client libraries use
// unchanged, as a library: it runs a whole broker inside a Go program or test.
//
//	broker, err := lagomq.New(lagomq.Options{InMemory: true, AMQPAddr: "127.0.0.1:0"})
//	...
//	err = broker.Start(ctx)
//	...
//	connection, err := amqp091.Dial(broker.URL())
//	...
//	err = broker.Shutdown(ctx)
//
// The server command of cmd/lagomq is the same with a configuration file.
package lagomq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp"
	"github.com/lagomq/lagomq/management"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts"
)

// Version is the version of LagoMQ itself; clients are told AMQP.Version, which
// some of them take for RabbitMQ's.
const Version = "0.1.0"

// Options configure a Broker. The zero value, with DataDir or InMemory set, is a
// broker with RabbitMQ's defaults that listens on no fixed port.
type Options struct {
	// DataDir is where durable queues and messages live. Required unless InMemory.
	DataDir string
	// InMemory keeps everything in memory: nothing survives Shutdown.
	InMemory bool

	// AMQPAddr is the address clients connect to. Default "127.0.0.1:0", a free
	// port, see Broker.AMQPAddr.
	AMQPAddr string
	// ManagementAddr is the address of the management HTTP API. Default: none.
	ManagementAddr string

	// Users may log in. Default: guest with password guest, an administrator, from
	// this machine only.
	Users []vhosts.User
	// VHosts are made at the start. Default: "/".
	VHosts []string

	// AMQP, Hosts and Store carry the settings of the parts. What the broker itself
	// provides in them (Hosts, Store, Users, VHosts, Dir) is filled in by it.
	AMQP  amqp.Options
	Hosts vhosts.Options
	Store persistence.Options

	// Strict makes bugs panic instead of being logged and contained; for tests.
	Strict bool
	// Logger gets the broker's logs. Default slog.Default().
	Logger *slog.Logger
}

// EnsureDefaults fills unset fields.
func (o *Options) EnsureDefaults() {
	if o.AMQPAddr == "" {
		o.AMQPAddr = "127.0.0.1:0"
	}
	if len(o.Users) == 0 {
		o.Users = []vhosts.User{{Name: "guest", Password: "guest", Tags: []string{"administrator"}, LoopbackOnly: true}}
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.InMemory && o.Store.FS == nil {
		o.Store.FS = vfs.NewMem()
	}
	if o.InMemory && o.DataDir == "" {
		o.DataDir = "memory"
	}
	o.Store.Dir, o.Store.Logger = o.DataDir, o.Logger
	o.Hosts.Alarms = new(vhosts.Alarms)
	o.Store.Events = watched(o.Store.Events, o.Hosts.Alarms)
	o.Hosts.VHosts, o.Hosts.Logger, o.Hosts.Strict = o.VHosts, o.Logger, o.Strict
	o.AMQP.Logger, o.AMQP.Strict = o.Logger, o.Strict
}

// watched adds to the callbacks of the store what the broker does about its
// events: publishers are held back while nothing can be stored, and memory goes
// back to the system when traffic is over.
func watched(e persistence.Events, alarms *vhosts.Alarms) persistence.Events {
	failed, recovered, low, idle := e.Failed, e.Recovered, e.LowOnSpace, e.Idle
	e.Failed = func(err error) {
		alarms.Raise(vhosts.AlarmStore)
		if failed != nil {
			failed(err)
		}
	}
	e.Recovered = func() {
		alarms.Clear(vhosts.AlarmStore)
		if recovered != nil {
			recovered()
		}
	}
	e.LowOnSpace = func(is bool) {
		if is {
			alarms.Raise(vhosts.AlarmDisk)
		} else {
			alarms.Clear(vhosts.AlarmDisk)
		}
		if low != nil {
			low(is)
		}
	}
	e.Idle = func() {
		// The first collection only moves what pools hold to where the second finds it.
		debug.FreeOSMemory()
		debug.FreeOSMemory()
		if idle != nil {
			idle()
		}
	}
	return e
}

// Validate lists every problem of the options.
func (o *Options) Validate() error {
	var problems []error
	if o.DataDir == "" {
		problems = append(problems, errors.New("lagomq: set Options.DataDir, or Options.InMemory for a broker that keeps nothing"))
	}
	for _, u := range o.Users {
		if u.Name == "" {
			problems = append(problems, errors.New("lagomq: a user has no name"))
		}
	}
	return errors.Join(problems...)
}

// Broker is a running, or not yet running, broker. Its methods may be called
// from any goroutine; Start and Shutdown once each.
type Broker struct {
	options Options

	mu         sync.Mutex
	store      *persistence.Store
	hosts      *vhosts.Hosts
	server     *amqp.Server
	management *management.Server
	amqpAddr   net.Addr
}

// New checks the options. Nothing is opened before Start.
func New(o Options) (*Broker, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Broker{options: o}, nil
}

// Start opens the store, recovers what is durable, and listens. When it returns
// without an error clients can connect; with an error everything is closed
// again. ctx bounds the start only.
func (b *Broker) Start(ctx context.Context) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.store != nil {
		return errors.New("lagomq: the broker was started before")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop(ctx))
		}
	}()
	o := &b.options
	if b.store, err = persistence.Open(o.Store); err != nil {
		return err
	}
	o.Hosts.Store, o.Hosts.Users = b.store, vhosts.NewUsers(o.Users...)
	if b.hosts, err = vhosts.Open(o.Hosts); err != nil {
		return err
	}
	o.AMQP.Hosts = b.hosts
	if b.server, err = amqp.NewServer(o.AMQP); err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", o.AMQPAddr)
	if err != nil {
		return fmt.Errorf("listen for AMQP clients: %w", err)
	}
	b.amqpAddr = listener.Addr()
	if o.ManagementAddr != "" {
		if err := b.startManagement(ctx); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	return b.server.Serve(listener)
}

func (b *Broker) startManagement(ctx context.Context) (err error) {
	b.management, err = management.NewServer(management.Options{
		Hosts: b.hosts, AMQP: b.server, AMQPAddr: b.amqpAddr, Store: b.store,
		Version: Version, ServerVersion: b.options.AMQP.Version, Product: b.options.AMQP.Product,
		ClusterName: b.options.AMQP.ClusterName, Logger: b.options.Logger,
	})
	if err != nil {
		return err
	}
	return b.management.Start(ctx, b.options.ManagementAddr)
}

// AMQPAddr is where the broker listens for clients; nil before Start.
func (b *Broker) AMQPAddr() net.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.amqpAddr
}

// ManagementAddr is where the management API listens; nil if it does not.
func (b *Broker) ManagementAddr() net.Addr {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.management == nil {
		return nil
	}
	return b.management.Addr()
}

// URL is what the first of the users connects with, on the default virtual host.
func (b *Broker) URL() string {
	user := b.options.Users[0]
	u := url.URL{Scheme: "amqp", User: url.UserPassword(user.Name, user.Password), Host: b.AMQPAddr().String(), Path: "/"}
	return u.String()
}

// Shutdown closes every connection with 320 CONNECTION_FORCED, commits what is
// under way, marks the stop as orderly and closes the store. Clients that do not
// answer within half of the time that ctx leaves are cut off; the store is given
// storeGrace in any case, as a stop without it is not an orderly one.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stop(ctx)
}

// storeGrace is how long the store may take to close although ctx has ended.
const storeGrace = 5 * time.Second

// halfOf is a context that ends after half of the time that ctx leaves, or with
// ctx if it sets no limit.
func halfOf(ctx context.Context) (context.Context, context.CancelFunc) {
	if end, limited := ctx.Deadline(); limited {
		return context.WithTimeout(ctx, time.Until(end)/2)
	}
	return context.WithCancel(ctx)
}

// stop closes what Start opened, in reverse order.
func (b *Broker) stop(ctx context.Context) error {
	var problems []error
	if b.server != nil {
		clients, cancel := halfOf(ctx)
		switch err := b.server.Shutdown(clients); {
		case errors.Is(err, amqp.ErrCutOff):
			b.options.Logger.Warn("some clients did not answer and were cut off")
		default:
			problems = append(problems, err)
		}
		cancel()
	}
	if b.management != nil {
		problems = append(problems, b.management.Shutdown(ctx))
	}
	if b.hosts != nil {
		b.hosts.Close()
	}
	if b.store != nil {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeGrace)
		problems = append(problems, b.store.Close(grace))
		cancel()
	}
	b.server, b.management, b.hosts = nil, nil, nil
	return errors.Join(problems...)
}
