// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"net/http"

	"github.com/lagomq/lagomq/vhosts"
)

// virtualHost is a virtual host as RabbitMQ 4.3 shows it.
type virtualHost struct {
	Name             string              `json:"name"`
	Description      string              `json:"description"`
	Tags             []string            `json:"tags"`
	DefaultQueueType string              `json:"default_queue_type"`
	Tracing          bool                `json:"tracing"`
	ClusterState     map[string]string   `json:"cluster_state"` // by node
	MessageStats     channelMessageStats `json:"message_stats"`
	depth
}

// vhost is the virtual host that the path names.
func (s *Server) vhost(r *http.Request) (*vhosts.VHost, error) {
	if v, ok := s.options.Hosts.VHost(param(r, "vhost")); ok {
		return v, nil
	}
	return nil, errNotFound
}

// wantedHosts are the virtual hosts a list is about: the one that the path names,
// or all.
func (s *Server) wantedHosts(r *http.Request) ([]*vhosts.VHost, error) {
	if param(r, "vhost") == "" {
		return s.options.Hosts.VHosts(), nil
	}
	v, err := s.vhost(r)
	return []*vhosts.VHost{v}, err
}

func (s *Server) virtualHosts(r *http.Request) (any, error) {
	traffic := s.options.AMQP.MessageTotals()
	list := []virtualHost{}
	for _, v := range s.options.Hosts.VHosts() {
		counts, rates := s.hostCounts(v, traffic, nil), s.rates.of(subject{vhost: v.Name()})
		list = append(list, virtualHost{
			Name: v.Name(), Tags: []string{}, DefaultQueueType: s.options.Hosts.DefaultQueueType(),
			ClusterState: map[string]string{s.options.Node: "running"},
			MessageStats: newChannelMessageStats(&counts, rates), depth: newDepth(&counts, rates),
		})
	}
	return listing(r, list, func(v *virtualHost) string { return v.Name })
}
