// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"strings"
	"testing"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/amqp/wire"
)

// exceptionCase is one way to make the server end channel 1 or the connection.
type exceptionCase struct {
	name  string
	setup []wire.Method // each is answered without an error first
	do    func(*wireClient)
	exception
}

// sending is the do of a case that sends methods on channel 1.
func sending(methods ...wire.Method) func(*wireClient) {
	return func(c *wireClient) { c.t.Helper(); c.send(1, methods...) }
}

// publishing is the do of a case that publishes to queue "q".
func publishing(m wire.BasicPublish, p wire.Properties) func(*wireClient) {
	return func(c *wireClient) { c.t.Helper(); c.publish(1, m, p, "body") }
}

// testExceptions runs each case on a broker and a connection of its own.
func testExceptions(t *testing.T, cases []exceptionCase) {
	t.Helper()
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := dialWire(t, startBroker(t, func(o *lagomq.Options) { o.AMQP.MaxMessageSize = 1000 }))
			for _, m := range test.setup {
				c.send(1, m)
				if _, answer := c.method(); answer.ID() != m.ID()+1 {
					t.Fatalf("%v was answered with %v %+v", m.ID(), answer.ID(), answer)
				}
			}
			test.do(c)
			c.wantException(test.exception)
		})
	}
}

// declareWith is the declaration of a durable queue q with one argument.
func declareWith(name string, value any) *wire.QueueDeclare {
	return &wire.QueueDeclare{Queue: "q", Durable: true, Arguments: wire.Table{{Name: name, Value: value}}}
}

// quorumWith is the declaration of a quorum queue q with one more argument.
func quorumWith(name string, value any) *wire.QueueDeclare {
	m := declareWith(name, value)
	m.Arguments = append(m.Arguments, wire.Field{Name: "x-queue-type", Value: "quorum"})
	return m
}

const (
	inQueue    = " for queue 'q' in vhost '/': "
	inExchange = " for exchange 'x' in vhost '/': "
)

