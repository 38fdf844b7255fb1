// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/amqp/wire"
	"github.com/lagomq/lagomq/vhosts"
)

func TestConnectionStart(t *testing.T) {
	t.Parallel()
	c := connectWire(t, startBroker(t))
	start := c.startOk(wireLogin{})
	if start.VersionMajor != 0 || start.VersionMinor != 9 || start.Locales != "en_US" {
		t.Errorf("start of version %d-%d, locales %q", start.VersionMajor, start.VersionMinor, start.Locales)
	}
	if got := strings.Fields(start.Mechanisms); !reflect.DeepEqual(got, []string{"PLAIN", "AMQPLAIN"}) {
		t.Errorf("mechanisms %q", got)
	}
	value, _ := start.ServerProperties.Get("capabilities")
	capabilities, _ := value.(wire.Table)
	for _, name := range []string{
		"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked",
		"consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to",
	} {
		if value, _ := capabilities.Get(name); value != true {
			t.Errorf("capability %s is %v", name, value)
		}
	}
	for _, name := range []string{"product", "version", "platform", "information", "cluster_name"} {
		if value, _ := start.ServerProperties.Get(name); value == nil || value == "" {
			t.Errorf("server property %s is missing", name)
		}
	}
	tune := expect[*wire.ConnectionTune](c, 0)
	if *tune != (wire.ConnectionTune{ChannelMax: 2047, FrameMax: 131072, Heartbeat: 60}) {
		t.Errorf("tune %+v", *tune)
	}
}

func TestProtocolHeader(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	for _, header := range []string{
		"AMQP\x00\x00\x09\x02", "AMQP\x00\x00\x0a\x00", "AMQP\x03\x01\x00\x00", "AMQP\x00\x01\x00\x00", "GET / HTTP/1.1\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01", "nonsense",
	} {
		c := connectWire(t, broker)
		c.write([]byte(header))
		answer, err := io.ReadAll(c.net)
		if err != nil || string(answer) != wire.ProtocolHeader {
			t.Errorf("answer to %q is %q, %v: want the protocol header", header, answer, err)
		}
	}
	c := connectWire(t, broker)
	c.write([]byte("AMQP\x01\x01\x00\x09"))
	expect[*wire.ConnectionStart](c, 0)
}

func TestLogin(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, func(o *lagomq.Options) {
		o.Users = []vhosts.User{{Name: "guest", Password: "guest"}, {Name: "ann", Password: "päss"}}
	})
	table := func(fields ...wire.Field) string {
		return string(wire.AppendTable(nil, fields)[4:]) // without its length
	}
	// Who gives wrong credentials is told; whose response cannot be read is not.
	const welcome, refusal, silence = "welcome", "refusal", "silence"
	for _, test := range []struct {
		name, mechanism, response string
		answer                    string
	}{
		{"Plain", "PLAIN", "\x00guest\x00guest", welcome},
		{"PlainOther", "PLAIN", "\x00ann\x00päss", welcome},
		{"PlainWrongPassword", "PLAIN", "\x00guest\x00wrong", refusal},
		{"PlainUnknownUser", "PLAIN", "\x00eve\x00guest", refusal},
		{"PlainEmpty", "PLAIN", "", silence},
		{"PlainAuthorizationIdentity", "PLAIN", "guest\x00guest\x00guest", silence},
		{"PlainTooManyParts", "PLAIN", "\x00guest\x00guest\x00", silence},
		{"AMQPlain", "AMQPLAIN", table(wire.Field{Name: "LOGIN", Value: "guest"}, wire.Field{Name: "PASSWORD", Value: "guest"}), welcome},
		{"AMQPlainWrongPassword", "AMQPLAIN", table(wire.Field{Name: "LOGIN", Value: "guest"}, wire.Field{Name: "PASSWORD", Value: "x"}), refusal},
		{"AMQPlainHalf", "AMQPLAIN", table(wire.Field{Name: "LOGIN", Value: "guest"}), silence},
		{"AMQPlainMalformed", "AMQPLAIN", "\x05LOG", silence},
		{"UnknownMechanism", "GSSAPI", "", silence},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := connectWire(t, broker)
			if test.answer == welcome {
				c.login(wireLogin{mechanism: test.mechanism, response: test.response})
				return
			}
			c.startOk(wireLogin{mechanism: test.mechanism, response: test.response})
			if test.answer == silence {
				c.wantEnd()
				return
			}
			closed := expect[*wire.ConnectionClose](c, 0)
			want := wire.ConnectionClose{ReplyCode: wire.AccessRefused, ReplyText: "ACCESS_REFUSED - Login was refused using authentication mechanism " +
				test.mechanism + ". For details see the broker logfile."}
			if *closed != want {
				t.Errorf("got %+v, want %+v", *closed, want)
			}
			c.wantEnd()
		})
	}
	t.Run("WithoutCapability", func(t *testing.T) {
		t.Parallel()
		c := connectWire(t, broker)
		c.startOk(wireLogin{mechanism: "PLAIN", response: "\x00guest\x00wrong", properties: wire.Table{}})
		c.wantEnd()
	})
	t.Run("Client", func(t *testing.T) {
		t.Parallel()
		url := strings.Replace(broker.URL(), "guest:guest", "guest:wrong", 1)
		if _, err := amqp091.Dial(url); !errors.Is(err, amqp091.ErrCredentials) {
			t.Errorf("got %v, want %v", err, amqp091.ErrCredentials)
		}
	})
	t.Run("ClientAMQPlain", func(t *testing.T) {
		t.Parallel()
		openChannel(t, dialConfig(t, broker, amqp091.Config{
			SASL: []amqp091.Authentication{&amqp091.AMQPlainAuth{Username: "ann", Password: "päss"}},
		}))
	})
}

