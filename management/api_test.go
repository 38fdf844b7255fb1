// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"
)

// check compares fields of an object, named by their path, with what they have to
// be. Numbers are float64, as encoding/json decodes them.
func check(t *testing.T, o object, want map[string]any) {
	t.Helper()
	for path, value := range want {
		var field any = o
		for name := range strings.SplitSeq(path, ".") {
			inner, ok := field.(object)
			if field = inner[name]; !ok {
				t.Errorf("%s: there is no object around %s", path, name)
			}
		}
		if !reflect.DeepEqual(field, value) {
			t.Errorf("%s is %#v, want %#v", path, field, value)
		}
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, ch := s.dial("guest", "/", "")
	s.declare(ch, "a/b %2F", true, false, amqp091.Table{"x-max-length": 10})
	s.publish(ch, "a/b %2F", 3)
	_, _, err := ch.Get("a/b %2F", false)
	s.must(err)
	want := map[string]any{
		"name": "a/b %2F", "vhost": "/", "type": "classic", "durable": true, "auto_delete": false, "exclusive": false,
		"arguments": object{"x-max-length": 10., "x-queue-type": "classic"}, "state": "running",
		"messages": 3., "messages_ready": 2., "messages_unacknowledged": 1., "message_bytes": 12.,
		"consumers": 0., "message_stats.publish": 3., "message_stats.get": 1., "message_stats.deliver_get": 1.,
	}
	check(t, get[object](s, "/api/queues/%2F/a%2Fb%20%252F"), want)
	list := get[[]object](s, "/api/queues/%2f/")
	if len(list) != 1 {
		t.Fatalf("queues of /: %v", list)
	}
	check(t, list[0], want)
	if list := get[[]object](s, "/api/queues/a%2Fb"); len(list) != 0 {
		t.Errorf("queues of a/b: %v", list)
	}
}

// TestQueueStatistics checks what is shown of how long messages were in a queue and of
// its priorities.
func TestQueueStatistics(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, ch := s.dial("guest", "/", "")
	s.declare(ch, "q", true, false, amqp091.Table{"x-max-priority": 2})
	s.publish(ch, "q", 3)
	_, _, err := ch.Get("q", true)
	s.must(err)
	q := get[object](s, "/api/queues/%2F/q")
	check(t, q, map[string]any{"backing_queue_status.priority_lengths": object{"0": 2., "1": 0., "2": 0.}, "time_in_queue_seconds.count": 1.})
	waited := q["time_in_queue_seconds"].(object)
	bounds, counts := waited["bounds"].([]any), waited["counts"].([]any)
	if len(counts) != len(bounds)+1 || bounds[0] != 0.001 || bounds[1] != 0.004 {
		t.Errorf("%d counts between bounds %v", len(counts), bounds)
	}
	s.declare(ch, "plain", true, false, nil)
	if status, ok := get[object](s, "/api/queues/%2F/plain")["backing_queue_status"]; ok {
		t.Errorf("a queue without priorities has %v", status)
	}
}

func TestExclusiveQueueAndConsumer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, ch := s.dial("guest", "a/b", "owner")
	s.declare(ch, "mine", false, true, nil)
	s.must(ch.Qos(7, 0, false))
	_, err := ch.Consume("mine", "tag", false, true, false, false, nil)
	s.must(err)
	connection := get[[]object](s, "/api/vhosts/a%2Fb/connections")[0]
	queue := get[object](s, "/api/queues/a%2Fb/mine")
	check(t, queue, map[string]any{
		"exclusive": true, "consumers": 1., "owner_pid_details.name": connection["name"],
		"owner_pid_details.peer_port": connection["peer_port"],
	})
	consumer := queue["consumer_details"].([]any)[0].(object)
	check(t, consumer, map[string]any{
		"consumer_tag": "tag", "queue": object{"name": "mine", "vhost": "a/b"}, "ack_required": true, "exclusive": true,
		"prefetch_count": 7., "active": true, "channel_details.name": connection["name"].(string) + " (1)",
	})
	for _, path := range []string{"/api/consumers", "/api/consumers/a%2Fb"} {
		if list := get[[]object](s, path); len(list) != 1 || !reflect.DeepEqual(list[0], consumer) {
			t.Errorf("GET %s: %v, want %v", path, list, consumer)
		}
	}
	if list := get[[]object](s, "/api/consumers/%2F"); len(list) != 0 {
		t.Errorf("consumers of /: %v", list)
	}
}