func TestQueueDeclareExceptions(t *testing.T) {
	t.Parallel()
	failing := func(text string) exception {
		return exception{wire.PreconditionFailed, text, wire.IDQueueDeclare}
	}
	invalid := func(name string, value any, detail string) exceptionCase {
		return exceptionCase{name: name + detail, do: sending(declareWith(name, value)), exception: failing("invalid arg '" + name + "'" + inQueue + detail)}
	}
	cases := []exceptionCase{
		invalid("x-max-length", int32(-5), "{value_negative,-5}"),
		invalid("x-max-length", "5", `"expected integer, got longstr"`),
		invalid("x-max-length", wire.Timestamp(5), `"expected integer, got timestamp"`),
		invalid("x-max-length-bytes", int64(-1), "{value_negative,-1}"),
		invalid("x-expires", int16(0), "{value_zero,0}"),
		invalid("x-expires", int64(315_360_000_001), "{value_too_large,315360000001}"),
		invalid("x-message-ttl", int8(-1), "{value_negative,-1}"),
		invalid("x-message-ttl", int64(315_360_000_001), "{value_too_large,315360000001}"),
		invalid("x-max-priority", uint16(300), "{max_value_exceeded,300}"),
		invalid("x-overflow", "spill", "invalid_overflow"),
		invalid("x-overflow", int64(1), "{unacceptable_type,long}"),
		invalid("x-dead-letter-routing-key", "k", "routing_key_but_no_dlx_defined"),
		invalid("x-queue-type", "fast", `"unsupported queue type 'fast'"`),
		invalid("x-queue-version", int64(1), `"unsupported queue version '1'"`),
		invalid("x-queue-leader-locator", "moon", "invalid_queue_locator_arg"),
		invalid("x-queue-version", int64(-1), "{value_negative,-1}"),
		invalid("x-queue-mode", "idle", `"unsupported queue mode 'idle'"`),
		invalid("x-queue-type", "stream", `"unsupported queue type 'stream'"`),
		invalid("x-queue-type", int64(1), "{unacceptable_type,long}"),
		invalid("x-single-active-consumer", "yes", "{unacceptable_type,longstr}"),
		{
			name: "QueueTypeBeforeValues",
			do: sending(&wire.QueueDeclare{Queue: "q", Durable: true, Arguments: wire.Table{
				{Name: "x-expires", Value: int64(0)}, {Name: "x-queue-type", Value: "stream"}}}),
			exception: failing("invalid arg 'x-queue-type'" + inQueue + `"unsupported queue type 'stream'"`),
		},
		{
			name:      "ValueOfAnotherType",
			do:        sending(quorumWith("x-max-priority", int64(300))),
			exception: failing("invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue"),
		},
		{
			name: "FirstOfAnotherType",
			do: sending(&wire.QueueDeclare{Queue: "q", Durable: true, Arguments: wire.Table{
				{Name: "x-quorum-initial-group-size", Value: int64(3)}, {Name: "x-max-age", Value: "1D"}}}),
			exception: failing("invalid arg 'x-max-age' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"),
		},
		{
			name: "DeadLetterExchangeType", do: sending(declareWith("x-dead-letter-exchange", int64(1))),
			exception: failing("invalid type 'long' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"),
		},
		{
			name: "DeadLetterStrategy", do: sending(quorumWith("x-dead-letter-strategy", "never")),
			exception: failing("invalid arg 'x-dead-letter-strategy'" + inQueue + "invalid_dlx_strategy"),
		},
		{
			name: "NotForQuorumQueues", do: sending(quorumWith("x-max-priority", int64(3))),
			exception: failing("invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type rabbit_quorum_queue"),
		},
		{
			name: "NotForClassicQueues", do: sending(declareWith("x-max-in-memory-length", int64(3))),
			exception: failing("invalid arg 'x-max-in-memory-length' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"),
		},
		{
			name:      "QuorumServerNamed",
			do:        sending(&wire.QueueDeclare{Durable: true, Arguments: wire.Table{{Name: "x-queue-type", Value: "quorum"}}}),
			exception: failing("Cannot declare a server-named queue for type rabbit_quorum_queue"),
		},
		{
			name:      "QuorumNotDurable",
			do:        sending(&wire.QueueDeclare{Queue: "q", Arguments: wire.Table{{Name: "x-queue-type", Value: "quorum"}}}),
			exception: failing("invalid property 'non-durable' for queue 'q' in vhost '/'"),
		},
		{
			name:      "QuorumAutoDelete",
			do:        sending(&wire.QueueDeclare{Queue: "q", Durable: true, AutoDelete: true, Arguments: wire.Table{{Name: "x-queue-type", Value: "quorum"}}}),
			exception: failing("invalid property 'auto-delete' for queue 'q' in vhost '/'"),
		},
		{
			name: "Durable", setup: []wire.Method{&wire.QueueDeclare{Queue: "q", Durable: true}}, do: sending(&wire.QueueDeclare{Queue: "q"}),
			exception: failing("inequivalent arg 'durable'" + inQueue + "received 'false' but current is 'true'"),
		},
		{
			name: "AutoDelete", setup: []wire.Method{&wire.QueueDeclare{Queue: "q"}}, do: sending(&wire.QueueDeclare{Queue: "q", AutoDelete: true}),
			exception: failing("inequivalent arg 'auto_delete'" + inQueue + "received 'true' but current is 'false'"),
		},
		{
			name: "ArgumentDiffers", setup: []wire.Method{declareWith("x-max-length", int32(6))}, do: sending(declareWith("x-max-length", int64(5))),
			exception: failing("inequivalent arg 'x-max-length'" + inQueue + "received '5' but current is '6'"),
		},
		{
			name: "ArgumentMissing", setup: []wire.Method{declareWith("x-max-length", int64(100))}, do: sending(&wire.QueueDeclare{Queue: "q", Durable: true}),
			exception: failing("inequivalent arg 'x-max-length'" + inQueue + "received none but current is the value '100' of type 'long'"),
		},
		{
			name: "ArgumentAdded", setup: []wire.Method{&wire.QueueDeclare{Queue: "q", Durable: true}}, do: sending(declareWith("x-dead-letter-exchange", "d")),
			exception: failing("inequivalent arg 'x-dead-letter-exchange'" + inQueue + "received the value 'd' of type 'longstr' but current is none"),
		},
		{
			name: "TypeDiffers", setup: []wire.Method{&wire.QueueDeclare{Queue: "q", Durable: true}}, do: sending(declareWith("x-queue-type", "quorum")),
			exception: failing("inequivalent arg 'x-queue-type'" + inQueue + "received 'quorum' but current is 'classic'"),
		},
		{
			name: "ReservedPrefix", do: sending(&wire.QueueDeclare{Queue: "amq.foo"}),
			exception: exception{wire.AccessRefused, "queue name 'amq.foo' contains reserved prefix 'amq.*'", wire.IDQueueDeclare},
		},
		{
			name: "PassiveMissing", do: sending(&wire.QueueDeclare{Queue: "q", Passive: true}),
			exception: exception{wire.NotFound, "no queue 'q' in vhost '/'", wire.IDQueueDeclare},
		},
		{
			name: "ReplyQueueMissing", do: sending(&wire.QueueDeclare{Queue: "amq.rabbitmq.reply-to.gone"}),
			exception: exception{wire.NotFound, "no queue 'amq.rabbitmq.reply-to.gone' in vhost '/'", wire.IDQueueDeclare},
		},
		{
			name:  "ExclusiveFlagOfOwner",
			setup: []wire.Method{&wire.QueueDeclare{Queue: "q", Exclusive: true}}, do: sending(&wire.QueueDeclare{Queue: "q"}),
			exception: exception{wire.ResourceLocked, lockedText("q"), wire.IDQueueDeclare},
		},
		{
			name:  "NoWaitStillFails",
			setup: []wire.Method{&wire.QueueDeclare{Queue: "q"}}, do: sending(&wire.QueueDeclare{Queue: "q", Durable: true, NoWait: true}),
			exception: failing("inequivalent arg 'durable'" + inQueue + "received 'true' but current is 'false'"),
		},
	}
	testExceptions(t, cases)
}

