// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/persistence"
)

var backlogMiB = flag.Int("backlog", 128, "MiB of messages in TestSpaceIsGivenBack")

// within waits longer than eventually, for what looks around now and then.
func within(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	end := time.After(limit)
	for !condition() {
		select {
		case <-ticker.C:
		case <-end:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// sizeOf is how many bytes the files below a directory have.
func sizeOf(t testing.TB, dir string) (bytes int64) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil // it was removed meanwhile
		}
		if info, err := entry.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	}))
	return bytes
}

// publishBacklog publishes numbered bodies of 10 KiB.
func publishBacklog(t testing.TB, channel *amqp091.Channel, queue string, count int) *ledger {
	t.Helper()
	l := &ledger{name: queue, key: queue, size: 10 << 10}
	must(t, channel.Confirm(false))
	var last *amqp091.DeferredConfirmation
	for range count {
		confirmation, err := channel.PublishWithDeferredConfirm("", queue, false, false,
			amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: l.body(l.attempt())})
		must(t, err)
		last = confirmation
	}
	if ok, err := last.WaitContext(t.Context()); err != nil || !ok {
		t.Fatalf("not confirmed: %v", err)
	}
	return l
}

// When a backlog is gone so is its space, without further traffic, although one
// message in a hundred is kept by a consumer.
func TestSpaceIsGivenBack(t *testing.T) {
	t.Parallel()
	const keepEach = 100
	for name, keeps := range map[string]bool{"Drained": false, "Thinned": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			server := startProcess(t, nil, "--data-dir", dir, "--storage-memtable-size", "4MiB")
			connection := server.dial()
			channel := openChannel(t, connection)
			_, err := channel.QueueDeclare("q", true, false, false, false, nil)
			must(t, err)
			count := *backlogMiB << 20 / (10 << 10)
			l := publishBacklog(t, channel, "q", count)
			full := sizeOf(t, dir)
			consumer := openChannel(t, connection)
			deliveries := consume(t, consumer, "q")
			kept := 0
			for i := range count {
				d := next(t, deliveries)
				if keeps && i%keepEach == 0 {
					kept++
					continue
				}
				must(t, d.Ack(false))
			}
			within(t, 2*patience, "the space is given back", func() bool { return sizeOf(t, dir) < full/3 })
			t.Logf("%d MiB, then %d MiB", full>>20, sizeOf(t, dir)>>20)
			must(t, consumer.Close())
			again := consume(t, openChannel(t, connection), "q")
			for i := range kept {
				if d, want := next(t, again), l.body(uint64(i*keepEach+1)); string(d.Body) != string(want) {
					t.Fatalf("message %d is not what was published", i)
				}
			}
			server.kill()
		})
	}
}

// storedRuns is how many runs a broker that starts after a crash now would find.
func storedRuns(t testing.TB, disk *vfs.MemFS) (runs int) {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	store, err := persistence.Open(persistence.Options{Dir: "data", FS: disk.CrashClone(vfs.CrashCloneCfg{}), Logger: logger})
	must(t, err)
	must(t, store.Recover(func(*persistence.RecoveredRun) (bool, error) {
		runs++
		return true, nil
	}))
	must(t, store.Close(context.Background()))
	return runs
}

// Many connections publish one message at a time, each in a commit of its own.
// Soon the store holds them as if they had come at once, and after a crash they
// are all there, in the order of each connection.
func TestSmallCommitsAreJoined(t *testing.T) {
	t.Parallel()
	const producers, each, fullRun = 64, 64, 256
	const ahead = 65 // runs that consumers come to next, which may be left alone
	disk := vfs.NewCrashableMem()
	onMemory := func(disk vfs.FS) func(*lagomq.Options) {
		return func(o *lagomq.Options) { o.DataDir, o.Store.FS = "data", disk }
	}
	broker := startBroker(t, onMemory(disk))
	channel := openChannel(t, dial(t, broker))
	_, err := channel.QueueDeclare("q", true, false, false, false, nil)
	must(t, err)
	var ledgers []*ledger
	var workers sync.WaitGroup
	for i := range producers {
		l := &ledger{name: fmt.Sprint("p", i), key: "q", size: 100}
		ledgers = append(ledgers, l)
		channel := openChannel(t, dial(t, broker))
		must(t, channel.Confirm(false))
		workers.Go(func() {
			for range each {
				number := l.attempt()
				confirmation, err := channel.PublishWithDeferredConfirm("", "q", false, false,
					amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: l.body(number)})
				if err != nil || !confirmation.Wait() {
					t.Errorf("message %d of %s is not confirmed: %v", number, l.name, err)
					return
				}
				l.confirm(number)
			}
		})
	}
	workers.Wait()
	scattered := storedRuns(t, disk)
	within(t, patience, "the runs are joined", func() bool { return storedRuns(t, disk) <= 2*producers*each/fullRun+ahead })
	t.Logf("%d messages in %d runs, then in %d", producers*each, scattered, storedRuns(t, disk))

	broker = startBroker(t, onMemory(disk.CrashClone(vfs.CrashCloneCfg{})))
	s := newShelf("q", ledgers...)
	s.drain(t, dial(t, broker))
	if found := s.judge(); found.broken() {
		t.Errorf("the broker broke its promises: %v", found)
	}
}
