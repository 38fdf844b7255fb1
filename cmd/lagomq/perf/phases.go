// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// load publishes until the run is over: all is published, the consumers have
// what they want, the time is up, or ctx is done.
func (r *run) load(ctx context.Context) {
	o := r.options
	for i, pc := range r.producers {
		pc.publish(o.rate, func(err error) { r.abort(fmt.Errorf("producer %d: %w", i, err)) })
	}
	var published, consumed <-chan struct{}
	var timeUp <-chan time.Time
	if o.producers > 0 {
		published = r.allPublished()
	}
	if o.consumers > 0 && o.consumeCount > 0 {
		consumed = r.allConsumed()
	}
	if o.seconds > 0 {
		timer := time.NewTimer(time.Duration(o.seconds) * time.Second)
		defer timer.Stop()
		timeUp = timer.C
	}
	for {
		select {
		case <-ctx.Done():
		case <-timeUp:
		case <-published:
		case <-consumed:
			if o.producers > 0 && o.publishCount > 0 {
				consumed = nil // the producers have a count of their own
				continue
			}
		}
		return
	}
}

// allPublished returns a channel that is closed when no producer will publish
// any more.
func (r *run) allPublished() <-chan struct{} {
	all := make(chan struct{})
	go func() {
		defer close(all)
		for _, pc := range r.producers {
			select {
			case <-pc.finished:
			case <-pc.failed:
			}
		}
	}()
	return all
}

// allConsumed returns a channel that is closed when no consumer will take any
// more.
func (r *run) allConsumed() <-chan struct{} {
	all := make(chan struct{})
	go func() {
		defer close(all)
		for _, cc := range r.consumers {
			select {
			case <-cc.ended:
			case <-cc.failed:
			}
		}
	}()
	return all
}

// finishProducers stops the producers, waits for their confirms and closes their
// connections.
func (r *run) finishProducers(ctx context.Context) error {
	for _, pc := range r.producers {
		pc.stop()
	}
	published := r.allPublished()
	answered := func() bool { return isClosed(published) && r.unconfirmed() == 0 }
	complete := r.await(ctx, r.options.drainTimeout, answered)
	if r.aborted(ctx) {
		return nil // the reason is known, and endConnections does the rest
	}
	if ctx.Err() != nil {
		// Interrupted: a server that is held up by slow consumers could not
		// answer the producers.
		r.stopConsumers()
	}
	var errs []error
	switch {
	case complete || ctx.Err() != nil:
	case !isClosed(published):
		errs = append(errs, fmt.Errorf("the server has not read anything for %v", r.options.drainTimeout))
	default:
		errs = append(errs, fmt.Errorf("%d messages were neither confirmed nor refused, and none was for %v", r.unconfirmed(), r.options.drainTimeout))
	}
	for _, pc := range r.producers {
		errs = append(errs, pc.close())
	}
	return errors.Join(errs...)
}

// drain waits until the consumers have what they are to get.
func (r *run) drain(ctx context.Context) {
	o := r.options
	if o.nack && o.requeue && o.consumeCount == 0 {
		// What the consumers requeue keeps arriving.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.drainTimeout)
		defer cancel()
	}
	switch {
	case o.producers == 0 || o.consumers == 0:
	case o.consumeCount > 0:
		consumed := r.allConsumed()
		r.await(ctx, o.drainTimeout, func() bool { return isClosed(consumed) })
	case r.judged():
		r.await(ctx, o.drainTimeout, r.delivered)
	default:
		r.await(ctx, idleEnd, func() bool { return false })
	}
}

func (r *run) stopConsumers() {
	for _, cc := range r.consumers {
		cc.stop()
	}
}

// finishConsumers closes the consumers' connections.
func (r *run) finishConsumers(ctx context.Context) error {
	if r.aborted(ctx) {
		return nil
	}
	r.stopConsumers()
	var errs []error
	for _, cc := range r.consumers {
		errs = append(errs, cc.join())
	}
	return errors.Join(errs...)
}

// endConnections ends what is not closed yet.
func (r *run) endConnections() {
	for _, pc := range r.producers {
		pc.kill()
	}
	for _, cc := range r.consumers {
		cc.kill()
	}
}

// aborted reports whether the run ends because of an error.
func (r *run) aborted(ctx context.Context) bool {
	return ctx.Err() != nil && !errors.Is(context.Cause(ctx), context.Canceled)
}

// await returns true when done is, and false when ctx is done or when for as
// long as the patience nothing has been published, answered or delivered.
func (r *run) await(ctx context.Context, patience time.Duration, done func() bool) bool {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	before, since := r.totals(), time.Now()
	for {
		if done() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case now := <-ticker.C:
			if t := r.totals(); t != before {
				before, since = t, now
			} else if now.Sub(since) >= patience {
				return false
			}
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// judged reports whether missing messages are the broker's fault.
func (r *run) judged() bool {
	return r.options.verify && r.topology.predictable() && r.options.producers > 0 && r.options.consumers > 0
}

// verdict fails when confirmed messages were not delivered although nobody kept
// the consumers from taking them.
func (r *run) verdict(res *result) error {
	if !r.judged() {
		return nil
	}
	res.Missing = r.missing()
	if res.Missing == 0 {
		res.Verified = true
		return nil
	}
	for _, cc := range r.consumers {
		if cc.atLimit() {
			return nil // the rest may still be in the queue
		}
	}
	if r.options.confirm == 0 {
		return nil // without confirms nothing was promised
	}
	return fmt.Errorf("%d confirmed messages were not delivered, and nothing was for %v", res.Missing, r.options.drainTimeout)
}
