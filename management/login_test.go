// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"errors"
	"log/slog"
	"net/http"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts"
)

// Users that are restricted to the broker's machine are so for HTTP too.
func TestLoginFromElsewhere(t *testing.T) {
	t.Parallel()
	logger := slog.New(slog.DiscardHandler)
	store, err := persistence.Open(persistence.Options{Dir: "memory", FS: vfs.NewMem(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := vhosts.Open(vhosts.Options{Store: store, Logger: logger, Users: vhosts.NewUsers(
		vhosts.User{Name: "local", Tags: []string{tagAdministrator}, LoopbackOnly: true},
		vhosts.User{Name: "remote", Tags: []string{tagPolicymaker}},
	)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		hosts.Close()
		if err := store.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	s := &Server{options: Options{Hosts: hosts, Logger: logger}}
	for _, tc := range []struct {
		user, from string
		want       *problem
	}{
		{"local", "127.0.0.1:1", nil},
		{"local", "[::1]:1", nil},
		{"local", "192.0.2.1:1", errNoLogin},
		{"local", "[2001:db8::1]:1", errNoLogin},
		{"remote", "192.0.2.1:1", nil},
	} {
		r := &http.Request{RemoteAddr: tc.from, Header: http.Header{}}
		r.SetBasicAuth(tc.user, "")
		if _, got := s.login(r); !errors.Is(got, tc.want) {
			t.Errorf("%s from %s: %v, want %v", tc.user, tc.from, got, tc.want)
		}
	}
}
