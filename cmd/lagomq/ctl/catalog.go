// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
)

// The kinds of metadata, which begin their keys; see package vhosts, which writes
// them.
const (
	vhostKind    = 'v'
	exchangeKind = 'x'
	queueKind    = 'q'
	bindingKind  = 'b'

	policyKind         = 'p'
	operatorPolicyKind = 'o'
	windowKind         = 'd'

	metadataVersion = 1
)

// declared is what is declared by one piece of metadata.
type declared struct {
	key     []byte
	kind    byte   // 0 if it declares something else
	vhost   uint64 // id of the virtual host it belongs to, or its own
	name    string // of all but bindings
	id      uint64 // of a queue, or of an exchange that stores messages
	durable bool
	table   wire.Table // a queue's arguments

	source, destination string // of a binding
	toExchange          bool   // the destination, or the owner of a window, is an exchange
}

// catalog is what is declared in a data directory. It is small beside the messages.
type catalog struct {
	vhosts    map[uint64]*declared
	exchanges map[member]*declared
	queues    map[uint64]*declared
	stores    map[uint64]*declared // exchanges that store messages, by the id they do it under
	byName    map[member]*declared // queues
	bindings  []*declared
	policies  []*declared
	windows   []*declared
	malformed []finding
	lastID    uint64 // the greatest id that is mentioned
}

// member names what belongs to a virtual host.
type member struct {
	vhost uint64
	name  string
}

func newCatalog() *catalog {
	return &catalog{
		vhosts: map[uint64]*declared{}, exchanges: map[member]*declared{},
		queues: map[uint64]*declared{}, stores: map[uint64]*declared{}, byName: map[member]*declared{},
	}
}

// add takes a piece of metadata. What declares neither virtual hosts, exchanges,
// queues, bindings, policies nor windows is passed over.
func (c *catalog) add(key, value []byte) {
	d, err := decodeDeclared(bytes.Clone(key), value)
	if err != nil {
		c.malformed = append(c.malformed, finding{Kind: "metadata", Subject: c.describe(d), Reason: err.Error()})
		return
	}
	c.lastID = max(c.lastID, d.vhost, d.id)
	switch d.kind {
	case vhostKind:
		c.vhosts[d.vhost] = d
	case exchangeKind:
		c.exchanges[member{d.vhost, d.name}] = d
		if d.id != 0 {
			c.stores[d.id] = d
		}
	case queueKind:
		c.queues[d.id] = d
		c.byName[member{d.vhost, d.name}] = d
	case bindingKind:
		c.bindings = append(c.bindings, d)
	case policyKind, operatorPolicyKind:
		c.policies = append(c.policies, d)
	case windowKind:
		c.windows = append(c.windows, d)
	}
}

// decodeKey tells what a piece of metadata is from its key, which is all there is of
// it if the rest is damaged.
func decodeKey(key []byte) *declared {
	d := &declared{key: key}
	if len(key) == 0 {
		return d
	}
	switch kind := key[0]; kind {
	case vhostKind:
		d.kind, d.name = kind, string(key[1:])
	case exchangeKind, queueKind, bindingKind, policyKind, operatorPolicyKind, windowKind:
		if len(key) >= 9 {
			d.kind, d.vhost, d.name = kind, binary.BigEndian.Uint64(key[1:]), string(key[9:])
		}
	}
	if d.kind == windowKind {
		r := wire.NewReader([]byte(d.name))
		d.toExchange = r.Octet()&1 != 0
		d.name = string(r.LongString())
	}
	if d.kind == bindingKind {
		r := wire.NewReader([]byte(d.name))
		d.name = ""
		d.source, d.destination = string(r.LongString()), string(r.LongString())
		d.toExchange = r.Octet()&1 != 0
	}
	return d
}

// decodeDeclared reads a piece of metadata. With an error it tells what the key
// does.
func decodeDeclared(key, value []byte) (*declared, error) {
	d := decodeKey(key)
	if d.kind == 0 {
		return d, nil
	}
	if len(value) == 0 || value[0] != metadataVersion {
		return d, fmt.Errorf("its format is not known to this version of lagomq")
	}
	if d.kind == windowKind {
		return d, nil // digests, which mean nothing here
	}
	r := wire.NewReader(value[1:])
	switch d.kind {
	case vhostKind:
		d.vhost = r.LongLong()
	case exchangeKind:
		r.LongString() // name
		r.LongString() // type
		r.Octet()      // flags
		r.Table()
		if r.Remaining() > 0 {
			d.id = r.LongLong()
		}
	case queueKind:
		d.id = r.LongLong()
		r.LongString() // name
		d.durable = r.Octet()&1 != 0
		d.table = r.Table()
	case bindingKind:
		r.LongString() // source
		r.LongString() // destination
		r.Octet()      // flags
		r.LongString() // routing key
		r.Table()
	case policyKind, operatorPolicyKind:
		r.LongString() // name
		r.LongString() // pattern
		r.LongString() // apply-to
		r.LongLong()   // priority
		r.Table()
	}
	if err := r.Complete(); err != nil {
		return d, err
	}
	return d, nil
}

