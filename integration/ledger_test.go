// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rabbitmq/amqp091-go"
)

// What tests know of the messages they sent through a broker that is killed or
// out of order at any moment, in the manner of Jepsen's queue checker: ledgers
// hold what was published and confirmed, shelves what was delivered and
// acknowledged, and judge compares them.

// ledger is what a test knows of one producer's messages, which it numbers from 1.
type ledger struct {
	name          string
	exchange, key string
	window        int // most messages without a confirm
	size          int // of a body, at least that of its head
	transient     bool

	mu        sync.Mutex
	attempted uint64          // numbers up to here were published
	highest   uint64          // the largest number confirmed
	confirmed map[uint64]bool // by number
}

// filling is what bodies are filled up with. It cannot be compressed, nor can
// neighbours be that take different parts of it.
var filling = func() []byte {
	b := make([]byte, 4<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // never fails
	return b
}()

// body is what the message of a number says: who sent it, the number, and
// something that differs from that of its neighbours.
func (l *ledger) body(number uint64) []byte {
	body := fmt.Appendf(make([]byte, 0, l.size), "%s:%d:", l.name, number)
	offset := int(number * 11003 % uint64(len(filling)-l.size))
	return append(body, filling[offset:offset+max(0, l.size-len(body))]...)
}

// produce publishes on a channel in confirm mode until the server is gone.
func (l *ledger) produce(channel *amqp091.Channel, total *atomic.Int64) {
	base := l.last()
	confirms := channel.NotifyPublish(make(chan amqp091.Confirmation, l.window))
	slots := make(chan struct{}, l.window)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for c := range confirms {
			if c.Ack {
				l.confirm(base + c.DeliveryTag)
				total.Add(1)
			}
			<-slots
		}
	}()
	message := amqp091.Publishing{DeliveryMode: amqp091.Persistent}
	if l.transient {
		message.DeliveryMode = amqp091.Transient
	}
	for {
		select {
		case slots <- struct{}{}:
		case <-ended:
			return
		}
		message.Body = l.body(l.attempt())
		if err := channel.Publish(l.exchange, l.key, false, false, message); err != nil {
			<-ended
			return
		}
	}
}

func (l *ledger) attempt() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempted++
	return l.attempted
}

func (l *ledger) confirm(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.confirmed == nil {
		l.confirmed = map[uint64]bool{}
	}
	l.confirmed[number] = true
	l.highest = max(l.highest, number)
}

// last is the number published last.
func (l *ledger) last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attempted
}

// highestConfirmed says that all smaller numbers are in their queues too, as one
// channel's messages keep their order.
func (l *ledger) highestConfirmed() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.highest
}

// findings count what must not happen, and duplicates, which may.
type findings struct {
	delivered, acked int
	duplicates       int // delivered again although acknowledged: the acknowledgement was forgotten
	unmarked         int // delivered again without the mark
	misordered       int
	unexpected       int // never sent, or not as it came
	revived          int // came after it was purged, or transient from before the kill
	lost             int
}

func (f *findings) add(g findings) {
	f.delivered += g.delivered
	f.acked += g.acked
	f.duplicates += g.duplicates
	f.unmarked += g.unmarked
	f.misordered += g.misordered
	f.unexpected += g.unexpected
	f.revived += g.revived
	f.lost += g.lost
}

func (f findings) broken() bool {
	return f.unmarked+f.misordered+f.unexpected+f.revived+f.lost > 0
}

func (f findings) String() string {
	return fmt.Sprintf("delivered=%d acked=%d duplicates=%d unmarked=%d misordered=%d unexpected=%d revived=%d lost=%d",
		f.delivered, f.acked, f.duplicates, f.unmarked, f.misordered, f.unexpected, f.revived, f.lost)
}

// shelf is what a test knows of the messages that left one queue.
type shelf struct {
	queue     string
	unordered bool // some messages are put back

	mu       sync.Mutex
	feeds    map[string]*feed // by producer
	open     []place          // delivered, not acknowledged
	findings findings
}

// feed is one producer's messages in one queue.
type feed struct {
	ledger *ledger
	seen   map[uint64]bool // delivered; true if it need not come again
	last   uint64          // delivered last to the running consumer
	base   uint64          // published last before the server was started

	clearings []clearing // since then
	doubtful  bool       // since then the queue was cleared and perhaps it was not
	floor     uint64     // numbers up to here may be gone
	gone      uint64     // numbers up to here have to be
}

// clearing is a purge, or a deletion and declaration, of the queue.
type clearing struct {
	before uint64 // numbers up to here were in the queue
	after  uint64 // larger ones came after it
}

// place is where a delivery is noted.
type place struct {
	*feed
	number uint64
}

func newShelf(queue string, ledgers ...*ledger) *shelf {
	s := &shelf{queue: queue, feeds: map[string]*feed{}}
	for _, l := range ledgers {
		s.feeds[l.name] = &feed{ledger: l, seen: map[uint64]bool{}}
	}
	return s
}

