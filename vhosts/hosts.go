// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package vhosts is the broker behind the protocol: virtual hosts with their
// exchanges, queues and bindings, the shell around each queue's engine, users,
// and what of all this is kept in the store.
//
// Package amqp calls it for every method of a channel; package management reads
// its snapshots. Lock order: Hosts.mu -> VHost.mu -> VHost.routes, and
// (Queue.forwarding -> Hosts.tx) or VHost.mu -> Queue.mu -> (the channel's and writer's locks behind
// queue.Sink) | (the store's committer). Under any of them only memory is touched.
package vhosts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lagomq/lagomq/persistence"
)

// Options configure Open.
type Options struct {
	// Store keeps what is durable. Required.
	Store *persistence.Store
	// Users may log in. Required.
	Users *Users
	// VHosts are made if they do not exist yet. Default: "/".
	VHosts []string
	// DefaultQueueType is the type of queues whose declaration names none, if it suits
	// their flags. Default: TypeClassic.
	DefaultQueueType string
	// ResidentBytes is how many bytes of messages a queue keeps in memory when they
	// can be read back from the store. Default: 16 MiB.
	ResidentBytes uint64
	// ResidentBudget is how many bytes of messages all queues together keep in
	// memory before each keeps only the least it needs, and what is not stored yet is
	// for that. Default: 256 MiB.
	ResidentBudget uint64
	// PageReaders is how many goroutines read messages back. Default: 2.
	PageReaders int
	// Alarms hold publishers back while they are raised. Default: alarms of its own,
	// which nobody raises.
	Alarms *Alarms
	// Logger gets what operators should know. Default: slog.Default().
	Logger *slog.Logger
	// Clock tells the time by which messages expire and queues are unused. Default:
	// time.Now.
	Clock func() time.Time
	// Strict makes a broken invariant panic, as tests want it, instead of being
	// logged.
	Strict bool
}

// EnsureDefaults fills unset fields.
func (o *Options) EnsureDefaults() {
	if len(o.VHosts) == 0 {
		o.VHosts = []string{"/"}
	}
	if o.DefaultQueueType == "" {
		o.DefaultQueueType = TypeClassic
	}
	if o.ResidentBytes == 0 {
		o.ResidentBytes = 16 << 20
	}
	if o.ResidentBudget == 0 {
		o.ResidentBudget = 256 << 20
	}
	if o.PageReaders == 0 {
		o.PageReaders = 2
	}
	if o.Alarms == nil {
		o.Alarms = new(Alarms)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
}

// Validate lists every problem of the options.
func (o *Options) Validate() error {
	var problems []error
	if o.Store == nil {
		problems = append(problems, errors.New("vhosts: Options.Store is missing"))
	}
	if o.Users == nil {
		problems = append(problems, errors.New("vhosts: Options.Users is missing"))
	}
	if o.PageReaders < 0 {
		problems = append(problems, fmt.Errorf("vhosts: Options.PageReaders is %d but must be positive", o.PageReaders))
	}
	if checkQueueType(o.DefaultQueueType) != "" {
		problems = append(problems, fmt.Errorf("vhosts: Options.DefaultQueueType %q is not known", o.DefaultQueueType))
	}
	for _, name := range o.VHosts {
		if name == "" || len(name) > 255 {
			problems = append(problems, fmt.Errorf("vhosts: virtual host name %q must have 1 to 255 bytes", name))
		}
	}
	return errors.Join(problems...)
}

// Hosts are the virtual hosts of one broker. Its methods may be called by
// anybody.
type Hosts struct {
	options Options
	log     *slog.Logger
	store   *persistence.Store
	users   *Users
	pages   *pageReaders
	janitor *janitor
	timers  *timers

	forwarder *forwarder

	resident atomic.Int64 // bytes of messages in memory
	crowded  atomic.Bool  // they are more than the budget, or were just now
	damaged  atomic.Int64 // queues out of service

	tx sync.Mutex // one transaction at a time settles and proposes, see CommitTx

	mu     sync.RWMutex
	byName map[string]*VHost
}

// DefaultQueueType is the type of queues whose declaration names none, if it suits
// their flags.
func (h *Hosts) DefaultQueueType() string { return h.options.DefaultQueueType }

// Open recovers the virtual hosts from the store and makes those that are
// configured but missing.
func Open(o Options) (*Hosts, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	h := &Hosts{options: o, log: o.Logger, store: o.Store, users: o.Users, byName: map[string]*VHost{}}
	h.pages, h.janitor, h.timers = newPageReaders(o.Store), newJanitor(h), newTimers(o.Clock)
	h.forwarder = newForwarder()
	if err := h.recover(); err != nil {
		return nil, fmt.Errorf("recover the virtual hosts: %w", err)
	}
	for _, name := range o.VHosts {
		if err := h.create(name); err != nil {
			return nil, err
		}
	}
	h.pages.start(o.PageReaders)
	h.janitor.start()
	h.timers.start()
	h.forwarder.start()
	return h, nil
}

// VHost finds a virtual host by name.
func (h *Hosts) VHost(name string) (*VHost, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	v, ok := h.byName[name]
	return v, ok
}

// VHosts lists the virtual hosts by name.
func (h *Hosts) VHosts() []*VHost {
	h.mu.RLock()
	defer h.mu.RUnlock()
	list := make([]*VHost, 0, len(h.byName))
	for _, v := range h.byName {
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b *VHost) int { return strings.Compare(a.name, b.name) })
	return list
}

// Users are the broker's users.
func (h *Hosts) Users() *Users { return h.users }

// Healthy is nil while the broker can keep what it is given.
func (h *Hosts) Healthy() error { return h.store.Err() }

// Alarms are what keeps the broker from taking messages.
func (h *Hosts) Alarms() *Alarms { return h.options.Alarms }

// Throttle holds a publisher back while too much is on its way to the disk. It is
// called without locks, and returns an error when ctx ends.
func (h *Hosts) Throttle(ctx context.Context) error { return h.store.Throttle(ctx) }

// Close records how far each durable queue had been delivered, so that the next
// start knows which messages are redeliveries, and what was leaving, and stops the timer, the janitor
// and the page readers. The connections must be closed by then; the store is the
// caller's to close.
func (h *Hosts) Close() {
	h.stopWorkers()
	for _, v := range h.VHosts() {
		v.recordStop()
	}
}

func (h *Hosts) stopWorkers() {
	h.timers.stop()
	h.janitor.stop()
	h.forwarder.stop()
	h.pages.stop()
}

// broken deals with a broken invariant of one queue: a bug that tests must see,
// while in production the broker and other queues go on.
func (h *Hosts) broken(q *Queue, err error) {
	if h.options.Strict {
		panic(fmt.Sprintf("queue %s in vhost %s: %v", q.name, q.vhost.name, err))
	}
	h.log.Error("broken invariant", "vhost", q.vhost.name, "queue", q.name, "error", err)
}