// lockedText is the explanation of 405 for another connection's queue.
func lockedText(queue string) string {
	return "cannot obtain exclusive access to locked queue '" + queue + "' in vhost '/'. It could be originally declared on another connection " +
		"or the exclusive property value does not match that of the original declaration."
}

func TestQueueExceptions(t *testing.T) {
	t.Parallel()
	missing := func(m wire.Method) exception {
		return exception{wire.NotFound, "no queue 'q' in vhost '/'", m.ID()}
	}
	var cases []exceptionCase
	for _, m := range []wire.Method{
		&wire.QueueBind{Queue: "q", Exchange: "amq.direct"}, &wire.QueuePurge{Queue: "q"},
		&wire.BasicConsume{Queue: "q"}, &wire.BasicGet{Queue: "q"},
	} {
		cases = append(cases, exceptionCase{name: "Missing/" + m.ID().String(), do: sending(m), exception: missing(m)})
	}
	for _, m := range []wire.Method{
		&wire.QueueBind{Exchange: "amq.direct"}, &wire.QueueUnbind{Exchange: "amq.direct"}, &wire.QueuePurge{},
		&wire.QueueDelete{}, &wire.BasicConsume{}, &wire.BasicGet{},
	} {
		cases = append(cases, exceptionCase{name: "NoneDeclared/" + m.ID().String(), do: sending(m), exception: exception{wire.NotFound, "no previously declared queue", m.ID()}})
	}
	quorum := quorumWith("x-max-length", int64(1))
	cases = append(cases, []exceptionCase{
		{
			name: "BindMissingExchange", setup: []wire.Method{&wire.QueueDeclare{Queue: "q"}}, do: sending(&wire.QueueBind{Queue: "q", Exchange: "x"}),
			exception: exception{wire.NotFound, "no exchange 'x' in vhost '/'", wire.IDQueueBind},
		},
		{
			name: "BindBothMissing", do: sending(&wire.QueueBind{Queue: "q", Exchange: "x"}),
			exception: exception{wire.NotFound, "no exchange 'x' in vhost '/'", wire.IDQueueBind},
		},
		{
			name: "BindDefaultExchange", setup: []wire.Method{&wire.QueueDeclare{Queue: "q"}}, do: sending(&wire.QueueBind{Queue: "q", RoutingKey: "k"}),
			exception: exception{wire.AccessRefused, "operation not permitted on the default exchange", wire.IDQueueBind},
		},
		{
			name: "UnbindDefaultExchange", setup: []wire.Method{&wire.QueueDeclare{Queue: "q"}}, do: sending(&wire.QueueUnbind{Queue: "q", RoutingKey: "q"}),
			exception: exception{wire.AccessRefused, "operation not permitted on the default exchange", wire.IDQueueUnbind},
		},
		{
			name: "BindReplyTo", do: sending(&wire.QueueBind{Queue: "amq.rabbitmq.reply-to", Exchange: "amq.direct", RoutingKey: "k"}),
			exception: exception{wire.AccessRefused, "cannot bind or unbind to a volatile (direct reply-to) queue", wire.IDQueueBind},
		},
		{
			name:      "TooManyHashes",
			setup:     []wire.Method{&wire.QueueDeclare{Queue: "q"}},
			do:        sending(&wire.QueueBind{Queue: "q", Exchange: "amq.topic", RoutingKey: "#.a.#.b.#"}),
			exception: exception{wire.PreconditionFailed, "Topic binding key '#.a.#.b.#' uses 3 '#' wildcards, at most 2 are allowed", wire.IDQueueBind},
		},
		{
			name:      "HeadersMatchValue",
			setup:     []wire.Method{&wire.QueueDeclare{Queue: "q"}},
			do:        sending(&wire.QueueBind{Queue: "q", Exchange: "amq.headers", Arguments: wire.Table{{Name: "x-match", Value: "foo"}}}),
			exception: exception{wire.PreconditionFailed, `Invalid x-match field value <<"foo">>; expected all, any, all-with-x, or any-with-x`, wire.IDQueueBind},
		},
		{
			name:      "HeadersMatchType",
			setup:     []wire.Method{&wire.QueueDeclare{Queue: "q"}},
			do:        sending(&wire.QueueBind{Queue: "q", Exchange: "amq.match", Arguments: wire.Table{{Name: "x-match", Value: int64(1)}}}),
			exception: exception{wire.PreconditionFailed, "Invalid x-match field type long (value 1); expected longstr", wire.IDQueueBind},
		},
		{
			name:      "DeleteInUse",
			setup:     []wire.Method{&wire.QueueDeclare{Queue: "q"}, &wire.BasicConsume{Queue: "q"}},
			do:        sending(&wire.QueueDelete{Queue: "q", IfUnused: true}),
			exception: exception{wire.PreconditionFailed, "queue 'q' in vhost '/' in use", wire.IDQueueDelete},
		},
		{
			name:  "DeleteNotEmpty",
			setup: []wire.Method{&wire.QueueDeclare{Queue: "q"}},
			do: func(c *wireClient) {
				c.publish(1, wire.BasicPublish{RoutingKey: "q"}, wire.Properties{}, "body")
				c.send(1, &wire.QueueDelete{Queue: "q", IfUnused: true, IfEmpty: true})
			},
			exception: exception{wire.PreconditionFailed, "queue 'q' in vhost '/' not empty", wire.IDQueueDelete},
		},
		{
			name: "DeleteQuorumIfUnused", setup: []wire.Method{quorum}, do: sending(&wire.QueueDelete{Queue: "q", IfUnused: true}),
			exception: exception{wire.NotImplemented, "cannot delete queue 'q' in vhost '/'. queue.delete operations with if-unused flag set are not supported by quorum queues", wire.IDQueueDelete},
		},
		{
			name: "DeleteQuorumIfEmpty", setup: []wire.Method{quorum}, do: sending(&wire.QueueDelete{Queue: "q", IfEmpty: true}),
			exception: exception{wire.NotImplemented, "cannot delete queue 'q' in vhost '/'. queue.delete operations with if-empty flag set are not supported by quorum queues", wire.IDQueueDelete},
		},
	}...)
	testExceptions(t, cases)
}

