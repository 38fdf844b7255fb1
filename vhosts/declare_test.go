// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/lagomq/lagomq/amqp/wire"
)

func arg(name string, value any) wire.Field { return wire.Field{Name: name, Value: value} }

var quorumType = arg("x-queue-type", "quorum")

// TestArguments checks what each argument accepts, and the texts of what it does
// not (RabbitMQ 4.3, queues: arguments by type, validation texts).
func TestArguments(t *testing.T) {
	t.Parallel()
	const notInt, unacceptableInt = `"expected integer, got longstr"`, "{unacceptable_type,signedint}"
	const tooLarge = "{value_too_large,315360000001}"
	var cases []argumentCase
	accept := func(queueType, name string, values ...any) {
		for _, v := range values {
			cases = append(cases, argumentCase{queueType, name, v, ""})
		}
	}
	refuse := func(queueType, name, detail string, value any) {
		cases = append(cases, argumentCase{queueType, name, value, detail})
	}
	// Every integer type will do.
	accept("classic", "x-max-length", int8(1), uint8(1), int16(1), uint16(1), int32(1), uint32(1), int64(1), int32(0))
	refuse("classic", "x-max-length", `"expected integer, got timestamp"`, wire.Timestamp(1))
	refuse("classic", "x-max-length", `"expected integer, got double"`, 1.0)

	for _, queueType := range []string{"classic", "quorum"} {
		for _, name := range []string{"x-max-length", "x-max-length-bytes"} {
			accept(queueType, name, int32(0), int64(1)<<40)
			refuse(queueType, name, "{value_negative,-5}", int32(-5))
			refuse(queueType, name, notInt, "5")
		}
		accept(queueType, "x-message-ttl", int32(0), int64(315360000000))
		refuse(queueType, "x-message-ttl", "{value_negative,-1}", int8(-1))
		refuse(queueType, "x-message-ttl", tooLarge, int64(315360000001))
		refuse(queueType, "x-message-ttl", notInt, "1")
		accept(queueType, "x-expires", int32(1), int64(315360000000))
		refuse(queueType, "x-expires", "{value_zero,0}", int32(0))
		refuse(queueType, "x-expires", "{value_negative,-1}", int32(-1))
		refuse(queueType, "x-expires", tooLarge, int64(315360000001))
		refuse(queueType, "x-expires", notInt, "1")
		accept(queueType, "x-single-active-consumer", true, false)
		refuse(queueType, "x-single-active-consumer", unacceptableInt, int32(1))
		accept(queueType, "x-queue-leader-locator", "client-local", "balanced", "random", "least-leaders")
		accept(queueType, "x-queue-master-locator", "min-masters") // of older applications; RabbitMQ 4.3 refuses it unless told not to
		refuse(queueType, "x-queue-leader-locator", "invalid_queue_locator_arg", "here")
		refuse(queueType, "x-queue-leader-locator", unacceptableInt, int32(1))
		accept(queueType, "x-overflow", "drop-head", "reject-publish")
		refuse(queueType, "x-overflow", "invalid_overflow", "drop")
		refuse(queueType, "x-overflow", unacceptableInt, int32(1))
		accept(queueType, "x-dead-letter-exchange", "x", "")
		refuse(queueType, "x-dead-letter-routing-key", "routing_key_but_no_dlx_defined", "key")
		refuse(queueType, "x-dead-letter-routing-key", unacceptableInt, int32(1))
		// For quorum queues only, or a plugin's, in RabbitMQ.
		accept(queueType, "x-consumer-timeout", int32(1000))
		refuse(queueType, "x-consumer-timeout", "{value_zero,0}", int32(0))
		accept(queueType, "x-delivery-limit", int32(20), int32(-1))
		refuse(queueType, "x-delivery-limit", notInt, "20")
		accept(queueType, "x-delayed-retry-type", "all", "failed", "returned", "disabled")
		refuse(queueType, "x-delayed-retry-type", "invalid_delayed_retry_type", "some")
		accept(queueType, "x-delayed-retry-min", int32(0))
		accept(queueType, "x-delayed-retry-max", int32(10))
		refuse(queueType, "x-delayed-retry-min", "{value_negative,-1}", int32(-1))
		accept(queueType, "x-message-deduplication", true, false)
		refuse(queueType, "x-message-deduplication", "{unacceptable_type,longstr}", "true")
		accept(queueType, "x-deduplication-header", "id", "")
		refuse(queueType, "x-deduplication-header", unacceptableInt, int32(1))
		refuse(queueType, "x-deduplication-header", "{max_length_exceeded,255}", strings.Repeat("h", 256))
		accept(queueType, "x-cache-size", int32(1), int64(1)<<40)
		refuse(queueType, "x-cache-size", "{value_zero,0}", int32(0))
		accept(queueType, "x-cache-ttl", int32(1))
		refuse(queueType, "x-cache-ttl", "{value_zero,0}", int32(0))
		for _, name := range []string{"x-max-age", "x-stream-max-segment-size-bytes", "x-stream-filter-size-bytes", "x-initial-cluster-size"} {
			refuse(queueType, name, wrongType, "1D")
		}
		// Not known: any type takes anything.
		accept(queueType, "x-quorum-target-group-size", int32(-1), "any")
		accept(queueType, "x-custom", "any", nil)
		accept(queueType, "custom", wire.Table{})
	}
	accept("classic", "x-overflow", "reject-publish-dlx")
	refuse("quorum", "x-overflow", "invalid_overflow", "reject-publish-dlx")
	accept("classic", "x-max-priority", int32(0), uint8(255))
	refuse("classic", "x-max-priority", "{max_value_exceeded,300}", int32(300))
	refuse("classic", "x-max-priority", "{value_negative,-1}", int32(-1))
	refuse("classic", "x-max-priority", notInt, "1")
	refuse("quorum", "x-max-priority", wrongType, int32(5))
	accept("classic", "x-queue-mode", "lazy", "default")
	refuse("quorum", "x-queue-mode", wrongType, "lazy")
	accept("classic", "x-queue-version", int32(2))
	refuse("classic", "x-queue-version", `"unsupported queue version '1'"`, int32(1))
	refuse("classic", "x-queue-version", notInt, "2")
	refuse("quorum", "x-queue-version", wrongType, int32(2))
	accept("quorum", "x-consumer-disconnected-timeout", int32(1000))
	refuse("quorum", "x-consumer-disconnected-timeout", "{value_zero,0}", int32(0))
	refuse("classic", "x-consumer-disconnected-timeout", wrongType, int32(1000))
	accept("quorum", "x-quorum-initial-group-size", int32(1))
	refuse("quorum", "x-quorum-initial-group-size", "{value_zero,0}", int32(0))
	refuse("quorum", "x-quorum-initial-group-size", "{value_negative,-3}", int32(-3))
	refuse("classic", "x-quorum-initial-group-size", wrongType, int32(3))
	accept("quorum", "x-dead-letter-strategy", "at-most-once", "at-least-once")
	refuse("quorum", "x-dead-letter-strategy", "invalid_dlx_strategy", "often")
	refuse("classic", "x-dead-letter-strategy", wrongType, "at-most-once")
	accept("quorum", "x-max-in-memory-length", int32(1))
	accept("quorum", "x-max-in-memory-bytes", int32(1))
	refuse("classic", "x-max-in-memory-length", wrongType, int32(1))

	for _, c := range cases {
		t.Run(fmt.Sprintf("%s %s %v", c.queueType, c.name, c.value), func(t *testing.T) {
			t.Parallel()
			err := checkArguments(wire.Table{arg("x-queue-type", c.queueType), arg(c.name, c.value)}, "q", "/")
			want := "invalid arg '" + c.name + "' for queue 'q' in vhost '/': " + c.detail
			switch c.detail {
			case "":
				want = ""
			case wrongType:
				want = "invalid arg '" + c.name + "' for queue 'q' in vhost '/' of queue type rabbit_" + c.queueType + "_queue"
			}
			wantError(t, err, wire.PreconditionFailed, want)
		})
	}
}

