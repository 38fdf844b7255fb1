// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"net/http"

	"github.com/lagomq/lagomq/vhosts"
)

// health is the answer of a health check that succeeded.
type health struct {
	Status   string   `json:"status"`             // ok, or degraded
	Problems []string `json:"problems,omitempty"` // why it is degraded
}

const (
	statusOK       = "ok"
	statusDegraded = "degraded"
	statusFailed   = "failed"
)

// healthy answers 200 while the broker can keep what it is given, else 503: what
// a restart would make better. Everything else that is wrong makes it degraded.
// This check needs no login, so it names no queues.
func (s *Server) healthy(*http.Request) (any, error) {
	if err := s.options.Hosts.Healthy(); err != nil {
		return nil, &problem{http.StatusServiceUnavailable, "unhealthy", err.Error()}
	}
	if problems := s.problems(); len(problems) > 0 {
		return health{statusDegraded, problems}, nil
	}
	return health{Status: statusOK}, nil
}

// problems are what the checks below report of a broker whose store is in service.
func (s *Server) problems() []string {
	problems := s.options.Hosts.Alarms().Reasons()
	switch n := len(s.options.Hosts.OutOfService()); n {
	case 0:
	case 1:
		problems = append(problems, "1 queue is out of service")
	default:
		problems = append(problems, fmt.Sprintf("%d queues are out of service", n))
	}
	if s.databaseFails() {
		problems = append(problems, reasonDatabase)
	}
	return problems
}

// ready answers 200 while the broker is healthy and takes connections of clients,
// else 503.
func (s *Server) ready(r *http.Request) (any, error) {
	if len(s.options.AMQP.Addresses()) == 0 {
		return nil, &problem{http.StatusServiceUnavailable, "not_ready", "no listener for AMQP clients"}
	}
	return s.healthy(r)
}

// failedCheck is the answer of RabbitMQ 4.3's health checks when they fail.
type failedCheck struct {
	Status       string        `json:"status"`
	Reason       string        `json:"reason"`
	Alarms       []alarm       `json:"alarms,omitempty"`
	VirtualHosts []string      `json:"virtual-hosts,omitempty"`
	Queues       []failedQueue `json:"queues,omitempty"` // LagoMQ's own
}

// Error implements error.
func (f *failedCheck) Error() string { return f.Reason }

func (f *failedCheck) statusCode() int { return http.StatusServiceUnavailable }

// alarm is an alarm in effect.
type alarm struct {
	Resource string `json:"resource"` // "disk space" as in RabbitMQ 4.3, or "store"
	Node     string `json:"node"`
}

// failedQueue is a queue that is out of service.
type failedQueue struct {
	Name   string `json:"name"`
	VHost  string `json:"vhost"`
	Reason string `json:"reason"`
}

// alarmsCheck fails while there are alarms. With one node the two checks of
// RabbitMQ's, for the cluster and for the node, differ in the reason only.
func (s *Server) alarmsCheck(reason string) endpoint {
	return func(*http.Request) (any, error) {
		var alarms []alarm
		for _, a := range s.options.Hosts.Alarms().Reasons() {
			alarms = append(alarms, alarm{resource(a), s.options.Node})
		}
		if alarms != nil {
			return nil, &failedCheck{Status: statusFailed, Reason: reason, Alarms: alarms}
		}
		return health{Status: statusOK}, nil
	}
}

// resource is what an alarm is about.
func resource(reason string) string {
	switch reason {
	case vhosts.AlarmDisk:
		return "disk space"
	case vhosts.AlarmStore:
		return "store"
	}
	return reason
}

// virtualHostsCheck fails while a virtual host has a queue that is out of service.
func (s *Server) virtualHostsCheck(*http.Request) (any, error) {
	failed := failedCheck{Status: statusFailed, Reason: "Some queues are out of service"}
	for _, q := range s.options.Hosts.OutOfService() { // sorted by virtual host
		if n := len(failed.VirtualHosts); n == 0 || failed.VirtualHosts[n-1] != q.VHost {
			failed.VirtualHosts = append(failed.VirtualHosts, q.VHost)
		}
		failed.Queues = append(failed.Queues, failedQueue{textJSON(q.Name), q.VHost, q.Damaged.Error()})
	}
	if failed.Queues != nil {
		return nil, &failed
	}
	return health{Status: statusOK}, nil
}

const reasonDatabase = "the database cannot be flushed or compacted, and tries again"

// storageCheck fails while the store is out of service, and while its database
// cannot write its tables: then memory and log grow, although confirms go on.
func (s *Server) storageCheck(*http.Request) (any, error) {
	if err := s.options.Store.Err(); err != nil {
		return nil, &failedCheck{Status: statusFailed, Reason: err.Error()}
	}
	if s.databaseFails() {
		return nil, &failedCheck{Status: statusFailed, Reason: reasonDatabase}
	}
	return health{Status: statusOK}, nil
}

// databaseFails says whether a flush or compaction has failed since the sample
// before the newest.
func (s *Server) databaseFails() bool {
	return s.rates.grows(databaseErrors, uint64(s.options.Store.BackgroundErrors()))
}