func TestExchangeExceptions(t *testing.T) {
	t.Parallel()
	direct := &wire.ExchangeDeclare{Exchange: "x", Type: "direct"}
	alternate := func(value any) *wire.ExchangeDeclare {
		return &wire.ExchangeDeclare{Exchange: "x", Type: "direct", Arguments: wire.Table{{Name: "alternate-exchange", Value: value}}}
	}
	redeclared := func(name, text string, first, second *wire.ExchangeDeclare) exceptionCase {
		return exceptionCase{
			name: "Inequivalent/" + name, setup: []wire.Method{first}, do: sending(second),
			exception: exception{wire.PreconditionFailed, "inequivalent arg '" + name + "'" + inExchange + text, wire.IDExchangeDeclare},
		}
	}
	notDefault := "operation not permitted on the default exchange"
	testExceptions(t, []exceptionCase{
		redeclared("type", "received 'topic' but current is 'direct'", direct, &wire.ExchangeDeclare{Exchange: "x", Type: "topic"}),
		redeclared("durable", "received 'true' but current is 'false'", direct, &wire.ExchangeDeclare{Exchange: "x", Type: "direct", Durable: true}),
		redeclared("auto_delete", "received 'true' but current is 'false'", direct, &wire.ExchangeDeclare{Exchange: "x", Type: "direct", AutoDelete: true}),
		redeclared("internal", "received 'true' but current is 'false'", direct, &wire.ExchangeDeclare{Exchange: "x", Type: "direct", Internal: true}),
		redeclared("alternate-exchange", "received 'b' but current is 'a'", alternate("a"), alternate("b")),
		{
			name: "UnknownType", do: sending(&wire.ExchangeDeclare{Exchange: "x", Type: "round"}),
			exception: exception{wire.PreconditionFailed, "unknown exchange type 'round'", wire.IDExchangeDeclare},
		},
		{
			name: "DeclareDefault", do: sending(&wire.ExchangeDeclare{Type: "direct"}),
			exception: exception{wire.AccessRefused, notDefault, wire.IDExchangeDeclare},
		},
		{
			name: "ReservedPrefix", do: sending(&wire.ExchangeDeclare{Exchange: "amq.foo", Type: "direct"}),
			exception: exception{wire.AccessRefused, "exchange name 'amq.foo' contains reserved prefix 'amq.*'", wire.IDExchangeDeclare},
		},
		{
			name: "AlternateType", do: sending(alternate(int64(1))),
			exception: exception{wire.PreconditionFailed, "invalid type 'long' for arg 'alternate-exchange' in exchange 'x' in vhost '/'", wire.IDExchangeDeclare},
		},
		{
			name: "PassiveMissing", do: sending(&wire.ExchangeDeclare{Exchange: "x", Type: "direct", Passive: true}),
			exception: exception{wire.NotFound, "no exchange 'x' in vhost '/'", wire.IDExchangeDeclare},
		},
		{
			name: "DeleteDefault", do: sending(&wire.ExchangeDelete{}),
			exception: exception{wire.AccessRefused, notDefault, wire.IDExchangeDelete},
		},
		{
			name: "DeleteSystem", do: sending(&wire.ExchangeDelete{Exchange: "amq.direct"}),
			exception: exception{wire.AccessRefused, "deletion of system exchange 'amq.direct' in vhost '/' not allowed", wire.IDExchangeDelete},
		},
		{
			name: "DeleteInUse",
			setup: []wire.Method{direct, &wire.QueueDeclare{Queue: "q"},
				&wire.QueueBind{Queue: "q", Exchange: "x", RoutingKey: "k"}},
			do:        sending(&wire.ExchangeDelete{Exchange: "x", IfUnused: true}),
			exception: exception{wire.PreconditionFailed, "exchange 'x' in vhost '/' in use", wire.IDExchangeDelete},
		},
		{
			name: "BindSourceMissing", setup: []wire.Method{direct}, do: sending(&wire.ExchangeBind{Destination: "x", Source: "y"}),
			exception: exception{wire.NotFound, "no exchange 'y' in vhost '/'", wire.IDExchangeBind},
		},
		{
			name: "BindDestinationMissing", setup: []wire.Method{direct}, do: sending(&wire.ExchangeBind{Destination: "y", Source: "x"}),
			exception: exception{wire.NotFound, "no exchange 'y' in vhost '/'", wire.IDExchangeBind},
		},
		{
			name: "BindToDefault", do: sending(&wire.ExchangeBind{Destination: "", Source: "amq.direct"}),
			exception: exception{wire.AccessRefused, notDefault, wire.IDExchangeBind},
		},
	})
}

