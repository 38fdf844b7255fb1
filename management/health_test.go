// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts"
)

// During an alarm the checks fail, publishers are blocked, and those who have not
// published yet are about to be.
func TestAlarms(t *testing.T) {
	t.Parallel()
	s := startParts(t, persistence.Options{FS: vfs.NewMem()})
	_, _ = s.dial("guest", "/", "consumer")
	publisher, ch := s.dial("guest", "/", "publisher")
	blocked := publisher.NotifyBlocked(make(chan amqp091.Blocking, 2))
	checks := map[string]string{
		"/api/health/checks/alarms":       "There are alarms in effect in the cluster",
		"/api/health/checks/local-alarms": "There are alarms in effect on the node",
	}
	states := func() map[any]any {
		states := map[any]any{}
		for _, c := range get[[]object](s.site, "/api/connections") {
			states[c["user_provided_name"]] = c["state"]
		}
		return states
	}

	s.alarms.Raise(vhosts.AlarmDisk)
	s.must(ch.PublishWithContext(t.Context(), "", "q", false, false, amqp091.Publishing{}))
	if b := <-blocked; !b.Active {
		t.Fatalf("unblocked: %v", b)
	}
	for path, reason := range checks {
		check(t, getFailed(s.site, path), map[string]any{
			"status": "failed", "reason": reason, "alarms": []any{object{"resource": "disk space", "node": node(s.site)}},
		})
	}
	check(t, get[object](s.site, "/healthz"), map[string]any{"status": "degraded", "problems": []any{"low on disk"}})
	check(t, get[[]object](s.site, "/api/nodes")[0], map[string]any{"disk_free_alarm": true, "mem_alarm": false})
	check(t, object{"states": states()}, map[string]any{
		"states": map[any]any{"publisher": "blocked", "consumer": "blocking"},
	})
	for _, ch := range get[[]object](s.site, "/api/channels") {
		check(t, ch, map[string]any{"state": "running"})
	}

	s.alarms.Clear(vhosts.AlarmDisk)
	if b := <-blocked; b.Active {
		t.Fatalf("blocked again: %v", b)
	}
	for path := range checks {
		check(t, get[object](s.site, path), map[string]any{"status": "ok"})
	}
	check(t, get[object](s.site, "/healthz"), map[string]any{"status": "ok", "problems": nil})
	check(t, get[[]object](s.site, "/api/nodes")[0], map[string]any{"disk_free_alarm": false})
	check(t, object{"states": states()}, map[string]any{
		"states": map[any]any{"publisher": "running", "consumer": "running"},
	})
}

// A queue with messages that cannot be read is out of service, and the broker
// says so until it is deleted. Others go on.
func TestDamagedQueue(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	options := lagomq.Options{VHosts: []string{"/", "a/b"}, Store: persistence.Options{FS: disk}}
	before, stop := startSite(t, options)
	_, ch := before.dial("guest", "a/b", "")
	before.declare(ch, "bad", true, false, nil)
	before.declare(ch, "good", true, false, nil)
	before.publishAll(ch, "bad", 3, amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: []byte("lost")})
	stop()
	damage(t, disk)

	s, _ := startSite(t, options)
	check(t, get[object](s, "/api/health/checks/virtual-hosts"), map[string]any{"status": "ok"})
	_, ch = s.dial("guest", "a/b", "")
	for range 2 { // who finds the damage is told so, as others are then
		if _, found, err := ch.Get("bad", false); found || err == nil || !strings.Contains(err.Error(), "has crashed and failed to restart") {
			t.Errorf("got a message: %t, %v", found, err)
		}
		_, ch = s.dial("guest", "a/b", "")
	}
	queue := get[object](s, "/api/queues/a%2Fb/bad")
	check(t, queue, map[string]any{"state": "crashed", "messages": 3., "messages_ram": 0.})
	reason, _ := queue["reason"].(string)
	if !strings.Contains(reason, persistence.ErrDamaged.Error()) {
		t.Errorf("reason is %q", reason)
	}
	check(t, get[object](s, "/api/queues/a%2Fb/good"), map[string]any{"state": "running", "reason": nil})
	check(t, getFailed(s, "/api/health/checks/virtual-hosts"), map[string]any{
		"status": "failed", "reason": "Some queues are out of service", "virtual-hosts": []any{"a/b"},
		"queues": []any{object{"name": "bad", "vhost": "a/b", "reason": reason}},
	})
	check(t, get[object](s, "/healthz"), map[string]any{"status": "degraded", "problems": []any{"1 queue is out of service"}})
	check(t, get[object](s, "/readyz"), map[string]any{"status": "degraded"})
	check(t, get[object](s, "/api/health/checks/storage"), map[string]any{"status": "ok"})

	if _, err := ch.QueueDelete("bad", false, false, false); err != nil {
		t.Fatal(err)
	}
	check(t, get[object](s, "/api/health/checks/virtual-hosts"), map[string]any{"status": "ok"})
	check(t, get[object](s, "/healthz"), map[string]any{"status": "ok"})
}

