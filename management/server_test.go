// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"context"
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

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/amqp"
	"github.com/lagomq/lagomq/management"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts"
)

// parts is a broker put together by hand, so that a test takes the samples and
// raises the alarms.
type parts struct {
	*site
	ticks  chan<- time.Time
	alarms *vhosts.Alarms
}

func startParts(t *testing.T, o persistence.Options) *parts {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	o.Dir, o.Logger = "memory", logger
	store, err := persistence.Open(o)
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
	return &parts{visit(t, listener.Addr(), manager.Addr()), ticks, hosts.Alarms()}
}

// Rates come from samples taken when Ticks says so.
func TestSampling(t *testing.T) {
	t.Parallel()
	s := startParts(t, persistence.Options{FS: vfs.NewMem()})
	_, ch := s.dial("guest", "/", "")
	s.declare(ch, "q", false, false, nil)
	s.publish(ch, "q", 10)
	s.ticks <- time.Now().Add(5 * time.Second)
	for _, path := range []string{"/api/queues/%2F/q", "/api/overview"} {
		type answer struct {
			Stats struct {
				Details struct{ Rate float64 } `json:"publish_details"`
			} `json:"message_stats"`
		}
		rate := 0.0
		for rate == 0 { // until the tick has been dealt with
			rate = get[answer](s.site, path).Stats.Details.Rate
		}
		// More than five seconds lie between the tick and the sample at the start.
		if rate > 2 || rate < 0.1 {
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
	s, _ := startSite(t, lagomq.Options{Store: persistence.Options{
		FS: errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if failing.Load() && op.Kind == errorfs.OpFileWrite {
				return errDisk
			}
			return nil
		})),
		Events: persistence.Events{Failed: func(err error) { failed <- err }},
	}})
	_, ch := s.dial("guest", "/", "")
	failing.Store(true)
	declared := make(chan error, 1)
	go func() {
		_, err := ch.QueueDeclare("durable", true, false, false, false, nil)
		declared <- err
	}()
	cause := <-failed
	for _, path := range []string{"/healthz", "/readyz"} {
		response, body := s.request(http.MethodGet, path, "")
		if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), errDisk.Error()) {
			t.Errorf("%s: %s %s", path, response.Status, body)
		}
	}
	check(t, getFailed(s, "/api/health/checks/storage"), map[string]any{"status": "failed", "reason": cause.Error()})
	check(t, getFailed(s, "/api/health/checks/alarms"), map[string]any{"alarms": []any{object{"resource": "store", "node": node(s)}}})
	check(t, get[object](s, "/api/lagomq/storage"), map[string]any{
		"in_service": false, "error": cause.Error(), "failures": 1., "reopenings": 0.,
	})
	failing.Store(false)
	if err := <-declared; err != nil {
		t.Errorf("declare-ok was to come once the disk works: %v", err)
	}
	if response, body := s.request(http.MethodGet, "/healthz", ""); response.StatusCode != http.StatusOK {
		t.Errorf("/healthz after the disk has recovered: %s %s", response.Status, body)
	}
	check(t, get[object](s, "/api/lagomq/storage"), map[string]any{"in_service": true, "error": nil, "failures": 1.})
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