func TestPublishExceptions(t *testing.T) {
	t.Parallel()
	failing := func(text string) exception {
		return exception{wire.PreconditionFailed, text, wire.IDBasicPublish}
	}
	toQueue := wire.BasicPublish{RoutingKey: "q"}
	headers := func(name string, value any) wire.Properties {
		return wire.Properties{Flags: wire.FlagHeaders, Headers: wire.Table{{Name: name, Value: value}}}
	}
	cases := []exceptionCase{
		{
			name: "MissingExchange", do: publishing(wire.BasicPublish{Exchange: "x"}, wire.Properties{}),
			exception: exception{wire.NotFound, "no exchange 'x' in vhost '/'", wire.IDBasicPublish},
		},
		{
			name:  "InternalExchange",
			setup: []wire.Method{&wire.ExchangeDeclare{Exchange: "x", Type: "fanout", Internal: true}}, do: publishing(wire.BasicPublish{Exchange: "x"}, wire.Properties{}),
			exception: exception{wire.AccessRefused, "cannot publish to internal exchange 'x' in vhost '/'", wire.IDBasicPublish},
		},
		{
			name: "Immediate", do: publishing(wire.BasicPublish{RoutingKey: "q", Immediate: true}, wire.Properties{}),
			exception: exception{wire.NotImplemented, "immediate=true", wire.IDBasicPublish},
		},
		{
			name:      "TooLarge",
			do:        func(c *wireClient) { c.publish(1, toQueue, wire.Properties{}, strings.Repeat("x", 1001)) },
			exception: failing("message size 1001 is larger than configured max size 1000"),
		},
		{
			name: "NoReplyConsumer", do: publishing(toQueue, wire.Properties{Flags: wire.FlagReplyTo, ReplyTo: "amq.rabbitmq.reply-to"}),
			exception: failing("fast reply consumer does not exist"),
		},
		{
			name: "UserID", do: publishing(toQueue, wire.Properties{Flags: wire.FlagUserID, UserID: "eve"}),
			exception: failing("user_id property set to 'eve' but authenticated user was 'guest'"),
		},
		{
			name: "CCNoArray", do: publishing(toQueue, headers("CC", "q")),
			exception: failing(`invalid message: {unacceptable_type_in_header,"CC",longstr}`),
		},
		{
			name: "ExchangeBeforeProperties", do: publishing(wire.BasicPublish{Exchange: "x"}, wire.Properties{Flags: wire.FlagExpiration, Expiration: "abc"}),
			exception: exception{wire.NotFound, "no exchange 'x' in vhost '/'", wire.IDBasicPublish},
		},
	}
	for expiration, detail := range map[string]string{
		"abc": "no_integer", "": "no_integer", "10x": `{leftover_string,"x"}`, "-1": "{value_negative,-1}",
		"315360000001": "{value_too_large,315360000001}", "99999999999999999999": "{value_too_large,99999999999999999999}",
	} {
		cases = append(cases, exceptionCase{
			name: "Expiration/" + expiration, do: publishing(toQueue, wire.Properties{Flags: wire.FlagExpiration, Expiration: expiration}),
			exception: failing("invalid expiration '" + expiration + "': " + detail),
		})
	}
	testExceptions(t, cases)
}

