// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq/vhosts"
)

// diskSize is the size of the disks that fill up.
const diskSize = 96 << 20

// filler is one producer of a queue on a small disk.
type filler struct {
	ledger    *ledger
	shelf     *shelf
	confirmed atomic.Int64
	workers   sync.WaitGroup
}

func newFiller() *filler {
	l := &ledger{name: "filler", key: "q", size: 10 << 10, window: 100}
	return &filler{ledger: l, shelf: newShelf("q", l)}
}

// produce publishes to a server until it is gone, and returns what the connection
// is told about being blocked.
func (f *filler) produce(t testing.TB, server *diskServer) <-chan amqp091.Blocking {
	t.Helper()
	connection := server.dial(t)
	blocked := connection.NotifyBlocked(make(chan amqp091.Blocking, 1000))
	channel := openChannel(t, connection)
	must(t, f.shelf.declare(channel))
	f.shelf.begin()
	must(t, channel.Confirm(false))
	f.workers.Go(func() { f.ledger.produce(channel, &f.confirmed) })
	return blocked
}

// consume takes messages until the server is gone.
func (f *filler) consume(t testing.TB, server *diskServer) {
	t.Helper()
	channel := openChannel(t, server.dial(t))
	must(t, channel.Qos(100, 0, false))
	deliveries := consume(t, channel, f.shelf.queue)
	f.workers.Go(func() { f.shelf.consume(deliveries) })
}

// goesOn waits until many more messages are confirmed.
func (f *filler) goesOn(t testing.TB) {
	t.Helper()
	until := f.confirmed.Load() + 500
	eventually(t, "confirms", func() bool { return f.confirmed.Load() >= until })
}

// killed kills the server, and judges what the next one has.
func (f *filler) killed(t testing.TB, server *diskServer, disk smallDisk, reserve string) {
	t.Helper()
	server.kill()
	f.workers.Wait()
	f.shelf.end()
	server = disk.start(t, reserve)
	f.shelf.begin()
	f.shelf.drain(t, server.dial(t))
	found := f.shelf.judge()
	t.Logf("attempted=%d confirmed=%d %v", f.ledger.last(), f.confirmed.Load(), found)
	if found.broken() {
		t.Error("the broker broke its promises")
	}
}

// healthy asks the broker whether it is.
func (s *diskServer) healthy(t testing.TB) bool {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(s.management + "healthz")
	must(t, err)
	must(t, response.Body.Close())
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("healthz answers %s", response.Status)
	}
	return response.StatusCode == http.StatusOK
}

// Before the disk is full, publishers are told to wait; consumers make room again.
func TestDiskFillsUpToReserve(t *testing.T) {
	t.Parallel()
	t.Run("Mounted", func(t *testing.T) {
		t.Parallel()
		fillUpToReserve(t, processDisk{mountDisk(t, diskSize>>10)})
	})
	t.Run("Memory", func(t *testing.T) {
		t.Parallel()
		fillUpToReserve(t, newMemoryDisk(diskSize))
	})
}

func fillUpToReserve(t *testing.T, disk smallDisk) {
	t.Helper()
	const reserve = "32MiB"
	server := disk.start(t, reserve)
	f := newFiller()
	blocked := f.produce(t, server)
	if got := next(t, blocked); got != (amqp091.Blocking{Active: true, Reason: vhosts.AlarmDisk}) {
		t.Fatalf("got %+v", got)
	}
	if !server.healthy(t) {
		t.Error("a broker whose disk has a reserve is not healthy")
	}
	f.consume(t, server)
	if got := next(t, blocked); got.Active {
		t.Fatalf("got %+v", got)
	}
	f.goesOn(t)
	f.killed(t, server, disk, reserve)
}

// With no reserve the disk fills up: the broker says that it is out of order,
// holds back who still publishes, confirms nothing that is not stored, and goes
// on by itself once there is room. It is in a process of its own: what the failed
// database holds stays there until its end.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	const reserve = "0"
	disk := processDisk{mountDisk(t, diskSize>>10)}
	disk.occupy(t, diskSize/2)
	server := disk.start(t, reserve)
	f := newFiller()
	f.produce(t, server)
	eventually(t, "not healthy", func() bool { return !server.healthy(t) })
	connection := server.dial(t)
	blocked := connection.NotifyBlocked(make(chan amqp091.Blocking, 1000))
	publish(t, openChannel(t, connection), "", "nowhere", "one more")
	if got := next(t, blocked); got != (amqp091.Blocking{Active: true, Reason: vhosts.AlarmStore}) {
		t.Errorf("got %+v", got)
	}
	disk.occupy(t, 0)
	eventually(t, "healthy", func() bool { return server.healthy(t) })
	f.goesOn(t)
	f.killed(t, server, disk, reserve)
}
