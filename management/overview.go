// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"net"
	"net/http"

	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/vhosts"
)

// overview is the broker as a whole as RabbitMQ 4.3 shows it.
type overview struct {
	ManagementVersion string              `json:"management_version"`
	RabbitMQVersion   string              `json:"rabbitmq_version"` // what clients are told
	ProductName       string              `json:"product_name"`
	ProductVersion    string              `json:"product_version"` // LagoMQ's own
	ErlangVersion     string              `json:"erlang_version"`  // always empty; client libraries expect a string
	ErlangFullVersion string              `json:"erlang_full_version"`
	ClusterName       string              `json:"cluster_name"`
	ClusterTags       map[string]any      `json:"cluster_tags"`
	Node              string              `json:"node"`
	NodeTags          map[string]any      `json:"node_tags"`
	DefaultQueueType  string              `json:"default_queue_type"`
	RatesMode         string              `json:"rates_mode"`
	DisableStats      bool                `json:"disable_stats"`
	EnableQueueTotals bool                `json:"enable_queue_totals"`
	MessageStats      channelMessageStats `json:"message_stats"`
	ChurnRates        churnRates          `json:"churn_rates"`
	QueueTotals       depth               `json:"queue_totals"`
	ObjectTotals      objectTotals        `json:"object_totals"`
	ExchangeTypes     []exchangeType      `json:"exchange_types"`
	Listeners         []listener          `json:"listeners"`
	Contexts          []webContext        `json:"contexts"`
}

type churnRates struct {
	ConnectionCreated        uint64 `json:"connection_created"`
	ConnectionCreatedDetails rate   `json:"connection_created_details"`
	ConnectionClosed         uint64 `json:"connection_closed"`
	ConnectionClosedDetails  rate   `json:"connection_closed_details"`
	ChannelCreated           uint64 `json:"channel_created"`
	ChannelCreatedDetails    rate   `json:"channel_created_details"`
	ChannelClosed            uint64 `json:"channel_closed"`
	ChannelClosedDetails     rate   `json:"channel_closed_details"`
	QueueDeclared            uint64 `json:"queue_declared"`
	QueueDeclaredDetails     rate   `json:"queue_declared_details"`
	QueueCreated             uint64 `json:"queue_created"`
	QueueCreatedDetails      rate   `json:"queue_created_details"`
	QueueDeleted             uint64 `json:"queue_deleted"`
	QueueDeletedDetails      rate   `json:"queue_deleted_details"`
}

type objectTotals struct {
	Connections int `json:"connections"`
	Channels    int `json:"channels"`
	Exchanges   int `json:"exchanges"`
	Queues      int `json:"queues"`
	Consumers   int `json:"consumers"`
}

type exchangeType struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Enabled     bool   `json:"enabled"`
}

type listener struct {
	Node      string `json:"node"`
	Protocol  string `json:"protocol"`
	IPAddress string `json:"ip_address"`
	Port      uint16 `json:"port"`
	TLS       bool   `json:"tls"`
}

// webContext is an application that answers HTTP.
type webContext struct {
	Node        string `json:"node"`
	Description string `json:"description"`
	Path        string `json:"path"`
	Port        uint16 `json:"port"`
}

func (s *Server) overview(*http.Request) (any, error) {
	o := &s.options
	totals := o.AMQP.Totals()
	counts, rates := brokerCounts(&totals), s.rates.of(subject{})
	var objects objectTotals
	for _, c := range o.AMQP.Connections() {
		objects.Connections++
		objects.Channels += len(c.Channels)
		for i := range c.Channels {
			objects.Consumers += len(c.Channels[i].Consumers)
		}
	}
	traffic := o.AMQP.MessageTotals()
	for _, v := range o.Hosts.VHosts() {
		host := s.hostCounts(v, traffic, func(*vhosts.QueueStats) { objects.Queues++ })
		counts.add(&host)
		objects.Exchanges += len(v.Exchanges())
	}
	return overview{
		ManagementVersion: o.ServerVersion, RabbitMQVersion: o.ServerVersion,
		ProductName: o.Product, ProductVersion: o.Version,
		ClusterName: o.ClusterName, ClusterTags: map[string]any{}, Node: o.Node, NodeTags: map[string]any{},
		DefaultQueueType: o.Hosts.DefaultQueueType(), RatesMode: "basic",
		MessageStats:  newChannelMessageStats(&counts, rates),
		ChurnRates:    newChurnRates(&counts, rates),
		QueueTotals:   newDepth(&counts, rates),
		ObjectTotals:  objects,
		ExchangeTypes: exchangeTypes(),
		Listeners:     s.listeners(),
		Contexts:      s.contexts(),
	}, nil
}

func newChurnRates(c *counts, r perSecond) churnRates {
	return churnRates{
		c[connectionsOpened], rate{r[connectionsOpened]},
		c[connectionsClosed], rate{r[connectionsClosed]},
		c[channelsOpened], rate{r[channelsOpened]},
		c[channelsClosed], rate{r[channelsClosed]},
		c[queuesDeclared], rate{r[queuesDeclared]},
		c[queuesCreated], rate{r[queuesCreated]},
		c[queuesDeleted], rate{r[queuesDeleted]},
	}
}

func exchangeTypes() []exchangeType {
	return []exchangeType{
		{exchanges.TypeDirect, "AMQP direct exchange, as per the AMQP specification", true},
		{exchanges.TypeFanout, "AMQP fanout exchange, as per the AMQP specification", true},
		{exchanges.TypeDelayed, "Delayed Message Exchange.", true},
		{exchanges.TypeHeaders, "AMQP headers exchange, as per the AMQP specification", true},
		{exchanges.TypeTopic, "AMQP topic exchange, as per the AMQP specification", true},
		{exchanges.TypeConsistentHash, "Consistent Hashing Exchange", true},
		{exchanges.TypeLocalRandom, "Picks one random local binding (queue) to route via (to).", true},
		{exchanges.TypeModulusHash, "Modulus Hashing Exchange", true},
		{exchanges.TypeRecentHistory, "Recent History Exchange.", true},
		{exchanges.TypeRandom, "Randomly picks a binding (queue) to route via (to).", true},
	}
}

func (s *Server) listeners() []listener {
	list := []listener{}
	add := func(protocol string, addr net.Addr) {
		if host, port := hostPort(addr); port != 0 {
			list = append(list, listener{Node: s.options.Node, Protocol: protocol, IPAddress: host, Port: port})
		}
	}
	add("amqp", s.options.AMQPAddr)
	add("http", s.Addr())
	return list
}

func (s *Server) contexts() []webContext {
	_, port := hostPort(s.Addr())
	return []webContext{{Node: s.options.Node, Description: "LagoMQ Management", Path: "/", Port: port}}
}
