// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/lagomq/lagomq/amqp"
	"github.com/lagomq/lagomq/vhosts"
)

// sampleInterval is how often samples are taken, as RabbitMQ 4.3 does
// (collect_statistics_interval).
const sampleInterval = 5 * time.Second

// measure is one of the numbers whose rate of change is shown.
type measure int

// Counters only grow; the measures from firstGauge on also fall.
const (
	published measure = iota
	confirmed
	returned
	delivered
	deliveredNoAck
	got
	gotNoAck
	gotEmpty
	redelivered
	acknowledged
	bytesReceived
	bytesSent
	connectionsOpened
	connectionsClosed
	channelsOpened
	channelsClosed
	queuesDeclared
	queuesCreated
	queuesDeleted
	databaseErrors
	messagesReady
	messagesUnacked
	messagesDelayed
	measures = iota

	firstGauge = messagesReady
)

type (
	counts    [measures]uint64
	perSecond [measures]float64
)

func (c *counts) add(o *counts) {
	for i := range o {
		c[i] += o[i]
	}
}

// subject is what was measured: the broker if nothing is set, a virtual host, a
// queue (by virtual host and name), a connection or one of its channels.
type subject struct {
	vhost, queue string
	connection   uint64
	channel      uint16
}

// sample is a subject's measures at one time, and how fast they changed since the
// sample before.
type sample struct {
	counts counts
	rates  perSecond
	at     time.Time
}

// rates remember the newest sample of each subject that exists. Everybody reads
// them; the sampling goroutine alone changes them, each sample in place, so what they
// cost is bounded by the number of objects the broker has.
type rates struct {
	mu      sync.RWMutex
	at      time.Time // zero before the first sample
	samples map[subject]*sample
}

// of is how fast the subject's measures changed between the newest two samples;
// zero if it came after them.
func (r *rates) of(s subject) perSecond {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if newest := r.samples[s]; newest != nil {
		return newest.rates
	}
	return perSecond{}
}

// grows reports whether a count of the broker's, which is n now, has grown since
// the sample before the newest one.
func (r *rates) grows(m measure, n uint64) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	newest := r.samples[subject{}]
	return newest == nil && n > 0 || newest != nil && (n > newest.counts[m] || newest.rates[m] > 0)
}

// record takes in a sample of everything that exists at the time now, which measure
// calls note for. What was not there before began at 0; so did what counts less than
// before, as a queue deleted and declared again does.
func (r *rates) record(now time.Time, measure func(note func(subject, counts))) {
	if r.samples == nil {
		r.samples = map[subject]*sample{}
	}
	seconds := now.Sub(r.at).Seconds()
	measure(func(subject subject, counts counts) {
		r.mu.Lock()
		defer r.mu.Unlock()
		s := r.samples[subject]
		if s == nil {
			s = new(sample)
			r.samples[subject] = s
		}
		s.rates = perSecond{}
		if !r.at.IsZero() && seconds > 0 {
			s.rates = change(&s.counts, &counts, seconds)
		}
		s.counts, s.at = counts, now
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = now
	maps.DeleteFunc(r.samples, func(_ subject, s *sample) bool { return !s.at.Equal(now) })
}

func change(before, after *counts, seconds float64) (rates perSecond) {
	for i := range after {
		switch {
		case after[i] >= before[i]:
			rates[i] = float64(after[i]-before[i]) / seconds
		case measure(i) >= firstGauge:
			rates[i] = -float64(before[i]-after[i]) / seconds
		default:
			rates[i] = float64(after[i]) / seconds
		}
	}
	return rates
}

// sampleLoop takes samples, after the first, until ctx ends.
func (s *Server) sampleLoop(ctx context.Context) {
	ticks := s.options.Ticks
	if ticks == nil {
		ticker := time.NewTicker(sampleInterval)
		defer ticker.Stop()
		ticks = ticker.C
	}
	for {
		select {
		case now := <-ticks:
			s.rates.record(now, s.measure)
		case <-ctx.Done():
			return
		}
	}
}

// measure measures everything there is. It costs one snapshot of each object.
func (s *Server) measure(note func(subject, counts)) {
	for _, c := range s.options.AMQP.Connections() {
		note(subject{connection: c.ID}, connectionCounts(&c))
		for i := range c.Channels {
			ch := &c.Channels[i]
			note(subject{connection: c.ID, channel: ch.Number}, channelCounts(&ch.Counters))
		}
	}
	totals := s.options.AMQP.Totals()
	broker := brokerCounts(&totals)
	broker[databaseErrors] = uint64(s.options.Store.BackgroundErrors())
	traffic := s.options.AMQP.MessageTotals()
	for _, v := range s.options.Hosts.VHosts() {
		host := s.hostCounts(v, traffic, func(q *vhosts.QueueStats) {
			note(subject{vhost: q.VHost, queue: q.Name}, queueCounts(q))
		})
		note(subject{vhost: v.Name()}, host)
		broker.add(&host)
	}
	note(subject{}, broker)
}

// hostCounts measures a virtual host: its channels' traffic, taken from totals,
// and its queues, each of which is given to visit, which may be nil.
func (s *Server) hostCounts(v *vhosts.VHost, totals map[string]amqp.ChannelCounters, visit func(*vhosts.QueueStats)) counts {
	traffic := totals[v.Name()]
	host := channelCounts(&traffic)
	churn := v.Totals()
	host[queuesDeclared], host[queuesCreated], host[queuesDeleted] = churn.Declared, churn.Created, churn.Deleted
	v.VisitQueueStats(func(q *vhosts.QueueStats) {
		host[messagesReady] += q.Ready
		host[messagesUnacked] += q.Unacked
		host[messagesDelayed] += q.Delayed
		if visit != nil {
			visit(q)
		}
	})
	return host
}

func brokerCounts(t *amqp.Totals) (c counts) {
	c[connectionsOpened], c[connectionsClosed] = t.ConnectionsOpened, t.ConnectionsClosed
	c[channelsOpened], c[channelsClosed] = t.ChannelsOpened, t.ChannelsClosed
	return c
}

func connectionCounts(stats *amqp.ConnectionStats) (c counts) {
	c[bytesReceived], c[bytesSent] = stats.Received, stats.Sent
	return c
}

func channelCounts(stats *amqp.ChannelCounters) (c counts) {
	c[published], c[confirmed], c[returned] = stats.Published, stats.Confirmed, stats.Returned
	c[delivered], c[deliveredNoAck] = stats.Delivered, stats.DeliveredNo
	c[got], c[gotNoAck], c[gotEmpty] = stats.Got, stats.GotNo, stats.GetEmpty
	c[redelivered], c[acknowledged] = stats.Redelivered, stats.Acknowledged
	return c
}

func queueCounts(q *vhosts.QueueStats) (c counts) {
	stats := &q.Counters
	c[published] = stats.Published
	c[delivered], c[deliveredNoAck] = stats.Delivered, stats.DeliveredNo
	c[got], c[gotNoAck], c[gotEmpty] = stats.Got, stats.GotNo, stats.GetEmpty
	c[redelivered], c[acknowledged] = stats.Redelivered, stats.Acknowledged
	c[messagesReady], c[messagesUnacked], c[messagesDelayed] = q.Ready, q.Unacked, q.Delayed
	return c
}
