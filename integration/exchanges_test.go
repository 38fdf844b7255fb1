// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/rabbitmq/amqp091-go"
)

// drain gets everything that is ready in a queue.
func drain(t testing.TB, channel *amqp091.Channel, queue string) (bodies []string) {
	t.Helper()
	for {
		delivery, ok, err := channel.Get(queue, true)
		if err != nil {
			t.Fatalf("get from %s: %v", queue, err)
		}
		if !ok {
			return bodies
		}
		bodies = append(bodies, string(delivery.Body))
	}
}

func TestPredeclaredExchanges(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	for name, kind := range map[string]string{
		"amq.direct": "direct", "amq.fanout": "fanout", "amq.topic": "topic", "amq.headers": "headers", "amq.match": "headers",
	} {
		if err := channel.ExchangeDeclare(name, kind, true, false, false, false, nil); err != nil {
			t.Fatalf("declare %s: %v", name, err)
		}
	}
	if err := channel.ExchangeDeclarePassive("amq.rabbitmq.trace", "topic", true, false, true, false, nil); err != nil {
		t.Error(err)
	}
}

// A passive declaration compares nothing.
func TestExchangeDeclarePassive(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	must(t, channel.ExchangeDeclare("x", "topic", true, false, true, false, amqp091.Table{"alternate-exchange": "other"}))
	must(t, channel.ExchangeDeclarePassive("x", "no type", false, true, false, false, nil))
	must(t, channel.ExchangeDeclare("x", "topic", true, false, true, false, amqp091.Table{"alternate-exchange": "other", "x-more": "y"}))
}