func TestTune(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	for _, test := range []struct {
		name string
		ok   wire.ConnectionTuneOk
		text string
	}{
		{"FrameMaxLow", wire.ConnectionTuneOk{ChannelMax: 10, FrameMax: 4096}, "negotiated frame_max = 4096 is lower than the minimum allowed value (8192)"},
		{"FrameMaxHigh", wire.ConnectionTuneOk{ChannelMax: 10, FrameMax: 131073}, "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"},
		{"FrameMaxNone", wire.ConnectionTuneOk{ChannelMax: 10}, "negotiated frame_max = 0 is higher than the maximum allowed value (131072)"},
		{"ChannelMaxHigh", wire.ConnectionTuneOk{ChannelMax: 2048, FrameMax: 8192}, "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)"},
		{"ChannelMaxNone", wire.ConnectionTuneOk{FrameMax: 8192}, "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := connectWire(t, broker)
			c.startOk(wireLogin{})
			expect[*wire.ConnectionTune](c, 0)
			c.send(0, &test.ok)
			c.wantException(exception{wire.NotAllowed, test.text, wire.IDConnectionTune})
		})
	}
}

func TestWrongVHost(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	c := connectWire(t, broker)
	c.startOk(wireLogin{})
	tune := expect[*wire.ConnectionTune](c, 0)
	c.send(0, &wire.ConnectionTuneOk{ChannelMax: tune.ChannelMax, FrameMax: tune.FrameMax}, &wire.ConnectionOpen{VirtualHost: "foo"})
	c.wantException(exception{wire.NotAllowed, "vhost foo not found", wire.IDConnectionOpen})
	_, err := amqp091.DialConfig(broker.URL(), amqp091.Config{Vhost: "foo"})
	wantException(t, err, amqp091.NotAllowed, "NOT_ALLOWED - vhost foo not found")
}

func TestChannelMax(t *testing.T) {
	t.Parallel()
	c := connectWire(t, startBroker(t))
	c.login(wireLogin{tune: wire.ConnectionTuneOk{ChannelMax: 3, FrameMax: 8192}})
	// The number of channels counts, not the channels' numbers.
	for _, channel := range []uint16{7, 60000, 3} {
		call[*wire.ChannelOpenOk](c, channel, &wire.ChannelOpen{})
	}
	call[*wire.ChannelCloseOk](c, 7, &wire.ChannelClose{ReplyCode: wire.ReplySuccess})
	call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
	c.send(2, &wire.ChannelOpen{})
	c.wantException(exception{wire.NotAllowed, "number of channels opened (3) has reached the negotiated channel_max (3)", 0})
}

func TestFrameMax(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	c := connectWire(t, broker)
	c.login(wireLogin{tune: wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 8192}})
	call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "q"})
	call[*wire.BasicConsumeOk](c, 1, &wire.BasicConsume{Queue: "q"})
	body := strings.Repeat("0123456789", 10_000)
	c.publish(1, wire.BasicPublish{RoutingKey: "q"}, wire.Properties{}, body)
	expect[*wire.BasicDeliver](c, 1)
	if f := c.frame(); f.Type != wire.FrameHeader {
		t.Fatalf("frame of type %d: want a content header", f.Type)
	}
	var got string
	for len(got) < len(body) {
		f := c.frame()
		if want := min(8192-wire.FrameOverhead, len(body)-len(got)); f.Type != wire.FrameBody || len(f.Payload) != want {
			t.Fatalf("frame of type %d with %d bytes: want a body of %d", f.Type, len(f.Payload), want)
		}
		got += string(f.Payload)
	}
	if got != body {
		t.Error("the body came back changed")
	}
	c.write(wire.AppendFrameHeader(nil, wire.FrameBody, 1, 8193))
	c.wantException(exception{code: wire.FrameError, text: "type 3, all octets = <<>>: {frame_too_large,8193,8184}"})
}

// The server sends heartbeats when it has nothing else to say.
func TestHeartbeatsAreSent(t *testing.T) {
	t.Parallel()
	c := connectWire(t, startBroker(t))
	c.login(wireLogin{tune: wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 8192, Heartbeat: 1}})
	for range 3 {
		f, err := c.read()
		if err != nil || f.Type != wire.FrameHeartbeat {
			t.Fatalf("got a frame of type %d, %v: want a heartbeat", f.Type, err)
		}
		c.write(wire.AppendHeartbeat(nil)) // or the server would give up on us
	}
	call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
}

