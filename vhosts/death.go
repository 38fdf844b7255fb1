// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
)

// The reasons for which a message is dead-lettered (RabbitMQ 4.3, dead
// lettering), as they stand in headers.
const reasonRejected = "rejected"

// death is one dead-lettering of one message.
type death struct {
	queue, reason string
	exchange, key string   // with which the message came to the queue
	cc            []string // further keys, from its header CC
	at            time.Time
}

// keys are the routing keys with which the message came.
func (d *death) keys() []string { return append([]string{d.key}, d.cc...) }

// record writes the death into a message's content header: the x-death list with
// its most recent entry first, the names of the first and the last death, and no
// expiration. tracked says that the headers are already the broker's from an
// earlier death; otherwise the client wrote what is there, and it counts for
// nothing.
func (d *death) record(header []byte, tracked bool) ([]byte, *wire.Error) {
	h, err := wire.ParseHeader(header)
	if err != nil {
		return nil, err
	}
	p, err := wire.ParseProperties(h.Properties)
	if err != nil {
		return nil, err
	}
	var deaths wire.Array
	if tracked {
		list, _ := p.Headers.Get("x-death")
		deaths, _ = list.(wire.Array)
	}
	set := wire.Table{
		{Name: "x-death", Value: d.prepend(deaths, &p)},
		{Name: "x-last-death-exchange", Value: d.exchange},
		{Name: "x-last-death-queue", Value: d.queue},
		{Name: "x-last-death-reason", Value: d.reason},
	}
	if len(deaths) == 0 {
		set = append(set,
			wire.Field{Name: "x-first-death-exchange", Value: d.exchange},
			wire.Field{Name: "x-first-death-queue", Value: d.queue},
			wire.Field{Name: "x-first-death-reason", Value: d.reason})
	}
	// The first of equal names wins when a table is sorted.
	p.Headers = append(set, p.Headers...).Sorted()
	p.Flags = p.Flags&^wire.FlagExpiration | wire.FlagHeaders
	p.Expiration = ""
	return wire.AppendHeader(nil, h.BodySize, wire.AppendProperties(nil, &p)), nil
}

// prepend adds the death to the list: an entry for the same queue and reason is
// counted up and moved to the front, or a new one is put there.
func (d *death) prepend(deaths wire.Array, p *wire.Properties) wire.Array {
	for i, entry := range deaths {
		table, _ := entry.(wire.Table)
		queue, _ := table.Get("queue")
		reason, _ := table.Get("reason")
		if queue != d.queue || reason != d.reason {
			continue
		}
		rest := slices.Delete(slices.Clone(deaths), i, i+1)
		return append(wire.Array{countUp(table)}, rest...)
	}
	var entry wire.Table
	if p.Has(wire.FlagExpiration) {
		entry = append(entry, wire.Field{Name: "original-expiration", Value: p.Expiration})
	}
	var keys wire.Array
	for _, key := range d.keys() {
		keys = append(keys, key)
	}
	entry = append(entry,
		wire.Field{Name: "count", Value: int64(1)},
		wire.Field{Name: "reason", Value: d.reason},
		wire.Field{Name: "queue", Value: d.queue},
		wire.Field{Name: "time", Value: wire.Timestamp(d.at.Unix())},
		wire.Field{Name: "exchange", Value: d.exchange},
		wire.Field{Name: "routing-keys", Value: keys})
	return append(wire.Array{entry}, deaths...)
}

// countUp returns an entry of x-death with its count raised.
func countUp(entry wire.Table) wire.Table {
	entry = slices.Clone(entry)
	for i := range entry {
		if count, ok := wire.Integer(entry[i].Value); ok && entry[i].Name == "count" {
			entry[i].Value = count + 1
		}
	}
	return entry
}
