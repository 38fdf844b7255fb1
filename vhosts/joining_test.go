// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// On a disk that is nearly full runs are not joined: that would take up the rest.
func TestJoiningWaitsForTheAlarm(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.janitor.stop()
	janitor := newJanitor(b.Hosts)
	b.Alarms().Raise(AlarmDisk)
	q := b.declare(t, "q", "durable", 1)
	const messages = 64
	for range messages {
		b.publish(t, "", "q", true, nil, "one")
		b.sync(t) // or it would be added to the run before
	}
	janitor.look()
	b.sync(t)
	if runs := q.Stats().Runs; runs != messages {
		t.Errorf("%d runs are left of %d during an alarm", runs, messages)
	}
	b.Alarms().Clear(AlarmDisk)
	b.until(t, "joining", func() bool {
		janitor.look()
		return q.Stats().Runs < messages
	})
}
