// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// openRun gathers publishes of one channel that go to the same queues, until
// something comes whose order to them matters, the page is full or the burst ends.
// It belongs to the connection's reader.
type openRun struct {
	channel    *channel // nil: no run is open
	route      *vhosts.Route
	persistent bool
	page       *queue.Page
	aside      asideRuns // other runs that are open
}

// received deals with a message that is complete.
func (ch *channel) received() *wire.Error {
	m := &ch.content
	m.deadline, m.blind = queue.Deadline{}, nil
	ch.conn.published = true
	deliveryMode, plain := wire.PlainProperties(m.header[wire.ContentHeaderSize:])
	header := m.header
	var route *vhosts.Route
	if plain {
		route = ch.conn.routes.Find(&m.publish, nil, nil)
	} else {
		var err *wire.Error
		if route, header, deliveryMode, err = ch.examine(); err != nil {
			return err
		}
		route = route.For(vhosts.PriorityOf(&ch.conn.properties))
	}
	if route.Err != nil {
		return route.Err
	}
	persistent := deliveryMode == wire.Persistent
	switch {
	case ch.tx != nil:
		return ch.tx.publish(ch, route, persistent, header)
	case route.Nowhere():
		ch.unroutable(header)
		ch.published(1, nil)
	default:
		if route.Unroutable() {
			ch.unroutable(header)
		}
		ch.conn.gather(ch, route, persistent, header)
	}
	return nil
}

// examine checks the properties that mean something to the broker, in the order
// of RabbitMQ 4.3 (basic.publish). It returns where the message goes, and the
// content header to store.
func (ch *channel) examine() (route *vhosts.Route, header []byte, deliveryMode uint8, err *wire.Error) {
	m, p := &ch.content, &ch.conn.properties
	header = m.header
	if err = p.Scan(header[wire.ContentHeaderSize:]); err != nil {
		return nil, nil, 0, err
	}
	const judged = wire.FlagHeaders | wire.FlagReplyTo | wire.FlagExpiration | wire.FlagUserID
	if p.Flags&judged == 0 {
		return ch.conn.routes.Find(&m.publish, p, nil), header, p.DeliveryMode, nil
	}
	// The exchange is judged before the properties.
	if route = ch.conn.routes.Find(&m.publish, p, nil); route.Err != nil {
		return route, nil, 0, nil
	}
	if string(p.ReplyTo) == vhosts.ReplyTo {
		if ch.replyQueue == nil {
			return nil, nil, 0, wire.Errorf(wire.PreconditionFailed, "fast reply consumer does not exist")
		}
		header = wire.ReplaceReplyTo(header[:wire.ContentHeaderSize:wire.ContentHeaderSize], header[wire.ContentHeaderSize:], ch.replyQueue.queue.Name())
	}
	if p.Has(wire.FlagExpiration) {
		ttl, err := expirationOf(p.Expiration)
		if err != nil {
			return nil, nil, 0, err
		}
		m.deadline = queue.After(ttl)
	}
	copies, err := keysIn(p.Headers, "CC")
	if err != nil {
		return nil, nil, 0, err
	}
	if m.blind, err = keysIn(p.Headers, "BCC"); err != nil {
		return nil, nil, 0, err
	}
	if user := ch.conn.user; p.Has(wire.FlagUserID) && string(p.UserID) != user.Name && !user.Has("impersonator") {
		return nil, nil, 0, wire.Errorf(wire.PreconditionFailed, "user_id property set to '%s' but authenticated user was '%s'", p.UserID, user.Name)
	}
	if len(copies)+len(m.blind) > 0 {
		route = ch.conn.routes.Find(&m.publish, p, slices.Concat(copies, m.blind))
	}
	later, due, err := route.Postpone(p.Headers, m.publish.Mandatory)
	if err != nil {
		return nil, nil, 0, err
	}
	if later != route {
		m.deadline, route = due, later
	}
	if _, _, blind := wire.LookupField(p.Headers, "BCC"); blind {
		header = wire.RemoveHeader(header[:wire.ContentHeaderSize:wire.ContentHeaderSize], header[wire.ContentHeaderSize:], "BCC")
	}
	return route, header, p.DeliveryMode, nil
}

