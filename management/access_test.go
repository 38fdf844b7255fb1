// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"net/http"
	"net/url"
	"regexp"
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
		{"worker", "/api/lagomq/storage", 401, `{"error":"not_authorised","reason":"Not monitor user"}`},
		{"watcher", "/api/lagomq/storage", 200, ""},
		{"", "/api/health/checks/alarms", 401, `{"error":"not_authorized","reason":"Not_Authorized"}`},
		{"worker", "/api/health/checks/alarms", 200, `{"status":"ok"}`},
		{"worker", "/api/health/checks/local-alarms", 200, `{"status":"ok"}`},
		{"worker", "/api/health/checks/virtual-hosts", 200, `{"status":"ok"}`},
		{"worker", "/api/health/checks/storage", 200, `{"status":"ok"}`},
		{"", "/healthz", 200, `{"status":"ok"}`},
		{"", "/readyz", 200, `{"status":"ok"}`},
	} {
		response, body := s.request(http.MethodGet, tc.path, tc.user)
		if response.StatusCode != tc.status || tc.body != "" && strings.TrimSpace(string(body)) != tc.body {
			t.Errorf("%q gets %s: %s %s, want %d %s", tc.user, tc.path, response.Status, body, tc.status, tc.body)
		}
		asks := strings.HasPrefix(response.Header.Get("WWW-Authenticate"), "Basic ")
		if wanted := tc.status == 401 && !strings.Contains(tc.body, "monitor"); asks != wanted {
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
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/page.css": "text/css; charset=utf-8", "/page.js": "text/javascript; charset=utf-8",
	} {
		if r, _ := s.request(http.MethodGet, path, ""); r.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without a login: %s", path, r.Status)
		}
		response, body := s.request(http.MethodGet, path, "guest")
		if response.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, response.Status)
		}
		for name, want := range map[string]string{
			"Content-Type": kind, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
			"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		} {
			if got := response.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		policy := response.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: Content-Security-Policy is %q", path, policy)
		}
		if outside := regexp.MustCompile(`(?:https?:)?//[a-z0-9-]+\.[a-z]`).Find(body); outside != nil {
			t.Errorf("%s refers to another site: %s", path, outside)
		}
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
