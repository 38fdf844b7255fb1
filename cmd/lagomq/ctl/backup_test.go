// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestBackupCommand(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		answer string
		out    string
		err    string
	}{
		"made": {http.StatusOK, `{"dir":"/b","bytes":1234,"files":5,"seconds":0.25}`, "/b: 5 files, 1234 bytes, in 0.2 s\n", ""},
		"not empty": {http.StatusBadRequest, `{"error":"bad_request","reason":"back up: directory /b is not empty"}`, "",
			"the broker refuses: back up: directory /b is not empty"},
		"login":       {http.StatusUnauthorized, `{"error":"not_authorized","reason":"Not_Authorized"}`, "", "--user and --password"},
		"no LagoMQ":   {http.StatusNotFound, `<html>`, "", "is no LagoMQ broker"},
		"no reason":   {http.StatusBadGateway, `<html>`, "", "502 Bad Gateway"},
		"not JSON":    {http.StatusOK, `<html>`, "", "not understood"},
		"unavailable": {http.StatusServiceUnavailable, `{"error":"unavailable","reason":"store is closed"}`, "", "store is closed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var asked map[string]string
				if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked["dir"] != "/b" {
					t.Errorf("asked for %v, %v", asked, err)
				}
				if user, password, _ := r.BasicAuth(); user != "admin" || password != "secret" || r.URL.Path != "/prefix/api/lagomq/backup" || r.Method != http.MethodPost {
					t.Errorf("%s %s by %s", r.Method, r.URL.Path, user)
				}
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.answer))
			}))
			defer server.Close()
			out, err := run(t, "backup", "/b", "--url", server.URL+"/prefix/", "--user", "admin", "--password", "secret")
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || out != c.out {
				t.Errorf("%q, %v; want %q, %q", out, err, c.out, c.err)
			}
		})
	}
}

func TestBackupWithoutBroker(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = run(t, "backup", "/b", "--url", "http://"+addr)
	if err == nil || !strings.Contains(err.Error(), "no broker answers at http://"+addr) || !strings.Contains(err.Error(), "--management-addr") {
		t.Errorf("error %v", err)
	}
	if _, err := run(t, "backup", "/b", "--url", "localhost"); err == nil || !strings.Contains(err.Error(), "not a URL") {
		t.Errorf("error %v", err)
	}
	if _, err := run(t, "backup"); err == nil {
		t.Error("a backup to nowhere was made")
	}
}
