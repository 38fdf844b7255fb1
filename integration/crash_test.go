// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rabbitmq/amqp091-go"
)

var kills = flag.Int("kills", 4, "how often TestKillUnderLoad kills the server")

// ledger is what a test knows of one producer's messages, which it numbers from
// 1, in the manner of Jepsen's queue checker.
type ledger struct {
	name             string
	exchange, key    string
	queues           []string // that each message reaches
	confirmedOverall *atomic.Int64

	mu        sync.Mutex
	attempted uint64          // numbers up to here were published
	confirmed map[uint64]bool // by number
}

// shelf is what a test knows of the messages that left one queue.
type shelf struct {
	queue string

	mu       sync.Mutex
	seen     map[string]map[uint64]bool // by producer and number
	last     map[string]uint64          // by producer: the number delivered last to the running consumer
	findings findings
}

// findings count what must not happen, and duplicates, which may.
type findings struct {
	delivered, duplicates, unmarked, misordered, unexpected, lost int
}

func (f *findings) add(g findings) {
	f.delivered += g.delivered
	f.duplicates += g.duplicates
	f.unmarked += g.unmarked
	f.misordered += g.misordered
	f.unexpected += g.unexpected
	f.lost += g.lost
}

// record notes a delivery. The messages of one producer come in the order of
// their numbers to one consumer, as long as nothing is put back; one that comes
// again is marked as redelivered.
func (s *shelf) record(d *amqp091.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.findings.delivered++
	producer, digits, _ := strings.Cut(string(d.Body), ":")
	number, err := strconv.ParseUint(digits, 10, 64)
	seen, known := s.seen[producer]
	if err != nil || !known {
		s.findings.unexpected++
		return
	}
	if seen[number] {
		s.findings.duplicates++
		if !d.Redelivered {
			s.findings.unmarked++
		}
	}
	if number <= s.last[producer] {
		s.findings.misordered++
	}
	seen[number], s.last[producer] = true, number
}

// judge compares what left the queue with what its producers know.
func (s *shelf) judge(ledgers []*ledger) findings {
	for _, l := range ledgers {
		seen, fed := s.seen[l.name]
		if !fed {
			continue
		}
		for number := range l.confirmed {
			if !seen[number] {
				s.findings.lost++
			}
		}
		for number := range seen {
			if number == 0 || number > l.attempted {
				s.findings.unexpected++
			}
		}
	}
	return s.findings
}

// newConsumer says that deliveries start over with the oldest message.
func (s *shelf) newConsumer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.last)
}

// produce publishes on a channel in confirm mode until the server is gone, with
// up to window messages not confirmed.
func (l *ledger) produce(channel *amqp091.Channel, window int) {
	base := l.attempted
	confirms := channel.NotifyPublish(make(chan amqp091.Confirmation, window))
	slots := make(chan struct{}, window)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for c := range confirms {
			if c.Ack {
				l.mu.Lock()
				l.confirmed[base+c.DeliveryTag] = true
				l.mu.Unlock()
				l.confirmedOverall.Add(1)
			}
			<-slots
		}
	}()
	for {
		select {
		case slots <- struct{}{}:
		case <-ended:
			return
		}
		l.attempted++
		message := amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: fmt.Appendf(nil, "%s:%d", l.name, l.attempted)}
		if err := channel.Publish(l.exchange, l.key, false, false, message); err != nil {
			<-ended
			return
		}
	}
}

// consume takes and acknowledges messages until the server is gone.
func (s *shelf) consume(deliveries <-chan amqp091.Delivery) {
	s.newConsumer()
	for d := range deliveries {
		s.record(&d)
		if d.DeliveryTag%10 == 0 {
			_ = d.Ack(true) // fails when the server is gone, which ends the loop
		}
	}
}

