// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/amqp"
	"github.com/lagomq/lagomq/management"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts"
)

// Rates come from samples taken when Ticks says so.
func TestSampling(t *testing.T) {
	t.Parallel()
	logger := slog.New(slog.DiscardHandler)
	store, err := persistence.Open(persistence.Options{Dir: "memory", FS: vfs.NewMem(), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	guest := vhosts.User{Name: "guest", Password: "guest", Tags: []string{"administrator"}}
	hosts, err := vhosts.Open(vhosts.Options{Store: store, Users: vhosts.NewUsers(guest), Logger: logger, Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	server, err := amqp.NewServer(amqp.Options{Hosts: hosts, Logger: logger, Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ticks := make(chan time.Time)
	manager, err := management.NewServer(management.Options{
		Hosts: hosts, AMQP: server, Store: store, AMQPAddr: listener.Addr(), Ticks: ticks, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(manager.Start(t.Context(), "127.0.0.1:0"), server.Serve(listener)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := errors.Join(server.Shutdown(ctx), manager.Shutdown(ctx))
		hosts.Close()
		if err := errors.Join(err, store.Close(ctx)); err != nil {
			t.Error(err)
		}
		if addr := manager.Addr(); addr != nil {
			t.Errorf("listens at %v after Shutdown", addr)
		}
	})

	client, err := amqp091.Dial("amqp://guest:guest@" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ch, err := client.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("q", false, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := ch.Publish("", "q", false, false, amqp091.Publishing{}); err != nil {
			t.Fatal(err)
		}
	}
	// The queue answers after it has taken what was published before.
	if q, err := ch.QueueDeclarePassive("q", false, false, false, false, nil); err != nil || q.Messages != 10 {
		t.Fatalf("%d messages, %v", q.Messages, err)
	}
	ticks <- time.Now().Add(5 * time.Second)
	for _, path := range []string{"/api/queues/%2F/q", "/api/overview"} {
		var answer struct {
			Stats struct {
				Details struct{ Rate float64 } `json:"publish_details"`
			} `json:"message_stats"`
		}
		for answer.Stats.Details.Rate == 0 { // until the tick has been dealt with
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+manager.Addr().String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.SetBasicAuth("guest", "guest")
			r.Close = true
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			err = json.NewDecoder(response.Body).Decode(&answer)
			_ = response.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
		}
		// More than five seconds lie between the tick and the sample at the start.
		if rate := answer.Stats.Details.Rate; rate > 2 || rate < 0.1 {
			t.Errorf("%s: %v messages per second", path, rate)
		}
	}
}

var errDisk = errors.New("disk on fire")

// A broker that cannot keep what it is given says so to health checks.
func TestUnhealthy(t *testing.T) {
	t.Parallel()
	if os.Getenv(brokenDisk) == "" {
		alone := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestUnhealthy$")
		alone.Env = append(os.Environ(), brokenDisk+"=1")
		if out, err := alone.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	var failing atomic.Bool
	failed := make(chan error, 1)
	options := lagomq.Options{
		InMemory: true, ManagementAddr: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler),
		Store: persistence.Options{
			FS: errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
				if failing.Load() && op.Kind == errorfs.OpFileWrite {
					return errDisk
				}
				return nil
			})),
			Events: persistence.Events{Failed: func(err error) { failed <- err }},
		},
	}
	broker, err := lagomq.New(options)
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, broker: broker, http: http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	_, ch := s.dial("guest", "/", "")
	failing.Store(true)
	declared := make(chan error, 1)
	go func() {
		_, err := ch.QueueDeclare("durable", true, false, false, false, nil)
		declared <- err
	}()
	<-failed
	for _, path := range []string{"/healthz", "/readyz"} {
		response, body := s.request(http.MethodGet, path, "")
		if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), errDisk.Error()) {
			t.Errorf("%s: %s %s", path, response.Status, body)
		}
	}
	failing.Store(false)
	if err := <-declared; err != nil {
		t.Errorf("declare-ok was to come once the disk works: %v", err)
	}
	if response, body := s.request(http.MethodGet, "/healthz", ""); response.StatusCode != http.StatusOK {
		t.Errorf("/healthz after the disk has recovered: %s %s", response.Status, body)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := broker.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	_, err := management.NewServer(management.Options{})
	for _, field := range []string{"Hosts", "AMQP", "Store"} {
		if err == nil || !strings.Contains(err.Error(), "Options."+field+" is missing") {
			t.Errorf("%s missing: %v", field, err)
		}
	}
}
