// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"testing"
)

// FuzzListing asks for lists in any way: what comes is JSON, or an error that says
// that the request is wrong.
func FuzzListing(f *testing.F) {
	for _, query := range []string{
		"", "page=1&page_size=1&name=q&use_regex=true&sort=name&sort_reverse=true&columns=name,message_stats.ack",
		"page=9", "page=1&name=(&use_regex=true", "sort=owner_pid_details.name", "sort=message_stats", "sort=arguments.a&columns=arguments,arguments.a.b",
		"columns=a..b,.,owner_pid_details.peer_port,messages.x", "sort=policy&columns=policy",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		list := []queue{
			{Name: "b", Arguments: map[string]any{"a": map[string]any{"b": 1}}},
			{Name: "a", OwnerDetails: &connectionDetails{Name: "c"}, Arguments: map[string]any{"a": "text"}},
			{Name: "c"},
		}
		r := &http.Request{URL: &url.URL{RawQuery: query}}
		answer, err := listing(r, list, func(q *queue) string { return q.Name })
		if err != nil {
			if p := new(problem); !errors.As(err, &p) || p.status != http.StatusBadRequest {
				t.Fatalf("%q: %v", query, err)
			}
			return
		}
		if _, err := json.Marshal(answer); err != nil {
			t.Fatalf("%q: %v", query, err)
		}
	})
}
