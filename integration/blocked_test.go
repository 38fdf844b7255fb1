// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq/amqp"
	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts"
)

// alarmed is a server whose alarms the test raises itself.
type alarmed struct {
	*amqp.Server
	alarms *vhosts.Alarms
	addr   string
}

func startAlarmed(t *testing.T) *alarmed {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	store, err := persistence.Open(persistence.Options{Dir: "memory", FS: vfs.NewMem(), Logger: logger})
	must(t, err)
	hosts, err := vhosts.Open(vhosts.Options{
		Store: store, Users: vhosts.NewUsers(vhosts.User{Name: "guest", Password: "guest"}), Logger: logger, Strict: true,
	})
	must(t, err)
	server, err := amqp.NewServer(amqp.Options{Hosts: hosts, Strict: true, Logger: logger})
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, server.Serve(listener))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		must(t, server.Shutdown(ctx))
		hosts.Close()
		must(t, store.Close(ctx))
	})
	return &alarmed{Server: server, alarms: hosts.Alarms(), addr: listener.Addr().String()}
}

// dial connects with RabbitMQ's Go client and opens a channel.
func (a *alarmed) dial(t *testing.T) (*amqp091.Connection, *amqp091.Channel) {
	t.Helper()
	connection, err := amqp091.Dial("amqp://guest:guest@" + a.addr + "/")
	must(t, err)
	t.Cleanup(func() { _ = connection.Close() }) // some tests have closed it
	return connection, openChannel(t, connection)
}

// wire connects frame by frame, opens channel 1 and declares the queue q.
func (a *alarmed) wire(t *testing.T, login wireLogin) *wireClient {
	t.Helper()
	c := connectTo(t, a.addr)
	c.login(login)
	call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "q"})
	return c
}

// blocked is a wire client that has been blocked.
func (a *alarmed) blocked(t *testing.T, login wireLogin) *wireClient {
	t.Helper()
	c := a.wire(t, login)
	a.alarms.Raise(vhosts.AlarmDisk)
	c.publish(1, wire.BasicPublish{RoutingKey: "q"}, wire.Properties{}, "one")
	if m := expect[*wire.ConnectionBlocked](c, 0); m.Reason != "low on disk" {
		t.Fatalf("reason is %q", m.Reason)
	}
	return c
}

// One connection publishes, another consumes: the publisher is stopped by its
// next message, the consumer goes on, and what was sent meanwhile arrives when
// the alarm is over.
func TestBlockedPublisherAndConsumer(t *testing.T) {
	t.Parallel()
	server := startAlarmed(t)
	consuming, consumer := server.dial(t)
	declareQueue(t, consumer, "q")
	deliveries := consume(t, consumer, "q")
	consumerBlocked := consuming.NotifyBlocked(make(chan amqp091.Blocking, 8))
	publishing, publisher := server.dial(t)
	blocked := publishing.NotifyBlocked(make(chan amqp091.Blocking, 8))

	server.alarms.Raise(vhosts.AlarmDisk)
	waiting(t, publisher, "q") // whoever does not publish is not stopped
	publish(t, publisher, "", "q", "the last")
	if got := next(t, blocked); got != (amqp091.Blocking{Active: true, Reason: "low on disk"}) {
		t.Fatalf("got %+v", got)
	}
	must(t, next(t, deliveries).Ack(false)) // it was taken
	received := server.received(t)
	publish(t, publisher, "", "q", "held 1", "held 2")
	waiting(t, consumer, "q")
	nothing(t, deliveries)
	if server.received(t) != received {
		t.Error("a blocked connection is read")
	}

	server.alarms.Clear(vhosts.AlarmDisk)
	if got := next(t, blocked); got.Active {
		t.Fatalf("got %+v", got)
	}
	if got := nextBodies(t, deliveries, 2); got[0] != "held 1" || got[1] != "held 2" {
		t.Errorf("got %q", got)
	}
	nothing(t, consumerBlocked)
}