type argumentCase struct {
	queueType, name string
	value           any
	detail          string // "" if the value is fine
}

// wrongType stands for an argument that the queue type does not take.
const wrongType = "of another queue type"

func TestArgumentsTogether(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, want string
		args       wire.Table
	}{
		{"key with exchange", "", wire.Table{arg("x-dead-letter-exchange", "x"), arg("x-dead-letter-routing-key", "k")}},
		{"exchange of a wrong type", "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'",
			wire.Table{arg("x-dead-letter-exchange", int32(1))}},
		{"unknown queue type", `invalid arg 'x-queue-type' for queue 'q' in vhost '/': "unsupported queue type 'x'"`,
			wire.Table{arg("x-queue-type", "x")}},
		{"queue type of a wrong type", "invalid arg 'x-queue-type' for queue 'q' in vhost '/': {unacceptable_type,signedint}",
			wire.Table{arg("x-queue-type", int32(1))}},
		{"the first of two counts", "", wire.Table{arg("x-max-length", int32(1)), arg("x-max-length", "1")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := QueueDeclaration{Arguments: test.args}
			wantError(t, checkArguments(d.withType(TypeClassic), "q", "/"), wire.PreconditionFailed, test.want)
		})
	}
}

// TestEquivalence redeclares queues (RabbitMQ 4.3, queues: equivalence of a
// redeclare).
func TestEquivalence(t *testing.T) {
	t.Parallel()
	const inArg = "inequivalent arg '%s' for queue 'q' in vhost '/': received %s"
	type args = []wire.Field
	for _, test := range []struct {
		name         string
		flags, again string
		args, again2 args
		arg, want    string // of the text after "received", "" if equivalent
	}{
		{"same", "durable", "durable", args{arg("x-max-length", int32(5))}, args{arg("x-max-length", int32(5))}, "", ""},
		{"integers of any width", "durable", "durable", args{arg("x-max-length", int32(5))}, args{arg("x-max-length", int64(5))}, "", ""},
		{"classic is the default", "durable", "durable", nil, args{arg("x-queue-type", "classic")}, "", ""},
		{"default after classic", "durable", "durable", args{arg("x-queue-type", "classic")}, nil, "", ""},
		{"unknown arguments are not compared", "durable", "durable", args{arg("x-mine", int32(5))}, args{arg("x-mine", "other")}, "", ""},
		{"arguments of other types are not compared", "durable", "durable", nil, args{arg("x-dead-letter-strategy", "at-least-once")}, "", ""},
		{"order of arguments", "durable", "durable",
			args{arg("x-expires", int32(5)), arg("x-max-length", int32(1))}, args{arg("x-max-length", int32(1)), arg("x-expires", int32(5))}, "", ""},
		{"exclusive queues are not durable", "exclusive durable", "exclusive", nil, nil, "", ""},

		{"durable", "durable", "", nil, nil, "durable", "'false' but current is 'true'"},
		{"not durable", "", "durable", nil, nil, "durable", "'true' but current is 'false'"},
		{"auto-delete", "durable", "durable autodelete", nil, nil, "auto_delete", "'true' but current is 'false'"},
		{"durable before auto-delete", "durable", "autodelete", nil, nil, "durable", "'false' but current is 'true'"},
		{"auto-delete before arguments", "", "autodelete", args{arg("x-max-length", int32(5))}, nil, "auto_delete", "'true' but current is 'false'"},
		{"other value", "", "", args{arg("x-max-length", int32(6))}, args{arg("x-max-length", int32(5))}, "x-max-length", "'5' but current is '6'"},
		{"other string", "", "", args{arg("x-overflow", "drop-head")}, args{arg("x-overflow", "reject-publish")},
			"x-overflow", "'reject-publish' but current is 'drop-head'"},
		{"other boolean", "", "", args{arg("x-single-active-consumer", true)}, args{arg("x-single-active-consumer", false)},
			"x-single-active-consumer", "'false' but current is 'true'"},
		{"missing", "", "", args{arg("x-message-ttl", int64(100))}, nil, "x-message-ttl", "none but current is the value '100' of type 'long'"},
		{"additional", "", "", nil, args{arg("x-dead-letter-exchange", "x")},
			"x-dead-letter-exchange", "the value 'x' of type 'longstr' but current is none"},
		{"other type", "durable", "durable", nil, args{quorumType}, "x-queue-type", "'quorum' but current is 'classic'"},
		{"type missing", "durable", "durable", args{quorumType}, nil, "x-queue-type", "'classic' but current is 'quorum'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := openBroker(t, vfs.NewMem())
			b.declare(t, "q", test.flags, 1, test.args...)
			want := ""
			if test.want != "" {
				want = fmt.Sprintf(inArg, test.arg, test.want)
			}
			_, _, err := b.DeclareQueue(declaration("q", test.again, 1, test.again2...), nil)
			wantError(t, err, wire.PreconditionFailed, want)
		})
	}
}

