// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

const (
	// pollInterval is how often the end of a run looks whether all is done.
	pollInterval = 5 * time.Millisecond
	// idleEnd is how long consumers wait for more when it is not known what
	// they are to get.
	idleEnd = time.Second
)

// run is one execution of the command. Its fields are set before the load
// starts; what changes afterwards is inside the connections and receipts.
type run struct {
	options  *options
	id       uint16 // tells this run's messages from others
	clock    clock
	topology topology
	receipts []*receipts // by queue

	producers []*producerConn
	consumers []*consumerConn

	started int64 // clock time when the load began

	// abort ends the run because of an error. Any goroutine may call it.
	abort context.CancelCauseFunc
}

// execute does a whole run and prints it to out. Cancelling ctx ends it early
// without an error.
func execute(ctx context.Context, o *options, out io.Writer) error {
	work, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	r := &run{options: o, id: uint16(rand.N(1<<16-1) + 1), clock: newClock(), abort: abort}
	r.topology = newTopology(o, r.id)
	for range r.topology.queues {
		r.receipts = append(r.receipts, newReceipts(o.producers*o.producerChannels))
	}

	err := r.setUp(work)
	defer r.endConnections()
	switch {
	case ctx.Err() != nil:
		return nil // interrupted before there was anything to report
	case err != nil:
		return r.failure(ctx, work, err)
	}
	p := newPrinter(r, out)
	p.announce()
	r.started = r.clock.now()
	stopPrinting := p.everySecond()
	r.load(work)
	err = r.finishProducers(work)
	if err == nil && work.Err() == nil {
		r.drain(work)
	}
	elapsed := time.Duration(r.clock.now() - r.started)
	err = errors.Join(err, r.finishConsumers(work))
	stopPrinting()
	if r.topology.temporary {
		// With a new context: an interrupted run cleans up too. When the
		// server is gone, so are more important things than this error.
		_ = r.topology.remove(context.WithoutCancel(ctx), o)
	}

	res := r.result(elapsed)
	res.Interrupted = ctx.Err() != nil
	err = r.failure(ctx, work, err)
	if err == nil && !res.Interrupted {
		err = r.verdict(&res)
	}
	return errors.Join(err, p.summary(&res))
}

// failure returns why the run failed: the first cause when a connection did,
// otherwise err. An interrupt is not a failure, nor is what follows from it.
func (r *run) failure(ctx, work context.Context, err error) error {
	if work.Err() != nil && ctx.Err() == nil {
		return context.Cause(work)
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// setUp declares the topology and connects everyone. Consumers start at once;
// producers wait for publish.
func (r *run) setUp(ctx context.Context) error {
	o := r.options
	if !o.predeclared {
		if err := r.topology.declare(ctx, o); err != nil {
			return err
		}
	}
	for i := range o.consumers {
		cc, err := r.connectConsumer(ctx, i)
		if err != nil {
			return fmt.Errorf("consumer %d: %w", i, err)
		}
		r.consumers = append(r.consumers, cc)
	}
	for i := range o.producers {
		pc, err := r.connectProducer(ctx, i)
		if err != nil {
			return fmt.Errorf("producer %d: %w", i, err)
		}
		r.producers = append(r.producers, pc)
	}
	return nil
}
