// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"bytes"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
)

// handleTx handles the methods of class tx (AMQP 0-9-1 §1.9; RabbitMQ 4.3,
// confirms and transactions).
func (ch *channel) handleTx(m wire.Method) *wire.Error {
	switch m.(type) {
	case *wire.TxSelect:
		if ch.confirming {
			return wire.Errorf(wire.PreconditionFailed, "cannot switch from confirm to tx mode")
		}
		if ch.tx == nil {
			ch.setTx(new(transaction))
		}
		ch.send(&wire.TxSelectOk{})
	case *wire.TxCommit:
		if ch.tx == nil {
			return errNotTx()
		}
		return ch.commitTx()
	case *wire.TxRollback:
		if ch.tx == nil {
			return errNotTx()
		}
		ch.mu.Lock()
		ch.unacked.rollback()
		ch.mu.Unlock()
		ch.setTx(new(transaction))
		ch.send(&wire.TxRollbackOk{})
	}
	return nil
}

func errNotTx() *wire.Error {
	return wire.Errorf(wire.PreconditionFailed, "channel is not transactional")
}

func (ch *channel) setTx(t *transaction) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.tx = t
}

// publish holds a message until the transaction is committed. It is routed now.
func (t *transaction) publish(ch *channel, route *vhosts.Route, persistent bool, header []byte) *wire.Error {
	m := &ch.content
	size := len(m.publish.ExchangeAndKey) + len(header) + len(m.body)
	for _, key := range m.blind {
		size += len(key)
	}
	if limit := ch.conn.server.options.MaxTxBytes; t.bytes+int64(size) > limit {
		return wire.Errorf(wire.PreconditionFailed, "transaction is larger than configured max size %d", limit)
	}
	t.bytes += int64(size)
	ch.mu.Lock()
	t.messages++
	ch.stats.Published++
	ch.mu.Unlock()
	if route.Unroutable() && m.publish.Mandatory {
		t.returns = append(t.returns, heldReturn{
			bytes.Clone(m.publish.ExchangeAndKey), bytes.Clone(header), bytes.Clone(m.body),
		})
	}
	if route.Nowhere() {
		return nil
	}
	page := vhosts.OpenPublication(&t.publications, route, persistent, size)
	page.Append(m.publish.ExchangeAndKey, header, m.body)
	page.Meet(m.deadline)
	page.Hide(m.blind)
	return nil
}

// commitTx carries the transaction out; commit-ok follows when it is durable. If a
// queue had no room for some of the messages that ends the channel.
func (ch *channel) commitTx() *wire.Error {
	t := ch.tx
	for _, r := range t.returns {
		ch.sendReturn(r.envelope, r.header, r.body)
	}
	settlements, room := ch.takeSettled(t)
	ch.setTx(new(transaction))
	l := &later{channel: ch}
	refused := ch.conn.server.options.Hosts.CommitTx(t.publications, settlements, l)
	if room > 0 {
		for _, q := range ch.makeRoom(room) {
			q.Dispatch()
		}
	}
	if refused {
		ch.await()
		return wire.Errorf(wire.PreconditionFailed, "partial tx completion")
	}
	l.send(&wire.TxCommitOk{})
	return nil
}

// takeSettled takes the messages that the transaction settles out of the unacked
// window, gathered by consumer and outcome. room is how many of them the
// channel-wide prefetch counts.
func (ch *channel) takeSettled(t *transaction) (settlements []vhosts.Settlement, room uint64) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	type group struct {
		sub  *subscription
		what outcome
	}
	groups := map[group]int{}
	for _, held := range t.settled {
		d := ch.unacked.at(held.tag)
		if d == nil || d.sub == nil {
			continue // its consumer held it for too long, and it went back
		}
		key := group{d.sub, held.what}
		i, seen := groups[key]
		if !seen {
			i = len(settlements)
			groups[key] = i
			settlements = append(settlements, vhosts.Settlement{
				Queue: d.sub.queue, Consumer: d.sub.consumer,
				Rejected: held.what == rejected, Requeue: held.what == returned || held.what == failed,
				Failed: held.what == failed,
			})
		}
		settlements[i].Numbers = append(settlements[i].Numbers, d.number)
		if d.sub.limited() {
			room++
		}
		ch.unacked.remove(d)
	}
	ch.unacked.trim()
	return settlements, room
}
