// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"bytes"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/amqp/wire"
)

// The hostile tests hold this rule: whatever a client sends, it gets the answer
// RabbitMQ gives or a clean close, the broker's memory stays bounded, no
// goroutine is left behind, and other clients notice nothing.

// hostileUnharmed checks that another client can connect, publish with a confirm,
// and consume.
func hostileUnharmed(t testing.TB, broker *lagomq.Broker) {
	t.Helper()
	c := dialWire(t, broker)
	queue := call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Exclusive: true}).Queue
	call[*wire.ConfirmSelectOk](c, 1, &wire.ConfirmSelect{})
	hostileRoundTrip(c, queue, 1)
	call[*wire.ConnectionCloseOk](c, 0, &wire.ConnectionClose{ReplyCode: wire.ReplySuccess})
	c.wantEnd()
}

// hostileRoundTrip publishes message number n of a confirming channel 1 and gets
// it back.
func hostileRoundTrip(c *wireClient, queue string, n uint64) {
	c.t.Helper()
	c.publish(1, wire.BasicPublish{RoutingKey: queue, Mandatory: true}, wire.Properties{}, "unharmed")
	if ack := expect[*wire.BasicAck](c, 1); ack.DeliveryTag != n {
		c.t.Errorf("publish %d was confirmed with %+v", n, ack)
	}
	call[*wire.BasicGetOk](c, 1, &wire.BasicGet{Queue: queue, NoAck: true})
	if _, body := c.content(1); string(body) != "unharmed" {
		c.t.Errorf("got %q back", body)
	}
}

// hostileFrame is a frame, well formed or not: it ends with the octet end.
func hostileFrame(typ byte, channel uint16, payload string, end byte) []byte {
	b := wire.AppendFrame(nil, typ, channel, []byte(payload))
	b[len(b)-1] = end
	return b
}

// hostileInteger is the last octets of v, the most significant first.
func hostileInteger(octets int, v uint64) string {
	b := make([]byte, octets)
	for i := range b {
		b[i] = byte(v >> (8 * (octets - 1 - i)))
	}
	return string(b)
}

// hostileMethod is a method frame with these bytes for arguments.
func hostileMethod(channel uint16, id wire.MethodID, arguments string) []byte {
	return wire.AppendFrame(nil, wire.FrameMethod, channel, []byte(hostileInteger(4, uint64(id))+arguments))
}

// hostileHeader is a content header frame on channel 1.
func hostileHeader(class, weight uint16, size uint64, properties string) []byte {
	payload := hostileInteger(2, uint64(class)) + hostileInteger(2, uint64(weight)) + hostileInteger(8, size) + properties
	return wire.AppendFrame(nil, wire.FrameHeader, 1, []byte(payload))
}

func hostileBody(body string) []byte {
	return wire.AppendFrame(nil, wire.FrameBody, 1, []byte(body))
}

// hostileCase is what a client sends on an open connection with channel 1, and
// how that ends.
type hostileCase struct {
	name string
	sent []byte
	exception
}

// after prepends methods of channel 1 to what is sent.
func (test hostileCase) after(methods ...wire.Method) hostileCase {
	var before []byte
	for _, m := range methods {
		before = wire.AppendMethod(before, 1, m)
	}
	test.sent = append(before, test.sent...)
	return test
}

// testHostile runs the cases against one broker, each on its own connection.
func testHostile(t *testing.T, cases []hostileCase) {
	t.Helper()
	broker := startBroker(t, func(o *lagomq.Options) { o.AMQP.MaxMessageSize = 1 << 20 })
	t.Run("cases", func(t *testing.T) {
		for _, test := range cases {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				c := dialWire(t, broker)
				c.write(test.sent)
				if test.code.Hard() {
					hostileWantClose(c, test.exception)
				} else {
					c.wantException(test.exception)
				}
				hostileUnharmed(t, broker)
			})
		}
	})
}

