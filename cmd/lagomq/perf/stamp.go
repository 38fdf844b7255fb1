// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"encoding/binary"
	"time"
)

// A body starts with a stamp, as far as it has room for one:
//
//	bytes 0-7   send time, nanoseconds since the Unix epoch
//	bytes 8-15  identity: run (16 bits), producer (14 bits), sequence (34 bits)
//
// Both are big endian. Sequences count from 1 on each producer, so a sequence
// is also the delivery tag that the broker confirms.
const (
	timeSize  = 8
	stampSize = 16

	producerBits = 14
	sequenceBits = 34

	maxProducers = 1 << producerBits
	maxSequence  = 1<<sequenceBits - 1
)

// identity names one message of one run.
type identity uint64

func newIdentity(run uint16, producer int, sequence uint64) identity {
	return identity(run)<<(producerBits+sequenceBits) | identity(producer)<<sequenceBits | identity(sequence)
}

func (i identity) run() uint16      { return uint16(i >> (producerBits + sequenceBits)) }
func (i identity) producer() int    { return int(i >> sequenceBits & (maxProducers - 1)) }
func (i identity) sequence() uint64 { return uint64(i) & maxSequence }

// clock tells wall-clock nanoseconds that never go backwards during a run.
type clock struct {
	start time.Time
	epoch int64 // start in nanoseconds since the Unix epoch
}

func newClock() clock {
	now := time.Now()
	return clock{start: now, epoch: now.UnixNano()}
}

func (c clock) now() int64 { return c.at(time.Now()) }

// at converts a time that was read from [time.Now] during the run.
func (c clock) at(t time.Time) int64 { return c.epoch + int64(t.Sub(c.start)) }

// readStamp returns the send time and the identity at the start of a body or of
// its first frame; zero for what the body is too short to hold.
func readStamp(body []byte) (sent int64, id identity) {
	if len(body) >= timeSize {
		sent = int64(binary.BigEndian.Uint64(body))
	}
	if len(body) >= stampSize {
		id = identity(binary.BigEndian.Uint64(body[timeSize:]))
	}
	return sent, id
}
