// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package vhosts

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/lagomq/lagomq/amqp/wire"
)

// The queue types a declaration may name in x-queue-type.
const (
	TypeClassic = "classic"
	TypeQuorum  = "quorum"
)

// maxMilliseconds is RabbitMQ's cap of TTLs and expiries: ten years.
const maxMilliseconds = 315_360_000_000

// argument is one queue argument that this broker knows.
type argument struct {
	name string
	// types are the queue types that take it; a declaration of another type with
	// it is refused.
	types []string
	// check returns the detail of RabbitMQ's "invalid arg" text, "" if the value is
	// good.
	check func(value any) string
}

var (
	both    = []string{TypeClassic, TypeQuorum}
	classic = []string{TypeClassic}
	quorum  = []string{TypeQuorum}
	neither = []string{}
)

// arguments are the known queue arguments in the order in which a redeclaration
// is compared (RabbitMQ 4.3, queues: arguments by type). Delivery limits, consumer
// timeouts and delayed retries are there for quorum queues only, deduplication is
// a plugin's.
var arguments = slices.Concat([]argument{
	{"x-queue-type", both, checkQueueType},
	{"x-expires", both, positiveMilliseconds},
	{"x-message-ttl", both, milliseconds},
	{"x-dead-letter-exchange", both, nil}, // its type is checked by checkDeadLetter
	{"x-dead-letter-routing-key", both, longString},
	{"x-dead-letter-strategy", quorum, oneOf("invalid_dlx_strategy", "at-most-once", "at-least-once")},
	{"x-max-length", both, nonNegative},
	{"x-max-length-bytes", both, nonNegative},
	{"x-overflow", both, nil}, // the values depend on the type, see checkOverflow
	{"x-max-priority", classic, maxPriority},
	{"x-single-active-consumer", both, boolean},
	{"x-queue-mode", classic, queueMode},
	{"x-queue-version", classic, queueVersion},
	{"x-queue-leader-locator", both, oneOf("invalid_queue_locator_arg", "client-local", "balanced", "random", "least-leaders")},
	{"x-quorum-initial-group-size", quorum, positive},
	{"x-delivery-limit", both, integer},
	{"x-consumer-timeout", both, positiveMilliseconds},
	{"x-consumer-disconnected-timeout", quorum, positiveMilliseconds}, // a broker that is alone loses no consumers so
	{"x-delayed-retry-type", both, oneOf("invalid_delayed_retry_type", "all", "failed", "returned", "disabled")},
	{"x-delayed-retry-min", both, milliseconds},
	{"x-delayed-retry-max", both, milliseconds},
	{"x-max-in-memory-length", quorum, nonNegative},
	{"x-max-in-memory-bytes", quorum, nonNegative},
	{"x-max-age", neither, nil},
	{"x-stream-max-segment-size-bytes", neither, nil},
	{"x-stream-filter-size-bytes", neither, nil},
	{"x-initial-cluster-size", neither, nil},
}, dedupArguments)

// dedupArguments are those of queues that exchanges have too.
var dedupArguments = []argument{
	{"x-message-deduplication", both, boolean},
	{"x-deduplication-header", both, headerName},
	{"x-cache-size", both, positive},
	{"x-cache-ttl", both, positiveMilliseconds},
}

// checkArguments validates the arguments of a new queue, as RabbitMQ does: the
// dead letter exchange's type, the queue type, the values of what that takes, and
// then that there is nothing it does not take. args is sorted and names its queue type.
func checkArguments(args wire.Table, queue, vhost string) *wire.Error {
	if err := checkDeadLetter(args, queue, vhost); err != nil {
		return err
	}
	if value, _ := args.Get("x-queue-type"); checkQueueType(value) != "" {
		return invalidArgument("x-queue-type", queue, vhost, checkQueueType(value))
	}
	queueType := typeOf(args)
	for i := range arguments {
		a := &arguments[i]
		value, given := args.Get(a.name)
		if !given || !slices.Contains(a.types, queueType) {
			continue
		}
		detail := ""
		switch {
		case a.name == "x-overflow":
			detail = checkOverflow(value, queueType)
		case a.check != nil:
			detail = a.check(value)
		}
		if _, hasExchange := args.Get("x-dead-letter-exchange"); a.name == "x-dead-letter-routing-key" && detail == "" && !hasExchange {
			detail = "routing_key_but_no_dlx_defined"
		}
		if detail != "" {
			return invalidArgument(a.name, queue, vhost, detail)
		}
	}
	for _, arg := range args {
		unknown := func(a argument) bool { return a.name == arg.Name && !slices.Contains(a.types, queueType) }
		if slices.ContainsFunc(arguments, unknown) {
			return notOfType(arg.Name, queue, vhost, queueType)
		}
	}
	return nil
}

