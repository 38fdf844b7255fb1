// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

// shares says which queue got which messages, by their bodies, and fails if one
// of n messages "0", "1" ... is missing or came twice.
func shares(t *testing.T, channel *amqp091.Channel, queues []string, n int) (bodies map[string]string, counts map[string]int) {
	t.Helper()
	bodies, counts = map[string]string{}, map[string]int{}
	for _, queue := range queues {
		for _, body := range drain(t, channel, queue) {
			if other, twice := bodies[body]; twice {
				t.Fatalf("message %s is in %s and %s", body, other, queue)
			}
			bodies[body] = queue
			counts[queue]++
		}
	}
	if len(bodies) != n {
		t.Fatalf("%d messages of %d were routed", len(bodies), n)
	}
	return bodies, counts
}

// TestHashExchanges publishes the same values twice and expects them to take the
// same ways, in about the shares that the weights ask for.
func TestHashExchanges(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, kind string
		args       amqp091.Table
		weights    []string
		value      func(p *amqp091.Publishing, i int) (key string)
		want       [3]int // of 900
	}{
		{"RoutingKey", "x-consistent-hash", nil, []string{"1", "1", "1"},
			func(_ *amqp091.Publishing, i int) string { return strconv.Itoa(i) }, [3]int{300, 300, 300}},
		{"Weights", "x-consistent-hash", nil, []string{"10", "20", "60"},
			func(_ *amqp091.Publishing, i int) string { return strconv.Itoa(i) }, [3]int{100, 200, 600}},
		{"Header", "x-consistent-hash", amqp091.Table{"hash-header": "customer"}, []string{"1", "1", "1"},
			func(p *amqp091.Publishing, i int) string {
				p.Headers = amqp091.Table{"customer": int32(i), "other": "x"}
				return ""
			}, [3]int{300, 300, 300}},
		{"MessageID", "x-consistent-hash", amqp091.Table{"hash-property": "message_id"}, []string{"1", "1", "1"},
			func(p *amqp091.Publishing, i int) string { p.MessageId = strconv.Itoa(i); return "" }, [3]int{300, 300, 300}},
		{"CorrelationID", "x-consistent-hash", amqp091.Table{"hash-property": "correlation_id"}, []string{"1", "1", "1"},
			func(p *amqp091.Publishing, i int) string { p.CorrelationId = strconv.Itoa(i); return "" }, [3]int{300, 300, 300}},
		{"Timestamp", "x-consistent-hash", amqp091.Table{"hash-property": "timestamp"}, []string{"1", "1", "1"},
			func(p *amqp091.Publishing, i int) string { p.Timestamp = time.Unix(int64(i)+1, 0); return "" }, [3]int{300, 300, 300}},
		{"NothingToHash", "x-consistent-hash", amqp091.Table{"hash-header": "customer"}, []string{"1", "1", "1"},
			func(_ *amqp091.Publishing, i int) string { return strconv.Itoa(i) }, [3]int{}},
		{"Modulus", "x-modulus-hash", nil, []string{"", "any", "#"},
			func(_ *amqp091.Publishing, i int) string { return strconv.Itoa(i) }, [3]int{300, 300, 300}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			channel := openChannel(t, dial(t, startBroker(t)))
			must(t, channel.ExchangeDeclare("x", test.kind, true, false, false, false, test.args))
			queues := []string{"a", "b", "c"}
			for i, queue := range queues {
				declareQueue(t, channel, queue)
				must(t, channel.QueueBind(queue, test.weights[i], "x", false, nil))
			}
			const n = 900
			publishAll := func() {
				for i := range n {
					p := amqp091.Publishing{Body: []byte(strconv.Itoa(i))}
					key := test.value(&p, i)
					must(t, channel.PublishWithContext(t.Context(), "x", key, true, false, p))
				}
			}
			publishAll()
			first, counts := shares(t, channel, queues, n)
			if test.want == [3]int{} {
				if len(counts) != 1 {
					t.Errorf("messages without the value went to %v", counts)
				}
			} else {
				for i, queue := range queues {
					if got, want := counts[queue], test.want[i]; got < want*3/4 || got > want*5/4 {
						t.Errorf("%s got %d messages, want about %d", queue, got, want)
					}
				}
			}
			publishAll()
			for body, queue := range first {
				if again, _ := shares(t, channel, queues, n); again[body] != queue {
					t.Fatalf("message %s went to %s, then to %s", body, queue, again[body])
				}
				break
			}
			// With one binding less only messages of that queue take another way.
			must(t, channel.QueueUnbind("c", test.weights[2], "x", nil))
			publishAll()
			after, _ := shares(t, channel, queues[:2], n)
			for body, queue := range first {
				if test.kind == "x-consistent-hash" && queue != "c" && after[body] != queue {
					t.Fatalf("message %s went from %s to %s when c was unbound", body, queue, after[body])
				}
			}
		})
	}
}

