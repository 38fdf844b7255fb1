// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
)

// options are what the command line asked for.
type options struct {
	uri           string
	tlsSkipVerify bool
	heartbeat     int // seconds, 0 for none

	producers, consumers               int // connections
	producerChannels, consumerChannels int // per connection
	size                               int // bytes of body

	queue               string
	queuePattern        string
	queueFrom, queueTo  int
	exchange            string
	exchangeType        string
	routingKey          string
	queueArgs           []string
	autoDelete, durable bool
	predeclared         bool

	flags         []string
	priorities    int // how many different ones the messages have; 0 for none at all
	expiration    int // milliseconds, 0 for none
	expirationMax int // milliseconds; 0 if all messages have the same expiration
	confirm       int // window; 0 for no confirms
	prefetch      int
	multiAckEvery int
	autoAck       bool
	nack          bool // negative acknowledgements
	requeue       bool // ask for them to put messages back

	rate, consumerRate         float64 // messages a second and channel; 0 for no limit
	publishCount, consumeCount uint64  // per channel; 0 for no limit
	seconds                    int

	drainTimeout time.Duration
	verify       bool
	json         bool

	// Filled in by complete.
	endpoint  endpoint
	arguments wire.Table // of the queues
	explicit  struct{ exchange, exchangeType, durable bool }
}

// The values of --flag.
const (
	flagPersistent = "persistent"
	flagMandatory  = "mandatory"
)

func (o *options) persistent() bool { return slices.Contains(o.flags, flagPersistent) }
func (o *options) mandatory() bool  { return slices.Contains(o.flags, flagMandatory) }

// limits are the smallest and largest values of the integer options.
func (o *options) limits() []limit {
	return []limit{
		{"producers", o.producers, 0, maxProducers},
		{"consumers", o.consumers, 0, maxProducers},
		{"producer-channel-count", o.producerChannels, 1, 2047},
		{"consumer-channel-count", o.consumerChannels, 1, 2047},
		{"size", o.size, 0, wire.MaxBodySize},
		{"heartbeat", o.heartbeat, 0, 1<<16 - 1},
		{"confirm", o.confirm, 0, 1 << 24},
		{"priorities", o.priorities, 0, 256},
		{"expiration", o.expiration, 0, 1<<31 - 1},
		{"expiration-max", o.expirationMax, 0, 1<<31 - 1},
		{"qos", o.prefetch, 0, 1<<16 - 1},
		{"multi-ack-every", o.multiAckEvery, 0, 1 << 30},
		{"time", o.seconds, 0, 1 << 30},
	}
}

type limit struct {
	name             string
	value, low, high int
}

// complete checks the options, all of them rather than up to the first problem,
// and fills in what follows from them.
func (o *options) complete() error {
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	for _, l := range o.limits() {
		if l.value < l.low || l.value > l.high {
			problem("--%s %d is not between %d and %d", l.name, l.value, l.low, l.high)
		}
	}
	var err error
	if o.endpoint, err = parseURI(o.uri); err != nil {
		problem("--uri: %w", err)
	}
	if o.arguments, err = parseArguments(o.queueArgs); err != nil {
		problem("--queue-args: %w", err)
	}
	for _, f := range o.flags {
		if f != flagPersistent && f != flagMandatory {
			problem("--flag %s is neither %s nor %s", f, flagPersistent, flagMandatory)
		}
	}
	if o.producers == 0 && o.consumers == 0 {
		problem("there is nothing to do without producers and consumers")
	}
	if o.producers*o.producerChannels > maxProducers {
		problem("%d producers of %d channels are more than %d", o.producers, o.producerChannels, maxProducers)
	}
	if o.rate < 0 || o.consumerRate < 0 {
		problem("--rate and --consumer-rate are not negative")
	}
	if o.publishCount > maxSequence {
		problem("--pmessages %d is more than %d", o.publishCount, uint64(maxSequence))
	}
	if !o.autoAck && o.prefetch > 0 && o.multiAckEvery > o.prefetch {
		problem("--multi-ack-every %d is more than --qos %d: acknowledgements would never be due", o.multiAckEvery, o.prefetch)
	}
	if o.autoAck && o.nack {
		problem("--autoack and --nack exclude each other")
	}
	if o.expirationMax > 0 && o.expirationMax < o.expiration {
		problem("--expiration-max %d is less than --expiration %d", o.expirationMax, o.expiration)
	}
	if o.drainTimeout <= 0 {
		problem("--drain-timeout is not positive")
	}
	problems = append(problems, o.checkQueues()...)
	if !o.explicit.exchange {
		// As in PerfTest an exchange is named after its type; without either
		// the default exchange routes straight to the queues.
		o.exchange = ""
		if o.explicit.exchangeType {
			o.exchange = o.exchangeType
		}
	}
	if !o.explicit.durable {
		o.durable = o.persistent()
	}
	return errors.Join(problems...)
}

func (o *options) checkQueues() (problems []error) {
	if o.queuePattern == "" {
		return nil
	}
	if o.queue != "" {
		problems = append(problems, errors.New("--queue and --queue-pattern exclude each other"))
	}
	if strings.Count(o.queuePattern, "%") != 1 || !strings.Contains(o.queuePattern, "%d") {
		problems = append(problems, fmt.Errorf("--queue-pattern %q needs one %%d and no other %%", o.queuePattern))
	}
	if o.queueFrom < 0 || o.queueTo < o.queueFrom || o.queueTo-o.queueFrom >= 1<<20 {
		problems = append(problems, fmt.Errorf("--queue-pattern-from %d and --queue-pattern-to %d are not a range", o.queueFrom, o.queueTo))
	}
	return problems
}

// parseArguments reads key=value items. Values that look like integers or
// booleans become such, everything else is a string.
func parseArguments(items []string) (wire.Table, error) {
	var table wire.Table
	for _, item := range items {
		name, text, ok := strings.Cut(item, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is not key=value", item)
		}
		var value any = text
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			value = n
		} else if text == "true" || text == "false" {
			value = text == "true"
		}
		table = append(table, wire.Field{Name: name, Value: value})
	}
	return table, table.Validate()
}