// encodeVHost is the metadata of a virtual host.
func encodeVHost(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{metadataVersion}, id)
}

// vhostName is the name of a virtual host, or its number if the name is not known.
func (c *catalog) vhostName(id uint64) string {
	if v, ok := c.vhosts[id]; ok {
		return v.name
	}
	return fmt.Sprintf("number %d", id)
}

// queueName names a queue, or what else stores messages, by its id: with its virtual host, for messages.
func (c *catalog) queueName(id uint64) string {
	if q, ok := c.queues[id]; ok {
		return fmt.Sprintf("queue %q in virtual host %q", q.name, c.vhostName(q.vhost))
	}
	if x, ok := c.stores[id]; ok {
		return fmt.Sprintf("exchange %q in virtual host %q", x.name, c.vhostName(x.vhost))
	}
	return fmt.Sprintf("deleted queue number %d", id)
}

// describe names a piece of metadata.
func (c *catalog) describe(d *declared) string {
	in := fmt.Sprintf(" in virtual host %q", c.vhostName(d.vhost))
	switch d.kind {
	case vhostKind:
		return fmt.Sprintf("virtual host %q", d.name)
	case exchangeKind:
		return fmt.Sprintf("exchange %q", d.name) + in
	case queueKind:
		return fmt.Sprintf("queue %q", d.name) + in
	case bindingKind:
		return fmt.Sprintf("binding of %q to %q", d.destination, d.source) + in
	case policyKind:
		return fmt.Sprintf("policy %q", d.name) + in
	case operatorPolicyKind:
		return fmt.Sprintf("operator policy %q", d.name) + in
	case windowKind:
		owner := "queue"
		if d.toExchange {
			owner = "exchange"
		}
		return fmt.Sprintf("deduplication window of %s %q", owner, d.name) + in
	}
	return fmt.Sprintf("metadata %q", d.key)
}

// find is the queue of that name.
func (c *catalog) find(vhost, name string) (*declared, error) {
	for id, v := range c.vhosts {
		if v.name != vhost {
			continue
		}
		if q, ok := c.byName[member{id, name}]; ok {
			return q, nil
		}
		return nil, fmt.Errorf("there is no durable queue %q in virtual host %q", name, vhost)
	}
	return nil, fmt.Errorf("there is no virtual host %q", vhost)
}

// dangling are declarations that name what is not declared: a broker would not start
// with them. They are in the order of keys.
func (c *catalog) dangling() (list []*declared) {
	orphan := func(d *declared) bool {
		_, exists := c.vhosts[d.vhost]
		return !exists
	}
	for _, x := range c.exchanges {
		if orphan(x) {
			list = append(list, x)
		}
	}
	for _, q := range c.queues {
		if orphan(q) {
			list = append(list, q)
		}
	}
	for _, d := range slices.Concat(c.policies, c.windows) {
		if orphan(d) {
			list = append(list, d)
		}
	}
	for _, b := range c.bindings {
		end := c.hasQueue(b.vhost, b.destination)
		if b.toExchange {
			end = c.hasExchange(b.vhost, b.destination)
		}
		if orphan(b) || !end || !c.hasExchange(b.vhost, b.source) {
			list = append(list, b)
		}
	}
	slices.SortFunc(list, func(a, b *declared) int { return bytes.Compare(a.key, b.key) })
	return list
}

func (c *catalog) hasQueue(vhost uint64, name string) bool {
	_, ok := c.byName[member{vhost, name}]
	return ok
}

// hasExchange reports whether there is an exchange: those whose names begin with
// "amq." are in every virtual host and are not stored.
func (c *catalog) hasExchange(vhost uint64, name string) bool {
	_, ok := c.exchanges[member{vhost, name}]
	return ok || strings.HasPrefix(name, "amq.")
}

// lostVHosts are the ids of virtual hosts that something belongs to and that are not
// declared.
func (c *catalog) lostVHosts() map[uint64]bool {
	lost := map[uint64]bool{}
	for _, d := range c.dangling() {
		if _, exists := c.vhosts[d.vhost]; !exists {
			lost[d.vhost] = true
		}
	}
	return lost
}