func TestRandomExchanges(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"x-random", "x-local-random"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			channel := openChannel(t, dial(t, startBroker(t)))
			must(t, channel.ExchangeDeclare("x", kind, true, false, false, false, amqp091.Table{"alternate-exchange": "amq.fanout"}))
			declareQueue(t, channel, "spare")
			must(t, channel.QueueBind("spare", "", "amq.fanout", false, nil))
			publish(t, channel, "x", "k", "nobody is bound")
			if got := drain(t, channel, "spare"); len(got) != 1 {
				t.Errorf("the alternate exchange got %v", got)
			}
			var queues []string
			for i := range 10 {
				queue := fmt.Sprint("q", i)
				queues = append(queues, queue)
				declareQueue(t, channel, queue)
				must(t, channel.QueueBind(queue, "", "x", false, nil))
			}
			const n = 1000
			for i := range n {
				must(t, channel.PublishWithContext(t.Context(), "x", "k", true, false, amqp091.Publishing{Body: []byte(strconv.Itoa(i))}))
			}
			_, counts := shares(t, channel, queues, n)
			for _, queue := range queues { // 100 on average, with a standard deviation below 10
				if counts[queue] < 40 || counts[queue] > 160 {
					t.Errorf("%s got %d of %d messages", queue, counts[queue], n)
				}
			}
		})
	}
}

// TestHashExchangeChain leads from a fanout through a hash to two topics, one of
// which passes on what it cannot route.
func TestHashExchangeChain(t *testing.T) {
	t.Parallel()
	channel := openChannel(t, dial(t, startBroker(t)))
	must(t, channel.ExchangeDeclare("hash", "x-consistent-hash", false, false, true, false, nil))
	must(t, channel.ExchangeDeclare("one", "topic", false, false, true, false, amqp091.Table{"alternate-exchange": "rest"}))
	must(t, channel.ExchangeDeclare("two", "fanout", false, false, true, false, nil))
	must(t, channel.ExchangeDeclare("rest", "fanout", false, false, true, false, nil))
	must(t, channel.ExchangeBind("hash", "", "amq.fanout", false, nil))
	must(t, channel.ExchangeBind("one", "5", "hash", false, nil))
	must(t, channel.ExchangeBind("two", "5", "hash", false, nil))
	queues := []string{"even", "odd", "two"}
	for queue, source := range map[string]string{"even": "one", "odd": "rest", "two": "two"} {
		declareQueue(t, channel, queue)
		must(t, channel.QueueBind(queue, "*.even", source, false, nil))
	}
	const n = 400
	for i := range n {
		key := fmt.Sprintf("%d.%s", i, []string{"even", "odd"}[i%2])
		must(t, channel.PublishWithContext(t.Context(), "amq.fanout", key, true, false, amqp091.Publishing{Body: []byte(strconv.Itoa(i))}))
	}
	bodies, counts := shares(t, channel, queues, n)
	if counts["even"] < 50 || counts["odd"] < 50 || counts["two"] < 100 {
		t.Errorf("shares are %v", counts)
	}
	for body, queue := range bodies {
		if i, _ := strconv.Atoi(body); queue != "two" && queue != []string{"even", "odd"}[i%2] {
			t.Errorf("message %s is in %s", body, queue)
		}
	}
}

