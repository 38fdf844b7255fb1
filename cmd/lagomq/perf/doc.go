// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package perf is the load generator behind "lagomq perf": it publishes to and
// consumes from any AMQP 0-9-1 broker, measures rates and latencies, and checks
// that what the broker confirmed was delivered. Its options are named as those
// of RabbitMQ PerfTest wherever PerfTest has them. docs/perf.md is its manual.
//
// # How a run goes
//
// [Command] parses flags into options; execute (run.go) declares the topology,
// starts the consumers, then the producers, waits for the end of the run, stops
// the producers, lets the consumers drain and judges the result (audit.go).
//
// Every connection (conn.go) has two goroutines. The reader owns the inbound
// buffer and all state of its handler: publisher confirms (confirms.go) on a
// producer's connection (producer.go), deliveries and acknowledgements on a
// consumer's (consumer.go). The writer owns the outbound buffer; on a producer's
// connection it also makes the messages. What both touch is atomic or guarded by
// the mutex named beside it.
//
// # Why it is cheap
//
// A message is a copy of prebuilt frames into which a send time and an identity
// are written (stamp.go). Messages are written and read many at a time; the
// clock is read, locks are taken and goroutines are woken once per burst, and
// nothing is allocated per message.
package perf