// TestExclusivity checks that exclusivity is compared first, and strictly.
func TestExclusivity(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	b.declare(t, "mine", "exclusive", 1)
	b.declare(t, "shared", "durable", 1)
	locked := func(name string) string {
		return "cannot obtain exclusive access to locked queue '" + name + "' in vhost '/'. It could be originally declared on another " +
			"connection or the exclusive property value does not match that of the original declaration."
	}
	for _, test := range []struct {
		name, queue, flags string
		owner              uint64
		refused            bool
	}{
		{"owner", "mine", "exclusive", 1, false},
		{"owner without exclusive", "mine", "", 1, true},
		{"another", "mine", "exclusive autodelete", 2, true},
		{"another without exclusive", "mine", "durable", 2, true},
		{"exclusive of a shared one", "shared", "durable exclusive", 1, true},
	} {
		want := ""
		if test.refused {
			want = locked(test.queue)
		}
		t.Run(test.name, func(t *testing.T) {
			_, _, err := b.DeclareQueue(declaration(test.queue, test.flags, test.owner), nil)
			wantError(t, err, wire.ResourceLocked, want)
		})
	}
	t.Run("every use by another", func(t *testing.T) {
		_, err := b.VHost.Queue("mine", 2)
		wantError(t, err, wire.ResourceLocked, locked("mine"))
		_, err = b.DeclareQueuePassive("mine", 2)
		wantError(t, err, wire.ResourceLocked, locked("mine"))
		_, _, err = b.PurgeQueue("mine", 2, nil)
		wantError(t, err, wire.ResourceLocked, locked("mine"))
		_, _, err = b.DeleteQueue("mine", false, false, 2, nil)
		wantError(t, err, wire.ResourceLocked, locked("mine"))
		_, err = b.Bind(Binding{Source: "amq.direct", Destination: "mine"}, 2, nil)
		wantError(t, err, wire.ResourceLocked, locked("mine"))
		_, err = b.Unbind(Binding{Source: "amq.direct", Destination: "mine"}, 2, nil)
		wantError(t, err, wire.ResourceLocked, locked("mine"))
		_, err = b.Bind(Binding{Source: "missing", Destination: "mine"}, 2, nil)
		wantError(t, err, wire.NotFound, "no exchange 'missing' in vhost '/'")
	})
}

