// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"strconv"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// Delayed messages. An exchange of type x-delayed-message has a queue that is in no
// list and has no consumers: messages published to the exchange with a delay go
// there, and are stored, confirmed and recovered as in any queue. When one is due it
// leaves the way dead letters do: the copies that it is routed to and its removal are
// one proposal. Of all of this only the exchange's bindings at that time decide.

const (
	delayHeader     = "x-delay"      // milliseconds, as RabbitMQ's plugin has it
	deliverAtHeader = "x-deliver-at" // milliseconds since 1970, or a timestamp
)

// delayerOf is the queue in which an exchange keeps delayed messages, nil if it does
// not delay.
func delayerOf(x *Exchange) *Queue {
	q, _ := x.Attached.(*Queue)
	return q
}

// holdsBack reports whether this is the queue of an exchange that delays messages.
func (q *Queue) holdsBack() bool { return q.delays }

// attachDelayer gives an exchange that delays messages the queue for them; id returns
// its name in the store. Called under VHost.mu and VHost.routes.
func (v *VHost) attachDelayer(x *Exchange, id func() uint64) {
	if x.Type != exchanges.TypeDelayed {
		return
	}
	q := &Queue{vhost: v, name: x.Name, id: id(), durable: x.Durable, delays: true}
	q.settings.Store(settingsOf(nil, AppliedPolicies{}))
	q.engine.Keeper = (*keeper)(q)
	q.alarm.queue = q
	x.Attached = q
	v.delayers[x.Name] = q
}

// appendDelayer appends the records that forget what an exchange that is gone has
// delayed. Called under VHost.mu and VHost.routes.
func (v *VHost) appendDelayer(records []persistence.Record, x *Exchange) []persistence.Record {
	q := delayerOf(x)
	if q == nil {
		return records
	}
	delete(v.delayers, x.Name)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.removeLocked() // it has no consumers
	records = append(records, q.records...)
	q.records = nil
	return records
}

