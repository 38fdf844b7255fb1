// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Command relay is a yardstick, not a broker: the least work that can still
// pass AMQP 0-9-1 messages from publishers to consumers over TCP in Go.
//
// It parses every frame, routes the default exchange by routing key, keeps
// messages in memory and writes basic.deliver frames. It stores nothing on disk,
// tracks no acknowledgement, applies no prefetch and checks no permission.
// A broker measured beside it in the same run, with the same load, shows what
// its real work costs: broker throughput / relay throughput.
package main

import (
	"bytes"
	"encoding/binary"
	"flag"
	"io"
	"log"
	"net"
	"sync"
)

var be = binary.BigEndian

// maxPending is how many outbound bytes a consumer's connection may hold
// before publishers to it wait.
const maxPending = 1 << 20

type message struct {
	routingKey string
	header     []byte // content header payload: class, weight, body size, flags, properties
	body       []byte
}

type queue struct {
	mu        sync.Mutex
	pages     [][]message // backlog, oldest first
	consumers []*consumer
	next      int // round robin over consumers
}

type consumer struct {
	conn        *conn
	channel     uint16
	tag         string
	deliveryTag uint64
}

var (
	queuesMu sync.Mutex
	queues   = map[string]*queue{}
)

func queueNamed(name string) *queue {
	queuesMu.Lock()
	defer queuesMu.Unlock()
	q := queues[name]
	if q == nil {
		q = &queue{}
		queues[name] = q
	}
	return q
}

// push delivers a burst straight to a consumer, or copies it into the backlog.
// The messages alias the publisher's read buffer and are valid only in the call.
func (q *queue) push(burst []message) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.consumers) > 0 && len(q.pages) == 0 {
		c := q.consumers[q.next%len(q.consumers)]
		q.next++
		if c.deliver(burst) {
			return
		}
	}
	size := 0
	for i := range burst {
		size += len(burst[i].header) + len(burst[i].body)
	}
	arena := make([]byte, 0, size)
	page := make([]message, len(burst))
	for i, m := range burst {
		start := len(arena)
		arena = append(arena, m.header...)
		middle := len(arena)
		arena = append(arena, m.body...)
		page[i] = message{m.routingKey, arena[start:middle:middle], arena[middle:len(arena):len(arena)]}
	}
	q.pages = append(q.pages, page)
}

// drain hands the backlog to the consumers.
func (q *queue) drain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.consumers) > 0 && len(q.pages) > 0 {
		c := q.consumers[q.next%len(q.consumers)]
		q.next++
		if !c.deliver(q.pages[0]) {
			return
		}
		q.pages = q.pages[1:]
	}
}

func (q *queue) remove(c *consumer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, other := range q.consumers {
		if other == c {
			q.consumers = append(q.consumers[:i], q.consumers[i+1:]...)
			return
		}
	}
}

// deliver encodes the burst into the connection's outbound buffer; false if
// the connection is gone.
func (c *consumer) deliver(burst []message) bool {
	k := c.conn
	k.mu.Lock()
	for len(k.out) > maxPending && !k.closed {
		k.changed.Wait()
	}
	if k.closed {
		k.mu.Unlock()
		return false
	}
	out := k.out
	for i := range burst {
		m := &burst[i]
		c.deliveryTag++
		out = append(out, 1)
		out = be.AppendUint16(out, c.channel)
		out = be.AppendUint32(out, uint32(4+1+len(c.tag)+8+1+1+1+len(m.routingKey)))
		out = append(out, 0, 60, 0, 60, byte(len(c.tag)))
		out = append(out, c.tag...)
		out = be.AppendUint64(out, c.deliveryTag)
		out = append(out, 0, 0, byte(len(m.routingKey)))
		out = append(out, m.routingKey...)
		out = append(out, 0xCE, 2)
		out = be.AppendUint16(out, c.channel)
		out = be.AppendUint32(out, uint32(len(m.header)))
		out = append(out, m.header...)
		out = append(out, 0xCE)
		if len(m.body) > 0 {
			out = append(out, 3)
			out = be.AppendUint16(out, c.channel)
			out = be.AppendUint32(out, uint32(len(m.body)))
			out = append(out, m.body...)
			out = append(out, 0xCE)
		}
	}
	k.out = out
	k.mu.Unlock()
	k.changed.Broadcast()
	return true
}

