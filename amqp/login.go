// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"bytes"
	"errors"
	"fmt"
	"net"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
)

// errBadResponse says that a response cannot be read at all, which clients are
// not told, as opposed to one with wrong credentials.
var errBadResponse = errors.New("bad authentication response")

// authenticate checks the response of an authentication mechanism (RabbitMQ 4.3,
// connection.start-ok). The error is for the log.
func (h *handshaker) authenticate(mechanism string, response []byte) (*vhosts.User, error) {
	var name, password string
	var err error
	switch mechanism {
	case "PLAIN":
		name, password, err = plainResponse(response)
	case "AMQPLAIN":
		name, password, err = amqplainResponse(response)
	default:
		err = fmt.Errorf("%w: mechanism %q is not supported", errBadResponse, mechanism)
	}
	if err != nil {
		return nil, err
	}
	var remote net.IP
	if address, ok := h.net.RemoteAddr().(*net.TCPAddr); ok {
		remote = address.IP
	}
	return h.server.options.Hosts.Users().Authenticate(name, password, remote)
}

// plainResponse reads "NUL user NUL password" (RFC 4616 without an authorization
// identity).
func plainResponse(response []byte) (name, password string, err error) {
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 || len(parts[0]) != 0 {
		return "", "", fmt.Errorf("%w: it is not a NUL, the user, a NUL and the password", errBadResponse)
	}
	return string(parts[1]), string(parts[2]), nil
}

// amqplainResponse reads the contents of a field table with LOGIN and PASSWORD.
func amqplainResponse(response []byte) (name, password string, err error) {
	table, perr := wire.ParseTable(response)
	if perr != nil {
		return "", "", fmt.Errorf("%w: it is not a field table: %w", errBadResponse, perr)
	}
	login, _ := table.Get("LOGIN")
	secret, _ := table.Get("PASSWORD")
	name, hasName := login.(string)
	password, hasPassword := secret.(string)
	if !hasName || !hasPassword {
		return "", "", fmt.Errorf("%w: it lacks LOGIN or PASSWORD", errBadResponse)
	}
	return name, password, nil
}
