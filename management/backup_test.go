// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// postBackup asks for a backup as a user.
func (s *site) postBackup(user, body string) (status int, answer object) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost,
		"http://"+s.management.String()+"/api/lagomq/backup", strings.NewReader(body))
	s.must(err)
	r.SetBasicAuth(user, user)
	response, err := s.http.Do(r)
	s.must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	s.must(err)
	if err := json.Unmarshal(text, &answer); err != nil {
		s.t.Fatalf("%s: %v in %s", response.Status, err, text)
	}
	return response.StatusCode, answer
}

func TestBackup(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	status, answer := s.postBackup("guest", `{"dir": "/backups/monday/"}`)
	if status != http.StatusOK || answer["dir"] != "/backups/monday" || answer["files"].(float64) < 3 || answer["bytes"].(float64) <= 0 {
		t.Fatalf("%d %v", status, answer)
	}
	for name, c := range map[string]struct {
		user, body string
		status     int
		reason     string
	}{
		"again":         {"guest", `{"dir": "/backups/monday"}`, http.StatusBadRequest, "is not empty"},
		"relative":      {"guest", `{"dir": "backups"}`, http.StatusBadRequest, "absolute"},
		"no directory":  {"guest", `{}`, http.StatusBadRequest, "absolute"},
		"not JSON":      {"guest", `dir=/backups`, http.StatusBadRequest, "JSON"},
		"too long":      {"guest", `{"dir": "/` + strings.Repeat("x", 100<<10) + `"}`, http.StatusBadRequest, "too large"},
		"monitoring":    {"watcher", `{"dir": "/backups/tuesday"}`, http.StatusUnauthorized, "administrator"},
		"not a manager": {"nobody", `{"dir": "/backups/tuesday"}`, http.StatusUnauthorized, "management"},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := s.postBackup(c.user, c.body)
			if reason, _ := answer["reason"].(string); status != c.status || !strings.Contains(reason, c.reason) {
				t.Errorf("%d %v, want %d with %q", status, answer, c.status, c.reason)
			}
		})
	}
}
