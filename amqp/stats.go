// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
)

// ConnectionStats is a connection as management shows it: a snapshot.
type ConnectionStats struct {
	ID               uint64 // owner of its exclusive queues
	Name             string // "peer host:port -> host:port"
	UserProvidedName string
	VHost, User      string
	Mechanism        string
	Peer, Local      net.Addr
	ClientProperties wire.Table
	FrameMax         int
	ChannelMax       int
	Heartbeat        time.Duration
	ConnectedAt      time.Time
	Received, Sent   uint64 // bytes
	OutboundBytes    int    // waiting to be written
	Throttled        bool   // the server does not read from it for a moment
	Blocked          bool   // nor until alarms end, see vhosts.Alarms
	Channels         []ChannelStats
}

// ChannelStats is a channel as management shows it: a snapshot.
type ChannelStats struct {
	Number              uint16
	Confirming          bool
	Transactional       bool
	Prefetch            uint32 // of consumers to come
	GlobalPrefetch      uint32
	Unacked             uint64
	Unconfirmed         uint64
	UncommittedMessages int
	UncommittedSettled  int
	Counters            ChannelCounters
	Consumers           []ConsumerStats
}

// ConsumerStats is a consumer as management shows it: a snapshot.
type ConsumerStats struct {
	Tag              string
	Queue            string
	NoAck, Exclusive bool
	Prefetch         uint32
	Arguments        wire.Table
	State            vhosts.ConsumerState
}

// name is how the connection is called in logs and management.
func (c *conn) name() string {
	return c.net.RemoteAddr().String() + " -> " + c.net.LocalAddr().String()
}

// traffic remembers what closed channels have counted, so that sums over all
// channels never fall.
type traffic struct {
	opened atomic.Uint64 // channels

	mu     sync.Mutex                 // a leaf: nothing is locked under it
	closed uint64                     // channels
	counts map[string]ChannelCounters // by virtual host
}

// retire takes over the counters of a channel that counts no more.
func (t *traffic) retire(ch *channel) {
	ch.mu.Lock()
	counts := ch.stats
	ch.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed++
	if t.counts == nil {
		t.counts = map[string]ChannelCounters{}
	}
	name := ch.conn.vhost.Name()
	t.counts[name] = t.counts[name].plus(&counts)
}

func (c ChannelCounters) plus(o *ChannelCounters) ChannelCounters {
	return ChannelCounters{
		Published: c.Published + o.Published, Confirmed: c.Confirmed + o.Confirmed, Returned: c.Returned + o.Returned, Refused: c.Refused + o.Refused,
		Delivered: c.Delivered + o.Delivered, DeliveredNo: c.DeliveredNo + o.DeliveredNo,
		Got: c.Got + o.Got, GotNo: c.GotNo + o.GotNo, GetEmpty: c.GetEmpty + o.GetEmpty,
		Redelivered: c.Redelivered + o.Redelivered, Acknowledged: c.Acknowledged + o.Acknowledged,
		Rejected: c.Rejected + o.Rejected, Requeued: c.Requeued + o.Requeued,
	}
}

// Totals counts connections and channels so far.
func (s *Server) Totals() Totals {
	s.mu.Lock()
	totals := s.totals
	s.mu.Unlock()
	totals.ChannelsOpened = s.traffic.opened.Load()
	s.traffic.mu.Lock()
	defer s.traffic.mu.Unlock()
	totals.ChannelsClosed = s.traffic.closed
	return totals
}

// MessageTotals counts the messages of each virtual host's channels since the
// server was made, those of closed channels included. A channel that is closed
// meanwhile may be missing.
func (s *Server) MessageTotals() map[string]ChannelCounters {
	totals := map[string]ChannelCounters{}
	s.traffic.mu.Lock()
	maps.Copy(totals, s.traffic.counts)
	s.traffic.mu.Unlock()
	for _, c := range s.Connections() {
		for i := range c.Channels {
			totals[c.VHost] = totals[c.VHost].plus(&c.Channels[i].Counters)
		}
	}
	return totals
}

// Connections takes a snapshot of all connections, the oldest first. Each is
// consistent in itself, not with the others.
func (s *Server) Connections() []ConnectionStats {
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	slices.SortFunc(conns, func(a, b *conn) int { return cmp.Compare(a.id, b.id) })
	list := make([]ConnectionStats, len(conns))
	for i, c := range conns {
		list[i] = c.stats()
	}
	return list
}

func (c *conn) stats() ConnectionStats {
	s := ConnectionStats{
		ID: c.id, Name: c.name(), VHost: c.vhost.Name(), User: c.user.Name, Mechanism: c.mechanism,
		Peer: c.net.RemoteAddr(), Local: c.net.LocalAddr(),
		ClientProperties: c.clientProperties, FrameMax: c.frameMax, ChannelMax: c.channelMax,
		Heartbeat: c.heartbeat, ConnectedAt: c.connectedAt,
		Received: c.received.Load(), Sent: c.writer.written.Load(), Throttled: c.paused.Load(), Blocked: c.blocked.Load(),
	}
	if value, ok := c.clientProperties.Get("connection_name"); ok {
		s.UserProvidedName, _ = value.(string)
	}
	c.writer.mu.Lock()
	s.OutboundBytes = c.writer.head.size + c.writer.out.size
	c.writer.mu.Unlock()

	c.mu.Lock()
	channels := make([]*channel, 0, len(c.channels))
	for _, ch := range c.channels {
		channels = append(channels, ch)
	}
	c.mu.Unlock()
	slices.SortFunc(channels, func(a, b *channel) int { return cmp.Compare(a.number, b.number) })
	for _, ch := range channels {
		if !ch.closed.Load() {
			s.Channels = append(s.Channels, ch.snapshot())
		}
	}
	return s
}

// snapshot is consistent in itself but for the consumers' states, which are their
// queues' affair.
func (ch *channel) snapshot() ChannelStats {
	s, subscriptions := ch.snapshotAlone()
	slices.SortFunc(subscriptions, func(a, b *subscription) int { return cmp.Compare(a.consumer.Tag, b.consumer.Tag) })
	for _, sub := range subscriptions {
		s.Consumers = append(s.Consumers, ConsumerStats{
			Tag: sub.consumer.Tag, Queue: sub.queue.Name(), NoAck: sub.consumer.NoAck, Exclusive: sub.exclusive,
			Prefetch: sub.consumer.Prefetch, Arguments: sub.arguments, State: sub.queue.ConsumerState(sub.consumer),
		})
	}
	return s
}

func (ch *channel) snapshotAlone() (ChannelStats, []*subscription) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	s := ChannelStats{
		Number: ch.number, Confirming: ch.confirming, Transactional: ch.tx != nil,
		Prefetch: ch.newPrefetch.Load(), GlobalPrefetch: ch.prefetch.Load(),
		Unacked: ch.unacked.live, Unconfirmed: ch.confirms.unconfirmed(), Counters: ch.stats,
	}
	if ch.tx != nil {
		s.UncommittedSettled = len(ch.tx.settled)
		s.UncommittedMessages = ch.tx.messages
	}
	return s, slices.Collect(maps.Values(ch.subscriptions))
}

// CloseConnection closes the connection of that name (ConnectionStats.Name) with
// 320 and reason as the reply text, as RabbitMQ 4.3 does for operators (forced
// closes). It returns at once, false if there is no such connection.
func (s *Server) CloseConnection(name, reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.name() == name {
			c.abort(wire.Errorf(wire.ConnectionForced, "%s", reason))
			return true
		}
	}
	return false
}