// hostileWantClose expects connection.close. The client does not answer but hangs
// up, so that the server need not wait after what was no frame.
func hostileWantClose(c *wireClient, want exception) {
	c.t.Helper()
	got := expect[*wire.ConnectionClose](c, 0)
	if got.ReplyCode != want.code || got.ReplyText != want.replyText() {
		c.t.Errorf("got %d %q\nwant %d %q", got.ReplyCode, got.ReplyText, want.code, want.replyText())
	}
	if got.ClassID != want.during.Class() || got.MethodID != want.during.Method() {
		c.t.Errorf("failing method %d.%d: want %v", got.ClassID, got.MethodID, want.during)
	}
	hostileCloseWrite(c)
	c.wantEnd()
}

// hostileCloseWrite closes the socket for writing only.
func hostileCloseWrite(c *wireClient) {
	c.t.Helper()
	if err := c.net.(*net.TCPConn).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// TestHostileFrames are frames that are none: wrong sizes, types, ends, channels.
func TestHostileFrames(t *testing.T) {
	t.Parallel()
	frameError := func(text string) exception { return exception{wire.FrameError, text, 0} }
	unexpected := func(text string) exception { return exception{wire.UnexpectedFrame, text, 0} }
	testHostile(t, []hostileCase{
		{"PayloadTooLarge", []byte{wire.FrameBody, 0, 1, 0, 3, 0x0d, 0x40},
			frameError("type 3, all octets = <<>>: {frame_too_large,200000,131064}")},
		{"PayloadOfFourGigabytes", []byte{wire.FrameMethod, 0, 1, 0xff, 0xff, 0xff, 0xff},
			frameError("type 1, all octets = <<>>: {frame_too_large,4294967295,131064}")},
		{"WrongEnd", hostileFrame(wire.FrameMethod, 1, "AB", 0),
			frameError(`type 1, all octets = <<"AB">>: {invalid_frame_end_marker,0}`)},
		{"WrongEndOfALongFrame", hostileFrame(wire.FrameBody, 1, strings.Repeat("\x07", 100), 0xcd),
			frameError(`type 3, first 16 octets = <<7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7>>: {invalid_frame_end_marker,205}`)},
		{"UnknownType", hostileFrame(4, 1, "abc", wire.FrameEnd),
			frameError(`type 4, all octets = <<"abc">>: unknown_frame`)},
		{"TypeOfHTTP", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
			frameError("type 71, all octets = <<>>: {frame_too_large,539959368,131064}")},
		{"HeartbeatWithPayload", hostileFrame(wire.FrameHeartbeat, 0, "x", wire.FrameEnd),
			frameError(`type 8, all octets = <<"x">>: unknown_frame`)},
		{"HeartbeatOnAChannel", hostileFrame(wire.FrameHeartbeat, 1, "", wire.FrameEnd),
			unexpected("type 8, all octets = <<>>")},
		{"HeaderOnChannel0", hostileFrame(wire.FrameHeader, 0, "\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00", wire.FrameEnd),
			unexpected("type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,1,0,0>>")},
		{"BodyOnChannel0", hostileFrame(wire.FrameBody, 0, `say "hello" to \ all`, wire.FrameEnd),
			unexpected(`type 3, first 16 octets = <<"say \"hello\" to \\">>`)},
		{"EmptyMethodFrame", hostileFrame(wire.FrameMethod, 1, "", wire.FrameEnd),
			frameError("type 1, all octets = <<>>: unknown_frame")},
		{"HalfAMethodID", hostileFrame(wire.FrameMethod, 0, "\x00\x0a", wire.FrameEnd),
			frameError("type 1, all octets = <<0,10>>: unknown_frame")},
	})
}

// TestHostileMethods are methods that do not parse, do not exist, or do not
// belong where they come.
func TestHostileMethods(t *testing.T) {
	t.Parallel()
	method := func(channel uint16, m wire.Method) []byte { return wire.AppendMethod(nil, channel, m) }
	testHostile(t, []hostileCase{
		{"Truncated", hostileMethod(1, wire.IDQueueDeclare, "\x00\x00\x05q"),
			exception{wire.FrameError, "cannot decode <<0,0,5,113>>", wire.IDQueueDeclare}},
		{"MoreThanTheArguments", hostileMethod(1, wire.IDTxSelect, "x"),
			exception{wire.FrameError, "cannot decode <<120>>", wire.IDTxSelect}},
		{"ShortPublish", hostileMethod(1, wire.IDBasicPublish, "\x00\x00\x05"),
			exception{wire.FrameError, "cannot decode <<0,0,5>>", wire.IDBasicPublish}},
		{"ShortAck", hostileMethod(1, wire.IDBasicAck, "\x00"),
			exception{wire.FrameError, "cannot decode <<0>>", wire.IDBasicAck}},
		{"ShortNack", hostileMethod(1, wire.IDBasicNack, ""),
			exception{wire.FrameError, "cannot decode <<>>", wire.IDBasicNack}},
		{"ShortReject", hostileMethod(1, wire.IDBasicReject, "\x00\x01"),
			exception{wire.FrameError, "cannot decode <<0,1>>", wire.IDBasicReject}},
		{"TableLongerThanTheMethod", hostileMethod(1, wire.IDQueueDeclare, "\x00\x00\x01q\x00\xff\xff\xff\xff"),
			exception{wire.FrameError, "cannot decode <<0,0,1,113,0,255,255,255,255>>", wire.IDQueueDeclare}},
		{"TableWithAnUnknownTag", hostileMethod(1, wire.IDQueueDeclare, "\x00\x00\x01q\x00\x00\x00\x00\x03\x01kz"),
			exception{wire.FrameError, "cannot decode <<0,0,1,113,0,0,0,0,3,1,107,122>>", wire.IDQueueDeclare}},
		{"NotUTF8", method(1, &wire.QueueDeclare{Queue: "q\xff"}),
			exception{wire.FrameError, "Malformed UTF-8 in shortstr", wire.IDQueueDeclare}},
		{"UnknownMethod", hostileMethod(1, 60<<16|999, ""),
			exception{wire.CommandInvalid, "unimplemented method", 60<<16 | 999}},
		{"UnknownClass", hostileMethod(1, 0xffffffff, "arguments"),
			exception{wire.CommandInvalid, "unimplemented method", 0xffffffff}},
		{"UnknownMethodOnChannel0", hostileMethod(0, 10<<16|99, ""),
			exception{wire.CommandInvalid, "unimplemented method", 10<<16 | 99}},
		{"ForClientsOnly", method(1, &wire.BasicDeliver{ConsumerTag: "c", DeliveryTag: 1}),
			exception{wire.CommandInvalid, "unimplemented method", wire.IDBasicDeliver}},
		{"ForClientsOnlyOnChannel0", method(0, &wire.ConnectionStart{}),
			exception{wire.ChannelError, "unexpected method in connection state running", wire.IDConnectionStart}},
		{"ConnectionMethodOnAChannel", method(1, &wire.ConnectionClose{}),
			exception{wire.CommandInvalid, "unimplemented method", wire.IDConnectionClose}},
		{"SecondOpen", method(0, &wire.ConnectionOpen{VirtualHost: "/"}),
			exception{wire.ChannelError, "unexpected method in connection state running", wire.IDConnectionOpen}},
		{"SecondLogin", method(0, &wire.ConnectionStartOk{Mechanism: "PLAIN"}),
			exception{wire.ChannelError, "unexpected method in connection state running", wire.IDConnectionStartOk}},
		{"ChannelMethodOnChannel0", method(0, &wire.QueueDeclare{Queue: "q"}),
			exception{wire.ChannelError, "unexpected method in connection state running", wire.IDQueueDeclare}},
		{"SecondChannelOpen", method(1, &wire.ChannelOpen{}),
			exception{wire.ChannelError, "second 'channel.open' seen", wire.IDChannelOpen}},
		{"UnopenedChannel", method(2, &wire.QueueDeclare{Queue: "q"}),
			exception{wire.ChannelError, "expected 'channel.open'", wire.IDQueueDeclare}},
		{"PublishOnUnopenedChannel", method(65535, &wire.BasicPublish{RoutingKey: "q"}),
			exception{wire.ChannelError, "expected 'channel.open'", wire.IDBasicPublish}},
		{"AckOfNothing", method(1, &wire.BasicAck{DeliveryTag: 1}),
			exception{wire.PreconditionFailed, "unknown delivery tag 1", wire.IDBasicAck}},
		{"AckOfTheLargestTag", method(1, &wire.BasicAck{DeliveryTag: 1<<64 - 1, Multiple: true}),
			exception{wire.PreconditionFailed, "unknown delivery tag 18446744073709551615", wire.IDBasicAck}},
		{"AckOfTag0", method(1, &wire.BasicAck{}),
			exception{wire.PreconditionFailed, "unknown delivery tag 0", wire.IDBasicAck}},
		{"NackOfNothing", method(1, &wire.BasicNack{DeliveryTag: 17, Multiple: true, Requeue: true}),
			exception{wire.PreconditionFailed, "unknown delivery tag 17", wire.IDBasicNack}},
		{"RejectOfNothing", method(1, &wire.BasicReject{DeliveryTag: 3}),
			exception{wire.PreconditionFailed, "unknown delivery tag 3", wire.IDBasicReject}},
	})
}

// TestHostileContent are messages whose frames are in the wrong order, or not
// what the header announced.
func TestHostileContent(t *testing.T) {
	t.Parallel()
	const noMethod = "expected method frame, got non method frame instead"
	const noHeader = "expected content header for class 60, got non content header frame instead"
	const noBody = "expected content body, got non content body frame instead"
	publish := &wire.BasicPublish{RoutingKey: "q"}
	unexpected := func(text string) exception { return exception{wire.UnexpectedFrame, text, wire.IDBasicPublish} }
	frames := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	header := func(size uint64) []byte { return hostileHeader(60, 0, size, "\x00\x00") }
	testHostile(t, []hostileCase{
		{"HeaderForAMethod", header(1), exception{wire.UnexpectedFrame, noMethod, 0}},
		{"BodyForAMethod", hostileBody("b"), exception{wire.UnexpectedFrame, noMethod, 0}},
		{"HeaderOnUnopenedChannel", hostileFrame(wire.FrameHeader, 9, "x", wire.FrameEnd), exception{wire.UnexpectedFrame, noMethod, 0}},
		hostileCase{"MethodForTheHeader", nil, unexpected(noHeader)}.after(publish, &wire.BasicQos{}),
		hostileCase{"PublishForTheHeader", nil, unexpected(noHeader)}.after(publish, publish),
		hostileCase{"BodyForTheHeader", hostileBody("b"), unexpected(noHeader)}.after(publish),
		hostileCase{"HeaderWithWeight", hostileHeader(60, 1, 1, "\x00\x00"), unexpected(noHeader)}.after(publish),
		hostileCase{"HeaderOfAnotherClass", hostileHeader(50, 0, 1, "\x00\x00"),
			unexpected("expected content header for class 60, got one for class 50 instead")}.after(publish),
		hostileCase{"MethodForTheBody", frames(header(2), wire.AppendMethod(nil, 1, &wire.BasicQos{})), unexpected(noBody)}.after(publish),
		hostileCase{"MethodInTheBody", frames(header(4), hostileBody("bo"), wire.AppendMethod(nil, 1, publish)), unexpected(noBody)}.after(publish),
		hostileCase{"SecondHeader", frames(header(2), header(2)), unexpected(noBody)}.after(publish),
		hostileCase{"BodyTooLong", frames(header(2), hostileBody("bod")),
			exception{wire.FrameError, "content body frame exceeds remaining content size", wire.IDBasicPublish}}.after(publish),
		hostileCase{"BodiesTooLong", frames(header(4), hostileBody("bod"), hostileBody(""), hostileBody("ie")),
			exception{wire.FrameError, "content body frame exceeds remaining content size", wire.IDBasicPublish}}.after(publish),
		hostileCase{"BodyAfterAnEmptyOne", frames(header(0), hostileBody("b")), exception{wire.UnexpectedFrame, noMethod, 0}}.after(publish),
		hostileCase{"HugeBodyAnnounced", header(536870913),
			exception{wire.FrameError, "content body size 536870913 exceeds maximum allowed size 536870912", wire.IDBasicPublish}}.after(publish),
		hostileCase{"LargestBodyAnnounced", header(1<<64 - 1),
			exception{wire.FrameError, "content body size 18446744073709551615 exceeds maximum allowed size 536870912", wire.IDBasicPublish}}.after(publish),
		hostileCase{"LargerThanAllowed", frames(header(1<<20+1), hostileBody("ignored")),
			exception{wire.PreconditionFailed, "message size 1048577 is larger than configured max size 1048576", wire.IDBasicPublish}}.after(publish),
		hostileCase{"Immediate", frames(header(1), hostileBody("b")),
			exception{wire.NotImplemented, "immediate=true", wire.IDBasicPublish}}.after(&wire.BasicPublish{RoutingKey: "q", Immediate: true}),
	})
}

// TestHostileProperties are content headers whose properties do not parse: RabbitMQ
// answers 541 without an explanation.
func TestHostileProperties(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	t.Run("cases", func(t *testing.T) {
		for name, properties := range map[string]string{
			"NoFlags":           "",
			"HalfTheFlags":      "\x80",
			"NoContentType":     "\x80\x00",
			"ContentTypeCut":    "\x80\x00\x05abc",
			"HeadersCut":        "\x20\x00\x00\x00\x00\x09\x01kS",
			"HeadersUnknownTag": "\x20\x00\x00\x00\x00\x03\x01kz",
			"TimestampCut":      "\x00\x40\x00\x00\x00",
			"MoreThanTheFlags":  "\x10\x00\x02more",
			"MoreThanNoFlags":   "\x00\x00m",
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c := dialWire(t, broker)
				c.send(1, &wire.BasicPublish{RoutingKey: "q"})
				c.write(hostileHeader(60, 0, 1, properties))
				c.write(hostileBody("b"))
				closed := expect[*wire.ConnectionClose](c, 0)
				if closed.ReplyCode != wire.InternalError || closed.ReplyText != "INTERNAL_ERROR" {
					t.Errorf("got %d %q", closed.ReplyCode, closed.ReplyText)
				}
				c.send(0, &wire.ConnectionCloseOk{})
				c.wantEnd()
				hostileUnharmed(t, broker)
			})
		}
	})
}

