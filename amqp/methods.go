// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"github.com/lagomq/lagomq/amqp/wire"
)

// handleFrame handles a frame on an open channel. What may come is the state of
// the message being assembled (AMQP 0-9-1 §4.2.6).
func (ch *channel) handleFrame(f wire.Frame) *wire.Error {
	switch ch.content.state {
	case expectHeader:
		complete, err := ch.content.takeHeader(f)
		if err == nil {
			err = ch.judgeHeader()
		}
		return ch.assembled(complete, err)
	case expectBody:
		return ch.assembled(ch.content.takeBody(f))
	}
	if f.Type != wire.FrameMethod {
		return wire.Errorf(wire.UnexpectedFrame, "expected method frame, got non method frame instead")
	}
	id := methodOf(f.Payload)
	if err := ch.handleMethod(id, f.Payload); err != nil {
		return err.During(id)
	}
	return nil
}

// judgeHeader refuses what can be refused before the body has come.
func (ch *channel) judgeHeader() *wire.Error {
	if ch.content.publish.Immediate {
		return wire.Errorf(wire.NotImplemented, "immediate=true")
	}
	if limit := ch.conn.server.options.MaxMessageSize; ch.content.size > uint64(limit) {
		return wire.Errorf(wire.PreconditionFailed, "message size %d is larger than configured max size %d", ch.content.size, limit)
	}
	return nil
}

// assembled goes on with a message after one of its frames.
func (ch *channel) assembled(complete bool, err *wire.Error) *wire.Error {
	if err == nil && complete {
		err = ch.received()
		ch.content.release()
	}
	if err != nil {
		return err.During(wire.IDBasicPublish)
	}
	return nil
}

// handleMethod handles a method frame: the four methods of the message path in
// place, all others decoded.
func (ch *channel) handleMethod(id wire.MethodID, payload []byte) *wire.Error {
	switch id {
	case wire.IDBasicPublish:
		p, err := wire.ParsePublish(payload[4:])
		if err == nil {
			ch.content.start(p)
		}
		return err
	case wire.IDBasicAck:
		tag, multiple, err := wire.ParseAck(payload[4:])
		if err == nil {
			err = ch.settle(tag, multiple, acked)
		}
		return err
	case wire.IDBasicNack:
		tag, multiple, requeue, err := wire.ParseNack(payload[4:])
		if err == nil {
			err = ch.settle(tag, multiple, outcomeOf(requeue, returned))
		}
		return err
	case wire.IDBasicReject:
		tag, requeue, err := wire.ParseReject(payload[4:])
		if err == nil {
			err = ch.settle(tag, false, outcomeOf(requeue, failed))
		}
		return err
	}
	m, err := wire.ParseMethod(payload)
	if err != nil {
		return err
	}
	// What came before takes effect before this method does.
	ch.conn.flush()
	ch.conn.awaitRoom()
	return ch.dispatch(m)
}

// dispatch is the index of the methods that a client may send on a channel. The
// declaring methods share commits when they are pipelined, all others wait until
// earlier replies have gone out.
func (ch *channel) dispatch(m wire.Method) *wire.Error {
	switch m := m.(type) {
	case *wire.ExchangeDeclare:
		return ch.exchangeDeclare(m)
	case *wire.ExchangeDelete:
		return ch.exchangeDelete(m)
	case *wire.ExchangeBind:
		return ch.exchangeBind(m)
	case *wire.ExchangeUnbind:
		return ch.exchangeUnbind(m)
	case *wire.QueueDeclare:
		return ch.queueDeclare(m)
	case *wire.QueueBind:
		return ch.queueBind(m)
	case *wire.QueueUnbind:
		return ch.queueUnbind(m)
	case *wire.QueueDelete:
		return ch.queueDelete(m)
	}
	ch.await()
	switch m := m.(type) {
	case *wire.QueuePurge:
		return ch.queuePurge(m)
	case *wire.BasicQos:
		return ch.basicQos(m)
	case *wire.BasicConsume:
		return ch.basicConsume(m)
	case *wire.BasicCancel:
		return ch.basicCancel(m)
	case *wire.BasicCancelOk:
		return nil // the answer to a basic.cancel of the server
	case *wire.BasicGet:
		return ch.basicGet(m)
	case *wire.BasicRecover:
		return ch.basicRecover(m.Requeue, true)
	case *wire.BasicRecoverAsync:
		return ch.basicRecover(m.Requeue, false)
	case *wire.ConfirmSelect:
		return ch.confirmSelect(m)
	case *wire.TxSelect, *wire.TxCommit, *wire.TxRollback:
		return ch.handleTx(m)
	case *wire.ChannelOpen:
		return wire.Errorf(wire.ChannelError, "second 'channel.open' seen")
	case *wire.ChannelFlow:
		return ch.channelFlow(m)
	case *wire.ChannelClose:
		ch.channelClose()
		return nil
	case *wire.ChannelCloseOk, *wire.ChannelFlowOk:
		return nil // an answer to what was not asked, or no longer matters
	case *wire.AccessRequest:
		ch.send(&wire.AccessRequestOk{Ticket: 1})
		return nil
	}
	return wire.Errorf(wire.CommandInvalid, "unimplemented method")
}

// channelFlow answers channel.flow: deliveries cannot be paused by it (RabbitMQ
// 4.3, flow).
func (ch *channel) channelFlow(m *wire.ChannelFlow) *wire.Error {
	if !m.Active {
		return wire.Errorf(wire.NotImplemented, "active=false")
	}
	ch.send(&wire.ChannelFlowOk{Active: true})
	return nil
}

// channelClose closes the channel for the client.
func (ch *channel) channelClose() {
	ch.flushConfirms()
	ch.shutdown()
	ch.send(&wire.ChannelCloseOk{})
	ch.conn.forget(ch)
}

// confirmSelect handles confirm.select.
func (ch *channel) confirmSelect(m *wire.ConfirmSelect) *wire.Error {
	if ch.tx != nil {
		return wire.Errorf(wire.PreconditionFailed, "cannot switch from tx to confirm mode")
	}
	ch.mu.Lock()
	ch.confirming = true
	ch.mu.Unlock()
	if !m.NoWait {
		ch.send(&wire.ConfirmSelectOk{})
	}
	return nil
}
