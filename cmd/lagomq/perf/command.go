// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

const examples = `  # As fast as it goes for ten seconds: one producer, one consumer
  lagomq perf -s 16 -a -z 10

  # Persistent messages with confirms and acknowledgements
  lagomq perf -s 1024 -f persistent -c 1000 -q 1000 -A 100 -u orders -z 30

  # Latency at a constant rate
  lagomq perf -r 5000 -z 60

  # Fill a queue, then empty it
  lagomq perf -y 0 -u backlog -C 1000000
  lagomq perf -x 0 -u backlog -D 1000000 -a

  # Ten priorities
  lagomq perf --priorities 10 --queue-args x-max-priority=9 -q 1000 -z 10

  # Ten queues with a producer and a consumer each
  lagomq perf -x 10 -y 10 --queue-pattern 'perf-%d' --queue-pattern-from 1 --queue-pattern-to 10 -z 10`

// Command returns the perf command. Running it fails, after the summary has been
// printed, when the broker refuses something, goes away, or does not deliver
// what it confirmed. An interrupt ends the run early without being a failure.
func Command() *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:     "perf",
		Short:   "Put load on an AMQP 0-9-1 broker and measure it",
		Long:    "Publishes to and consumes from an AMQP 0-9-1 broker, prints rates and latencies, and checks that confirmed messages are delivered.",
		Example: examples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.noteChanged(cmd)
			if err := o.complete(); err != nil {
				return err
			}
			cmd.SilenceUsage = true
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			// A second interrupt is not caught: it ends the process at once.
			context.AfterFunc(ctx, stop)
			return execute(ctx, o, cmd.OutOrStdout())
		},
	}
	o.register(cmd)
	return cmd
}

// register adds the flags, with the names and shorthands of PerfTest.
func (o *options) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVarP(&o.uri, "uri", "h", "amqp://guest:guest@127.0.0.1:5672/", "broker, as an amqp or amqps URI")
	f.BoolVar(&o.tlsSkipVerify, "tls-skip-verify", false, "accept any certificate (amqps)")
	f.IntVarP(&o.heartbeat, "heartbeat", "b", 60, "heartbeat in seconds, 0 for none")

	f.IntVarP(&o.producers, "producers", "x", 1, "producer connections")
	f.IntVarP(&o.consumers, "consumers", "y", 1, "consumer connections")
	f.IntVarP(&o.producerChannels, "producer-channel-count", "X", 1, "channels per producer connection, each a producer of its own")
	f.IntVarP(&o.consumerChannels, "consumer-channel-count", "Y", 1, "channels per consumer connection, each a consumer of its own")
	f.IntVarP(&o.size, "size", "s", 16, "body size in bytes; latency needs 8, finding out which messages are missing 16")

	f.StringVarP(&o.queue, "queue", "u", "", "queue (default one of its own, deleted at the end)")
	f.StringVar(&o.queuePattern, "queue-pattern", "", "pattern of queue names, such as 'q-%d'")
	f.IntVar(&o.queueFrom, "queue-pattern-from", 1, "first number of the pattern")
	f.IntVar(&o.queueTo, "queue-pattern-to", 1, "last number of the pattern")
	f.StringSliceVar(&o.queueArgs, "queue-args", nil, "queue arguments, as key=value,...")
	f.BoolVar(&o.autoDelete, "auto-delete", true, "declare auto-delete queues")
	f.BoolVar(&o.durable, "durable", false, "declare durable queues and exchange (default true with -f persistent)")
	f.BoolVarP(&o.predeclared, "predeclared", "p", false, "declare nothing: queues, exchange and bindings exist")
	f.StringVarP(&o.exchange, "exchange", "e", "", "exchange (default the type if given, otherwise the default exchange)")
	f.StringVarP(&o.exchangeType, "type", "t", "direct", "exchange type")
	f.StringVarP(&o.routingKey, "routing-key", "k", "", "routing key (default the name of the queue)")

	f.StringSliceVarP(&o.flags, "flag", "f", nil, "message flag, persistent or mandatory; may be repeated")
	f.IntVar(&o.priorities, "priorities", 0, "give messages random priorities, this many different ones from 0 on (0 for none)")
	f.IntVar(&o.expiration, "expiration", 0, "let messages expire after this many milliseconds (0 for never)")
	f.IntVar(&o.expirationMax, "expiration-max", 0, "let each message expire after a random time, from --expiration up to this many milliseconds")
	f.IntVarP(&o.confirm, "confirm", "c", 0, "publisher confirms, with at most this many messages open (0 for none)")
	f.IntVarP(&o.prefetch, "qos", "q", 0, "prefetch per consumer (0 for no limit)")
	f.IntVarP(&o.multiAckEvery, "multi-ack-every", "A", 0, "acknowledge this many messages at once")
	f.BoolVarP(&o.autoAck, "autoack", "a", false, "consume without acknowledgements")
	f.BoolVar(&o.nack, "nack", false, "negative acknowledgements, which requeue messages by default")
	f.BoolVar(&o.requeue, "requeue", true, "with --nack: have messages requeued; otherwise they are dropped or dead-lettered")

	f.Float64VarP(&o.rate, "rate", "r", 0, "messages a second per producer (0 for no limit)")
	f.Float64VarP(&o.consumerRate, "consumer-rate", "R", 0, "messages a second per consumer (0 for no limit)")
	f.Uint64VarP(&o.publishCount, "pmessages", "C", 0, "messages per producer (0 for no limit)")
	f.Uint64VarP(&o.consumeCount, "cmessages", "D", 0, "messages per consumer (0 for no limit)")
	f.IntVarP(&o.seconds, "time", "z", 0, "seconds to run (0 for no limit)")

	f.DurationVar(&o.drainTimeout, "drain-timeout", 10*time.Second, "how long to wait at the end without a confirm or message arriving")
	f.BoolVar(&o.verify, "verify", true, "fail when confirmed messages are not delivered; turn off when others consume or the queue drops messages")
	f.BoolVar(&o.json, "json", false, "print the result as a JSON object on the last line")
	f.BoolP("help", "?", false, "help for perf")
}

// noteChanged remembers which options were given that have no fixed default.
func (o *options) noteChanged(cmd *cobra.Command) {
	changed := cmd.Flags().Changed
	o.explicit.exchange = changed("exchange")
	o.explicit.exchangeType = changed("type")
	o.explicit.durable = changed("durable")
}
