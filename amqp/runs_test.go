// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/lagomq/lagomq/amqp/wire"
)

// publishing is the frames of a publish with a priority, 0 for none.
func publishing(exchange, key string, deliveryMode, priority byte, body []byte) []byte {
	p := &wire.Properties{Flags: wire.FlagDeliveryMode, DeliveryMode: deliveryMode}
	if priority > 0 {
		p.Flags |= wire.FlagPriority
		p.Priority = priority
	}
	b := wire.AppendMethod(nil, 1, &wire.BasicPublish{Exchange: exchange, RoutingKey: key})
	return wire.AppendContent(b, 1, 131072, wire.AppendHeader(nil, uint64(len(body)), wire.AppendProperties(nil, p)), body)
}

// TestBurstOverManyKeys publishes to several queues over several routing keys and
// with several priorities in one burst. Whatever runs this makes, every message is
// confirmed, and each queue gets what is of one priority in the order of publishing.
func TestBurstOverManyKeys(t *testing.T) {
	t.Parallel()
	for _, priorities := range []int{1, 4} {
		for _, queues := range []int{2, 3, 50} {
			t.Run(fmt.Sprintf("priorities=%d,queues=%d", priorities, queues), func(t *testing.T) {
				t.Parallel()
				burstOverManyKeys(t, priorities, queues)
			})
		}
	}
}

func burstOverManyKeys(t *testing.T, priorities, queues int) {
	c := dialTCP(t, newTestServer(t))
	args := wire.Table{}
	if priorities > 1 {
		args = wire.Table{{Name: "x-max-priority", Value: int32(priorities - 1)}}
	}
	for i := range queues {
		q := strconv.Itoa(i)
		call[*wire.QueueDeclareOk](c, 1, &wire.QueueDeclare{Queue: q, Durable: i%3 > 0, Arguments: args})
		for _, key := range []string{"to." + q, "also." + q, "all"} {
			call[*wire.QueueBindOk](c, 1, &wire.QueueBind{Queue: q, Exchange: "amq.topic", RoutingKey: key})
		}
	}
	call[*wire.ConfirmSelectOk](c, 1, &wire.ConfirmSelect{})
	want := make([][][]string, queues)
	for i := range want {
		want[i] = make([][]string, priorities)
	}
	var frames []byte
	const messages = 5000
	for n := range messages {
		priority, body := n/3*7%5%priorities, strconv.Itoa(n)
		first, last := n*n%31%queues, n*n%31%queues
		key := fmt.Sprintf("%s.%d", []string{"to", "also"}[n*3%7%2], first)
		if n%97 == 0 {
			key, first, last = "all", 0, queues-1
		}
		for q := first; q <= last; q++ {
			level := &want[q][priorities-1-priority] // the highest comes first
			*level = append(*level, body)
		}
		mode := byte(1)
		if n%389 > 150 {
			mode = wire.Persistent
		}
		frames = append(frames, publishing("amq.topic", key, mode, byte(priority), []byte(body))...)
	}
	c.write(frames)
	for confirmed := uint64(0); confirmed < messages; {
		ack := expect[*wire.BasicAck](c)
		if !ack.Multiple && ack.DeliveryTag != confirmed+1 || ack.DeliveryTag <= confirmed {
			t.Fatalf("confirmed %d (multiple: %t) after %d", ack.DeliveryTag, ack.Multiple, confirmed)
		}
		confirmed = ack.DeliveryTag
	}
	for q := range want {
		expected := slices.Concat(want[q]...)
		for i, body := range expected {
			call[*wire.BasicGetOk](c, 1, &wire.BasicGet{Queue: strconv.Itoa(q), NoAck: true})
			if got := string(c.body()); got != body {
				t.Fatalf("message %d of queue %d is %s, want %s", i, q, got, body)
			}
		}
		call[*wire.BasicGetEmpty](c, 1, &wire.BasicGet{Queue: strconv.Itoa(q), NoAck: true})
	}
}

// BenchmarkBurstToQueues publishes in bursts, each message to another one of ten
// queues, which have a consumer each.
func BenchmarkBurstToQueues(b *testing.B) {
	s := newTestServer(b)
	publisher, consumer := dialTCP(b, s), dialTCP(b, s)
	const messages, queues, size = 1000, 10, 16
	var frames []byte
	delivered := 0
	for i := range messages {
		key := fmt.Sprint("queue-", i%queues)
		if i < queues {
			call[*wire.QueueDeclareOk](publisher, 1, &wire.QueueDeclare{Queue: key})
			call[*wire.BasicConsumeOk](consumer, 1, &wire.BasicConsume{Queue: key, ConsumerTag: fmt.Sprint("c", i), NoAck: true})
		}
		one := message(key, 0, make([]byte, size))
		frames = append(frames, one...)
		envelope := wire.AppendShortString([]byte{0}, key)
		delivered += len(one) - len(wire.AppendMethod(nil, 1, &wire.BasicPublish{RoutingKey: key})) +
			len(wire.AppendDeliver(nil, 1, fmt.Sprint("c", i%queues), 1, false, envelope))
	}
	buffer := make([]byte, 256<<10)
	b.ReportAllocs()
	for b.Loop() {
		publisher.write(frames)
		consumer.skip(buffer, delivered)
	}
	b.ReportMetric(float64(b.N)*messages/b.Elapsed().Seconds(), "messages/s")
}
