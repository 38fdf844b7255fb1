// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

var kills = flag.Int("kills", 3, "how often TestKillUnderLoad kills the server")

// crashLoad is what happens on the server that is killed. Beside one queue each
// that only fills, is consumed, and gets only what others get too, there is one
// that is purged and deleted all the time, one whose messages are put back, one of
// large messages, one of transient messages that do not fit into memory, and one
// whose messages come from many connections, each in a commit of its own.
type crashLoad struct {
	ledgers []*ledger
	shelves []*shelf

	fills, drains, copies, clears, returns, large, transient, singles *shelf
}

func newCrashLoad() *crashLoad {
	direct := func(queue string, size, window int) *ledger {
		return &ledger{name: queue, key: queue, size: size, window: window}
	}
	everywhere := &ledger{name: "everywhere", exchange: "amq.fanout", size: 40, window: 500}
	fills, drains, clears := direct("fills", 40, 500), direct("drains", 40, 500), direct("clears", 300, 300)
	returns, large := direct("returns", 40, 300), direct("large", 100<<10, 20)
	transient := direct("transient", 1<<10, 500)
	transient.transient = true
	var singles []*ledger
	for i := range 8 {
		single := direct("singles", 40, 1)
		single.name += fmt.Sprint(i)
		singles = append(singles, single)
	}
	l := &crashLoad{
		ledgers:   append(singles, everywhere, fills, drains, clears, returns, large, transient),
		fills:     newShelf("fills", fills, everywhere),
		drains:    newShelf("drains", drains, everywhere),
		copies:    newShelf("copies", everywhere),
		clears:    newShelf("clears", clears, everywhere),
		returns:   newShelf("returns", returns),
		large:     newShelf("large", large),
		transient: newShelf("transient", transient),
		singles:   newShelf("singles", singles...),
	}
	l.returns.unordered = true
	l.shelves = []*shelf{l.fills, l.drains, l.copies, l.clears, l.returns, l.large, l.transient, l.singles}
	return l
}

// declare declares the queue of a shelf, with what feeds it.
func (s *shelf) declare(channel *amqp091.Channel) error {
	if _, err := channel.QueueDeclare(s.queue, true, false, false, false, nil); err != nil {
		return err
	}
	for _, f := range s.feeds {
		if f.ledger.exchange == "" {
			continue
		}
		if err := channel.QueueBind(s.queue, "", f.ledger.exchange, false, nil); err != nil {
			return err
		}
	}
	return nil
}

// run puts the load on a server until it is gone, in goroutines of workers.
func (l *crashLoad) run(t testing.TB, server *serverProcess, workers *sync.WaitGroup, confirmed *atomic.Int64) {
	t.Helper()
	channel := openChannel(t, server.dial())
	for _, s := range l.shelves {
		must(t, s.declare(channel))
		s.begin()
	}
	for _, s := range []*shelf{l.drains, l.returns, l.large} {
		consumer := openChannel(t, server.dial())
		must(t, consumer.Qos(100, 0, false))
		deliveries := consume(t, consumer, s.queue)
		workers.Go(func() { s.consume(deliveries) })
	}
	getter := openChannel(t, server.dial())
	workers.Go(func() { l.transient.fetch(getter) })
	workers.Go(func() { l.clears.clearAgainAndAgain(channel) })
	for _, ledger := range l.ledgers {
		producer := openChannel(t, server.dial())
		must(t, producer.Confirm(false))
		workers.Go(func() { ledger.produce(producer, confirmed) })
	}
}

// clearAgainAndAgain purges the queue, or deletes and declares it, until the
// server is gone.
func (s *shelf) clearAgainAndAgain(channel *amqp091.Channel) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for purge := true; ; purge = !purge {
		err := s.clear(func() error {
			if purge {
				_, err := channel.QueuePurge(s.queue, false)
				return err
			}
			if _, err := channel.QueueDelete(s.queue, false, false, false); err != nil {
				return err
			}
			return s.declare(channel)
		})
		if err != nil {
			return
		}
		<-ticker.C
	}
}

// TestKillUnderLoad kills the server again and again, some moments or some
// seconds after its start, while it confirms and delivers. At the end nothing
// confirmed is lost, nothing came that was not published or should be gone, and
// the order was kept.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	// Little memory, so that tables are written and messages leave the memory.
	flags := []string{"--data-dir", t.TempDir(), "--storage-memtable-size", "4MiB", "--queue-resident-bytes", "1MiB"}
	load, confirmed := newCrashLoad(), new(atomic.Int64)
	for range *kills {
		server := startProcess(t, nil, flags...)
		var workers sync.WaitGroup
		load.run(t, server, &workers, confirmed)
		until := confirmed.Load() + 500<<rand.IntN(7)
		eventually(t, "confirms", func() bool { return confirmed.Load() >= until })
		server.kill()
		workers.Wait()
		for _, s := range load.shelves {
			s.end()
		}
	}

	server := startProcess(t, nil, flags...)
	connection := server.dial()
	channel := openChannel(t, connection)
	var total findings
	var attempted uint64
	for _, l := range load.ledgers {
		attempted += l.last()
	}
	for _, s := range load.shelves {
		must(t, s.declare(channel)) // it may have been deleted last
		s.begin()
		s.drain(t, connection)
		found := s.judge()
		if found.broken() {
			t.Errorf("%s: %v", s.queue, found)
		}
		total.add(found)
	}
	server.terminate()
	t.Logf("kills=%d attempted=%d confirmed=%d %v", *kills, attempted, confirmed.Load(), total)
	if total.broken() {
		t.Error("the broker broke its promises")
	}
}
