// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/lagomq/lagomq/amqp"
)

// channel is a channel of a connection as RabbitMQ 4.3 shows it.
type channel struct {
	Name                   string              `json:"name"`
	Number                 uint16              `json:"number"`
	ConnectionDetails      connectionDetails   `json:"connection_details"`
	Node                   string              `json:"node"`
	User                   string              `json:"user"`
	UserWhoPerformed       string              `json:"user_who_performed_action"`
	VHost                  string              `json:"vhost"`
	State                  string              `json:"state"` // running, or flow as its connection
	Confirm                bool                `json:"confirm"`
	Transactional          bool                `json:"transactional"`
	ConsumerCount          int                 `json:"consumer_count"`
	PrefetchCount          uint32              `json:"prefetch_count"`        // of consumers to come
	GlobalPrefetchCount    uint32              `json:"global_prefetch_count"` // of the channel as a whole
	MessagesUnacknowledged uint64              `json:"messages_unacknowledged"`
	MessagesUnconfirmed    uint64              `json:"messages_unconfirmed"`
	MessagesUncommitted    int                 `json:"messages_uncommitted"`
	AcksUncommitted        int                 `json:"acks_uncommitted"`
	MessageStats           channelMessageStats `json:"message_stats"`
}

// channelDetail is what is shown of a single channel.
type channelDetail struct {
	channel
	ConsumerDetails []consumer `json:"consumer_details"`
}

// connectionDetails say which connection an object belongs to.
type connectionDetails struct {
	Name     string `json:"name"`
	PeerHost string `json:"peer_host"`
	PeerPort uint16 `json:"peer_port"`
}

func newConnectionDetails(c *amqp.ConnectionStats) connectionDetails {
	host, port := hostPort(c.Peer)
	return connectionDetails{c.Name, host, port}
}

func channelName(c *amqp.ConnectionStats, number uint16) string {
	return fmt.Sprintf("%s (%d)", c.Name, number)
}

func (s *Server) newChannel(c *amqp.ConnectionStats, ch *amqp.ChannelStats) channel {
	counts := channelCounts(&ch.Counters)
	view := channel{
		Name: channelName(c, ch.Number), Number: ch.Number, ConnectionDetails: newConnectionDetails(c),
		Node: s.options.Node, User: c.User, UserWhoPerformed: c.User, VHost: c.VHost, State: "running",
		Confirm: ch.Confirming, Transactional: ch.Transactional, ConsumerCount: len(ch.Consumers),
		PrefetchCount: ch.Prefetch, GlobalPrefetchCount: ch.GlobalPrefetch,
		MessagesUnacknowledged: ch.Unacked, MessagesUnconfirmed: ch.Unconfirmed,
		MessagesUncommitted: ch.UncommittedMessages, AcksUncommitted: ch.UncommittedSettled,
		MessageStats: newChannelMessageStats(&counts, s.rates.of(subject{connection: c.ID, channel: ch.Number})),
	}
	if c.Throttled && !c.Blocked {
		view.State = "flow"
	}
	return view
}

func (s *Server) channels(r *http.Request) (any, error) {
	return s.listChannels(r, s.visibleConnections(r))
}

func (s *Server) hostChannels(r *http.Request) (any, error) {
	v, err := s.vhost(r)
	if err != nil {
		return nil, err
	}
	return s.listChannels(r, inVHost(s.visibleConnections(r), v.Name()))
}

func (s *Server) connectionChannels(r *http.Request) (any, error) {
	c, err := s.visibleConnection(r)
	if err != nil {
		return nil, err
	}
	return s.listChannels(r, []amqp.ConnectionStats{*c})
}

func (s *Server) listChannels(r *http.Request, connections []amqp.ConnectionStats) (any, error) {
	list := []channel{}
	for i := range connections {
		c := &connections[i]
		for j := range c.Channels {
			list = append(list, s.newChannel(c, &c.Channels[j]))
		}
	}
	return listing(r, list, func(ch *channel) string { return ch.Name })
}

// channel shows the channel that the path names: a connection's name and, in
// parentheses, the channel's number.
func (s *Server) channel(r *http.Request) (any, error) {
	name, number, ok := cutChannelName(param(r, "channel"))
	if !ok {
		return nil, errNotFound
	}
	c, err := s.visibleNamed(r, name)
	if err != nil {
		return nil, err
	}
	for i := range c.Channels {
		ch := &c.Channels[i]
		if ch.Number != number {
			continue
		}
		view := channelDetail{s.newChannel(c, ch), []consumer{}}
		for j := range ch.Consumers {
			view.ConsumerDetails = append(view.ConsumerDetails, s.newConsumer(c, ch, &ch.Consumers[j]))
		}
		return single(r, view)
	}
	return nil, errNotFound
}

func cutChannelName(name string) (connection string, number uint16, ok bool) {
	at := strings.LastIndex(name, " (")
	if at < 0 || !strings.HasSuffix(name, ")") {
		return "", 0, false
	}
	n, err := strconv.ParseUint(name[at+2:len(name)-1], 10, 16)
	return name[:at], uint16(n), err == nil
}
