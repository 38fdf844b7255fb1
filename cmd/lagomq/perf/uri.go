// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"errors"
	"fmt"
	"net"
	"net/url"
)

// endpoint is where and as whom to connect.
type endpoint struct {
	addr     string // host:port
	host     string // for the verification of certificates
	tls      bool
	user     string
	password string
	vhost    string
}

// parseURI reads an amqp or amqps URI as RabbitMQ describes them. What it leaves
// out is guest, guest, 127.0.0.1, the standard port and the virtual host "/"; a
// path of a single slash also means "/".
func parseURI(s string) (endpoint, error) {
	u, err := url.Parse(s)
	if err != nil {
		var detail *url.Error
		if errors.As(err, &detail) {
			err = detail.Err // without the URI, which may hold a password
		}
		return endpoint{}, fmt.Errorf("parse URI: %w", err)
	}
	e := endpoint{host: u.Hostname(), user: "guest", password: "guest", vhost: "/"}
	port := u.Port()
	switch u.Scheme {
	case "amqp":
		if port == "" {
			port = "5672"
		}
	case "amqps":
		e.tls = true
		if port == "" {
			port = "5671"
		}
	default:
		return endpoint{}, fmt.Errorf("parse URI: scheme %q is neither amqp nor amqps", u.Scheme)
	}
	if e.host == "" {
		e.host = "127.0.0.1"
	}
	e.addr = net.JoinHostPort(e.host, port)
	if u.User != nil {
		e.user = u.User.Username()
		e.password, _ = u.User.Password()
	}
	if len(u.Path) > 1 {
		e.vhost = u.Path[1:]
	}
	return e, nil
}