type conn struct {
	net     net.Conn
	mu      sync.Mutex
	changed *sync.Cond
	out     []byte // filled under mu, swapped with spare by writeLoop
	spare   []byte
	closed  bool

	confirming map[uint16]bool
	published  map[uint16]uint64
	consumers  map[*consumer]*queue
}

func (k *conn) writeLoop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		for len(k.out) == 0 && !k.closed {
			k.changed.Wait()
		}
		if k.closed {
			return
		}
		full := k.out
		k.out = k.spare[:0]
		k.mu.Unlock()
		k.changed.Broadcast()
		_, err := k.net.Write(full)
		k.mu.Lock()
		k.spare = full
		if err != nil {
			k.closed = true
			k.changed.Broadcast()
		}
	}
}

func (k *conn) close() {
	k.mu.Lock()
	k.closed = true
	k.mu.Unlock()
	k.changed.Broadcast()
	for c, q := range k.consumers {
		q.remove(c)
	}
	k.net.Close()
}

func (k *conn) send(channel, class, method uint16, arguments []byte) {
	k.mu.Lock()
	k.out = append(k.out, 1)
	k.out = be.AppendUint16(k.out, channel)
	k.out = be.AppendUint32(k.out, uint32(4+len(arguments)))
	k.out = be.AppendUint16(k.out, class)
	k.out = be.AppendUint16(k.out, method)
	k.out = append(k.out, arguments...)
	k.out = append(k.out, 0xCE)
	k.mu.Unlock()
	k.changed.Broadcast()
}

func shortString(b []byte) (string, []byte) {
	n := int(b[0])
	return string(b[1 : 1+n]), b[1+n:]
}

