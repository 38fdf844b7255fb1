// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// held is a waiter that keeps the store from reporting anything until it is
// opened.
type held struct{ reached, open chan struct{} }

func (h held) Durable(error) { close(h.reached); <-h.open }
func (h held) Flush()        {}

// Messages that come one by one while the disk is busy must make one run, be
// confirmed each, and be there after a restart in their order; what goes to
// several queues, is transient or has been handed out stays as it is.
func TestSmallPublicationsShareARun(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	b := openBroker(t, fs)
	q := b.declare(t, "q", "durable", 1)
	h := held{make(chan struct{}), make(chan struct{})}
	b.store.Sync(h)
	<-h.reached
	var confirms []result
	var want []string
	for i := range 20 {
		r := newResult()
		confirms, want = append(confirms, r), append(want, fmt.Sprint("message ", i))
		b.publish(t, "", "q", true, r, want[i])
	}
	// The committer takes what there is at some point, once.
	if runs := q.engine.RunCount(); runs > 2 {
		t.Errorf("%d runs", runs)
	}
	b.publish(t, "", "q", false, nil, "transient")
	get := newInbox("get", false, 0)
	wantError(t, q.Get(get.Consumer), 0, "")
	first := get.take(1)[0]
	if first.body != want[0] {
		t.Errorf("got %q", first.body)
	}
	close(h.open)
	for _, r := range confirms {
		r.want(t)
	}
	b.publish(t, "", "q", true, nil, "last")
	q.Return(get.Consumer, []uint64{first.number}, false)
	b = b.restart(t, fs)
	mail := collect(t, b.queue(t, "q"), 21)
	for i, m := range mail {
		if expected := append(want, "last")[i]; m.got.body != expected || m.redelivered != (i == 0) {
			t.Errorf("message %d is %q, redelivered %t", i, m.got.body, m.redelivered)
		}
	}
}
