// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"net/http"

	"github.com/lagomq/lagomq/vhosts"
)

// defaultExchange is how paths name the exchange whose name is empty.
const defaultExchange = "amq.default"

// exchange is an exchange as RabbitMQ 4.3 shows it.
type exchange struct {
	Name       string         `json:"name"` // "" for the default exchange
	VHost      string         `json:"vhost"`
	Type       string         `json:"type"`
	Durable    bool           `json:"durable"`
	AutoDelete bool           `json:"auto_delete"`
	Internal   bool           `json:"internal"`
	Arguments  map[string]any `json:"arguments"`
	Policy     *string        `json:"policy"`
	// MessagesDelayed is how many messages it holds back, as the plugin for delayed
	// messages shows it.
	MessagesDelayed uint64 `json:"messages_delayed"`
	// LagoMQ's own: duplicates dropped since it was made or recovered.
	Deduplicated uint64 `json:"deduplicated"`
}

func newExchange(v *vhosts.VHost, x *vhosts.Exchange) exchange {
	return exchange{
		Name: textJSON(x.Name), VHost: v.Name(), Type: x.Type,
		Durable: x.Durable, AutoDelete: x.AutoDelete, Internal: x.Internal, Arguments: tableJSON(x.Arguments),
		Policy: textOrNull(v.ExchangePolicies(x.Name).Policy()), MessagesDelayed: v.Delayed(x.Name), Deduplicated: v.ExchangeDuplicates(x.Name),
	}
}

func (s *Server) exchanges(r *http.Request) (any, error) {
	hosts, err := s.wantedHosts(r)
	if err != nil {
		return nil, err
	}
	list := []exchange{}
	for _, v := range hosts {
		for _, x := range v.Exchanges() {
			list = append(list, newExchange(v, x))
		}
	}
	return listing(r, list, func(x *exchange) string { return x.Name })
}

// wantedExchange is the exchange that the path names.
func (s *Server) wantedExchange(r *http.Request) (*vhosts.VHost, *vhosts.Exchange, error) {
	v, err := s.vhost(r)
	if err != nil {
		return nil, nil, err
	}
	name := param(r, "exchange")
	if name == defaultExchange {
		name = ""
	}
	for _, x := range v.Exchanges() {
		if x.Name == name {
			return v, x, nil
		}
	}
	return nil, nil, errNotFound
}

func (s *Server) exchange(r *http.Request) (any, error) {
	v, x, err := s.wantedExchange(r)
	if err != nil {
		return nil, err
	}
	return single(r, newExchange(v, x))
}

// sourceBindings lists the bindings that have the exchange as their source.
func (s *Server) sourceBindings(r *http.Request) (any, error) {
	v, x, err := s.wantedExchange(r)
	if err != nil {
		return nil, err
	}
	return listBindings(r, newBindings(v, v.BindingsFrom(x.Name)))
}

// destinationBindings lists the bindings that lead to the exchange.
func (s *Server) destinationBindings(r *http.Request) (any, error) {
	v, x, err := s.wantedExchange(r)
	if err != nil {
		return nil, err
	}
	return listBindings(r, newBindings(v, v.BindingsTo(x.Name, true)))
}
