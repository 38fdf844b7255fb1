// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"net/http"

	"github.com/lagomq/lagomq/vhosts"
)

// binding is a binding as RabbitMQ 4.3 shows it.
type binding struct {
	Source          string         `json:"source"` // "" for the default exchange
	VHost           string         `json:"vhost"`
	Destination     string         `json:"destination"`
	DestinationType string         `json:"destination_type"` // queue or exchange
	RoutingKey      string         `json:"routing_key"`
	Arguments       map[string]any `json:"arguments"`
	PropertiesKey   string         `json:"properties_key"`
}

// newBindings shows bindings of one virtual host.
func newBindings(v *vhosts.VHost, bindings []vhosts.Binding) []binding {
	list := make([]binding, len(bindings))
	for i := range bindings {
		b := &bindings[i]
		list[i] = binding{
			Source: textJSON(b.Source), VHost: v.Name(), Destination: textJSON(b.Destination), DestinationType: "queue",
			RoutingKey: textJSON(b.Key), Arguments: tableJSON(b.Arguments), PropertiesKey: b.PropertiesKey(),
		}
		if b.ToExchange {
			list[i].DestinationType = "exchange"
		}
	}
	return list
}

func listBindings(r *http.Request, list []binding) (any, error) {
	return listing(r, list, func(b *binding) string { return b.Destination })
}

func (s *Server) bindings(r *http.Request) (any, error) {
	hosts, err := s.wantedHosts(r)
	if err != nil {
		return nil, err
	}
	list := []binding{}
	for _, v := range hosts {
		list = append(list, newBindings(v, v.Bindings())...)
	}
	return listBindings(r, list)
}