func TestChannelExceptions(t *testing.T) {
	t.Parallel()
	queue := []wire.Method{&wire.QueueDeclare{Queue: "q"}}
	unknownTag := func(tag string, m wire.MethodID) exception {
		return exception{wire.PreconditionFailed, "unknown delivery tag " + tag, m}
	}
	testExceptions(t, []exceptionCase{
		{
			name: "Ack", do: sending(&wire.BasicAck{DeliveryTag: 17}), exception: unknownTag("17", wire.IDBasicAck),
		},
		{
			name: "AckTagZeroSingle", do: sending(&wire.BasicAck{}), exception: unknownTag("0", wire.IDBasicAck),
		},
		{
			name: "AckMultipleUnknown", do: sending(&wire.BasicAck{DeliveryTag: 1, Multiple: true}), exception: unknownTag("1", wire.IDBasicAck),
		},
		{
			name: "Nack", do: sending(&wire.BasicNack{DeliveryTag: 2}), exception: unknownTag("2", wire.IDBasicNack),
		},
		{
			name: "Reject", do: sending(&wire.BasicReject{DeliveryTag: 3}), exception: unknownTag("3", wire.IDBasicReject),
		},
		{
			name: "ConsumerTagReused", setup: append(queue, &wire.BasicConsume{Queue: "q", ConsumerTag: "t"}),
			do:        sending(&wire.BasicConsume{Queue: "q", ConsumerTag: "t"}),
			exception: exception{wire.NotAllowed, "attempt to reuse consumer tag 't'", wire.IDBasicConsume},
		},
		{
			name: "ExclusiveConsumerThere", setup: append(queue, &wire.BasicConsume{Queue: "q", Exclusive: true}),
			do:        sending(&wire.BasicConsume{Queue: "q"}),
			exception: exception{wire.AccessRefused, "queue 'q' in vhost '/' in exclusive use", wire.IDBasicConsume},
		},
		{
			name: "ExclusiveConsumerLate", setup: append(queue, &wire.BasicConsume{Queue: "q"}),
			do:        sending(&wire.BasicConsume{Queue: "q", Exclusive: true}),
			exception: exception{wire.AccessRefused, "queue 'q' in vhost '/' in exclusive use", wire.IDBasicConsume},
		},
		{
			name: "PrefetchSize", do: sending(&wire.BasicQos{PrefetchSize: 9}), exception: exception{wire.NotImplemented, "prefetch_size!=0 (9)", wire.IDBasicQos},
		},
		{
			name: "RecoverWithoutRequeue", do: sending(&wire.BasicRecover{}), exception: exception{wire.NotImplemented, "requeue=false", wire.IDBasicRecover},
		},
		{
			name: "FlowOff", do: sending(&wire.ChannelFlow{}), exception: exception{wire.NotImplemented, "active=false", wire.IDChannelFlow},
		},
		{
			name: "ReplyConsumerAcknowledges", do: sending(&wire.BasicConsume{Queue: "amq.rabbitmq.reply-to"}),
			exception: exception{wire.PreconditionFailed, "reply consumer cannot acknowledge", wire.IDBasicConsume},
		},
		{
			name: "ReplyConsumerTwice", setup: []wire.Method{&wire.BasicConsume{Queue: "amq.rabbitmq.reply-to", NoAck: true}},
			do:        sending(&wire.BasicConsume{Queue: "amq.rabbitmq.reply-to", NoAck: true}),
			exception: exception{wire.PreconditionFailed, "reply consumer already set", wire.IDBasicConsume},
		},
		{
			name: "TxToConfirm", setup: []wire.Method{&wire.TxSelect{}}, do: sending(&wire.ConfirmSelect{}),
			exception: exception{wire.PreconditionFailed, "cannot switch from tx to confirm mode", wire.IDConfirmSelect},
		},
		{
			name: "ConfirmToTx", setup: []wire.Method{&wire.ConfirmSelect{}}, do: sending(&wire.TxSelect{}),
			exception: exception{wire.PreconditionFailed, "cannot switch from confirm to tx mode", wire.IDTxSelect},
		},
		{
			name: "CommitWithoutSelect", do: sending(&wire.TxCommit{}), exception: exception{wire.PreconditionFailed, "channel is not transactional", wire.IDTxCommit},
		},
		{
			name: "RollbackWithoutSelect", do: sending(&wire.TxRollback{}), exception: exception{wire.PreconditionFailed, "channel is not transactional", wire.IDTxRollback},
		},
		{
			name: "SecondOpen", do: sending(&wire.ChannelOpen{}), exception: exception{wire.ChannelError, "second 'channel.open' seen", wire.IDChannelOpen},
		},
		{
			name: "NotOpened", do: func(c *wireClient) { c.send(2, &wire.TxSelect{}) },
			exception: exception{wire.ChannelError, "expected 'channel.open'", wire.IDTxSelect},
		},
		{
			name: "FromServerOnly", do: sending(&wire.BasicGetEmpty{}), exception: exception{wire.CommandInvalid, "unimplemented method", wire.IDBasicGetEmpty},
		},
		{
			name: "OnChannelZero", do: func(c *wireClient) { c.send(0, &wire.TxSelect{}) },
			exception: exception{wire.ChannelError, "unexpected method in connection state running", wire.IDTxSelect},
		},
	})
}