func TestConnectionAndChannel(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	connection, ch := s.dial("guest", "/", "client")
	s.declare(ch, "q", false, false, nil)
	s.must(ch.Qos(3, 0, true))
	s.publish(ch, "q", 2)
	name := connection.LocalAddr().String() + " -> " + connection.RemoteAddr().String()
	escaped := url.PathEscape(name)
	check(t, get[object](s, "/api/connections/"+escaped), map[string]any{
		"name": name, "user": "guest", "vhost": "/", "user_provided_name": "client",
		"client_properties.connection_name": "client", "protocol": "AMQP 0-9-1", "auth_mechanism": "PLAIN",
		"host": "127.0.0.1", "peer_host": "127.0.0.1", "ssl": false, "type": "network",
		"channels": 1., "channel_max": 2047., "frame_max": 131072.,
	})
	want := map[string]any{
		"name": name + " (1)", "number": 1., "connection_details.name": name, "user": "guest", "vhost": "/",
		"confirm": true, "transactional": false, "consumer_count": 0., "prefetch_count": 0., "global_prefetch_count": 3.,
		"messages_unconfirmed": 0., "message_stats.publish": 2., "message_stats.confirm": 2.,
	}
	check(t, get[object](s, "/api/channels/"+url.PathEscape(name+" (1)")), want)
	for _, path := range []string{"/api/channels", "/api/vhosts/%2F/channels", "/api/connections/" + escaped + "/channels"} {
		list := get[[]object](s, path)
		if len(list) != 1 {
			t.Fatalf("GET %s: %v", path, list)
		}
		check(t, list[0], want)
	}
	for _, missing := range []string{" (2)", " (70000)", " (x)", " (1", ""} {
		if r, _ := s.request(http.MethodGet, "/api/channels/"+url.PathEscape(name+missing), "guest"); r.StatusCode != http.StatusNotFound {
			t.Errorf("channel %q: %s", missing, r.Status)
		}
	}
}

func TestCloseConnection(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, reason, text string }{
		{"default", "", "CONNECTION_FORCED - Closed via management plugin"},
		{"with a reason", "100% of %s", "CONNECTION_FORCED - 100% of %s"},
		{"with a long reason", strings.Repeat("x", 300), "CONNECTION_FORCED - " + strings.Repeat("x", 232) + "..."},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			connection, _ := s.dial("guest", "/", "")
			closed := connection.NotifyClose(make(chan *amqp091.Error, 1))
			name := get[[]object](s, "/api/connections/")[0]["name"].(string)
			var headers []string
			if tc.reason != "" {
				headers = []string{"X-Reason", tc.reason}
			}
			response, body := s.request(http.MethodDelete, "/api/connections/"+url.PathEscape(name), "guest", headers...)
			if response.StatusCode != http.StatusNoContent || len(body) != 0 {
				t.Fatalf("%s %s", response.Status, body)
			}
			if err := <-closed; err == nil || err.Code != amqp091.ConnectionForced || err.Reason != tc.text {
				t.Errorf("client got %v, want 320 %q", err, tc.text)
			}
		})
	}
}

func TestExchangesAndBindings(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, ch := s.dial("guest", "/", "")
	s.must(ch.ExchangeDeclare("x", "topic", false, true, false, false, amqp091.Table{"alternate-exchange": "amq.fanout"}))
	s.declare(ch, "q", false, false, nil)
	s.must(ch.QueueBind("q", "a.#", "x", false, amqp091.Table{"n": int8(1)}))
	s.must(ch.ExchangeBind("x", "", "amq.fanout", false, nil))

	check(t, get[object](s, "/api/exchanges/%2F/x"), map[string]any{
		"name": "x", "vhost": "/", "type": "topic", "durable": false, "auto_delete": true, "internal": false,
		"arguments": object{"alternate-exchange": "amq.fanout"},
	})
	check(t, get[object](s, "/api/exchanges/%2F/amq.default"), map[string]any{"name": "", "type": "direct", "durable": true})
	if all, one := get[[]object](s, "/api/exchanges"), get[[]object](s, "/api/exchanges/%2F"); len(all) != 15 || len(one) != 8 {
		t.Errorf("%d exchanges, %d in /, want 15 and 8", len(all), len(one))
	}

	toQueue := get[[]object](s, "/api/exchanges/%2F/x/bindings/source")
	toExchange := get[[]object](s, "/api/exchanges/%2F/x/bindings/destination")
	implicit := get[[]object](s, "/api/exchanges/%2F/amq.default/bindings/source")
	if len(toQueue) != 1 || len(toExchange) != 1 || len(implicit) != 1 {
		t.Fatalf("bindings: %v, %v, %v", toQueue, toExchange, implicit)
	}
	check(t, toQueue[0], map[string]any{
		"source": "x", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": "a.#",
		"arguments": object{"n": 1.},
	})
	check(t, toExchange[0], map[string]any{
		"source": "amq.fanout", "destination": "x", "destination_type": "exchange", "routing_key": "", "properties_key": "~",
	})
	check(t, implicit[0], map[string]any{"source": "", "destination": "q", "routing_key": "q", "properties_key": "q"})
	for path, want := range map[string][]object{
		"/api/queues/%2F/q/bindings": {implicit[0], toQueue[0]},
		"/api/bindings":              {implicit[0], toExchange[0], toQueue[0]},
		"/api/bindings/%2F":          {implicit[0], toExchange[0], toQueue[0]},
		"/api/bindings/a%2Fb":        {},
	} {
		if list := get[[]object](s, path); !reflect.DeepEqual(list, want) {
			t.Errorf("GET %s: %v, want %v", path, list, want)
		}
	}
}

