// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/vhosts"
)

// brokenDisk is set in the environment of a process that TestUnhealthy starts for
// itself: a store whose disk failed is given up with the goroutines that Pebble
// has, and no other test may leave any.
const brokenDisk = "LAGOMQ_TEST_BROKEN_DISK"

func TestMain(m *testing.M) {
	if os.Getenv(brokenDisk) != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// patience bounds what a failing test waits for; nothing here is about speed.
const patience = 2 * time.Minute

// site is a broker with management, and a client of both.
type site struct {
	t                *testing.T
	amqp, management net.Addr
	http             http.Client
}

// object is a JSON object of an answer.
type object = map[string]any

// newSite starts a broker with the virtual hosts "/" and "a/b" and users with and
// without tags, whose passwords are their names.
func newSite(t *testing.T) *site {
	t.Helper()
	user := func(name string, tags ...string) vhosts.User {
		return vhosts.User{Name: name, Password: name, Tags: tags, LoopbackOnly: true}
	}
	s, _ := startSite(t, lagomq.Options{
		VHosts: []string{"/", "a/b"},
		Users: []vhosts.User{
			user("guest", "administrator"), user("watcher", "monitoring"), user("worker", "management"), user("nobody"),
		},
	})
	return s
}

// startSite starts a broker in memory. It is shut down by stop, or when the test
// ends.
func startSite(t *testing.T, o lagomq.Options) (s *site, stop func()) {
	t.Helper()
	o.InMemory, o.ManagementAddr, o.Strict, o.Logger = true, "127.0.0.1:0", true, slog.New(slog.DiscardHandler)
	broker, err := lagomq.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := broker.Shutdown(ctx); err != nil {
			t.Errorf("shut down: %v", err)
		}
	})
	t.Cleanup(stop)
	return visit(t, broker.AMQPAddr(), broker.ManagementAddr()), stop
}

// visit is a client of a broker that runs.
func visit(t *testing.T, amqp, management net.Addr) *site {
	return &site{t, amqp, management, http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

// request makes a request as a user, "" for none, and returns the answer and its
// body.
func (s *site) request(method, path, user string, headers ...string) (*http.Response, []byte) {
	s.t.Helper()
	return s.send(method, path, user, "", headers...)
}

// send is request with a body.
func (s *site) send(method, path, user, body string, headers ...string) (*http.Response, []byte) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.management.String()+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if user != "" {
		r.SetBasicAuth(user, user)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := s.http.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response, answer
}

// get decodes the answer to a GET by guest, which must succeed.
func get[T any](s *site, path string) (value T) {
	s.t.Helper()
	return getAs[T](s, "guest", path)
}

func getAs[T any](s *site, user, path string) (value T) {
	s.t.Helper()
	response, body := s.request(http.MethodGet, path, user)
	if response.StatusCode != http.StatusOK {
		s.t.Fatalf("GET %s: %s %s", path, response.Status, body)
	}
	if err := json.Unmarshal(body, &value); err != nil {
		s.t.Fatalf("GET %s: %v in %s", path, err, body)
	}
	return value
}

// getFailed decodes the answer to a GET by guest of a health check that fails.
func getFailed(s *site, path string) (value object) {
	s.t.Helper()
	response, body := s.request(http.MethodGet, path, "guest")
	if response.StatusCode != http.StatusServiceUnavailable {
		s.t.Fatalf("GET %s: %s %s", path, response.Status, body)
	}
	if err := json.Unmarshal(body, &value); err != nil {
		s.t.Fatalf("GET %s: %v in %s", path, err, body)
	}
	return value
}

// node is the broker's name.
func node(s *site) string {
	s.t.Helper()
	return get[object](s, "/api/overview")["node"].(string)
}

// dial connects a client as a user to a virtual host.
func (s *site) dial(user, vhost, name string) (*amqp091.Connection, *amqp091.Channel) {
	s.t.Helper()
	connection, err := amqp091.DialConfig("amqp://"+s.amqp.String(), amqp091.Config{
		Vhost: vhost, SASL: []amqp091.Authentication{&amqp091.PlainAuth{Username: user, Password: user}},
		Properties: amqp091.Table{"connection_name": name}, Locale: "en_US",
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = connection.Close() }) // some tests have closed it
	channel, err := connection.Channel()
	if err != nil {
		s.t.Fatal(err)
	}
	return connection, channel
}

// must ends the test on an error.
func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// declare declares a queue.
func (s *site) declare(ch *amqp091.Channel, name string, durable, exclusive bool, args amqp091.Table) {
	s.t.Helper()
	_, err := ch.QueueDeclare(name, durable, false, exclusive, false, args)
	s.must(err)
}

// publish publishes messages through the default exchange and waits until the
// broker has them.
func (s *site) publish(ch *amqp091.Channel, queue string, messages int) {
	s.t.Helper()
	s.publishAll(ch, queue, messages, amqp091.Publishing{Body: []byte("four")})
}

func (s *site) publishAll(ch *amqp091.Channel, queue string, messages int, message amqp091.Publishing) {
	s.t.Helper()
	s.must(ch.Confirm(false))
	for range messages {
		confirmation, err := ch.PublishWithDeferredConfirmWithContext(s.t.Context(), "", queue, false, false, message)
		s.must(err)
		_, err = confirmation.WaitContext(s.t.Context())
		s.must(err)
	}
}