func appendShort(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// method answers everything but basic.publish; false ends the connection.
func (k *conn) method(channel uint16, payload []byte) bool {
	class, method, args := be.Uint16(payload), be.Uint16(payload[2:]), payload[4:]
	switch [2]uint16{class, method} {
	case [2]uint16{10, 11}: // connection.start-ok
		tune := be.AppendUint16(nil, 2047)
		tune = be.AppendUint32(tune, 131072)
		k.send(0, 10, 30, be.AppendUint16(tune, 0))
	case [2]uint16{10, 40}: // connection.open
		k.send(0, 10, 41, []byte{0})
	case [2]uint16{10, 50}: // connection.close
		k.send(0, 10, 51, nil)
	case [2]uint16{10, 51}:
		return false
	case [2]uint16{20, 10}: // channel.open
		k.send(channel, 20, 11, []byte{0, 0, 0, 0})
	case [2]uint16{20, 40}: // channel.close
		k.send(channel, 20, 41, nil)
	case [2]uint16{40, 10}: // exchange.declare
		k.send(channel, 40, 11, nil)
	case [2]uint16{50, 10}: // queue.declare
		name, _ := shortString(args[2:])
		queueNamed(name)
		ok := appendShort(nil, name)
		k.send(channel, 50, 11, be.AppendUint64(ok, 0))
	case [2]uint16{50, 20}: // queue.bind
		k.send(channel, 50, 21, nil)
	case [2]uint16{50, 30}: // queue.purge
		k.send(channel, 50, 31, []byte{0, 0, 0, 0})
	case [2]uint16{50, 40}: // queue.delete
		k.send(channel, 50, 41, []byte{0, 0, 0, 0})
	case [2]uint16{60, 10}: // basic.qos
		k.send(channel, 60, 11, nil)
	case [2]uint16{60, 20}: // basic.consume
		name, rest := shortString(args[2:])
		tag, _ := shortString(rest)
		if tag == "" {
			tag = "relay-consumer"
		}
		k.send(channel, 60, 21, appendShort(nil, tag))
		q, c := queueNamed(name), &consumer{conn: k, channel: channel, tag: tag}
		q.mu.Lock()
		q.consumers = append(q.consumers, c)
		q.mu.Unlock()
		k.consumers[c] = q
		go q.drain()
	case [2]uint16{60, 30}: // basic.cancel
		tag, _ := shortString(args)
		for c, q := range k.consumers {
			if c.channel == channel && c.tag == tag {
				q.remove(c)
			}
		}
		k.send(channel, 60, 31, appendShort(nil, tag))
	case [2]uint16{85, 10}: // confirm.select
		k.confirming[channel] = true
		k.send(channel, 85, 11, nil)
	}
	return true // basic.ack and the rest need no answer
}

// publish returns the message that starts at frame b[0], and what follows it;
// ok is false until all of it has been read.
func publish(b []byte) (m message, key, rest []byte, ok bool) {
	size := int(be.Uint32(b[3:]))
	args := b[7+4+2 : 7+size]
	args = args[1+int(args[0]):]
	key = args[1 : 1+int(args[0])]
	b = b[size+8:]
	if len(b) < 7 || len(b) < int(be.Uint32(b[3:]))+8 {
		return m, nil, nil, false
	}
	size = int(be.Uint32(b[3:]))
	m.header = b[7 : 7+size]
	b = b[size+8:]
	if left := int(be.Uint64(m.header[4:])); left > 0 {
		if len(b) < left+8 { // one body frame: keep the load's bodies under frame-max
			return m, nil, nil, false
		}
		m.body = b[7 : 7+left]
		b = b[left+8:]
	}
	return m, key, b, true
}

func (k *conn) readLoop() {
	var (
		buffer  = make([]byte, 256<<10)
		r, w    int
		burst   []message
		channel uint16 // of the burst
		q       *queue // of the burst
		lastKey string
	)
	flush := func() {
		if len(burst) == 0 {
			return
		}
		q.push(burst)
		burst = burst[:0]
		if k.confirming[channel] {
			ack := be.AppendUint64(nil, k.published[channel])
			k.send(channel, 60, 80, append(ack, 1))
		}
	}
	for {
		for {
			b := buffer[r:w]
			if len(b) < 8 || len(b) < int(be.Uint32(b[3:]))+8 {
				break
			}
			size, ch := int(be.Uint32(b[3:])), be.Uint16(b[1:])
			payload := b[7 : 7+size]
			if b[0] == 1 && payload[1] == 60 && payload[3] == 40 {
				m, key, rest, ok := publish(b)
				if !ok {
					break
				}
				if q == nil || ch != channel || !bytes.Equal(key, []byte(lastKey)) {
					flush()
					lastKey, channel = string(key), ch
					q = queueNamed(lastKey)
				}
				m.routingKey = lastKey
				burst = append(burst, m)
				k.published[ch]++
				r = w - len(rest)
				continue
			}
			flush()
			if b[0] == 1 && !k.method(ch, payload) {
				return
			}
			r += size + 8
		}
		flush()
		switch {
		case r == w:
			r, w = 0, 0
		case len(buffer)-w < 64<<10:
			w = copy(buffer, buffer[r:w])
			r = 0
			if w > len(buffer)/2 {
				buffer = append(buffer, make([]byte, len(buffer))...)
			}
		}
		n, err := k.net.Read(buffer[w:])
		if err != nil {
			return
		}
		w += n
	}
}

func serve(c net.Conn) {
	k := &conn{net: c, confirming: map[uint16]bool{}, published: map[uint16]uint64{}, consumers: map[*consumer]*queue{}}
	k.changed = sync.NewCond(&k.mu)
	defer k.close()
	if _, err := io.ReadFull(c, make([]byte, 8)); err != nil {
		return
	}
	go k.writeLoop()
	start := []byte{0, 9, 0, 0, 0, 0} // version 0-9, no server properties
	start = append(be.AppendUint32(start, 5), "PLAIN"...)
	start = append(be.AppendUint32(start, 5), "en_US"...)
	k.send(0, 10, 10, start)
	k.readLoop()
}

func main() {
	addr := flag.String("addr", "127.0.0.1:5690", "address to listen on")
	flag.Parse()
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(c)
	}
}