// damage flips a bit in every stored body of a broker that is stopped.
func damage(t *testing.T, disk *vfs.MemFS) {
	t.Helper()
	db, err := pebble.Open(disk.PathJoin("memory", "pebble"), &pebble.Options{FS: disk, Logger: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	bodies, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{'b'}, UpperBound: []byte{'b' + 1}})
	if err != nil {
		t.Fatal(err)
	}
	damaged := 0
	for ok := bodies.First(); ok; ok = bodies.Next() {
		value := append([]byte(nil), bodies.Value()...)
		value[len(value)-1] ^= 1
		if err := db.Set(bodies.Key(), value, pebble.Sync); err != nil {
			t.Fatal(err)
		}
		damaged++
	}
	if err := bodies.Close(); err != nil || damaged == 0 {
		t.Fatalf("%d bodies damaged: %v", damaged, err)
	}
	forgetStop(t, disk)
}

// forgetStop makes the last stop one that was not orderly: after one that was,
// the store knows that its tables are not those it left behind.
func forgetStop(t *testing.T, disk *vfs.MemFS) {
	t.Helper()
	text := "lagomq state 1\nrunning\n"
	text += fmt.Sprintf("crc32c %08x\n", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
	f, err := disk.Create(disk.PathJoin("memory", "STATE"), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write([]byte(text))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// silent is a logger of Pebble's that says nothing.
type silent struct{ pebble.Logger }

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// The check of the storage fails as long as the database cannot write its tables.
func TestDatabaseFails(t *testing.T) {
	t.Parallel()
	var failing atomic.Bool
	s := startParts(t, persistence.Options{
		MemTableSize: 1 << 20,
		FS: errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if failing.Load() && op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
				return errDisk
			}
			return nil
		})),
	})
	_, ch := s.dial("guest", "/", "")
	s.declare(ch, "q", true, false, nil)
	check(t, get[object](s.site, "/api/health/checks/storage"), map[string]any{"status": "ok"})

	failing.Store(true)
	s.publishAll(ch, "q", 4, amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: make([]byte, 400<<10)})
	now := time.Now()
	tick := func() { // and the sample before this one is taken
		now = now.Add(5 * time.Second)
		s.ticks <- now
	}
	status := func() int {
		response, _ := s.request(http.MethodGet, "/api/health/checks/storage", "guest")
		return response.StatusCode
	}
	for status() == http.StatusOK { // until the flush has been tried
		tick()
	}
	check(t, getFailed(s.site, "/api/health/checks/storage"), map[string]any{
		"status": "failed", "reason": "the database cannot be flushed or compacted, and tries again",
	})
	check(t, get[object](s.site, "/healthz"), map[string]any{
		"status": "degraded", "problems": []any{"the database cannot be flushed or compacted, and tries again"},
	})
	if n := get[object](s.site, "/api/lagomq/storage")["background_errors"].(float64); n == 0 {
		t.Error("no errors are counted")
	}

	failing.Store(false)
	// Until two samples saw no error; one that was met before may be told late.
	for status() != http.StatusOK || get[object](s.site, "/healthz")["status"] != "ok" {
		tick()
	}
}
