// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"net"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/exchanges"
	"github.com/lagomq/lagomq/vhosts/queue"
)

// TestRoutes checks that a connection's cache answers as the router would, after
// every change.
func TestRoutes(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	routes := NewRoutes(b.VHost)
	want := func(exchange, key, names string) {
		t.Helper()
		view := publishView(t, exchange, key)
		for range 2 { // the second time from the cache
			route := routes.Find(view, nil, nil)
			got := ""
			if route.Err != nil {
				got = route.Err.Text
			}
			for _, q := range route.Queues {
				got += q.name + " "
			}
			if got != names {
				t.Errorf("%q %q leads to %q, want %q", exchange, key, got, names)
			}
		}
	}
	want("", "q", "")
	b.declare(t, "q", "", 1)
	want("", "q", "q ")
	want("x", "k", "no exchange 'x' in vhost '/'")
	b.declareExchange(t, exchanges.Declaration{Name: "x", Type: "direct"})
	want("x", "k", "")
	b.bind(t, Binding{Source: "x", Destination: "q", Key: "k"})
	want("x", "k", "q ")
	want("x", "other", "")
	if _, err := b.Unbind(Binding{Source: "x", Destination: "q", Key: "k"}, 1, nil); err != nil {
		t.Fatal(err)
	}
	want("x", "k", "")
	b.bind(t, Binding{Source: "x", Destination: "q", Key: "k"})
	if _, _, err := b.DeleteQueue("q", false, false, 1, nil); err != nil {
		t.Fatal(err)
	}
	want("x", "k", "")
	want("", "q", "")
	if _, err := b.DeleteExchange("x", false, nil); err != nil {
		t.Fatal(err)
	}
	want("x", "k", "no exchange 'x' in vhost '/'")
	b.declareExchange(t, exchanges.Declaration{Name: "x", Type: "fanout", Internal: true})
	want("x", "k", "cannot publish to internal exchange 'x' in vhost '/'")
}

func TestRoutesOfHeadersAndCopies(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.declare(t, "one", "durable", 1)
	b.declare(t, "two", "", 1)
	b.bind(t, Binding{Source: "amq.headers", Destination: "one", Arguments: wire.Table{arg("n", int32(1))}})
	b.bind(t, Binding{Source: "amq.headers", Destination: "two", Arguments: wire.Table{arg("n", int32(2))}})
	routes := NewRoutes(b.VHost)
	for n, want := range map[int32]string{1: "one", 2: "two"} {
		headers := wire.AppendTable(nil, wire.Table{arg("n", n)})[4:]
		route := routes.Find(publishView(t, "amq.headers", ""), &wire.PropertyView{Headers: headers}, nil)
		if len(route.Queues) != 1 || route.Queues[0].name != want || route.Durable != (n == 1) {
			t.Errorf("n=%d leads to %v", n, route)
		}
	}
	if route := routes.Find(publishView(t, "", "one"), nil, []string{"two"}); len(route.Queues) != 2 {
		t.Errorf("with a copy to two it leads to %d queues", len(route.Queues))
	}
	route := routes.Find(publishView(t, "", "one"), nil, nil)
	if len(route.Queues) != 1 || !route.Durable {
		t.Errorf("without a copy it leads to %d queues", len(route.Queues))
	}
	if other := NewRoutes(b.VHost).Find(publishView(t, "", "one"), nil, nil); other == route || !route.Same(other) {
		t.Error("two routes to one queue differ")
	}
}

func TestRoutesAreBounded(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.declare(t, "q", "", 1)
	routes := NewRoutes(b.VHost)
	for i := range 3 * maxCachedRoutes {
		routes.Find(publishView(t, "", fmt.Sprint(i)), nil, nil)
		if len(routes.cached) > maxCachedRoutes {
			t.Fatalf("%d routes are remembered", len(routes.cached))
		}
	}
	if route := routes.Find(publishView(t, "", "q"), nil, nil); len(route.Queues) != 1 {
		t.Error("q is not found any more")
	}
}

