// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestOldestMessage checks the age of the oldest message that has not left, also
// after a restart.
func TestOldestMessage(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	now := time.UnixMilli(1_000_000)
	options := Options{Clock: func() time.Time { return now }}
	b := openWith(t, fs, options)
	q := b.declare(t, "q", "durable", 1)
	want := func(what string, age time.Duration) {
		t.Helper()
		if got := b.queue(t, "q").Stats().Oldest; got != age {
			t.Errorf("%s: the oldest message is %s old, want %s", what, got, age)
		}
	}
	want("empty", 0)
	b.publish(t, "", "q", true, nil, "one")
	b.sync(t)
	now = now.Add(time.Second)
	b.publish(t, "", "q", true, nil, "two")
	want("two messages", time.Second)
	in := newInbox("c", false, 1)
	consume(t, q, in)
	first := in.take(1)
	now = now.Add(time.Second)
	want("the oldest is unacknowledged", 2*time.Second)
	q.Settle(in.Consumer, numbersOf(first), false)
	want("the oldest has gone", time.Second)
	b.stop(t)
	now = now.Add(time.Minute)
	b = openWith(t, fs, options)
	want("after a restart", time.Minute+time.Second)
	b.queue(t, "q").purge()
	want("purged", 0)
}