// received is how many bytes came on the connection that is blocked.
func (a *alarmed) received(t *testing.T) uint64 {
	t.Helper()
	for _, c := range a.Connections() {
		if c.Blocked {
			return c.Received
		}
	}
	t.Fatal("no connection is blocked")
	return 0
}

// A connection is told once, however many alarms come and go until all are over.
func TestBlockedByTwoAlarms(t *testing.T) {
	t.Parallel()
	server := startAlarmed(t)
	c := server.blocked(t, wireLogin{})
	server.alarms.Raise(vhosts.AlarmStore)
	server.alarms.Clear(vhosts.AlarmDisk)
	c.send(1, &wire.QueueDeclare{Queue: "q"})
	server.received(t)
	server.alarms.Clear(vhosts.AlarmStore)
	expect[*wire.ConnectionUnblocked](c, 0)
	expect[*wire.QueueDeclareOk](c, 1)
}

// A client that does not say that it understands connection.blocked is stopped
// without a word.
func TestBlockedWithoutCapability(t *testing.T) {
	t.Parallel()
	server := startAlarmed(t)
	c := server.wire(t, wireLogin{properties: wire.Table{}})
	server.alarms.Raise(vhosts.AlarmDisk)
	c.publish(1, wire.BasicPublish{RoutingKey: "q"}, wire.Properties{}, "one")
	eventually(t, "blocked", func() bool { return server.Connections()[0].Blocked })
	c.send(1, &wire.QueueDeclare{Queue: "q"})
	server.alarms.Clear(vhosts.AlarmDisk)
	if ok := expect[*wire.QueueDeclareOk](c, 1); ok.MessageCount != 1 {
		t.Errorf("%d messages: want 1", ok.MessageCount)
	}
}

// The client's connection.close waits as everything else does.
func TestBlockedClientCloses(t *testing.T) {
	t.Parallel()
	server := startAlarmed(t)
	c := server.blocked(t, wireLogin{})
	c.send(0, &wire.ConnectionClose{ReplyCode: 200})
	server.received(t)
	server.alarms.Clear(vhosts.AlarmDisk)
	expect[*wire.ConnectionUnblocked](c, 0)
	expect[*wire.ConnectionCloseOk](c, 0)
}

// Heartbeats go out while a connection is blocked and none are missed; they also
// find out that the client has hung up.
func TestBlockedHeartbeats(t *testing.T) {
	t.Parallel()
	server := startAlarmed(t)
	c := server.blocked(t, wireLogin{tune: wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 8192, Heartbeat: 1}})
	const silent = 4 // intervals; a client that is not blocked is given up after two to three
	for range silent {
		if f, err := c.read(); err != nil || f.Type != wire.FrameHeartbeat {
			t.Fatalf("got a frame of type %d, %v: want a heartbeat", f.Type, err)
		}
	}
	server.received(t)
	must(t, c.net.Close())
	eventually(t, "the connection is given up", func() bool { return len(server.Connections()) == 0 })
}

// Who closes connections needs no alarm to end: an operator, or the broker's own
// shutdown.
func TestBlockedConnectionIsClosed(t *testing.T) {
	t.Parallel()
	for name, closing := range map[string]struct {
		by   func(*alarmed)
		text string
	}{
		"Operator": {func(a *alarmed) { a.CloseConnection(a.Connections()[0].Name, "enough") }, "CONNECTION_FORCED - enough"},
		"Shutdown": {
			func(a *alarmed) { go a.Shutdown(context.Background()) }, // awaited by the cleanup
			"CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := startAlarmed(t)
			c := server.blocked(t, wireLogin{})
			c.publish(1, wire.BasicPublish{RoutingKey: "q"}, wire.Properties{}, "two")
			closing.by(server)
			if m := expect[*wire.ConnectionClose](c, 0); m.ReplyCode != wire.ConnectionForced || m.ReplyText != closing.text {
				t.Errorf("got %d %q", m.ReplyCode, m.ReplyText)
			}
			c.send(0, &wire.ConnectionCloseOk{})
		})
	}
}