// TestRecentHistory binds queues to an exchange that has seen messages.
func TestRecentHistory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broker := startBroker(t, onDisk(dir))
	channel := openChannel(t, dial(t, broker))
	must(t, channel.ExchangeDeclare("x", "x-recent-history", true, false, false, false, nil))
	must(t, channel.Confirm(false))
	returns := channel.NotifyReturn(make(chan amqp091.Return, 100))
	send := func(body string, p amqp091.Publishing) {
		t.Helper()
		p.Body = []byte(body)
		confirm, err := channel.PublishWithDeferredConfirmWithContext(t.Context(), "x", "key of "+body, true, false, p)
		must(t, err)
		if confirmed, err := confirm.WaitContext(t.Context()); err != nil || !confirmed {
			t.Fatalf("message %s: confirmed %t, %v", body, confirmed, err)
		}
	}
	bodies := func(first, last int) (list []string) {
		for n := first; n <= last; n++ {
			list = append(list, strconv.Itoa(n))
		}
		return list
	}
	for n := range 25 {
		send(strconv.Itoa(n), amqp091.Publishing{DeliveryMode: amqp091.Persistent, MessageId: strconv.Itoa(n)})
		if r := next(t, returns); string(r.Body) != strconv.Itoa(n) || r.ReplyText != "NO_ROUTE" {
			t.Fatalf("returned %+v", r)
		}
	}
	send("secret", amqp091.Publishing{Headers: amqp091.Table{"x-recent-history-no-store": true}})
	next(t, returns)
	for i, queue := range []string{"a", "b"} {
		declareQueue(t, channel, queue)
		must(t, channel.QueueBind(queue, "any", "x", false, nil))
		must(t, channel.QueueBind(queue, "any", "x", false, nil)) // nothing new
		if got, want := drain(t, channel, queue), bodies(5+i, 24+i); !slices.Equal(got, want) {
			t.Errorf("%s begins with %v, want %v", queue, got, want)
		}
		send(strconv.Itoa(25+i), amqp091.Publishing{DeliveryMode: amqp091.Persistent, MessageId: strconv.Itoa(25 + i)})
	}
	if got := drain(t, channel, "a"); !slices.Equal(got, bodies(25, 26)) {
		t.Errorf("a goes on with %v", got)
	}
	must(t, channel.ExchangeBind("amq.topic", "", "x", false, nil))
	shutDown(t, broker)

	channel = openChannel(t, dial(t, startBroker(t, onDisk(dir))))
	declareQueue(t, channel, "c")
	must(t, channel.QueueBind("c", "", "x", false, nil))
	delivery, ok, err := channel.Get("c", true)
	if err != nil || !ok || delivery.Redelivered || delivery.Exchange != "x" || delivery.RoutingKey != "key of 7" ||
		delivery.MessageId != "7" || delivery.DeliveryMode != amqp091.Persistent {
		t.Errorf("after a restart the history begins with %+v, %v", delivery, err)
	}
	if got := drain(t, channel, "c"); !slices.Equal(got, bodies(8, 26)) {
		t.Errorf("after a restart it goes on with %v", got)
	}
}