// TestRepeatedRouteAllocations checks that the same exchange and key again cost
// no allocation.
func TestRepeatedRouteAllocations(t *testing.T) {
	b := openBroker(t, vfs.NewMem())
	b.declare(t, "q", "", 1)
	routes := NewRoutes(b.VHost)
	one, two := publishView(t, "", "q"), publishView(t, "amq.direct", "q")
	if n := testing.AllocsPerRun(100, func() { routes.Find(one, nil, nil); routes.Find(two, nil, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestRoutesByChance routes one message at a time and expects neither a route
// made anew for each nor one that outlives its queue.
func TestRoutesByChance(t *testing.T) {
	b := openBroker(t, vfs.NewMem())
	b.declareExchange(t, exchanges.Declaration{Name: "x", Type: exchanges.TypeRandom})
	for i := range 10 {
		b.declare(t, fmt.Sprint("q", i), "", 1)
		b.bind(t, Binding{Source: "x", Destination: fmt.Sprint("q", i)})
	}
	routes := NewRoutes(b.VHost)
	view := publishView(t, "x", "k")
	reached := func() map[*Route]bool {
		reached := map[*Route]bool{}
		for range 1000 {
			reached[routes.Find(view, nil, nil)] = true
		}
		return reached
	}
	if n := len(reached()); n != 10 {
		t.Errorf("10 queues are reached by %d routes", n)
	}
	if n := testing.AllocsPerRun(100, func() { routes.Find(view, nil, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if _, _, err := b.DeleteQueue("q3", false, false, 1, nil); err != nil {
		t.Fatal(err)
	}
	for route := range reached() {
		if route.Queues[0].name == "q3" {
			t.Error("a queue that is gone is still reached")
		}
	}
	if len(routes.cached) != 0 {
		t.Errorf("%d routes by chance are remembered by their keys", len(routes.cached))
	}
}

// TestReplyQueue checks direct reply-to's queue (RabbitMQ 4.3, direct reply-to).
func TestReplyQueue(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	in := newInbox("reply", true, 0)
	var q *Queue
	b.AddReplyQueue(7, in.Consumer, func(added *Queue) { q = added })
	b.publish(t, "", q.Name(), true, nil, "answer", "another")
	if got := bodiesOf(in.take(2)); got != "answer another" {
		t.Errorf("delivered are %q", got)
	}
	want := Declared{Name: q.Name(), Consumers: 1}
	if d, err := b.DeclareQueuePassive(q.Name(), 8); err != nil || d != want {
		t.Errorf("passive declare answers %v, %v", d, err)
	}
	if d, _, err := b.DeclareQueue(declaration(q.Name(), "durable", 8), nil); err != nil || d != want {
		t.Errorf("declare answers %v, %v", d, err)
	}
	if len(b.QueueStats()) != 0 || len(b.Bindings()) != 0 || len(b.BindingsTo(q.Name(), false)) != 0 {
		t.Error("the reply queue is in a list")
	}
	_, err := b.Bind(Binding{Source: "amq.direct", Destination: q.Name()}, 7, nil)
	wantError(t, err, wire.AccessRefused, "cannot bind or unbind to a volatile (direct reply-to) queue")
	_, err = b.Unbind(Binding{Source: "amq.direct", Destination: q.Name()}, 7, nil)
	wantError(t, err, wire.AccessRefused, "cannot bind or unbind to a volatile (direct reply-to) queue")

	late := NewRoutes(b.VHost).Find(publishView(t, "", q.Name()), nil, nil)
	b.RemoveReplyQueue(q)
	if route := NewRoutes(b.VHost).Find(publishView(t, "", q.Name()), nil, nil); len(route.Queues) != 0 {
		t.Error("replies still lead to a reply queue that is gone")
	}
	page := new(queue.Page)
	fill(page, []string{"late"})
	b.Publish(late, page, true, nil)
	if in.waiting() != 0 {
		t.Error("a late reply is delivered")
	}
	_, err = b.DeclareQueuePassive(q.Name(), 7)
	wantError(t, err, wire.NotFound, "no queue '"+q.Name()+"' in vhost '/'")
}

func TestAuthenticate(t *testing.T) {
	t.Parallel()
	users := NewUsers(
		User{Name: "guest", Password: "guest", Tags: []string{"administrator"}, LoopbackOnly: true},
		User{Name: "app", Password: "secret"},
		User{Name: "blank"},
	)
	local, remote := net.IPv4(127, 0, 0, 1), net.IPv4(192, 0, 2, 1)
	for _, test := range []struct {
		name, user, password string
		from                 net.IP
		want                 string
	}{
		{"local", "guest", "guest", local, ""},
		{"local over IPv6", "guest", "guest", net.IPv6loopback, ""},
		{"no address", "guest", "guest", nil, ""},
		{"remote", "guest", "guest", remote, "user 'guest' can only connect via localhost"},
		{"remote with a wrong password", "guest", "x", remote, "user 'guest' - invalid credentials"},
		{"remote is fine", "app", "secret", remote, ""},
		{"wrong password", "app", "Secret", local, "user 'app' - invalid credentials"},
		{"empty password", "app", "", local, "user 'app' - invalid credentials"},
		{"unknown", "nobody", "", local, "user 'nobody' - invalid credentials"},
		{"empty name", "", "", local, "user '' - invalid credentials"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			u, err := users.Authenticate(test.user, test.password, test.from)
			switch {
			case test.want == "" && (err != nil || u.Name != test.user || u.Password != ""):
				t.Errorf("login answers %v, %v", u, err)
			case test.want != "" && (err == nil || u != nil || err.Error() != test.want):
				t.Errorf("login answers %v, %v, want %q", u, err, test.want)
			}
		})
	}
	u, _ := users.Authenticate("guest", "guest", local)
	if !u.Has("administrator") || u.Has("impersonator") {
		t.Errorf("guest carries %v", u.Tags)
	}
}
