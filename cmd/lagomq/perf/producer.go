// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package perf

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lagomq/lagomq/amqp/wire"
)

// batchSize is about how many bytes a producer's writer sends at once. It makes
// a system call cheap beside the messages in it, and still fits a cache.
const batchSize = 128 << 10

// producer publishes on one channel. Its fields belong to the writer except
// where noted.
type producer struct {
	id       int
	channel  uint16
	message  // what each is made from
	bodySize int
	run      uint16

	limit    uint64 // how many messages it may publish
	last     uint64 // sequence of the latest message
	pace     *pacer
	random   *rand.Rand // of priorities
	confirms *confirms  // nil without confirms; see there for who may do what

	returning content // of a basic.return; owned by the reader
}

// allowed returns how many messages may be sent at now.
func (p *producer) allowed(now time.Time) int {
	n := p.pace.due(now)
	if p.confirms != nil {
		n = min(n, p.confirms.room(p.last))
	}
	return int(min(uint64(n), p.limit-p.last))
}

// append adds n messages.
func (p *producer) append(dst []byte, n int, now int64) []byte {
	first := p.last + 1
	p.last += uint64(n)
	if p.confirms != nil {
		p.confirms.sending(first, p.last, now)
	}
	p.pace.take(n)
	for seq := first; seq <= p.last; seq++ {
		at := len(dst)
		body := at + p.bodyAt
		dst = append(dst, p.frames...)
		if p.priorities > 0 {
			dst[at+p.priorityAt] = byte(p.random.IntN(p.priorities))
		}
		if p.expirationMax > 0 {
			expiration := p.expiration + p.random.IntN(p.expirationMax-p.expiration+1)
			for i := at + p.priorityAt + 1 + p.digits; expiration > 0; expiration /= 10 {
				dst[i] = byte('0' + expiration%10)
				i--
			}
		}
		if p.bodySize >= timeSize {
			binary.BigEndian.PutUint64(dst[body:], uint64(now))
		}
		if p.bodySize >= stampSize {
			binary.BigEndian.PutUint64(dst[body+timeSize:], uint64(newIdentity(p.run, p.id, seq)))
		}
	}
	return dst
}

// message is the template of messages.
type message struct {
	frames     []byte
	bodyAt     int // where in frames the body starts
	priorities int // how many different ones there are; 0 for messages without
	priorityAt int // where in frames the priority is

	expiration, expirationMax int // in milliseconds; expirationMax is 0 if all messages have the same
	digits                    int // of the expiration, leading zeros included
}

func newMessage(o *options, channel uint16, frameMax int, exchange, key string) message {
	properties := wire.Properties{}
	if o.persistent() {
		properties = wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: wire.Persistent}
	}
	if o.priorities > 0 {
		properties.Flags |= wire.FlagPriority
	}
	afterPriority := 0 // bytes of the properties behind it
	if o.expiration > 0 || o.expirationMax > 0 {
		properties.Flags |= wire.FlagExpiration
		properties.Expiration = strconv.Itoa(o.expiration)
		if o.expirationMax > 0 {
			properties.Expiration = strings.Repeat("0", len(strconv.Itoa(o.expirationMax)))
		}
		afterPriority = 1 + len(properties.Expiration)
	}
	frames := wire.AppendMethod(nil, channel, &wire.BasicPublish{
		Exchange: exchange, RoutingKey: key, Mandatory: o.mandatory(),
	})
	header := wire.AppendHeader(nil, uint64(o.size), wire.AppendProperties(nil, &properties))
	return message{
		bodyAt:     len(frames) + wire.FrameOverhead + len(header) + wire.FrameHeaderSize,
		priorities: o.priorities,
		expiration: o.expiration, expirationMax: o.expirationMax, digits: len(properties.Expiration),
		priorityAt: len(frames) + wire.FrameHeaderSize + len(header) - 1 - afterPriority,
		frames:     wire.AppendContent(frames, channel, frameMax, header, make([]byte, o.size)),
	}
}

// producerConn is a connection with its producers, one per channel.
type producerConn struct {
	*conn
	clock     clock
	producers []*producer // producers[i] uses channel i+1
	stats     producerStats
	latency   *recorder // of confirms

	stopping atomic.Bool   // to be set by anyone, followed by a poke
	finished chan struct{} // closed by the writer when it will publish no more

	// Writer only.
	turn    int    // the producer to start with
	filling uint64 // messages in the batch that is being written
	ended   bool   // finished is closed

	// Reader only.
	now int64
}

// producerStats are read by anyone.
type producerStats struct {
	published atomic.Uint64
	confirmed atomic.Uint64
	nacked    atomic.Uint64
	returned  atomic.Uint64
	lastWrite atomic.Int64 // clock time
}

// connectProducer opens the i-th producer connection; start sets it going.
func (r *run) connectProducer(ctx context.Context, i int) (*producerConn, error) {
	c, err := dial(ctx, r.options, fmt.Sprintf("lagomq perf producer %d", i))
	if err != nil {
		return nil, err
	}
	pc := &producerConn{conn: c, clock: r.clock, latency: newRecorder(), finished: make(chan struct{})}
	if err := pc.open(r, i); err != nil {
		c.net.Close()
		return nil, err
	}
	return pc, nil
}

