// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// printer writes the progress and the summary of a run. Between everySecond and
// the call of what that returns it belongs to a goroutine of its own.
type printer struct {
	run *run
	out io.Writer

	before   totals
	at       time.Time // of before
	interval *hdrhistogram.Histogram
	latency  *hdrhistogram.Histogram // of the whole run
	confirms *hdrhistogram.Histogram // of the whole run
}

func newPrinter(r *run, out io.Writer) *printer {
	return &printer{
		run: r, out: out,
		interval: newHistogram(), latency: newHistogram(), confirms: newHistogram(),
	}
}

// announce says what is about to happen.
func (p *printer) announce() {
	o, t := p.run.options, &p.run.topology
	queues := t.queues[0]
	if n := len(t.queues); n > 1 {
		queues = fmt.Sprintf("%s to %s (%d)", t.queues[0], t.queues[n-1], n)
	}
	exchange := "the default exchange"
	if t.exchange != "" {
		exchange = fmt.Sprintf("exchange %s (%s)", t.exchange, t.exchangeType)
	}
	fmt.Fprintf(p.out, "%s: %d producers, %d consumers, %d-byte messages, %s, queue %s\n",
		o.endpoint.addr, o.producers*o.producerChannels, o.consumers*o.consumerChannels, o.size, exchange, queues)
}

// everySecond starts the progress lines. The function it returns ends them.
func (p *printer) everySecond() (stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	p.at = time.Now()
	go func() {
		defer close(ended)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case now := <-ticker.C:
				p.progress(now)
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}

// progress prints what has happened since the last time.
func (p *printer) progress(now time.Time) {
	p.collect()
	t, b := p.run.totals(), p.before
	seconds := now.Sub(p.at).Seconds()
	var line strings.Builder
	fmt.Fprintf(&line, "%6.1fs", time.Duration(p.run.clock.at(now)-p.run.started).Seconds())
	rate := func(name string, now, before uint64, always bool) {
		if always || now > before {
			fmt.Fprintf(&line, "  %s %.0f/s", name, float64(now-before)/seconds)
		}
	}
	rate("published", t.published, b.published, len(p.run.producers) > 0)
	rate("confirmed", t.confirmed, b.confirmed, p.run.options.confirm > 0)
	rate("nacked", t.nacked, b.nacked, false)
	rate("returned", t.returned, b.returned, false)
	rate("consumed", t.consumed, b.consumed, len(p.run.consumers) > 0)
	if l := newLatencies(p.interval); l.Samples > 0 {
		fmt.Fprintf(&line, "  latency min/median/75/95/99 %.3f/%.3f/%.3f/%.3f/%.3f ms", l.Min, l.Median, l.P75, l.P95, l.P99)
	}
	if t.blocked > 0 {
		fmt.Fprintf(&line, "  %d blocked by the server", t.blocked)
	}
	fmt.Fprintln(p.out, line.String())
	p.before, p.at = t, now
}

// collect moves the latencies of all connections into the printer.
func (p *printer) collect() {
	p.interval.Reset()
	for _, cc := range p.run.consumers {
		cc.latency.collect(p.interval)
	}
	p.latency.Merge(p.interval)
	for _, pc := range p.run.producers {
		pc.latency.collect(p.confirms)
	}
}

// summary completes the result with the latencies and prints it.
func (p *printer) summary(res *result) error {
	p.collect()
	res.Latency, res.ConfirmLatency = newLatencies(p.latency), newLatencies(p.confirms)

	var b strings.Builder
	if len(p.run.producers) > 0 {
		fmt.Fprintf(&b, "published %d in %.3f s, %.0f/s", res.Published, res.PublishTime, res.PublishRate)
		if p.run.options.confirm > 0 {
			fmt.Fprintf(&b, "; confirmed %d, nacked %d, unconfirmed %d", res.Confirmed, res.Nacked, res.Unconfirmed)
		}
		if p.run.options.mandatory() {
			fmt.Fprintf(&b, "; returned %d", res.Returned)
		}
		b.WriteByte('\n')
	}
	if len(p.run.consumers) > 0 {
		fmt.Fprintf(&b, "consumed %d in %.3f s, %.0f/s; redelivered %d, duplicates %d, from other runs %d\n",
			res.Consumed, res.ConsumeTime, res.ConsumeRate, res.Redelivered, res.Duplicates, res.Foreign)
	}
	res.Latency.write(&b, "latency")
	res.ConfirmLatency.write(&b, "confirm latency")
	switch {
	case res.Verified:
		b.WriteString("no message is missing\n")
	case res.Missing > 0:
		fmt.Fprintf(&b, "%d messages were not delivered\n", res.Missing)
	}
	if p.run.options.json {
		// Marshalling a struct of numbers and booleans cannot fail, except
		// for a rate that is not a number, and activity makes none.
		object, err := json.Marshal(res)
		if err != nil {
			return fmt.Errorf("encode the result: %w", err)
		}
		b.Write(object)
		b.WriteByte('\n')
	}
	_, err := io.WriteString(p.out, b.String())
	return err
}

func (l *latencies) write(b *strings.Builder, name string) {
	if l.Samples > 0 {
		fmt.Fprintf(b, "%s ms: min %.3f, median %.3f, 75th %.3f, 95th %.3f, 99th %.3f, 99.9th %.3f, max %.3f\n",
			name, l.Min, l.Median, l.P75, l.P95, l.P99, l.P999, l.Max)
	}
}
