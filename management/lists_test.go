// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestPagination(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, ch := s.dial("guest", "/", "")
	for i := range 5 {
		s.declare(ch, fmt.Sprintf("queue-%d", i), false, false, nil)
	}
	s.declare(ch, "Other.1", false, false, nil)
	for _, tc := range []struct {
		query                                   string
		filtered, items, page, pages, size, all int
	}{
		{"page=1", 6, 6, 1, 1, 100, 6},
		{"page=1&page_size=4", 6, 4, 1, 2, 4, 6},
		{"page=2&page_size=4", 6, 2, 2, 2, 4, 6},
		{"page=1&name=QUEUE", 5, 5, 1, 1, 100, 6},
		{"page=2&page_size=2&name=queue-&use_regex=false", 5, 2, 2, 3, 2, 6},
		{"page=1&name=r.1$&use_regex=true", 1, 1, 1, 1, 100, 6},
		{"page=1&name=.", 1, 1, 1, 1, 100, 6},
		{"page=1&name=none", 0, 0, 1, 1, 100, 6},
	} {
		got := get[object](s, "/api/queues/%2F?"+tc.query)
		if list, ok := got["items"].([]any); !ok || len(list) != tc.items {
			t.Errorf("%s: items are %v", tc.query, got["items"])
		}
		delete(got, "items")
		want := object{
			"filtered_count": float64(tc.filtered), "item_count": float64(tc.items), "page": float64(tc.page),
			"page_count": float64(tc.pages), "page_size": float64(tc.size), "total_count": float64(tc.all),
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", tc.query, got, want)
		}
	}
	for query, kind := range map[string]string{
		"page=2":                       "page_out_of_range",
		"page=0":                       "bad_request",
		"page=x":                       "bad_request",
		"page=1&page_size=-1":          "bad_request",
		"page=1&page_size=501":         "bad_request",
		"page=1&name=(&use_regex=true": "bad_request",
	} {
		response, body := s.request(http.MethodGet, "/api/queues?"+query, "guest")
		if response.StatusCode != http.StatusBadRequest || !strings.HasPrefix(string(body), `{"error":"`+kind+`"`) {
			t.Errorf("%s: %s %s, want 400 %s", query, response.Status, body, kind)
		}
	}
}

func TestSort(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, ch := s.dial("guest", "/", "")
	for i, name := range []string{"c", "a", "b"} {
		s.declare(ch, name, false, name == "b", nil)
		s.publish(ch, name, i+9) // 9, 10, 11: not the order of their digits
	}
	for query, want := range map[string]string{
		"":                                "a b c",
		"sort=name&sort_reverse=true":     "c b a",
		"sort=messages":                   "c a b",
		"sort=messages&sort_reverse=true": "b a c",
		"sort=message_stats.publish":      "c a b",
		"sort=message_stats.publish&page=1&page_size=2": "c a",
		"sort=owner_pid_details.name":                   "a c b", // a and c have none
		"sort=exclusive&sort_reverse=true":              "b a c",
		"sort=no.such.field":                            "a b c",
	} {
		var list []object
		if strings.Contains(query, "page") {
			for _, item := range get[object](s, "/api/queues?"+query)["items"].([]any) {
				list = append(list, item.(object))
			}
		} else {
			list = get[[]object](s, "/api/queues?"+query)
		}
		var names []string
		for _, q := range list {
			names = append(names, q["name"].(string))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

func TestColumns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, ch := s.dial("guest", "/", "")
	s.declare(ch, "q", false, false, nil)
	s.publish(ch, "q", 1)
	want := object{
		"name": "q", "messages": 1., "message_stats": object{"publish": 1., "ack": 0.},
		"arguments": object{"x-queue-type": "classic"},
	}
	const columns = "?columns=name,messages,message_stats.publish,message_stats.ack,message_stats.none,arguments.x-queue-type,none"
	if got := get[[]object](s, "/api/queues"+columns); !reflect.DeepEqual(got, []object{want}) {
		t.Errorf("list: %v, want %v", got, want)
	}
	if got := get[object](s, "/api/queues/%2F/q"+columns); !reflect.DeepEqual(got, want) {
		t.Errorf("single: %v, want %v", got, want)
	}
	if got := get[object](s, "/api/queues?page=1&columns=name"); !reflect.DeepEqual(got["items"], []any{object{"name": "q"}}) {
		t.Errorf("page: %v", got["items"])
	}
}