// TestRouting publishes one message to each exchange and looks at the queues it
// reaches.
func TestRouting(t *testing.T) {
	t.Parallel()
	type binding struct {
		queue, key string
		args       amqp091.Table
	}
	headers := func(match string, fields ...any) amqp091.Table {
		table := amqp091.Table{}
		if match != "" {
			table["x-match"] = match
		}
		for i := 0; i < len(fields); i += 2 {
			table[fields[i].(string)] = fields[i+1]
		}
		return table
	}
	for _, test := range []struct {
		name, kind string
		bindings   []binding
		key        string
		headers    amqp091.Table
		want       []string
	}{
		{"Direct", "direct", []binding{{queue: "a", key: "k"}, {queue: "b", key: "K"}, {queue: "c", key: "k"}}, "k", nil, []string{"a", "c"}},
		{"Fanout", "fanout", []binding{{queue: "a", key: "k"}, {queue: "b"}}, "other", nil, []string{"a", "b"}},
		{"OncePerQueue", "fanout", []binding{{queue: "a", key: "1"}, {queue: "a", key: "2"}}, "", nil, []string{"a"}},
		{"TopicStar", "topic", []binding{{queue: "a", key: "*.b"}, {queue: "b", key: "*"}, {queue: "c", key: "a.*"}}, "a.b", nil, []string{"a", "c"}},
		{"TopicHash", "topic", []binding{{queue: "a", key: "#"}, {queue: "b", key: "a.#"}, {queue: "c", key: "a.b.#.c"}}, "a.b.c", nil, []string{"a", "b", "c"}},
		{"TopicEmptyKey", "topic", []binding{{queue: "a", key: "#"}, {queue: "b", key: "*"}, {queue: "c"}}, "", nil, []string{"a", "c"}},
		{"TopicEmptyWord", "topic", []binding{{queue: "a", key: "a.*.b"}, {queue: "b", key: "a.b"}}, "a..b", nil, []string{"a"}},
		{"HeadersAll", "headers", []binding{
			{queue: "a", args: headers("all", "h", "v", "n", int64(1))}, {queue: "b", args: headers("", "h", "v", "x-more", "y")},
			{queue: "c", args: headers("all", "h", "v", "other", nil)}, {queue: "d", args: headers("all")},
		}, "", amqp091.Table{"h": "v", "n": int16(1)}, []string{"a", "b", "d"}},
		{"HeadersAny", "headers", []binding{
			{queue: "a", args: headers("any", "h", "v", "n", int64(2))}, {queue: "b", args: headers("any", "n", "1")},
			{queue: "c", args: headers("any", "n", nil)}, {queue: "d", args: headers("any")},
		}, "", amqp091.Table{"h": "v", "n": int16(1)}, []string{"a", "c"}},
		{"HeadersWithX", "headers", []binding{
			{queue: "a", args: headers("all-with-x", "x-h", "v")}, {queue: "b", args: headers("all-with-x", "x-h", "other")},
			{queue: "c", args: headers("any-with-x", "x-h", "v")}, {queue: "d", args: headers("any", "x-h", "v")},
		}, "", amqp091.Table{"x-h": "v"}, []string{"a", "c"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			channel := openChannel(t, dial(t, startBroker(t)))
			must(t, channel.ExchangeDeclare("x", test.kind, false, false, false, false, nil))
			queues := map[string]bool{}
			for _, b := range test.bindings {
				queues[b.queue] = true
				declareQueue(t, channel, b.queue)
				must(t, channel.QueueBind(b.queue, b.key, "x", false, b.args))
			}
			must(t, channel.PublishWithContext(t.Context(), "x", test.key, false, false, amqp091.Publishing{Headers: test.headers}))
			var got []string
			for queue := range queues {
				for range drain(t, channel, queue) {
					got = append(got, queue)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("reached %v, want %v", got, test.want)
			}
			for _, b := range test.bindings {
				must(t, channel.QueueUnbind(b.queue, b.key, "x", b.args))
			}
			must(t, channel.ExchangeDelete("x", true, false)) // no binding is left
		})
	}
}

func TestExchangeToExchange(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	channel := openChannel(t, connection)
	for _, name := range []string{"a", "b", "c"} {
		must(t, channel.ExchangeDeclare(name, "topic", false, false, name == "c", false, nil))
		declareQueue(t, channel, "q"+name)
		must(t, channel.QueueBind("q"+name, "#", name, false, nil))
	}
	must(t, channel.ExchangeBind("b", "to.*", "a", false, nil))
	must(t, channel.ExchangeBind("c", "#", "b", false, nil)) // an internal exchange may be bound
	must(t, channel.ExchangeBind("a", "#", "c", false, nil)) // a cycle
	must(t, channel.ExchangeBind("b", "to.*", "a", false, nil))
	publish(t, channel, "a", "to.b", "1")
	publish(t, channel, "a", "stay", "2")
	publish(t, channel, "b", "any", "3")
	for queue, want := range map[string][]string{"qa": {"1", "2", "3"}, "qb": {"1", "3"}, "qc": {"1", "3"}} {
		if got := drain(t, channel, queue); !reflect.DeepEqual(got, want) {
			t.Errorf("%s got %v, want %v", queue, got, want)
		}
	}
	must(t, channel.ExchangeUnbind("b", "to.*", "a", false, nil))
	publish(t, channel, "a", "to.b", "4")
	if got := drain(t, channel, "qb"); got != nil {
		t.Errorf("got %v through a binding that was removed", got)
	}
	// Deleting an exchange deletes its bindings on both sides.
	must(t, channel.ExchangeDelete("c", false, false))
	must(t, channel.ExchangeDelete("b", false, false))
	_, err := channel.QueueDelete("qb", false, false, false)
	must(t, err)
	closed := channel.NotifyClose(make(chan *amqp091.Error, 1))
	publish(t, channel, "b", "any", "5")
	wantException(t, next(t, closed), amqp091.NotFound, "NOT_FOUND - no exchange 'b' in vhost '/'")
}

func TestAlternateExchange(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	channel := openChannel(t, connection)
	alternate := func(name string) amqp091.Table { return amqp091.Table{"alternate-exchange": name} }
	must(t, channel.ExchangeDeclare("first", "direct", false, false, false, false, alternate("second")))
	publish(t, channel, "first", "any", "before the alternate exists")
	must(t, channel.ExchangeDeclare("second", "direct", false, false, false, false, alternate("third")))
	must(t, channel.ExchangeDeclare("third", "fanout", false, false, true, false, alternate("first"))) // a loop, and internal
	for queue, exchange := range map[string]string{"q1": "first", "q2": "second", "q3": "third"} {
		declareQueue(t, channel, queue)
		must(t, channel.QueueBind(queue, queue, exchange, false, nil))
	}
	returns := channel.NotifyReturn(make(chan amqp091.Return, 1))
	for _, key := range []string{"q1", "q2", "nobody"} {
		must(t, channel.PublishWithContext(t.Context(), "first", key, true, false, amqp091.Publishing{Body: []byte(key)}))
	}
	for queue, want := range map[string][]string{"q1": {"q1"}, "q2": {"q2"}, "q3": {"nobody"}} {
		if got := drain(t, channel, queue); !reflect.DeepEqual(got, want) {
			t.Errorf("%s got %v, want %v", queue, got, want)
		}
	}
	nothing(t, returns) // the alternate took it
	must(t, channel.QueueUnbind("q3", "q3", "third", nil))
	must(t, channel.PublishWithContext(t.Context(), "first", "nobody", true, false, amqp091.Publishing{}))
	if r := next(t, returns); r.Exchange != "first" || r.ReplyText != "NO_ROUTE" {
		t.Errorf("returned %+v", r)
	}
}

func TestCarbonCopies(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	for _, queue := range []string{"to", "cc", "bcc"} {
		declareQueue(t, channel, queue)
	}
	must(t, channel.PublishWithContext(t.Context(), "", "to", false, false, amqp091.Publishing{
		Headers: amqp091.Table{"CC": []any{"cc", "to", "missing"}, "BCC": []any{"bcc"}, "other": "kept"},
		Body:    []byte("m"), ContentType: "text/plain",
	}))
	want := amqp091.Table{"CC": []any{"cc", "to", "missing"}, "other": "kept"}
	for _, queue := range []string{"to", "cc", "bcc"} {
		delivery, ok, err := channel.Get(queue, true)
		if err != nil || !ok {
			t.Fatalf("%s got nothing, %v", queue, err)
		}
		if !reflect.DeepEqual(delivery.Headers, want) || delivery.RoutingKey != "to" || delivery.ContentType != "text/plain" {
			t.Errorf("%s got headers %v, key %s, type %s", queue, delivery.Headers, delivery.RoutingKey, delivery.ContentType)
		}
		if delivery.MessageCount != 0 {
			t.Errorf("%s got %d copies", queue, delivery.MessageCount+1)
		}
	}
}

func TestAutoDeleteExchange(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	channel := openChannel(t, connection)
	exists := func(name string) bool {
		return openChannel(t, connection).ExchangeDeclarePassive(name, "fanout", false, true, false, false, nil) == nil
	}
	declare := func(name string) { must(t, channel.ExchangeDeclare(name, "fanout", false, true, false, false, nil)) }

	declare("never-bound")
	declare("x")
	declare("y")
	must(t, channel.ExchangeBind("never-bound", "", "y", false, nil))
	declareQueue(t, channel, "q1")
	declareQueue(t, channel, "q2")
	must(t, channel.QueueBind("q1", "", "x", false, nil))
	must(t, channel.QueueBind("q2", "", "x", false, nil))
	must(t, channel.QueueUnbind("q1", "", "x", nil))
	if !exists("x") {
		t.Fatal("the exchange went before its last binding")
	}
	_, err := channel.QueueDelete("q2", false, false, false)
	must(t, err)
	if exists("x") {
		t.Error("the exchange stayed after its last binding")
	}
	must(t, channel.ExchangeUnbind("never-bound", "", "y", false, nil))
	if exists("y") {
		t.Error("the exchange stayed after its last binding to an exchange")
	}
	if !exists("never-bound") {
		t.Error("an exchange that was never a source went")
	}
}

// A topic exchange goes on while bindings change beside it.
func TestBindingsChangeUnderTraffic(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	publisher, other := openChannel(t, dial(t, broker)), openChannel(t, dial(t, broker))
	declareQueue(t, publisher, "all")
	must(t, publisher.QueueBind("all", "#", "amq.topic", false, nil))
	const rounds = 100
	for i := range rounds {
		key := fmt.Sprintf("k.%d", i)
		name := fmt.Sprint("q", i%3)
		declareQueue(t, other, name)
		must(t, other.QueueBind(name, key, "amq.topic", false, nil))
		publish(t, publisher, "amq.topic", key, key)
		waiting(t, publisher, "all") // answered after the publish took effect
		if got := drain(t, other, name); !slices.Equal(got, []string{key}) {
			t.Fatalf("got %v, want %s", got, key)
		}
		must(t, other.QueueUnbind(name, key, "amq.topic", nil))
	}
	if got := drain(t, publisher, "all"); len(got) != rounds {
		t.Errorf("got %d messages, want %d", len(got), rounds)
	}
}