// keysIn are the routing keys that header name, CC or BCC, lists. Like RabbitMQ it
// insists on a list but passes over what is no string in it.
func keysIn(headers []byte, name string) (keys []string, err *wire.Error) {
	if headers == nil {
		return nil, nil
	}
	if _, _, ok := wire.LookupField(headers, name); !ok {
		return nil, nil
	}
	table, err := wire.ParseTable(headers)
	if err != nil {
		return nil, err
	}
	value, _ := table.Get(name)
	list, isArray := value.(wire.Array)
	if !isArray {
		return nil, unacceptableHeader(name, value)
	}
	for _, element := range list {
		if key, isString := element.(string); isString {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func unacceptableHeader(name string, value any) *wire.Error {
	return wire.Errorf(wire.PreconditionFailed, "invalid message: {unacceptable_type_in_header,\"%s\",%s}", name, wire.TagName(value))
}

// maxExpiration is RabbitMQ's cap of a message's expiration in milliseconds.
const maxExpiration = 315_360_000_000

// expirationOf reads the expiration property.
func expirationOf(text []byte) (uint64, *wire.Error) {
	if len(text) == 0 || len(text) > 11 {
		return parseExpiration(string(text))
	}
	value := uint64(0) // less than maxExpiration, having 11 digits
	for _, c := range text {
		if c < '0' || c > '9' {
			return parseExpiration(string(text))
		}
		value = 10*value + uint64(c-'0')
	}
	return value, nil
}

// parseExpiration reads any expiration: a decimal number of milliseconds.
func parseExpiration(s string) (uint64, *wire.Error) {
	digits := s
	if strings.HasPrefix(s, "-") || strings.HasPrefix(s, "+") {
		digits = s[1:]
	}
	n := len(digits) - len(strings.TrimLeft(digits, "0123456789"))
	detail := ""
	switch value, err := strconv.ParseInt(s[:len(s)-len(digits)+n], 10, 64); {
	case n == 0:
		detail = "no_integer"
	case n < len(digits):
		detail = "{leftover_string,\"" + digits[n:] + "\"}"
	case err != nil && s[0] == '-':
		detail = "{value_negative," + s + "}"
	case err != nil:
		detail = "{value_too_large," + digits + "}"
	case value > maxExpiration:
		detail = fmt.Sprintf("{value_too_large,%d}", value)
	case value < 0:
		detail = fmt.Sprintf("{value_negative,%d}", value)
	default:
		return uint64(value), nil
	}
	return 0, wire.Errorf(wire.PreconditionFailed, "invalid expiration '%s': %s", s, detail)
}

// unroutable deals with a message that no queue gets: it is returned if it is
// mandatory. The caller sees to its confirm.
func (ch *channel) unroutable(header []byte) {
	ch.conn.publishRun() // earlier publishes are decided first
	m := &ch.content
	if m.publish.Mandatory {
		ch.sendReturn(m.publish.ExchangeAndKey, header, m.body)
	}
}

// sendReturn returns a mandatory message that was not routed.
func (ch *channel) sendReturn(envelope, header, body []byte) {
	exchange, key := splitEnvelope(envelope)
	ch.mu.Lock()
	ch.stats.Returned++
	ch.mu.Unlock()
	ch.conn.writer.sendContent(ch.number, &wire.BasicReturn{
		ReplyCode: wire.NoRoute, ReplyText: wire.NoRoute.Name(), Exchange: exchange, RoutingKey: key,
	}, header, body, nil)
}

// confirmLater has what is decided confirmed at the end of the burst.
func (ch *channel) confirmLater() {
	if ch.confirming && !ch.confirmDue {
		ch.confirmDue = true
		ch.conn.confirmable = append(ch.conn.confirmable, ch)
	}
}

// gather adds the message that ch has received to the open run, after closing
// the one that is open if the message does not belong to it.
func (c *conn) gather(ch *channel, route *vhosts.Route, persistent bool, header []byte) {
	m, r := &ch.content, &c.run
	size := len(m.publish.ExchangeAndKey) + len(header) + len(m.body)
	fits := r.channel == ch && r.persistent == persistent &&
		(r.route.Same(route) || r.route.Beside(route) && r.turnTo(route, &c.server.pages)) && r.page.Fits(size)
	if !fits {
		c.publishRun()
		r.channel, r.route, r.persistent = ch, route, persistent
		if r.page == nil {
			r.page = c.server.pages.New()
		}
	}
	r.page.Append(m.publish.ExchangeAndKey, header, m.body)
	r.page.Meet(m.deadline)
	if m.blind != nil {
		r.page.Hide(m.blind)
	}
	if r.page.Full() {
		c.publishRun()
	}
}

// publishRun puts the open run, if there is one, into its queues, and with it those
// aside.
func (c *conn) publishRun() {
	r := &c.run
	ch := r.channel
	if ch == nil {
		return
	}
	if len(r.aside.turns) > 0 {
		c.publishAside()
		return
	}
	r.channel = nil
	count := uint64(r.page.Len())
	if ch.confirming && r.route.Waits(r.persistent) {
		c.server.options.Hosts.Publish(r.route, r.page, r.persistent, ch.openConfirm(count))
	} else {
		refused := c.server.options.Hosts.Publish(r.route, r.page, r.persistent, nil)
		ch.published(count, refused)
	}
	r.page.Release()
	r.page = nil
}

// openConfirm counts a run of messages to be stored, and returns who decides
// their confirms.
func (ch *channel) openConfirm(count uint64) *runConfirm {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.stats.Published += count
	first := ch.confirms.opened + 1
	return &runConfirm{ch, ch.confirms.open(count), first}
}

// published counts messages that were taken, refused, or dropped as unroutable, and
// are thereby decided.
func (ch *channel) published(count uint64, refused *queue.Bitmap) {
	ch.mu.Lock()
	ch.stats.Published += count
	if ch.confirming {
		if refused != nil {
			ch.refuseLocked(refused, ch.confirms.opened+1)
		}
		ch.confirms.decide(count)
	}
	ch.mu.Unlock()
	ch.confirmLater()
}
