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

// resume routes a message that has waited long enough and makes its copy. It returns
// false if it has no destination. The header x-delay is negative then, as RabbitMQ's
// plugin makes it, so that the message is not delayed again.
func (m *mailing) resume(i int, scratch *exchanges.Scratch[*Queue]) bool {
	l, q := &m.letters[i], m.source
	envelope, header, body := l.page.Message(l.offset)
	e := wire.PublishView{ExchangeAndKey: envelope}
	h, err := wire.ParseHeader(header)
	var p wire.Properties
	if err == nil {
		p, err = wire.ParseProperties(h.Properties)
	}
	if err != nil {
		// It was checked when it was published: only damage gets here.
		q.vhost.hosts.log.Error("a delayed message cannot be read and is dropped", "vhost", q.vhost.name, "exchange", q.name, "error", err)
		return false
	}
	var extra []string
	hidden := l.page.Hidden(l.offset)
	if !l.page.Rekeyed(l.offset) {
		extra = append(copiesIn(p.Headers), hidden...)
	}
	for i := range p.Headers {
		field := &p.Headers[i]
		switch delay, ok := delayIn(wire.Table{*field}); {
		case ok && delay > 0 && delay == int64(int32(delay)):
			field.Value = -int32(delay)
		case ok && delay > 0:
			field.Value = -delay
		}
	}
	properties := wire.AppendProperties(nil, &p)
	header = wire.AppendHeader(nil, h.BodySize, properties)
	route := q.vhost.routeTo(scratch, q.name, string(e.RoutingKey()), extra, properties)
	if l.again {
		route = route.rest(l.took)
	}
	if route.Nowhere() {
		return len(l.took) > 0
	}
	var view wire.PropertyView
	if view.Scan(properties) == nil {
		route = route.For(PriorityOf(&view))
	}
	persistent := p.DeliveryMode == wire.Persistent && route.Durable
	at := openPublication(&m.publications, route, persistent, len(envelope)+len(header)+len(body), m.pages())
	page := m.publications[at].Page
	if l.page.Died(l.offset) {
		page.AppendDead(envelope, header, body, l.page.Rekeyed(l.offset))
	} else {
		page.Append(envelope, header, body)
	}
	page.Meet(lifetime(p.Expiration))
	page.Hide(hidden)
	m.copied(i, at)
	return true
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

// copiesIn is the routing keys in the header CC.
func copiesIn(headers wire.Table) (keys []string) {
	value, _ := headers.Get("CC")
	list, _ := value.(wire.Array)
	for _, element := range list {
		if key, ok := element.(string); ok {
			keys = append(keys, key)
		}
	}
	return keys
}
