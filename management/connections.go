// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"slices"

	"github.com/lagomq/lagomq/amqp"
)

// connection is an AMQP connection as RabbitMQ 4.3 shows it.
type connection struct {
	Name             string         `json:"name"`
	Node             string         `json:"node"`
	User             string         `json:"user"`
	UserWhoPerformed string         `json:"user_who_performed_action"`
	VHost            string         `json:"vhost"`
	UserProvidedName string         `json:"user_provided_name,omitempty"`
	ClientProperties map[string]any `json:"client_properties"`
	Type             string         `json:"type"`
	Protocol         string         `json:"protocol"`
	AuthMechanism    string         `json:"auth_mechanism"`
	State            string         `json:"state"` // see connectionState
	SSL              bool           `json:"ssl"`
	PeerHost         string         `json:"peer_host"`
	PeerPort         uint16         `json:"peer_port"`
	Host             string         `json:"host"`
	Port             uint16         `json:"port"`
	Channels         int            `json:"channels"`
	ChannelMax       int            `json:"channel_max"`
	FrameMax         int            `json:"frame_max"`    // bytes
	Timeout          int            `json:"timeout"`      // heartbeat in seconds, 0 for none
	ConnectedAt      int64          `json:"connected_at"` // milliseconds since 1970
	RecvOct          uint64         `json:"recv_oct"`     // bytes
	RecvOctDetails   rate           `json:"recv_oct_details"`
	SendOct          uint64         `json:"send_oct"`
	SendOctDetails   rate           `json:"send_oct_details"`
	SendPend         int            `json:"send_pend"` // bytes waiting to be written
}

func (s *Server) newConnection(c *amqp.ConnectionStats) connection {
	rates := s.rates.of(subject{connection: c.ID})
	view := connection{
		Name: c.Name, Node: s.options.Node, User: c.User, UserWhoPerformed: c.User, VHost: c.VHost,
		UserProvidedName: textJSON(c.UserProvidedName), ClientProperties: tableJSON(c.ClientProperties),
		Type: "network", Protocol: "AMQP 0-9-1", AuthMechanism: c.Mechanism, State: s.connectionState(c),
		Channels: len(c.Channels), ChannelMax: c.ChannelMax, FrameMax: c.FrameMax,
		Timeout: int(c.Heartbeat.Seconds()), ConnectedAt: c.ConnectedAt.UnixMilli(),
		RecvOct: c.Received, RecvOctDetails: rate{rates[bytesReceived]},
		SendOct: c.Sent, SendOctDetails: rate{rates[bytesSent]}, SendPend: c.OutboundBytes,
	}
	view.PeerHost, view.PeerPort = hostPort(c.Peer)
	view.Host, view.Port = hostPort(c.Local)
	return view
}

// connectionState is the state of a connection in the words of RabbitMQ 4.3:
// blocked after it has published while there is an alarm, blocking before it has,
// flow while it is not read from for other reasons.
func (s *Server) connectionState(c *amqp.ConnectionStats) string {
	switch {
	case c.Blocked:
		return "blocked"
	case s.options.Hosts.Alarms().Raised():
		return "blocking"
	case c.Throttled:
		return "flow"
	}
	return "running"
}

// hostPort splits a TCP address; the host is empty if it is none.
func hostPort(a net.Addr) (host string, port uint16) {
	if a == nil {
		return "", 0
	}
	parsed, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return "", 0
	}
	return parsed.Addr().Unmap().String(), parsed.Port()
}

// visibleConnections are snapshots of the connections the user may see, sorted by
// name.
func (s *Server) visibleConnections(r *http.Request) []amqp.ConnectionStats {
	user := userOf(r)
	list := s.options.AMQP.Connections()
	if !monitors(user) {
		list = slices.DeleteFunc(list, func(c amqp.ConnectionStats) bool { return c.User != user.Name })
	}
	slices.SortFunc(list, func(a, b amqp.ConnectionStats) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// visibleConnection is the connection the path names.
func (s *Server) visibleConnection(r *http.Request) (*amqp.ConnectionStats, error) {
	return s.visibleNamed(r, param(r, "connection"))
}

// visibleNamed is the connection of that name, if the user may see it.
func (s *Server) visibleNamed(r *http.Request, name string) (*amqp.ConnectionStats, error) {
	for _, c := range s.options.AMQP.Connections() {
		if c.Name != name {
			continue
		}
		if user := userOf(r); !monitors(user) && c.User != user.Name {
			return nil, errNotAllowed
		}
		return &c, nil
	}
	return nil, errNotFound
}

// inVHost keeps the connections to one virtual host, in place.
func inVHost(list []amqp.ConnectionStats, vhost string) []amqp.ConnectionStats {
	return slices.DeleteFunc(list, func(c amqp.ConnectionStats) bool { return c.VHost != vhost })
}

func (s *Server) connections(r *http.Request) (any, error) {
	return s.listConnections(r, s.visibleConnections(r))
}

func (s *Server) hostConnections(r *http.Request) (any, error) {
	v, err := s.vhost(r)
	if err != nil {
		return nil, err
	}
	return s.listConnections(r, inVHost(s.visibleConnections(r), v.Name()))
}

func (s *Server) listConnections(r *http.Request, found []amqp.ConnectionStats) (any, error) {
	list := make([]connection, len(found))
	for i := range found {
		list[i] = s.newConnection(&found[i])
	}
	return listing(r, list, func(c *connection) string { return c.Name })
}

func (s *Server) connection(r *http.Request) (any, error) {
	c, err := s.visibleConnection(r)
	if err != nil {
		return nil, err
	}
	return single(r, s.newConnection(c))
}

// closeConnection closes a connection; header X-Reason, if given, is what its
// client is told. The answer does not wait until it is closed.
func (s *Server) closeConnection(r *http.Request) (any, error) {
	c, err := s.visibleConnection(r)
	if err != nil {
		return nil, err
	}
	reason := cmp.Or(r.Header.Get("X-Reason"), "Closed via management plugin")
	if !s.options.AMQP.CloseConnection(c.Name, reason) {
		return nil, errNotFound // it was just closed
	}
	s.options.Logger.Info("connection closed by an operator", "connection", c.Name, "operator", userOf(r).Name, "reason", reason)
	return nil, nil
}
