// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
)

// outcome is what a client says of deliveries.
type outcome uint8

const (
	acked outcome = iota
	rejected
	returned
	failed // returned, and the delivery counts as failed
)

// outcomeOf is what a client says with a method: a message that basic.reject puts
// back has failed, one that basic.nack puts back was given back unharmed (RabbitMQ
// 4.3, quorum queues).
func outcomeOf(requeue bool, back outcome) outcome {
	if requeue {
		return back
	}
	return rejected
}

// settle notes the outcome of the delivery tag, or with multiple of all up to
// it. The queues are told at the end of the burst; a transaction holds it until
// it is committed.
func (ch *channel) settle(tag uint64, multiple bool, what outcome) *wire.Error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	found := ch.unacked.each(tag, multiple, func(d *delivery) {
		if ch.tx != nil {
			d.held = true
			ch.tx.settled = append(ch.tx.settled, heldOutcome{d.tag, what})
			return
		}
		ch.conn.note(d.sub, d.number, what)
		ch.unacked.remove(d)
	})
	if !found {
		return wire.Errorf(wire.PreconditionFailed, "unknown delivery tag %d", tag)
	}
	ch.unacked.trim()
	return nil
}

// note remembers until the end of the burst that a message of s has this
// outcome.
func (c *conn) note(s *subscription, number uint64, what outcome) {
	if !s.listed {
		s.listed = true
		c.settling = append(c.settling, s)
	}
	switch what {
	case acked:
		s.acked = append(s.acked, number)
	case rejected:
		s.rejected = append(s.rejected, number)
	case returned:
		s.returned = append(s.returned, number)
	case failed:
		s.failed = append(s.failed, number)
	}
}

// settle tells the queues what happened to their messages since the last call,
// each queue once for each consumer and outcome.
func (c *conn) settle() {
	for i, s := range c.settling {
		c.settling[i] = nil
		s.listed = false
		s.channel.count(len(s.acked), len(s.rejected), len(s.returned)+len(s.failed))
		if len(s.acked) > 0 {
			s.queue.Settle(s.consumer, s.acked, false)
		}
		if len(s.rejected) > 0 {
			s.queue.Settle(s.consumer, s.rejected, true)
		}
		if len(s.returned) > 0 {
			s.queue.Return(s.consumer, s.returned, false)
		}
		if len(s.failed) > 0 {
			s.queue.Return(s.consumer, s.failed, true)
		}
		if s.limited() {
			for _, q := range s.channel.makeRoom(uint64(len(s.acked) + len(s.rejected) + len(s.returned) + len(s.failed))) {
				q.Dispatch()
			}
		}
		s.acked, s.rejected = emptied(s.acked), emptied(s.rejected)
		s.returned, s.failed = emptied(s.returned), emptied(s.failed)
	}
	c.settling = c.settling[:0]
}

// emptied empties a list of numbers and gives up one that has grown large.
func emptied(numbers []uint64) []uint64 {
	if cap(numbers) > 16<<10 {
		return nil
	}
	return numbers[:0]
}

func (ch *channel) count(acked, rejected, returned int) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.stats.Acknowledged += uint64(acked)
	ch.stats.Rejected += uint64(rejected)
	ch.stats.Requeued += uint64(returned)
}

// recover puts every unacked message of the channel back to its queue.
func (ch *channel) recover() {
	ch.noteAllReturned()
	ch.conn.settle()
}

func (ch *channel) noteAllReturned() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.unacked.each(0, true, func(d *delivery) {
		ch.conn.note(d.sub, d.number, returned)
		ch.unacked.remove(d)
	})
	ch.unacked.trim()
}

// heldOutcome is a settlement inside a transaction.
type heldOutcome struct {
	tag  uint64
	what outcome
}

// heldReturn is a mandatory message of a transaction that is not routable.
type heldReturn struct{ envelope, header, body []byte }

// transaction is what a channel in tx mode has done since the last commit or
// rollback. It belongs to the connection's reader; settled is guarded by the
// channel's mu.
type transaction struct {
	publications []vhosts.TxPublication
	returns      []heldReturn
	settled      []heldOutcome
	bytes        int64
	messages     int // published; guarded by the channel's mu
}
