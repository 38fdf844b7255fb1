// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
)

// managed makes a broker listen for management.
func managed(o *lagomq.Options) { o.ManagementAddr = "127.0.0.1:0" }

// manage makes a request to management as guest and checks its status.
func manage(t testing.TB, broker *lagomq.Broker, method, path, body string, status int) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+broker.ManagementAddr().String()+"/api"+path, strings.NewReader(body))
	must(t, err)
	r.SetBasicAuth("guest", "guest")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	must(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	if response.StatusCode != status {
		t.Fatalf("%s %s: %s %s, want %d", method, path, response.Status, text, status)
	}
	return string(text)
}

// A policy gives an exchange an alternate and a queue a dead letter exchange while
// both are used, and takes them away; it survives a restart.
func TestPolicy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broker := newBroker(t, managed, onDisk(dir))
	must(t, broker.Start(t.Context()))
	const path = "/policies/%2F/spare"
	setup := openChannel(t, dial(t, broker))
	for _, name := range []string{"spare", "orders", "dead"} {
		_, err := setup.QueueDeclare(name, true, false, false, false, nil)
		must(t, err)
	}
	must(t, setup.ExchangeDeclare("orders", "direct", true, false, false, false, nil))
	must(t, setup.QueueBind("spare", "", "amq.fanout", false, nil))

	check := func(what string, applied bool) {
		t.Helper()
		channel := openChannel(t, dial(t, broker))
		must(t, channel.Confirm(false))
		returns := channel.NotifyReturn(make(chan amqp091.Return, 1))
		confirm, err := channel.PublishWithDeferredConfirmWithContext(t.Context(), "orders", "nowhere", true, false, amqp091.Publishing{Body: []byte(what)})
		must(t, err)
		if acked, err := confirm.WaitContext(t.Context()); !acked || err != nil {
			t.Fatalf("%s: confirmed %t, %v", what, acked, err)
		}
		if !applied {
			if r := next(t, returns); r.ReplyText != "NO_ROUTE" {
				t.Errorf("%s: returned with %s", what, r.ReplyText)
			}
		} else if d, ok, err := channel.Get("spare", true); err != nil || !ok || string(d.Body) != what {
			t.Errorf("%s: the alternate exchange got %q, %t, %v", what, d.Body, ok, err)
		}
		publish(t, channel, "", "orders", what)
		d, ok, err := channel.Get("orders", false)
		if err != nil || !ok {
			t.Fatalf("%s: got %t, %v", what, ok, err)
		}
		must(t, d.Reject(false))
		if !applied {
			if messages, _ := waiting(t, channel, "dead"); messages != 0 {
				t.Errorf("%s: the message was dead-lettered", what)
			}
			return
		}
		eventually(t, what+": the dead letter", func() bool {
			d, ok, err = channel.Get("dead", true)
			must(t, err)
			return ok
		})
		if d.Headers["x-first-death-queue"] != "orders" || d.Headers["x-first-death-reason"] != "rejected" {
			t.Errorf("%s: the dead letter has %v", what, d.Headers)
		}
	}
	check("without a policy", false)
	manage(t, broker, "PUT", path, `{"pattern":"^orders$","priority":3,"definition":{
		"alternate-exchange":"amq.fanout","dead-letter-exchange":"","dead-letter-routing-key":"dead"}}`, 201)
	check("with a policy", true)
	shutDown(t, broker)

	broker = startBroker(t, managed, onDisk(dir))
	check("after a restart", true)
	manage(t, broker, "PUT", path, `{"pattern":"^orders$","definition":{"dead-letter-exchange":5}}`, 400)
	check("after a policy that is not valid", true)
	manage(t, broker, "DELETE", path, "", 204)
	check("without the policy", false)
}

// Policies change while messages go through queues that they apply to, and others
// are declared: no message is lost, none comes twice, and none is out of order.
func TestPolicyUnderTraffic(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, managed)
	const queues, messages = 4, 3000
	var traffic sync.WaitGroup
	failures := make(chan error, queues)
	for n := range queues {
		name := fmt.Sprintf("live.%d", n)
		in, out := openChannel(t, dial(t, broker)), openChannel(t, dial(t, broker))
		_, err := in.QueueDeclare(name, true, false, false, false, nil)
		must(t, err)
		must(t, out.Qos(50, 0, false))
		deliveries := consume(t, out, name)
		traffic.Go(func() {
			for i := range messages {
				if err := in.PublishWithContext(t.Context(), "", name, false, false, amqp091.Publishing{Body: fmt.Append(nil, i)}); err != nil {
					failures <- err
					return
				}
			}
		})
		traffic.Go(func() {
			for i := range messages {
				d, open := <-deliveries
				if !open || string(d.Body) != fmt.Sprint(i) {
					failures <- fmt.Errorf("%s: got %q, %t, want %d", name, d.Body, open, i)
					return
				}
				if err := d.Ack(false); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { traffic.Wait(); close(done) }()
	channel := openChannel(t, dial(t, broker))
	changes := 0
	for running := true; running; changes++ {
		select {
		case <-done:
			running = false
		default:
		}
		name := fmt.Sprintf("/policies/%%2F/p%d", changes%3)
		body := fmt.Sprintf(`{"pattern":"^live","priority":%d,"definition":{"max-length":%d,"message-ttl":3600000,"dead-letter-exchange":"x"}}`,
			changes%5, 1_000_000+changes)
		status := 204
		if changes < 3 {
			status = 201
		}
		manage(t, broker, "PUT", name, body, status)
		if changes%7 == 0 {
			_, err := channel.QueueDeclare(fmt.Sprintf("live.new.%d", changes), true, false, false, false, nil)
			must(t, err)
		}
	}
	close(failures)
	for err := range failures {
		if !errors.Is(err, amqp091.ErrClosed) {
			t.Error(err)
		}
	}
	if shown := manage(t, broker, "GET", "/queues/%2F/live.0?columns=policy,effective_policy_definition", "", 200); !strings.Contains(shown, `"max-length":100`) {
		t.Errorf("after %d changes the queue has %s", changes, shown)
	}
}