// notOfType refuses an argument that queues of other types know.
func notOfType(name, queue, vhost, queueType string) *wire.Error {
	return wire.Errorf(wire.PreconditionFailed, "invalid arg '%s' for queue '%s' in vhost '%s' of queue type rabbit_%s_queue",
		name, queue, vhost, queueType)
}

// ConsumerArguments reads the arguments of a consumer of the queue: its priority, and
// its timeout in milliseconds, 0 if they do not say. Errors: 406 for a value that is not
// valid, or an argument that only streams know.
func (q *Queue) ConsumerArguments(arguments wire.Table) (priority int64, timeout uint64, err *wire.Error) {
	for _, known := range []struct {
		name  string
		check func(value any) string
	}{{"x-priority", integer}, {"x-consumer-timeout", positiveMilliseconds}} {
		if value, given := arguments.Get(known.name); given {
			if detail := known.check(value); detail != "" {
				return 0, 0, invalidArgument(known.name, q.name, q.vhost.name, detail)
			}
		}
	}
	for _, name := range []string{"x-stream-filter", "x-stream-match-unfiltered", "x-stream-offset"} {
		if _, given := arguments.Get(name); given {
			return 0, 0, notOfType(name, q.name, q.vhost.name, typeOf(q.arguments))
		}
	}
	priority, _ = wire.Integer(argumentOf(arguments, "priority"))
	milliseconds, _ := wire.Integer(argumentOf(arguments, "consumer-timeout"))
	return priority, uint64(milliseconds), nil
}

func checkDeadLetter(args wire.Table, queue, vhost string) *wire.Error {
	exchange, given := args.Get("x-dead-letter-exchange")
	if _, ok := exchange.(string); given && !ok {
		return wire.Errorf(wire.PreconditionFailed, "invalid type '%s' for arg 'x-dead-letter-exchange' in queue '%s' in vhost '%s'",
			wire.TagName(exchange), queue, vhost)
	}
	return nil
}

func invalidArgument(name, queue, vhost, detail string) *wire.Error {
	return wire.Errorf(wire.PreconditionFailed, "invalid arg '%s' for queue '%s' in vhost '%s': %s", name, queue, vhost, detail)
}

func typeOf(args wire.Table) string {
	if value, given := args.Get("x-queue-type"); given {
		if name, ok := value.(string); ok {
			return name
		}
	}
	return TypeClassic
}

// withType returns the arguments of a declaration with x-queue-type among them, as
// stored arguments always have it: usual, or classic if the flags do not suit that
// (RabbitMQ 4.3, queues: declare).
func (d *QueueDeclaration) withType(usual string) wire.Table {
	if _, given := d.Arguments.Get("x-queue-type"); given {
		return d.Arguments
	}
	if _, bad := d.notForQuorum(); bad {
		usual = TypeClassic
	}
	return append(slices.Clone(d.Arguments), wire.Field{Name: "x-queue-type", Value: usual})
}

// notForQuorum names the first property that a quorum queue cannot have.
func (d *QueueDeclaration) notForQuorum() (property string, bad bool) {
	switch {
	case d.AutoDelete:
		return "auto-delete", true
	case d.Exclusive:
		return "exclusive-owner", true
	case !d.Durable:
		return "non-durable", true
	}
	return "", false
}

// equivalentArguments compares the known arguments of a redeclaration with those
// of the queue that exists.
func equivalentArguments(received, current wire.Table, queue, vhost string) *wire.Error {
	for i := range arguments {
		name := arguments[i].name
		if !slices.Contains(arguments[i].types, typeOf(current)) {
			continue
		}
		r, hasR := received.Get(name)
		c, hasC := current.Get(name)
		switch {
		case !hasR && !hasC:
		case !hasR:
			return inequivalent(name, queue, vhost, "none but current is the value '%s' of type '%s'", plain(c), wire.TagName(c))
		case !hasC:
			return inequivalent(name, queue, vhost, "the value '%s' of type '%s' but current is none", plain(r), wire.TagName(r))
		case !sameValue(r, c):
			return inequivalent(name, queue, vhost, "'%s' but current is '%s'", plain(r), plain(c))
		}
	}
	return nil
}

