// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"fmt"
	"sync/atomic"
)

// confirms tracks the publisher confirms of one channel.
//
// The window is counted from the oldest message without an answer, so that the
// send times of all open messages fit a ring.
type confirms struct {
	// sentAt is the send time of open messages, by sequence modulo its length,
	// which is the window. The writer sets an entry before it raises published;
	// the reader looks at an entry only after it has seen that.
	sentAt    []int64
	published atomic.Uint64 // highest sequence handed to the connection
	oldest    atomic.Uint64 // lowest sequence without an answer

	// Owned by the reader until the connection is done.
	answered seqSet
	refused  seqSet // nacked, or returned as unroutable: need not be delivered
	latency  sends
}

func newConfirms(window int, latency *recorder) *confirms {
	c := &confirms{sentAt: make([]int64, window), latency: sends{into: latency}}
	c.oldest.Store(1)
	return c
}

// room returns how many messages may follow the given sequence. Writer only.
func (c *confirms) room(last uint64) int {
	return int(c.oldest.Load() + uint64(len(c.sentAt)) - 1 - last)
}

// sending notes that the sequences first to last are about to be sent. Writer
// only.
func (c *confirms) sending(first, last uint64, now int64) {
	for seq := first; seq <= last; seq++ {
		c.sentAt[seq%uint64(len(c.sentAt))] = now
	}
	c.published.Store(last)
}

// open returns how many messages wait for an answer, counted from the oldest.
func (c *confirms) open() uint64 { return c.published.Load() + 1 - c.oldest.Load() }

// settle notes basic.ack, or basic.nack if refused, and returns how many
// messages it answers. Reader only.
func (c *confirms) settle(tag uint64, multiple, refused bool, now int64) (n uint64, err error) {
	if last := c.published.Load(); tag == 0 || tag > last {
		return 0, fmt.Errorf("the server confirmed delivery tag %d when %d messages had been published", tag, last)
	}
	first, oldest := tag, c.oldest.Load()
	if multiple {
		first = oldest
	}
	for seq := first; seq <= tag; seq++ {
		if !c.answered.add(seq) {
			continue // a single confirm came first
		}
		n++
		if refused {
			c.refused.add(seq)
		} else {
			c.latency.add(c.sentAt[seq%uint64(len(c.sentAt))], now)
		}
	}
	if multiple {
		oldest = max(oldest, tag+1)
	}
	for last := c.published.Load(); oldest <= last && c.answered.has(oldest); {
		oldest++
	}
	c.latency.flush(now)
	c.oldest.Store(oldest)
	return n, nil
}
