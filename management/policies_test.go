// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/vhosts"
)

// policySite is a broker with a user for each tag that matters to policies.
func policySite(t *testing.T) *site {
	t.Helper()
	user := func(name string, tags ...string) vhosts.User {
		return vhosts.User{Name: name, Password: name, Tags: tags, LoopbackOnly: true}
	}
	s, _ := startSite(t, lagomq.Options{
		VHosts: []string{"/", "a/b"},
		Users:  []vhosts.User{user("guest", "administrator"), user("maker", "policymaker"), user("worker", "management")},
	})
	return s
}

// reason is why a request was refused.
func reason(t *testing.T, body []byte) string {
	t.Helper()
	var refusal struct{ Reason string }
	if err := json.Unmarshal(body, &refusal); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return refusal.Reason
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	s := policySite(t)
	_, ch := s.dial("guest", "/", "")
	s.declare(ch, "orders", true, false, nil)
	s.must(ch.ExchangeDeclare("orders", "fanout", true, false, false, false, nil))
	const path = "/api/policies/%2F/limits"
	const body = `{"pattern":"^orders","definition":{"max-length":5,"dead-letter-exchange":""},"apply-to":"all","priority":7}`
	for _, step := range []struct {
		method, path, user, body string
		status                   int
	}{
		{"GET", path, "guest", "", 404},
		{"PUT", path, "maker", body, 201},
		{"PUT", path, "maker", body, 204},
		{"PUT", "/api/operator-policies/%2F/guard", "guest", `{"pattern":"","definition":{"max-length":3}}`, 201},
		{"GET", path, "maker", "", 200},
	} {
		response, text := s.send(step.method, step.path, step.user, step.body)
		if response.StatusCode != step.status || (step.status == 201 || step.status == 204) && len(text) > 0 {
			t.Fatalf("%s %s: %s %s, want %d", step.method, step.path, response.Status, text, step.status)
		}
	}
	limits := object{"vhost": "/", "name": "limits", "pattern": "^orders", "apply-to": "all", "priority": 7.,
		"definition": object{"max-length": 5., "dead-letter-exchange": ""}}
	guard := object{"vhost": "/", "name": "guard", "pattern": "", "apply-to": "all", "priority": 0., "definition": object{"max-length": 3.}}
	for path, want := range map[string]any{
		"/api/policies": []any{limits}, "/api/policies/%2F": []any{limits}, "/api/policies/a%2Fb": []any{}, path: limits,
		"/api/operator-policies": []any{guard}, "/api/operator-policies/%2F": []any{guard}, "/api/operator-policies/%2F/guard": guard,
	} {
		if got := get[any](s, path); !reflect.DeepEqual(got, want) {
			t.Errorf("GET %s: %v, want %v", path, got, want)
		}
	}
	queue := get[object](s, "/api/queues/%2F/orders")
	if queue["policy"] != "limits" || queue["operator_policy"] != "guard" ||
		!reflect.DeepEqual(queue["effective_policy_definition"], object{"max-length": 3., "dead-letter-exchange": ""}) {
		t.Errorf("the queue has %v, %v, %v", queue["policy"], queue["operator_policy"], queue["effective_policy_definition"])
	}
	if exchange := get[object](s, "/api/exchanges/%2F/orders"); exchange["policy"] != "limits" {
		t.Errorf("the exchange has %v", exchange["policy"])
	}
	for _, path := range []string{path, "/api/operator-policies/%2F/guard"} {
		for _, want := range []int{204, 404} {
			if response, text := s.send("DELETE", path, "guest", ""); response.StatusCode != want {
				t.Errorf("DELETE %s: %s %s, want %d", path, response.Status, text, want)
			}
		}
	}
	if queue := get[object](s, "/api/queues/%2F/orders"); queue["policy"] != nil || queue["operator_policy"] != nil ||
		!reflect.DeepEqual(queue["effective_policy_definition"], object{}) {
		t.Errorf("the queue keeps %v, %v, %v", queue["policy"], queue["operator_policy"], queue["effective_policy_definition"])
	}
}

func TestPoliciesRefused(t *testing.T) {
	t.Parallel()
	s := policySite(t)
	const user, operator = "/api/policies/%2F/p", "/api/operator-policies/%2F/p"
	const good = `{"pattern":"","definition":{"max-length":3}}`
	for _, test := range []struct {
		method, path, user, body string
		status                   int
		reason                   string
	}{
		{"PUT", user, "worker", good, 401, "User not authorised to access object"},
		{"GET", user, "worker", "", 401, "User not authorised to access object"},
		{"DELETE", user, "worker", "", 401, "User not authorised to access object"},
		{"PUT", operator, "maker", good, 401, "Not administrator user"},
		{"DELETE", operator, "maker", "", 401, "Not administrator user"},
		{"PUT", "/api/policies/absent/p", "guest", good, 404, "Not Found"},
		{"GET", "/api/policies/absent", "guest", "", 404, "Not Found"},
		{"PUT", user, "guest", "", 400, "not_json"},
		{"PUT", user, "guest", "[]", 400, "not_json"},
		{"PUT", user, "guest", "null", 400, "not_json"},
		{"PUT", user, "guest", good + "x", 400, "not_json"},
		{"PUT", user, "guest", `{}`, 400, "[{key_missing,pattern},\n {key_missing,definition}]"},
		{"PUT", user, "guest", `{"pattern":""}`, 400, "[{key_missing,definition}]"},
		{"PUT", user, "guest", `{"pattern":"","definition":{}}`, 400, "Validation failed\n\nno policy provided\n"},
		{"PUT", user, "guest", `{"pattern":"","definition":{"ha-mode":"all"}}`, 400,
			"Validation failed\n\n[{<<\"ha-mode\">>,<<\"all\">>}] are not recognised policy settings\n"},
		{"PUT", user, "guest", `{"pattern":"","definition":{"max-length":5.5}}`, 400, "Validation failed\n\n5.5 is not a valid maximum length\n"},
		{"PUT", user, "guest", `{"pattern":"","definition":{"max-length":9223372036854775808}}`, 400,
			"Validation failed\n\n9.223372036854776e+18 is not a valid maximum length\n"},
		{"PUT", user, "guest", `{"pattern":1,"definition":[],"priority":"high","apply-to":1}`, 400, "Validation failed\n\n" +
			"definition must be a dictionary: []\napply-to should be binary, actually was 1\n" +
			"pattern should be a binary but was 1\npriority should be a number, actually was \"high\"\n"},
		{"PUT", user, "guest", `{"pattern":"","definition":{"max-length":1},"x":"` + strings.Repeat("x", 1<<20) + `"}`, 400,
			"the request's body cannot be read: http: request body too large"},
	} {
		response, body := s.send(test.method, test.path, test.user, test.body)
		if got := reason(t, body); response.StatusCode != test.status || got != test.reason {
			t.Errorf("%s %s by %s with %.80s: %s %q, want %d %q", test.method, test.path, test.user, test.body,
				response.Status, got, test.status, test.reason)
		}
	}
	if list := get[[]object](s, "/api/policies"); len(list) != 0 {
		t.Errorf("there are policies: %v", list)
	}
	if response, _ := s.request(http.MethodGet, "/api/operator-policies", "worker"); response.StatusCode != http.StatusOK {
		t.Errorf("a list is refused: %s", response.Status)
	}
}