func inequivalent(name, queue, vhost, format string, values ...any) *wire.Error {
	return wire.Errorf(wire.PreconditionFailed, "inequivalent arg '%s' for queue '%s' in vhost '%s': received %s",
		name, queue, vhost, fmt.Sprintf(format, values...))
}

// sameValue compares two argument values: integers of any width are of one
// class, and so are the two floating point types.
func sameValue(a, b any) bool {
	if x, ok := wire.Integer(a); ok {
		y, ok := wire.Integer(b)
		return ok && x == y
	}
	if x, ok := float(a); ok {
		y, ok := float(b)
		return ok && x == y
	}
	return wire.Table{{Name: "v", Value: a}}.Equal(wire.Table{{Name: "v", Value: b}})
}

func float(v any) (float64, bool) {
	switch v := v.(type) {
	case float32:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// plain prints an argument value as RabbitMQ's texts do.
func plain(v any) string {
	if n, ok := wire.Integer(v); ok {
		return strconv.FormatInt(n, 10)
	}
	switch v := v.(type) {
	case nil:
		return "undefined"
	case []byte:
		return string(v)
	}
	return fmt.Sprint(v)
}

func notInteger(value any) string {
	return fmt.Sprintf("%q", "expected integer, got "+wire.TagName(value))
}

func integer(value any) string {
	if _, ok := wire.Integer(value); !ok {
		return notInteger(value)
	}
	return ""
}

func nonNegative(value any) string {
	n, ok := wire.Integer(value)
	switch {
	case !ok:
		return notInteger(value)
	case n < 0:
		return fmt.Sprintf("{value_negative,%d}", n)
	}
	return ""
}

func positive(value any) string {
	if n, ok := wire.Integer(value); ok && n == 0 {
		return "{value_zero,0}"
	}
	return nonNegative(value)
}

func milliseconds(value any) string {
	if n, ok := wire.Integer(value); ok && n > maxMilliseconds {
		return fmt.Sprintf("{value_too_large,%d}", n)
	}
	return nonNegative(value)
}

func positiveMilliseconds(value any) string {
	if n, ok := wire.Integer(value); ok && n == 0 {
		return "{value_zero,0}"
	}
	return milliseconds(value)
}

func maxPriority(value any) string {
	if n, ok := wire.Integer(value); ok && n > 255 {
		return fmt.Sprintf("{max_value_exceeded,%d}", n)
	}
	return nonNegative(value)
}

func unacceptable(value any) string {
	return "{unacceptable_type," + wire.TagName(value) + "}"
}

func longString(value any) string {
	if _, ok := value.(string); !ok {
		return unacceptable(value)
	}
	return ""
}

// headerName accepts what can name a header.
func headerName(value any) string {
	if name, ok := value.(string); ok && len(name) > 255 {
		return "{max_length_exceeded,255}"
	}
	return longString(value)
}

func boolean(value any) string {
	if _, ok := value.(bool); !ok {
		return unacceptable(value)
	}
	return ""
}

func oneOf(detail string, allowed ...string) func(any) string {
	return func(value any) string {
		name, ok := value.(string)
		switch {
		case !ok:
			return unacceptable(value)
		case !slices.Contains(allowed, name):
			return detail
		}
		return ""
	}
}

func checkQueueType(value any) string {
	name, ok := value.(string)
	switch {
	case !ok:
		return unacceptable(value)
	case name != TypeClassic && name != TypeQuorum:
		return fmt.Sprintf("%q", "unsupported queue type '"+name+"'")
	}
	return ""
}

func checkOverflow(value any, queueType string) string {
	if queueType == TypeQuorum {
		return oneOf("invalid_overflow", "drop-head", "reject-publish")(value)
	}
	return oneOf("invalid_overflow", "drop-head", "reject-publish", "reject-publish-dlx")(value)
}

func queueMode(value any) string {
	mode, _ := value.(string)
	return oneOf(fmt.Sprintf("%q", "unsupported queue mode '"+mode+"'"), "default", "lazy")(value)
}

func queueVersion(value any) string {
	if n, ok := wire.Integer(value); ok && n >= 0 && n != 2 {
		return fmt.Sprintf("%q", "unsupported queue version '"+strconv.FormatInt(n, 10)+"'")
	}
	return nonNegative(value)
}
