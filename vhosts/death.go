// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"slices"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// death is one dead-lettering of one message.
type death struct {
	queue         string
	reason        queue.Reason
	exchange, key string   // with which the message came to the queue
	cc            []string // further keys, from its header CC
	at            time.Time
	expires       bool // it had an expiration
	expiration    string
}

// keys are the routing keys with which the message came.
func (d *death) keys() []string { return append([]string{d.key}, d.cc...) }

// record writes the death into a message's headers: the x-death list with its most
// recent entry first, and the names of the first and the last death. tracked says that
// the headers are already the broker's from an earlier death; otherwise the client
// wrote what is there, and it counts for nothing. It returns the list besides. The
// message must lose its expiration.
func (d *death) record(headers wire.Table, tracked bool) (_ wire.Table, deaths wire.Array) {
	if tracked {
		list, _ := headers.Get("x-death")
		deaths, _ = list.(wire.Array)
	}
	first := len(deaths) == 0
	deaths = d.prepend(deaths)
	set := wire.Table{
		{Name: "x-death", Value: deaths},
		{Name: "x-last-death-exchange", Value: d.exchange},
		{Name: "x-last-death-queue", Value: d.queue},
		{Name: "x-last-death-reason", Value: d.reason.String()},
	}
	if first {
		set = append(set,
			wire.Field{Name: "x-first-death-exchange", Value: d.exchange},
			wire.Field{Name: "x-first-death-queue", Value: d.queue},
			wire.Field{Name: "x-first-death-reason", Value: d.reason.String()})
	}
	// The first of equal names wins when a table is sorted.
	return append(set, headers...).Sorted(), deaths
}

// prepend adds the death to the list: an entry for the same queue and reason is
// counted up and moved to the front, or a new one is put there.
func (d *death) prepend(deaths wire.Array) wire.Array {
	for i, entry := range deaths {
		table, _ := entry.(wire.Table)
		queue, _ := table.Get("queue")
		reason, _ := table.Get("reason")
		if queue != d.queue || reason != d.reason.String() {
			continue
		}
		rest := slices.Delete(slices.Clone(deaths), i, i+1)
		return append(wire.Array{countUp(table)}, rest...)
	}
	var entry wire.Table
	if d.expires {
		entry = append(entry, wire.Field{Name: "original-expiration", Value: d.expiration})
	}
	var keys wire.Array
	for _, key := range d.keys() {
		keys = append(keys, key)
	}
	entry = append(entry,
		wire.Field{Name: "count", Value: int64(1)},
		wire.Field{Name: "reason", Value: d.reason.String()},
		wire.Field{Name: "queue", Value: d.queue},
		wire.Field{Name: "time", Value: wire.Timestamp(d.at.Unix())},
		wire.Field{Name: "exchange", Value: d.exchange},
		wire.Field{Name: "routing-keys", Value: keys})
	return append(wire.Array{entry}, deaths...)
}

// cycle reports whether a message with those deaths, the newest first, would go
// round without anybody having touched it: it died in that queue before, and was not
// rejected since.
func cycle(deaths wire.Array, name string) bool {
	for _, entry := range deaths {
		table, _ := entry.(wire.Table)
		if reason, _ := table.Get("reason"); reason == queue.Rejected.String() {
			return false
		}
		if source, _ := table.Get("queue"); source == name {
			return true
		}
	}
	return false
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