// drain takes everything that is left in the queue.
func (s *shelf) drain(t testing.TB, connection *amqp091.Connection) {
	t.Helper()
	channel := openChannel(t, connection)
	left, _ := waiting(t, channel, s.queue)
	s.newConsumer()
	deliveries, err := channel.Consume(s.queue, "", true, false, false, false, nil)
	must(t, err)
	for range left {
		d := next(t, deliveries)
		s.record(&d)
	}
	if left, _ := waiting(t, channel, s.queue); left != 0 {
		t.Errorf("%d messages are left in %s", left, s.queue)
	}
}

// crashLoad is three producers and three queues: one queue that only fills, one
// that is consumed, and one that gets what the others get through an exchange.
func crashLoad() (ledgers []*ledger, shelves []*shelf) {
	confirmed := new(atomic.Int64)
	ledgers = []*ledger{
		{name: "a", key: "fills", queues: []string{"fills"}},
		{name: "b", key: "drains", queues: []string{"drains"}},
		{name: "c", exchange: "amq.fanout", queues: []string{"fills", "drains", "copies"}},
	}
	for _, l := range ledgers {
		l.confirmedOverall, l.confirmed = confirmed, map[uint64]bool{}
	}
	for _, queue := range []string{"fills", "drains", "copies"} {
		s := &shelf{queue: queue, seen: map[string]map[uint64]bool{}, last: map[string]uint64{}}
		for _, l := range ledgers {
			if slices.Contains(l.queues, queue) {
				s.seen[l.name] = map[uint64]bool{}
			}
		}
		shelves = append(shelves, s)
	}
	return ledgers, shelves
}

// TestKillUnderLoad kills the server again and again while it confirms and
// delivers, and checks at the end that nothing confirmed is lost, nothing came
// that was not published, and the order was kept.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	ledgers, shelves := crashLoad()
	declareCrashLoad(t, data, shelves)
	for range *kills {
		server := startProcess(t, nil, "--data-dir", data)
		connections := []*amqp091.Connection{server.dial(), server.dial()}
		consumer := openChannel(t, connections[1])
		must(t, consumer.Qos(100, 0, false))
		deliveries := consume(t, consumer, shelves[1].queue)
		var workers sync.WaitGroup
		workers.Go(func() { shelves[1].consume(deliveries) })
		var producers []*amqp091.Channel
		for i := range ledgers {
			producers = append(producers, openChannel(t, connections[i%2]))
			must(t, producers[i].Confirm(false))
		}
		for i, l := range ledgers {
			workers.Go(func() { l.produce(producers[i], 500) })
		}
		confirmed := ledgers[0].confirmedOverall
		until := confirmed.Load() + 500 + rand.Int64N(5000)
		eventually(t, "confirms", func() bool { return confirmed.Load() >= until })
		server.kill()
		workers.Wait()
	}

	server := startProcess(t, nil, "--data-dir", data)
	var total findings
	attempted, confirmed := 0, 0
	connection := server.dial()
	for _, s := range shelves {
		s.drain(t, connection)
		total.add(s.judge(ledgers))
	}
	for _, l := range ledgers {
		attempted, confirmed = attempted+int(l.attempted), confirmed+len(l.confirmed)
	}
	server.terminate()
	t.Logf("kills=%d attempted=%d confirmed=%d delivered=%d duplicates=%d unmarked=%d misordered=%d unexpected=%d lost=%d",
		*kills, attempted, confirmed, total.delivered, total.duplicates, total.unmarked, total.misordered, total.unexpected, total.lost)
	if total.lost+total.unexpected+total.misordered+total.unmarked > 0 {
		t.Error("the broker broke its promises")
	}
}

// declareCrashLoad declares the durable queues on a server of its own.
func declareCrashLoad(t testing.TB, data string, shelves []*shelf) {
	t.Helper()
	server := startProcess(t, nil, "--data-dir", data)
	channel := openChannel(t, server.dial())
	for _, s := range shelves {
		if _, err := channel.QueueDeclare(s.queue, true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		must(t, channel.QueueBind(s.queue, "", "amq.fanout", false, nil))
	}
	server.kill() // answered means durable, for declarations too
}