func TestDeclareNames(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	first, _, err := b.DeclareQueue(declaration("", "exclusive", 1), nil)
	wantError(t, err, 0, "")
	second, _, err := b.DeclareQueue(declaration("", "exclusive", 1), nil)
	wantError(t, err, 0, "")
	if first.Name == second.Name || !strings.HasPrefix(first.Name, "amq.gen-") || len(first.Name) != len("amq.gen-")+22 {
		t.Errorf("chosen names are %q and %q", first.Name, second.Name)
	}
	if _, err := b.DeclareQueuePassive(first.Name, 1); err != nil {
		t.Error(err)
	}
	reserved := func(name string) string { return "queue name '" + name + "' contains reserved prefix 'amq.*'" }
	for _, test := range []struct {
		name, queue string
		code        wire.ReplyCode
		want        string
		args        []wire.Field
	}{
		{"reserved", "amq.mine", wire.AccessRefused, reserved("amq.mine"), nil},
		{"reserved although it exists", first.Name, wire.AccessRefused, reserved(first.Name), nil},
		{"reserved before arguments", "amq.x", wire.AccessRefused, reserved("amq.x"), []wire.Field{arg("x-max-length", "x")}},
		{"quorum without a name", "", wire.PreconditionFailed, "Cannot declare a server-named queue for type rabbit_quorum_queue", []wire.Field{quorumType}},
		{"line breaks are dropped", "a\r\nb", 0, "", nil},
		{"reply queue that nobody has", "amq.rabbitmq.reply-to.x", wire.NotFound, "no queue 'amq.rabbitmq.reply-to.x' in vhost '/'", nil},
		{"reply queue", "amq.rabbitmq.reply-to", 0, "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := b.DeclareQueue(declaration(test.queue, "durable", 1, test.args...), nil)
			wantError(t, err, test.code, test.want)
		})
	}
	if d, err := b.DeclareQueuePassive("a\nb\r", 1); err != nil || d.Name != "ab" {
		t.Errorf("passive declare answers %v, %v", d, err)
	}
	_, err = b.DeclareQueuePassive("missing", 1)
	wantError(t, err, wire.NotFound, "no queue 'missing' in vhost '/'")
}

func TestQuorumProperties(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	for _, test := range []struct{ flags, property string }{
		{"durable", ""},
		{"", "non-durable"},
		{"durable autodelete", "auto-delete"},
		{"autodelete", "auto-delete"},
		{"exclusive", "exclusive-owner"},
	} {
		t.Run(test.flags, func(t *testing.T) {
			want := ""
			if test.property != "" {
				want = "invalid property '" + test.property + "' for queue 'q' in vhost '/'"
			}
			_, _, err := b.DeclareQueue(declaration("q", test.flags, 1, quorumType), nil)
			wantError(t, err, wire.PreconditionFailed, want)
			_, _, err = b.DeleteQueue("q", false, false, 1, nil)
			wantError(t, err, 0, "")
		})
	}
}

// TestDeclareCounts checks that declarations answer with ready messages and
// consumers.
func TestDeclareCounts(t *testing.T) {
	t.Parallel()
	b := openBroker(t, vfs.NewMem())
	q := b.declare(t, "q", "durable", 1)
	b.publish(t, "", "q", false, nil, "1", "2", "3")
	consume(t, q, newInbox("c", false, 1))
	d, err := b.DeclareQueuePassive("q", 1)
	if want := (Declared{"q", 2, 1}); err != nil || d != want {
		t.Errorf("answer is %v, %v, want %v", d, err, want)
	}
	d, _, err = b.DeclareQueue(declaration("q", "durable", 1), nil)
	if want := (Declared{"q", 2, 1}); err != nil || d != want {
		t.Errorf("answer is %v, %v, want %v", d, err, want)
	}
	if args := b.QueueStats()[0].Arguments; !args.Equal(wire.Table{arg("x-queue-type", "classic")}) {
		t.Errorf("stored arguments are %v", args)
	}
}
