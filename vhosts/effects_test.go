// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/vhosts/queue"
)

// TestReadsFail: reads that fail again and again are logged once per queue and outage.
func TestReadsFail(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	log := newErrorLog()
	b.Hosts.log = slog.New(log)
	fail := func(q *Queue) {
		q.mu.Lock()
		defer q.mu.Unlock()
		var read answers
		for range 3 {
			if read.takeLocked(q, new(queue.Run), errors.New("the disk is gone")) {
				t.Error("what failed is there")
			}
		}
		if len(read.failed) != 3 {
			t.Errorf("%d runs are read again, want 3", len(read.failed))
		}
	}
	want := func(queues ...string) {
		t.Helper()
		lines := log.errors()
		if len(lines) != len(queues) {
			t.Fatalf("%d errors are logged, want %d: %s", len(lines), len(queues), lines)
		}
		for i, name := range queues {
			if !strings.Contains(lines[i], "queue="+name) || !strings.Contains(lines[i], "the disk is gone") {
				t.Errorf("error %d is %s", i, lines[i])
			}
		}
	}
	p, q := b.declare(t, "p", "", 1), b.declare(t, "q", "", 1)
	fail(p)
	fail(p)
	fail(q)
	want("p", "q")
	p.readFailed = p.readFailed.Add(-outageGap) // the next outage
	fail(p)
	fail(q)
	want("p", "q", "p")
}
