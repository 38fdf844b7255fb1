// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"context"
	"net"
	"net/http"
	"slices"

	"github.com/lagomq/lagomq/vhosts"
)

// RabbitMQ 4.3's user tags. Each of the first four opens the management API;
// administrator and monitoring also show what belongs to other users.
const (
	tagAdministrator = "administrator"
	tagMonitoring    = "monitoring"
	tagPolicymaker   = "policymaker"
	tagManagement    = "management"
)

var (
	errNoLogin    = &problem{http.StatusUnauthorized, "not_authorized", "Not_Authorized"}
	errNoManager  = &problem{http.StatusUnauthorized, "not_authorised", "Not management user"}
	errNoMonitor  = &problem{http.StatusUnauthorized, "not_authorised", "Not monitor user"}
	errNoAdmin    = &problem{http.StatusUnauthorized, "not_authorised", "Not administrator user"}
	errNotAllowed = &problem{http.StatusUnauthorized, "not_authorised", "User not authorised to access object"}
)

// userKey is the context key of the request's user.
type userKey struct{}

// authenticate lets users with a suitable tag through. What is wrong with a login
// is logged; the client is not told whether the user exists.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, err := s.login(r)
		if err != nil {
			w.Header().Set("WWW-Authenticate", `Basic realm="RabbitMQ Management", charset="UTF-8"`)
			s.write(w, err.status, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey{}, user)))
	})
}

func (s *Server) login(r *http.Request) (*vhosts.User, *problem) {
	name, password, given := r.BasicAuth()
	if !given {
		return nil, errNoLogin
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	user, err := s.options.Hosts.Users().Authenticate(name, password, net.ParseIP(host))
	if err != nil {
		s.options.Logger.Warn("management login refused", "remote", r.RemoteAddr, "error", err)
		return nil, errNoLogin
	}
	if !slices.ContainsFunc([]string{tagAdministrator, tagMonitoring, tagPolicymaker, tagManagement}, user.Has) {
		return nil, errNoManager
	}
	return user, nil
}

// userOf is who makes the request; authenticate has seen to it that there is one.
func userOf(r *http.Request) *vhosts.User { return r.Context().Value(userKey{}).(*vhosts.User) }

// monitors reports whether the user may see what belongs to others.
func monitors(u *vhosts.User) bool { return u.Has(tagAdministrator) || u.Has(tagMonitoring) }

type whoami struct {
	Name           string   `json:"name"`
	Tags           []string `json:"tags"`
	IsInternalUser bool     `json:"is_internal_user"`
}

func (s *Server) whoami(r *http.Request) (any, error) {
	u := userOf(r)
	return whoami{Name: u.Name, Tags: u.Tags, IsInternalUser: true}, nil
}
