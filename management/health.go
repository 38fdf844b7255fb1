// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import "net/http"

// health is the answer of the health checks, which need no login.
type health struct {
	Status string `json:"status"`
}

// healthy answers 200 while the broker can keep what it is given, else 503.
func (s *Server) healthy(*http.Request) (any, error) {
	if err := s.options.Hosts.Healthy(); err != nil {
		return nil, &problem{http.StatusServiceUnavailable, "unhealthy", err.Error()}
	}
	return health{"ok"}, nil
}

// ready answers 200 while the broker is healthy and takes connections of clients,
// else 503.
func (s *Server) ready(r *http.Request) (any, error) {
	if len(s.options.AMQP.Addresses()) == 0 {
		return nil, &problem{http.StatusServiceUnavailable, "not_ready", "no listener for AMQP clients"}
	}
	return s.healthy(r)
}
