// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package queue

// Sink is where a consumer's messages go: the consumer's channel. The engine
// holds it as a value and calls Reserve, Release and Waits only; Deliver is called by
// the shell for each Delivery of an Effects. All run under the queue's lock and
// may take the channel's and the writer's.
type Sink interface {
	// Reserve asks to hand out up to n messages and returns how many are granted:
	// fewer when a channel-wide prefetch is nearly used up, none when the
	// connection's outbound buffer is full or the channel is closed. A sink that
	// grants less than n sees to it that the queue is dispatched again once more
	// would be granted.
	Reserve(n uint32) uint32

	// Release gives back n granted messages that were not handed out.
	Release(n uint32)

	// Waits says what keeps Reserve from granting anything now, WaitNot if nothing does.
	Waits() Wait

	// Cancelled tells that the queue is gone, or cannot be read any more, and the
	// consumer with it. The shell calls it once, without any lock, after the last
	// Deliver; for a Get in place of Deliver.
	Cancelled()

	// Oldest returns the Delivery.At of the message that the consumer has held for
	// longest; held is false if it holds none.
	Oldest() (at uint64, held bool)

	// TimeOut cancels the consumer, which holds a message for too long, and takes back
	// all it holds: it returns their numbers, and answers of the client that are still
	// to come are no longer about them. The client is told.
	TimeOut() (numbers []uint64)

	// Deliver numbers, remembers and sends the messages of d. It returns false when
	// the channel is closed: then none was sent and all must be returned.
	Deliver(d *Delivery) bool
}

// Consumer is one subscription to a queue, or one basic.get that waits for its
// message. The exported fields are set before it is added and then constant.
type Consumer struct {
	Tag      string
	NoAck    bool   // messages are settled when handed out
	Prefetch uint32 // most unacked messages at a time, 0 for no limit
	Priority int64  // higher ones get messages first, while they have credit
	Timeout  uint64 // milliseconds that it may hold a message, 0 for what its queue says; the shell sees to it
	Sink     Sink

	unacked uint32 // handed out and neither settled nor returned; 0 for NoAck
	turn    uint32 // messages it may still take in the running step
	granted uint32 // what Sink.Reserve granted in the running step
}

// Unacked is the number of messages the consumer holds. Read it under the
// queue's lock.
func (c *Consumer) Unacked() uint32 { return c.unacked }

// credit is how many more messages the consumer's own prefetch lets it have, at
// most n.
func (c *Consumer) credit(n uint32) uint32 {
	if c.NoAck || c.Prefetch == 0 {
		return n
	}
	if c.unacked >= c.Prefetch {
		return 0
	}
	return min(n, c.Prefetch-c.unacked)
}

// Delivery is messages of one run for one consumer: the message at offset From
// of the run and every Stride-th after it, Count in all. Page is the run's page.
type Delivery struct {
	Consumer    *Consumer
	Run         *Run
	Page        *Page
	From        uint32
	Stride      uint32
	Count       uint32
	Redelivered bool // of all: they were handed out before

	// At is when the messages are handed out, in milliseconds since 1970. The shell
	// sets it if a consumer of the queue may hold messages for a limited time only.
	At uint64

	// Get marks the answer to a basic.get; Remaining is then the number of ready
	// messages left.
	Get       bool
	Remaining uint64
}

// Number is the message number of the i-th message of the delivery.
func (d *Delivery) Number(i uint32) uint64 { return d.Run.First + uint64(d.Offset(i)) }

// Offset is the position in the page of the i-th message of the delivery.
func (d *Delivery) Offset(i uint32) uint32 { return d.From + i*d.Stride }

// Effects is what an engine step wants done, in the order the fields are listed.
// The shell owns it and resets it before each step.
type Effects struct {
	Deliveries []Delivery  // hand to Delivery.Consumer.Sink
	Empty      []*Consumer // basic.gets that find nothing after all
	Dead       []Dead      // messages that are leaving now, in the order they are to leave; see Expel
	Marked     []*Run      // partly settled: store Settled(); may hold one run twice
	Counted    []*Run      // messages of it were counted, or wait to leave: store AppendTallies; may hold one run twice
	Done       []*Run      // wholly settled: forget
	Forgotten  []Interval  // forget every stored run whose First lies in one of them
	Spills     []*Run      // store the page, which is in memory only, and call Spilled
	Stamps     []*Run      // read the stamps and feed them back with Stamped
	Loads      []*Run      // read the page and feed it back with Loaded; in order of numbers
}

// Reset empties the effects, keeping their memory but none of the pages they
// pointed to.
func (fx *Effects) Reset() {
	clear(fx.Deliveries)
	clear(fx.Marked)
	clear(fx.Done)
	clear(fx.Loads)
	clear(fx.Stamps)
	fx.Stamps = fx.Stamps[:0]
	clear(fx.Empty)
	clear(fx.Spills)
	clear(fx.Dead)
	clear(fx.Counted)
	fx.Counted = fx.Counted[:0]
	fx.Dead = fx.Dead[:0]
	fx.Deliveries, fx.Empty = fx.Deliveries[:0], fx.Empty[:0]
	fx.Forgotten, fx.Spills = fx.Forgotten[:0], fx.Spills[:0]
	fx.Marked, fx.Done, fx.Loads = fx.Marked[:0], fx.Done[:0], fx.Loads[:0]
	if cap(fx.Done) > keptEffects {
		fx.Done = nil
	}
	if cap(fx.Marked) > keptEffects {
		fx.Marked = nil
	}
	if cap(fx.Dead) > keptEffects {
		fx.Dead = nil
	}
	if cap(fx.Spills) > keptEffects {
		fx.Spills = nil
	}
	if cap(fx.Forgotten) > keptEffects {
		fx.Forgotten = nil
	}
}

// keptEffects is how long a list of effects may be and keep its memory for the
// next step.
const keptEffects = 4096