// TestHostileNames uses bytes that are no UTF-8 where RabbitMQ does not look at
// them: in the exchange and routing key of basic.publish.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	c := dialWire(t, broker)
	call[*wire.ConfirmSelectOk](c, 1, &wire.ConfirmSelect{})
	c.publish(1, wire.BasicPublish{RoutingKey: "\xff\xfe\x00", Mandatory: true}, wire.Properties{}, "body")
	// The answers carry the names back, so they are compared as bytes.
	returned := wire.AppendMethod(nil, 1, &wire.BasicReturn{ReplyCode: wire.NoRoute, ReplyText: "NO_ROUTE", RoutingKey: "\xff\xfe\x00"})
	if f := c.frame(); !bytes.Contains(returned, f.Payload) {
		t.Errorf("the message was not returned but answered with %q", f.Payload)
	}
	c.content(1)
	expect[*wire.BasicAck](c, 1)
	c.publish(1, wire.BasicPublish{Exchange: "\xff"}, wire.Properties{}, "body")
	if f := c.frame(); !bytes.Contains(f.Payload, []byte("NOT_FOUND - no exchange '\xff' in vhost '/'")) {
		t.Errorf("a missing exchange was answered with %q", f.Payload)
	}
	hostileUnharmed(t, broker)
}

// TestHostileClosedChannels sends on channels that are closed.
func TestHostileClosedChannels(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)

	t.Run("ByTheServer", func(t *testing.T) {
		t.Parallel()
		c := dialWire(t, broker)
		c.send(1, &wire.QueuePurge{Queue: "none"})
		expect[*wire.ChannelClose](c, 1)
		// Until the client answers, all of this is dropped, whatever it is.
		c.publish(1, wire.BasicPublish{Exchange: "none"}, wire.Properties{}, "body")
		c.write(hostileBody("b"))
		c.write(hostileMethod(1, wire.IDQueueDeclare, "\xff"))
		c.write(hostileMethod(1, 0xffffffff, ""))
		c.write(hostileFrame(wire.FrameMethod, 1, "", wire.FrameEnd))
		c.send(1, &wire.ChannelOpen{}, &wire.QueueDeclare{Queue: "dropped"})
		call[*wire.ChannelCloseOk](c, 1, &wire.ChannelClose{})
		c.send(1, &wire.ChannelCloseOk{})
		call[*wire.ChannelOpenOk](c, 1, &wire.ChannelOpen{})
		c.send(1, &wire.QueueDeclare{Queue: "dropped", Passive: true})
		c.wantException(exception{wire.NotFound, "no queue 'dropped' in vhost '/'", wire.IDQueueDeclare})
	})

	t.Run("ByTheClient", func(t *testing.T) {
		t.Parallel()
		c := dialWire(t, broker)
		call[*wire.ChannelCloseOk](c, 1, &wire.ChannelClose{})
		c.send(1, &wire.ChannelCloseOk{}) // an answer to nothing is harmless
		c.send(1, &wire.BasicQos{})
		c.wantException(exception{wire.ChannelError, "expected 'channel.open'", wire.IDBasicQos})
	})

	t.Run("WithTheConnection", func(t *testing.T) {
		t.Parallel()
		c := dialWire(t, broker)
		c.send(1, &wire.ChannelOpen{})
		expect[*wire.ConnectionClose](c, 0)
		c.publish(1, wire.BasicPublish{RoutingKey: "q"}, wire.Properties{}, "dropped")
		c.send(7, &wire.ChannelOpen{})
		c.write(hostileMethod(0, 0xffffffff, ""))
		c.send(0, &wire.ConnectionCloseOk{})
		c.wantEnd()
		hostileUnharmed(t, broker)
	})
}