func TestOverview(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	connection, ch := s.dial("guest", "/", "")
	s.declare(ch, "q", false, false, nil)
	s.declare(ch, "gone", false, false, nil)
	_, err := ch.QueueDelete("gone", false, false, false)
	s.must(err)
	s.publish(ch, "q", 2)
	s.must(ch.Close()) // what it published still counts
	if ch, err = connection.Channel(); err != nil {
		t.Fatal(err)
	}
	s.publish(ch, "q", 1)
	check(t, get[object](s, "/api/overview"), map[string]any{
		"product_name": "LagoMQ", "rabbitmq_version": "4.3.5", "cluster_name": "lagomq", "erlang_version": "",
		"queue_totals.messages": 3., "queue_totals.messages_ready": 3., "queue_totals.messages_unacknowledged": 0.,
		"message_stats.publish": 3., "message_stats.confirm": 3., "message_stats.deliver_get": 0.,
		"object_totals":                   object{"connections": 1., "channels": 1., "exchanges": 14., "queues": 1., "consumers": 0.},
		"churn_rates.connection_created":  1.,
		"churn_rates.channel_created":     2.,
		"churn_rates.channel_closed":      1.,
		"churn_rates.queue_declared":      2.,
		"churn_rates.queue_created":       2.,
		"churn_rates.queue_deleted":       1.,
		"message_stats.publish_details":   object{"rate": 0.},
		"queue_totals.messages_details":   object{"rate": 0.},
		"churn_rates.connection_closed":   0.,
		"message_stats.return_unroutable": 0.,
	})
	list := get[[]object](s, "/api/vhosts")
	if len(list) != 2 {
		t.Fatalf("vhosts: %v", list)
	}
	check(t, list[0], map[string]any{"name": "/", "messages": 3., "message_stats.publish": 3.})
	check(t, list[1], map[string]any{"name": "a/b", "messages": 0., "message_stats.publish": 0.})
}

func TestErrors(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	notFound := `{"error":"Object Not Found","reason":"Not Found"}`
	for _, tc := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/api/nothing", 404, notFound},
		{"GET", "/api", 404, notFound},
		{"GET", "/nothing", 404, notFound},
		{"GET", "/api/queues/gone", 404, notFound},
		{"GET", "/api/queues/%2F/gone", 404, notFound},
		{"GET", "/api/queues/%2F/gone/bindings", 404, notFound},
		{"GET", "/api/queues/%2F/%00%FF", 404, notFound},
		{"GET", "/api/queues///", 404, notFound},
		{"GET", "/api/exchanges/%2F/gone", 404, notFound},
		{"GET", "/api/exchanges/gone/amq.direct/bindings/source", 404, notFound},
		{"GET", "/api/connections/gone", 404, notFound},
		{"DELETE", "/api/connections/gone", 404, notFound},
		{"GET", "/api/vhosts/gone/channels", 404, notFound},
		{"GET", "/api/vhosts/gone/connections", 404, notFound},
		{"GET", "/api/consumers/gone", 404, notFound},
		{"GET", "/api/bindings/gone", 404, notFound},
		{"POST", "/api/overview", 405, `{"error":"Method Not Allowed","reason":"Method Not Allowed"}`},
		{"DELETE", "/api/queues", 405, `{"error":"Method Not Allowed","reason":"Method Not Allowed"}`},
	} {
		response, body := s.request(tc.method, tc.path, "guest")
		if response.StatusCode != tc.status || strings.TrimSpace(string(body)) != tc.body {
			t.Errorf("%s %s: %s %s, want %d %s", tc.method, tc.path, response.Status, body, tc.status, tc.body)
		}
		if kind := response.Header.Get("Content-Type"); kind != "application/json" {
			t.Errorf("%s %s: Content-Type %q", tc.method, tc.path, kind)
		}
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	response, body := s.request(http.MethodHead, "/api/queues/%2F/", "guest")
	if response.StatusCode != http.StatusOK || len(body) != 0 {
		t.Errorf("%s %s", response.Status, body)
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, ch := s.dial("guest", "/", "\xff\x00")
	s.must(ch.ExchangeDeclare("x", "fanout", false, false, false, false, amqp091.Table{
		"bytes": []byte{0xfe}, "list": []any{int8(1), "two", nil}, "table": amqp091.Table{"t": true},
		"decimal": amqp091.Decimal{Scale: 2, Value: 314}, "double": 2.5,
	}))
	check(t, get[object](s, "/api/exchanges/%2F/x"), map[string]any{"arguments": object{
		"bytes": "Not UTF-8, base64 is: /g==", "list": []any{1., "two", nil}, "table": object{"t": true},
		"decimal": 3.14, "double": 2.5,
	}})
	check(t, get[[]object](s, "/api/connections")[0], map[string]any{"user_provided_name": "Not UTF-8, base64 is: /wA="})
}

func TestWhoami(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	check(t, get[object](s, "/api/whoami"), map[string]any{"name": "guest", "tags": []any{"administrator"}})
	_, body := s.request(http.MethodGet, "/api/whoami", "guest")
	if !json.Valid(body) {
		t.Errorf("not JSON: %s", body)
	}
}