func (pc *producerConn) open(r *run, i int) error {
	o := r.options
	if err := pc.openChannels(o.producerChannels); err != nil {
		return err
	}
	for j := range o.producerChannels {
		p := &producer{
			id:       i*o.producerChannels + j,
			channel:  uint16(j + 1),
			bodySize: o.size,
			run:      r.id,
			limit:    maxSequence,
		}
		key := r.topology.key(r.topology.queueOf(p.id))
		p.message = newMessage(o, p.channel, pc.frameMax, r.topology.exchange, key)
		p.random = rand.New(rand.NewPCG(uint64(r.id), uint64(p.id)))
		if o.publishCount > 0 {
			p.limit = o.publishCount
		}
		if o.confirm > 0 {
			if _, err := pc.call(p.channel, &wire.ConfirmSelect{}); err != nil {
				return fmt.Errorf("confirm.select: %w", err)
			}
			p.confirms = newConfirms(o.confirm, pc.latency)
		}
		pc.producers = append(pc.producers, p)
	}
	return nil
}

// publish starts the producers, each at the given rate.
func (pc *producerConn) publish(rate float64, onFailure func(error)) {
	now := time.Now()
	for _, p := range pc.producers {
		p.pace = newPacer(rate, now)
	}
	pc.start(pc, pc, onFailure)
}

// stop makes the producers publish no more. finished tells when it is so.
func (pc *producerConn) stop() {
	pc.stopping.Store(true)
	pc.poke()
}

// unconfirmed returns how many messages wait for their confirm.
func (pc *producerConn) unconfirmed() (n uint64) {
	for _, p := range pc.producers {
		if p.confirms != nil {
			n += p.confirms.open()
		}
	}
	return n
}

// fill implements source: every producer in turn, starting with another one each
// time, gets its share of the batch.
func (pc *producerConn) fill(dst []byte) (out []byte, wait time.Duration) {
	wait = -1
	if pc.ended {
		return dst, wait
	}
	if pc.stopping.Load() {
		pc.endPublishing()
		return dst, wait
	}
	now := time.Now()
	sent := pc.clock.at(now)
	exhausted := true
	for i := range pc.producers {
		p := pc.producers[(pc.turn+i)%len(pc.producers)]
		if p.last == p.limit {
			continue
		}
		exhausted = false
		share := max(1, batchSize/len(pc.producers)/len(p.frames))
		if n := min(p.allowed(now), share); n > 0 {
			dst = p.append(dst, n, sent)
			pc.filling += uint64(n)
		} else if p.pace != nil && (p.confirms == nil || p.confirms.room(p.last) > 0) {
			if w := p.pace.wait(now); wait < 0 || w < wait {
				wait = w
			}
		}
		if len(dst) >= batchSize {
			break
		}
	}
	pc.turn++
	if exhausted {
		pc.endPublishing()
	}
	return dst, wait
}

func (pc *producerConn) endPublishing() {
	pc.ended = true
	close(pc.finished)
}

// written implements source.
func (pc *producerConn) written() {
	if pc.filling > 0 {
		pc.stats.published.Add(pc.filling)
		pc.stats.lastWrite.Store(pc.clock.now())
		pc.filling = 0
	}
}

// begin implements handler.
func (pc *producerConn) begin() { pc.now = pc.clock.now() }

// finish implements handler: confirms make room for the writer.
func (pc *producerConn) finish() { pc.poke() }

// frame implements handler.
func (pc *producerConn) frame(f wire.Frame) error {
	switch f.Type {
	case wire.FrameMethod:
	case wire.FrameHeader, wire.FrameBody:
		return pc.returnedContent(f)
	default:
		return pc.common(f)
	}
	r := wire.NewReader(f.Payload)
	switch id := wire.MethodID(r.Long()); id {
	case wire.IDBasicAck, wire.IDBasicNack:
		return pc.settle(f.Channel, id, f.Payload[4:])
	case wire.IDBasicReturn:
		p, err := pc.producer(f.Channel, id.String())
		if err != nil {
			return err
		}
		pc.stats.returned.Add(1)
		p.returning.state = wantHeader
		return nil
	}
	return pc.common(f)
}

// producer returns the producer of a channel on which confirms or returns
// arrived.
func (pc *producerConn) producer(channel uint16, what string) (*producer, error) {
	if i := int(channel) - 1; i >= 0 && i < len(pc.producers) {
		return pc.producers[i], nil
	}
	return nil, fmt.Errorf("the server sent %s on channel %d, which is not open", what, channel)
}

func (pc *producerConn) settle(channel uint16, id wire.MethodID, args []byte) error {
	p, err := pc.producer(channel, id.String())
	if err != nil {
		return err
	}
	if p.confirms == nil {
		return fmt.Errorf("the server sent %s although confirms are off", id)
	}
	var (
		tag      uint64
		multiple bool
		werr     *wire.Error
		count    = &pc.stats.confirmed
	)
	if id == wire.IDBasicAck {
		tag, multiple, werr = wire.ParseAck(args)
	} else {
		tag, multiple, _, werr = wire.ParseNack(args)
		count = &pc.stats.nacked
	}
	if werr != nil {
		return fmt.Errorf("malformed %s from the server: %w", id, werr)
	}
	n, err := p.confirms.settle(tag, multiple, id == wire.IDBasicNack, pc.now)
	count.Add(n)
	return err
}
