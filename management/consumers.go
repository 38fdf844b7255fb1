// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"net/http"

	"github.com/lagomq/lagomq/amqp"
)

// consumer is a consumer of a queue as RabbitMQ 4.3 shows it.
type consumer struct {
	ConsumerTag    string         `json:"consumer_tag"`
	Queue          queueName      `json:"queue"`
	ChannelDetails channelDetails `json:"channel_details"`
	AckRequired    bool           `json:"ack_required"`
	Exclusive      bool           `json:"exclusive"`
	PrefetchCount  uint32         `json:"prefetch_count"`
	Arguments      map[string]any `json:"arguments"`
	Active         bool           `json:"active"`
	ActivityStatus string         `json:"activity_status"`
	IdleReason     string         `json:"idle_reason"` // why it gets nothing now, see queue.Wait
}

type queueName struct {
	Name  string `json:"name"`
	VHost string `json:"vhost"`
}

// channelDetails say which channel a consumer belongs to.
type channelDetails struct {
	Name           string `json:"name"`
	Number         uint16 `json:"number"`
	Node           string `json:"node"`
	User           string `json:"user"`
	ConnectionName string `json:"connection_name"`
	PeerHost       string `json:"peer_host"`
	PeerPort       uint16 `json:"peer_port"`
}

func (s *Server) newConsumer(c *amqp.ConnectionStats, ch *amqp.ChannelStats, stats *amqp.ConsumerStats) consumer {
	host, port := hostPort(c.Peer)
	return consumer{
		ConsumerTag: textJSON(stats.Tag), Queue: queueName{stats.Queue, c.VHost},
		ChannelDetails: channelDetails{channelName(c, ch.Number), ch.Number, s.options.Node, c.User, c.Name, host, port},
		AckRequired:    !stats.NoAck, Exclusive: stats.Exclusive, PrefetchCount: stats.Prefetch,
		Arguments: tableJSON(stats.Arguments), Active: stats.State.Active, ActivityStatus: stats.State.Activity, IdleReason: string(stats.State.Waits),
	}
}

func (s *Server) consumers(r *http.Request) (any, error) {
	return s.listConsumers(r, s.visibleConnections(r))
}

func (s *Server) hostConsumers(r *http.Request) (any, error) {
	v, err := s.vhost(r)
	if err != nil {
		return nil, err
	}
	return s.listConsumers(r, inVHost(s.visibleConnections(r), v.Name()))
}

func (s *Server) listConsumers(r *http.Request, connections []amqp.ConnectionStats) (any, error) {
	list := s.consumersOf(connections, func(*amqp.ConsumerStats) bool { return true })
	return listing(r, list, func(c *consumer) string { return c.ConsumerTag })
}

// consumersOf are the wanted consumers of connections.
func (s *Server) consumersOf(connections []amqp.ConnectionStats, wanted func(*amqp.ConsumerStats) bool) []consumer {
	list := []consumer{}
	for i := range connections {
		c := &connections[i]
		for j := range c.Channels {
			ch := &c.Channels[j]
			for k := range ch.Consumers {
				if wanted(&ch.Consumers[k]) {
					list = append(list, s.newConsumer(c, ch, &ch.Consumers[k]))
				}
			}
		}
	}
	return list
}