// begin says that a server was started.
func (s *shelf) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.feeds {
		f.base = f.ledger.last()
		f.last = 0
		if f.ledger.transient {
			f.last = f.base
		}
	}
}

// end says that the server is gone: what was not acknowledged has to come again.
// Commits keep the order of what was asked for, so that a clearing is sure if
// something that was published after it is.
func (s *shelf) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.open {
		p.seen[p.number] = false
	}
	s.open = nil
	for _, f := range s.feeds {
		for _, c := range f.clearings {
			f.floor = c.after
			if f.ledger.highestConfirmed() > c.after {
				f.gone = c.before
			}
		}
		if f.doubtful {
			f.floor = f.ledger.last()
		}
		f.clearings, f.doubtful = nil, false
	}
}

// clear runs f, which removes all that is in the queue, and notes it.
func (s *shelf) clear(f func() error) error {
	before := map[*feed]uint64{}
	for _, f := range s.feeds {
		before[f] = f.ledger.highestConfirmed()
	}
	err := f()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.feeds {
		if err != nil {
			f.doubtful = true
		} else {
			f.clearings = append(f.clearings, clearing{before[f], f.ledger.last()})
		}
	}
	return err
}

// record notes a delivery. The messages of one producer come in the order of
// their numbers to one consumer, as long as nothing is put back; one that comes
// again is marked as redelivered. It returns false for a message that was never
// sent.
func (s *shelf) record(d *amqp091.Delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.findings.delivered++
	f, number := s.find(d.Body)
	if f == nil {
		s.findings.unexpected++
		return false
	}
	taken, before := f.seen[number]
	if taken {
		s.findings.duplicates++
	}
	if before && !d.Redelivered {
		s.findings.unmarked++
	}
	switch {
	case number <= f.gone || f.ledger.transient && number <= f.base:
		s.findings.revived++
	case number <= f.last && !s.unordered:
		s.findings.misordered++
	case number > f.last+1 && f.ledger.transient:
		s.findings.lost += int(number - f.last - 1)
	}
	f.seen[number], f.last = true, number
	s.open = append(s.open, place{f, number})
	return true
}

// find returns the feed and number of a message; nil if it was never sent so.
func (s *shelf) find(body []byte) (*feed, uint64) {
	name, rest, _ := bytes.Cut(body, []byte(":"))
	digits, _, _ := bytes.Cut(rest, []byte(":"))
	number, err := strconv.ParseUint(string(digits), 10, 64)
	f := s.feeds[string(name)]
	if err != nil || f == nil || number == 0 || number > f.ledger.last() || !bytes.Equal(body, f.ledger.body(number)) {
		return nil, 0
	}
	return f, number
}

// acked notes that all that was delivered is acknowledged.
func (s *shelf) acked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.findings.acked += len(s.open)
	s.open = s.open[:0]
}

// putBack notes that what was delivered last is to be delivered again.
func (s *shelf) putBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.open) - 1
	s.open[last].seen[s.open[last].number] = false
	s.open = s.open[:last]
}

// consume takes and acknowledges messages until the server is gone. From an
// unordered queue it puts some of them back.
func (s *shelf) consume(deliveries <-chan amqp091.Delivery) {
	for d := range deliveries {
		known := s.record(&d)
		var err error
		switch {
		case known && s.unordered && d.DeliveryTag%7 == 3:
			s.putBack()
			err = d.Nack(false, true)
		case d.DeliveryTag%10 == 0:
			s.acked() // perhaps; it may come again if it was not
			err = d.Ack(true)
		}
		if err != nil {
			return
		}
	}
}

// fetch takes messages one by one until the server is gone.
func (s *shelf) fetch(channel *amqp091.Channel) {
	for {
		d, found, err := channel.Get(s.queue, true)
		if err != nil {
			return
		}
		if found {
			s.record(&d)
			s.acked()
		}
	}
}

// drain takes everything that is left in the queue.
func (s *shelf) drain(t testing.TB, connection *amqp091.Connection) {
	t.Helper()
	channel := openChannel(t, connection)
	left, _ := waiting(t, channel, s.queue)
	deliveries, err := channel.Consume(s.queue, "", true, false, false, false, nil)
	must(t, err)
	for range left {
		d := next(t, deliveries)
		s.record(&d)
		s.acked()
	}
	if left, _ := waiting(t, channel, s.queue); left != 0 {
		t.Errorf("%d messages are left in %s", left, s.queue)
	}
}

// judge compares what left the queue with what its producers know, once the queue
// is empty.
func (s *shelf) judge() findings {
	for _, f := range s.feeds {
		if f.ledger.transient {
			continue // record has seen the gaps
		}
		for number := range f.ledger.confirmed {
			if number > f.floor && !f.seen[number] {
				s.findings.lost++
			}
		}
	}
	return s.findings
}
