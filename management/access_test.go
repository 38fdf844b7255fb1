// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestAuthentication(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, tc := range []struct {
		user, path string
		status     int
		body       string
	}{
		{"", "/api/overview", 401, `{"error":"not_authorized","reason":"Not_Authorized"}`},
		{"stranger", "/api/overview", 401, `{"error":"not_authorized","reason":"Not_Authorized"}`},
		{"nobody", "/api/overview", 401, `{"error":"not_authorised","reason":"Not management user"}`},
		{"", "/", 401, `{"error":"not_authorized","reason":"Not_Authorized"}`},
		{"worker", "/api/nodes", 401, `{"error":"not_authorised","reason":"Not monitor user"}`},
		{"worker", "/api/overview", 200, ""},
		{"watcher", "/api/nodes", 200, ""},
		{"guest", "/api/nodes", 200, ""},
		{"", "/healthz", 200, `{"status":"ok"}`},
		{"", "/readyz", 200, `{"status":"ok"}`},
	} {
		response, body := s.request(http.MethodGet, tc.path, tc.user)
		if response.StatusCode != tc.status || tc.body != "" && strings.TrimSpace(string(body)) != tc.body {
			t.Errorf("%q gets %s: %s %s, want %d %s", tc.user, tc.path, response.Status, body, tc.status, tc.body)
		}
		asks := strings.HasPrefix(response.Header.Get("WWW-Authenticate"), "Basic ")
		if wanted := tc.status == 401 && tc.path != "/api/nodes"; asks != wanted {
			t.Errorf("%q gets %s: a browser is asked for a password: %t", tc.user, tc.path, asks)
		}
	}
}

// A user with tag management sees what is his own; monitoring sees everything.
func TestVisibility(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, _ = s.dial("guest", "/", "")
	_, _ = s.dial("worker", "/", "")
	for user, want := range map[string]int{"guest": 2, "watcher": 2, "worker": 1} {
		for _, path := range []string{"/api/connections", "/api/channels", "/api/vhosts/%2F/channels", "/api/vhosts/%2F/connections"} {
			if list := getAs[[]object](s, user, path); len(list) != want {
				t.Errorf("%s gets %d at %s, want %d", user, len(list), path, want)
			}
		}
	}
	for _, c := range get[[]object](s, "/api/connections") {
		want := http.StatusUnauthorized
		if c["user"] == "worker" {
			want = http.StatusNoContent
		}
		path := "/api/connections/" + url.PathEscape(c["name"].(string))
		if r, _ := s.request(http.MethodDelete, path, "worker"); r.StatusCode != want {
			t.Errorf("worker closes a connection of %s: %s, want %d", c["user"], r.Status, want)
		}
	}
}

func TestPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	response, body := s.request(http.MethodGet, "/", "guest")
	if response.StatusCode != http.StatusOK || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("%s %s", response.Status, response.Header.Get("Content-Type"))
	}
	if !bytes.Contains(body, []byte("<title>LagoMQ</title>")) || bytes.Contains(body, []byte("//cdn")) {
		t.Errorf("unexpected page: %.200s", body)
	}
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
	} {
		if got := response.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if policy := response.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("Content-Security-Policy: %q", policy)
	}
}

// Other sites must not make a logged-in browser change anything.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, _ = s.dial("guest", "/", "")
	path := "/api/connections/" + url.PathEscape(get[[]object](s, "/api/connections")[0]["name"].(string))
	for header, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"} {
		if r, _ := s.request(http.MethodDelete, path, "guest", header, value); r.StatusCode != http.StatusForbidden {
			t.Errorf("DELETE with %s: %s", header, r.Status)
		}
	}
}