// TestHostileTables declares queues with large and deeply nested arguments.
func TestHostileTables(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	c := dialWire(t, broker)
	nested := func(depth int) wire.Table {
		table := wire.Table{}
		for range depth - 1 {
			table = wire.Table{{Name: "t", Value: table}}
		}
		return table
	}
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "deep", Arguments: nested(wire.MaxTableDepth)})
	var wide wire.Table
	for range 9000 {
		wide = append(wide, wire.Field{Name: "same name", Value: nil})
	}
	wide = append(wide, wire.Field{Name: "text", Value: strings.Repeat("long", 4000)})
	call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: "wide", Arguments: wide})

	// One table deeper is too deep. The bytes are made by hand: the codec refuses.
	arguments := "\x00\x00\x01q\x00"
	for size := (wire.MaxTableDepth + 1) * 7; size >= 0; size -= 7 {
		arguments += hostileInteger(4, uint64(size))
		if size > 0 {
			arguments += "\x01tF"
		}
	}
	c.write(hostileMethod(1, wire.IDQueueDeclare, arguments))
	closed := expect[*wire.ConnectionClose](c, 0)
	if closed.ReplyCode != wire.FrameError || !strings.HasPrefix(closed.ReplyText, "FRAME_ERROR - cannot decode <<0,0,1,113,0,") {
		t.Errorf("got %d %q", closed.ReplyCode, closed.ReplyText)
	}
	hostileUnharmed(t, broker)
}

// hostileHeap is the memory in use after everything unreachable was freed.
func hostileHeap() int64 {
	runtime.GC()
	runtime.GC() // what pools held until the first
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