// Delayed is how many messages an exchange holds back.
func (v *VHost) Delayed(exchange string) uint64 {
	v.mu.Lock()
	q := v.delayers[exchange]
	v.mu.Unlock()
	if q == nil {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.engine.Ready() + q.engine.Leaving()
}

// Postpone looks for a delay in the headers of a message, which are the contents of
// their table. If it is to be delayed it returns the route to where it waits, and when
// it is due; otherwise the route itself. A mandatory message that would reach no queue
// now is not delayed. Errors: 406.
func (r *Route) Postpone(headers []byte, mandatory bool) (*Route, queue.Deadline, *wire.Error) {
	if r.delayer == nil || headers == nil || mandatory && len(r.Queues) == 0 {
		return r, queue.Deadline{}, nil
	}
	due, delayed, err := deadlineOf(headers, r.delayer.vhost.hosts.timers.now())
	if err != nil || !delayed {
		return r, due, err
	}
	if r.later == nil {
		r.later = &Route{Queues: []*Queue{r.delayer}, version: r.version}
		r.later.rank()
		for _, f := range r.filters {
			if f.queue == nil { // the exchange's own
				r.later.filters = append(r.later.filters, f)
			}
		}
	}
	return r.later, due, nil
}

// reach routes a message: to queues, and into those of the delayed exchanges that it
// comes to from another exchange, if it is to be delayed. A mandatory message that would
// reach no queue now is not. With an error, 406 for a delay that is not valid, queues are
// where it goes without a delay. Called under VHost.routes.
func (v *VHost) reach(s *exchanges.Scratch[*Queue], m exchanges.Publish[*Queue], mandatory bool) (queues, held []*Queue, err *wire.Error) {
	queues = v.router.Route(s, m)
	if len(s.Delaying()) == 0 || m.Properties == nil || m.Properties.Headers == nil ||
		delayerOf(m.Exchange) != nil || mandatory && len(queues) == 0 {
		return queues, nil, nil
	}
	_, delayed, err := deadlineOf(m.Properties.Headers, v.hosts.timers.now())
	if err != nil || !delayed {
		return queues, nil, err
	}
	m.Holds = func(*Exchange) bool { return true }
	queues = v.router.Route(s, m)
	for _, x := range s.Delaying() {
		held = append(held, delayerOf(x))
	}
	return queues, held, nil
}

// hold puts copies of the messages into the queue of a delayed exchange on their way. Here
// they are due when their delay is over, not when they expire. It reports whether the
// queue has letters now, which are to be forwarded.
func (p *Publication) hold(delayer *Queue) (letters bool) {
	now, page := p.page.Arrived(), new(queue.Page)
	for i := range p.page.Len() {
		due, delayed, err := deadlineOf(headersOf(p.page, i), now)
		if err != nil || !delayed {
			due = queue.At(now) // it was, a moment ago
		}
		page.AppendFrom(p.page, i)
		page.Meet(due)
	}
	page.Arrive(now)
	to := Route{Queues: []*Queue{delayer}}
	to.rank()
	held := newPublication(&to, page, p.persistent)
	letters = delayer.publish(&held)
	if held.run != nil {
		p.held = append(p.held, held.run)
	}
	return letters
}

// deadlineOf reads when a message is to be routed; false if that is now. Like
// RabbitMQ's plugin it takes a number in a string for x-delay, and passes over what is
// none, or negative, as it is in messages that have been delayed.
func deadlineOf(headers []byte, now uint64) (due queue.Deadline, delayed bool, err *wire.Error) {
	_, _, at := wire.LookupField(headers, deliverAtHeader)
	_, _, after := wire.LookupField(headers, delayHeader)
	if !at && !after {
		return due, false, nil
	}
	table, err := wire.ParseTable(headers)
	if err != nil {
		return due, false, err
	}
	if at {
		value, _ := table.Get(deliverAtHeader)
		time, ok := wire.Integer(value)
		if seconds, isTimestamp := value.(wire.Timestamp); isTimestamp {
			time, ok = int64(min(seconds, maxMilliseconds))*1000, true
		}
		if !ok {
			return due, false, wire.Errorf(wire.PreconditionFailed, "invalid message: {unacceptable_type_in_header,%q,%s}",
				deliverAtHeader, wire.TagName(value))
		}
		if time > int64(now)+maxMilliseconds {
			return due, false, tooLong(deliverAtHeader, time)
		}
		if time <= int64(now) {
			return due, false, nil
		}
		return queue.At(uint64(time)), true, nil
	}
	delay, ok := delayIn(table)
	if !ok || delay <= 0 {
		return due, false, nil
	}
	if delay > maxMilliseconds {
		return due, false, tooLong(delayHeader, delay)
	}
	return queue.After(uint64(delay)), true, nil
}

func tooLong(header string, value int64) *wire.Error {
	return wire.Errorf(wire.PreconditionFailed, "invalid header '%s': {value_too_large,%d}", header, value)
}

// delayIn reads the header x-delay.
func delayIn(headers wire.Table) (delay int64, ok bool) {
	value, _ := headers.Get(delayHeader)
	switch v := value.(type) {
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		return n, err == nil
	case float32:
		return int64(max(-1, min(v, maxMilliseconds+1))), v == v
	case float64:
		return int64(max(-1, min(v, maxMilliseconds+1))), v == v
	}
	return wire.Integer(value)
}

// resume makes the stamp of a message with those headers that has waited long enough:
// it goes where its exchange routes it now. The header x-delay is negative then, as
// RabbitMQ's plugin makes it, so that the message is not delayed again.
func (m *stamper) resume(headers wire.Table) {
	s, e := &m.stamp, wire.PublishView{ExchangeAndKey: m.stamp.of.envelope}
	s.exchange, s.key = m.source.name, string(e.RoutingKey())
	if !s.of.rekeyed {
		s.cc = append(copiesIn(headers), s.hidden...)
	}
	for i := range headers {
		field := &headers[i]
		switch delay, ok := delayIn(wire.Table{*field}); {
		case ok && delay > 0 && delay == int64(int32(delay)):
			field.Value = -int32(delay)
		case ok && delay > 0:
			field.Value = -delay
		}
	}
	s.headers = wire.AppendTable(nil, headers)
	s.envelope, s.died, s.rekeyed = s.of.envelope, s.of.died, s.of.rekeyed
}

// lifetime is the deadline that an expiration property sets from now on; none if it is
// empty. It was checked when the message was published, which admits a sign.
func lifetime(expiration string) queue.Deadline {
	ttl, err := strconv.ParseInt(expiration, 10, 64)
	if err != nil {
		return queue.Deadline{}
	}
	return queue.After(uint64(ttl))
}