// A client that sends neither methods nor heartbeats is given up without a word.
func TestHeartbeatsAreMissed(t *testing.T) {
	t.Parallel()
	c := connectWire(t, startBroker(t))
	c.login(wireLogin{tune: wire.ConnectionTuneOk{ChannelMax: 1, FrameMax: 8192, Heartbeat: 1}})
	c.wantEnd()
}

func TestUpdateSecret(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	must(t, dial(t, broker).UpdateSecret("new", "it was time"))
}

func TestFlowAndAccess(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t))
	if ok := call[*wire.ChannelFlowOk](c, 1, &wire.ChannelFlow{Active: true}); !ok.Active {
		t.Error("flow-ok is not active")
	}
	if ok := call[*wire.AccessRequestOk](c, 1, &wire.AccessRequest{Realm: "/data", Active: true}); ok.Ticket != 1 {
		t.Errorf("ticket %d", ok.Ticket)
	}
}

// A shutdown tells every client, also one that has channels and consumers.
func TestShutdownClosesConnections(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	must(t, broker.Start(t.Context()))
	plain, busy := dial(t, broker), dial(t, broker)
	openChannel(t, plain)
	channel := openChannel(t, busy)
	declareQueue(t, channel, "q")
	consume(t, channel, "q")
	closed := []chan *amqp091.Error{
		plain.NotifyClose(make(chan *amqp091.Error, 1)),
		busy.NotifyClose(make(chan *amqp091.Error, 1)),
		channel.NotifyClose(make(chan *amqp091.Error, 1)),
	}
	shutDown(t, broker)
	for _, c := range closed {
		wantException(t, next(t, c), amqp091.ConnectionForced, "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'")
	}
	if _, err := amqp091.Dial(broker.URL()); err == nil {
		t.Error("a connection was accepted after the shutdown")
	}
}

// A client closes channels and reuses their numbers, whoever closed them.
func TestChannelReuse(t *testing.T) {
	t.Parallel()
	c := dialWire(t, startBroker(t))
	for range 3 {
		call[*wire.ChannelCloseOk](c, 1, &wire.ChannelClose{ReplyCode: wire.ReplySuccess})
		call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
		c.send(1, &wire.QueueDeclare{Queue: "gone", Passive: true})
		// Until close-ok everything else on the channel is dropped.
		c.send(1, &wire.BasicAck{DeliveryTag: 1}, &wire.QueueDeclare{Queue: "q", NoWait: true})
		c.wantException(exception{wire.NotFound, "no queue 'gone' in vhost '/'", wire.IDQueueDeclare})
		c.send(1, &wire.QueueDeclare{Queue: "q", Passive: true})
		c.wantException(exception{wire.NotFound, "no queue 'q' in vhost '/'", wire.IDQueueDeclare})
	}
	// Both sides close at once: the server answers, then takes the client's answer.
	c.send(1, &wire.QueueDeclare{Queue: "gone", Passive: true}, &wire.ChannelClose{ReplyCode: wire.ReplySuccess})
	expect[*wire.ChannelClose](c, 1)
	expect[*wire.ChannelCloseOk](c, 1)
	c.send(1, &wire.ChannelCloseOk{})
	call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
}

func TestManyChannels(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	connection := dial(t, broker)
	for i := range 2000 {
		channel := openChannel(t, connection)
		if i%100 == 0 {
			name := fmt.Sprint("q", i)
			declareQueue(t, channel, name)
			publish(t, channel, "", name, name)
			if got := next(t, consume(t, channel, name)); string(got.Body) != name {
				t.Errorf("got %q on channel %d", got.Body, i)
			}
		}
	}
	openChannel(t, dial(t, broker)) // others are not affected
}

// A closed connection has left nothing when its client sees close-ok.
func TestConnectionCloseDeletesExclusiveQueues(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	for range 20 {
		c := dialWire(t, broker)
		call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "mine", Exclusive: true})
		call[*wire.ConnectionCloseOk](c, 0, &wire.ConnectionClose{ReplyCode: wire.ReplySuccess})
		other := dialWire(t, broker)
		other.send(1, &wire.QueueDeclare{Queue: "mine", Passive: true})
		other.wantException(exception{wire.NotFound, "no queue 'mine' in vhost '/'", wire.IDQueueDeclare})
		c.wantEnd()
	}
}

// A client that vanishes leaves nothing either, a little later.
func TestLostConnectionDeletesExclusiveQueues(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	c := dialWire(t, broker)
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "mine", Exclusive: true})
	must(t, c.net.Close())
	connection := dial(t, broker)
	eventually(t, "the exclusive queue goes", func() bool {
		channel := openChannel(t, connection)
		_, err := channel.QueueDeclarePassive("mine", false, false, true, false, nil)
		var exception *amqp091.Error
		return errors.As(err, &exception) && exception.Code == amqp091.NotFound
	})
}