// TestExchangeTypeErrors are the texts of RabbitMQ 4.3.
func TestExchangeTypeErrors(t *testing.T) {
	t.Parallel()
	connection := dial(t, startBroker(t))
	setup := openChannel(t, connection)
	must(t, setup.ExchangeDeclare("hash", "x-consistent-hash", true, false, false, false, nil))
	must(t, setup.ExchangeDeclare("local", "x-local-random", true, false, false, false, nil))
	declareQueue(t, setup, "q")
	_, err := setup.QueueDeclare("quorum", true, false, false, false, amqp091.Table{"x-queue-type": "quorum"})
	must(t, err)
	declare := func(kind string, args amqp091.Table) func(*amqp091.Channel) error {
		return func(c *amqp091.Channel) error { return c.ExchangeDeclare("new", kind, true, false, false, false, args) }
	}
	bind := func(queue, key, exchange string) func(*amqp091.Channel) error {
		return func(c *amqp091.Channel) error { return c.QueueBind(queue, key, exchange, false, nil) }
	}
	for text, do := range map[string]func(*amqp091.Channel) error{
		"unknown exchange type 'x-nonsense'":                                            declare("x-nonsense", nil),
		"exchange type 'x-jms-topic' is not supported":                                  declare("x-jms-topic", nil),
		"Unsupported property: user_id":                                                 declare("x-consistent-hash", amqp091.Table{"hash-property": "user_id"}),
		"hash-header and hash-property are mutually exclusive":                          declare("x-consistent-hash", amqp091.Table{"hash-header": "h", "hash-property": "message_id"}),
		"invalid type 'signedint' for arg 'hash-header' in exchange 'new' in vhost '/'": declare("x-consistent-hash", amqp091.Table{"hash-header": int32(1)}),
		"Invalid argument 0, 'x-recent-history-length' must be a positive integer":      declare("x-recent-history", amqp091.Table{"x-recent-history-length": int32(0)}),
		`The binding key must be an integer: <<"x">>`:                                   bind("q", "x", "hash"),
		"The binding key must be greater than 0":                                        bind("q", "0", "hash"),
		"The binding key must not exceed 10000":                                         bind("q", "10001", "hash"),
		"Non empty binding 'k' key not permitted":                                       bind("q", "k", "local"),
		"Queue type rabbit_quorum_queue not valid for this exchange type":               bind("quorum", "", "local"),
		"Destination not found":                                                         func(c *amqp091.Channel) error { return c.ExchangeBind("hash", "", "local", false, nil) },
	} {
		channel := openChannel(t, connection)
		closed := channel.NotifyClose(make(chan *amqp091.Error, 1))
		if do(channel) == nil {
			t.Errorf("%s: no error", text)
			continue
		}
		wantException(t, next(t, closed), amqp091.PreconditionFailed, "PRECONDITION_FAILED - "+text)
	}
	must(t, setup.ExchangeDeclarePassive("hash", "", false, false, false, false, nil))
	must(t, setup.QueueBind("q", "10000", "hash", false, nil))
	must(t, setup.QueueBind("q", "", "local", false, nil))
}

// The bindings of a durable hash exchange, and thereby the ways of its messages,
// are the same after a restart.
func TestHashExchangeRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	queues := []string{"a", "b", "c", "d"}
	const n = 200
	var before map[string]string
	for run := range 2 {
		broker := startBroker(t, onDisk(dir))
		channel := openChannel(t, dial(t, broker))
		if run == 0 {
			must(t, channel.ExchangeDeclare("x", "x-consistent-hash", true, false, false, false, nil))
			for i, queue := range queues {
				_, err := channel.QueueDeclare(queue, true, false, false, false, nil)
				must(t, err)
				must(t, channel.QueueBind(queue, strconv.Itoa(i+1), "x", false, nil))
			}
		}
		for i := range n {
			publish(t, channel, "x", strconv.Itoa(i), strconv.Itoa(i))
		}
		bodies, _ := shares(t, channel, queues, n)
		for body, queue := range before {
			if bodies[body] != queue {
				t.Fatalf("message %s went to %s, after a restart to %s", body, queue, bodies[body])
			}
		}
		before = bodies
		shutDown(t, broker)
	}
}
