// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lagomq/lagomq"
	"github.com/lagomq/lagomq/persistence"
)

func TestStorage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, ch := s.dial("guest", "/", "")
	s.declare(ch, "q", true, false, nil)
	s.publishAll(ch, "q", 3, amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: []byte("four")})
	storage := get[object](s, "/api/lagomq/storage")
	check(t, storage, map[string]any{
		"in_service": true, "error": nil, "runs_written": 3., "stored_messages": 3., "stored_body_bytes": 12.,
		"free_bytes": nil, "low_on_space": false, "failures": 0.,
	})
	for _, name := range []string{"commits", "commits_synced", "records", "written_bytes", "memory_bytes", "reserve_bytes"} {
		if n, _ := storage[name].(float64); n <= 0 {
			t.Errorf("%s is %v", name, storage[name])
		}
	}
	for _, name := range []string{"commit_latency_seconds", "sync_latency_seconds", "batch_records"} {
		h := storage[name].(object)
		bounds, counts := h["bounds"].([]any), h["counts"].([]any)
		if len(counts) != len(bounds)+1 {
			t.Errorf("%s has %d counts for %d bounds", name, len(counts), len(bounds))
		}
		sum := 0.
		for _, n := range counts {
			sum += n.(float64)
		}
		if sum == 0 || sum != h["count"] || h["sum"].(float64) <= 0 {
			t.Errorf("%s counts %v in buckets, %v in all, with sum %v", name, sum, h["count"], h["sum"])
		}
	}
	node := get[[]object](s, "/api/nodes")[0]
	if node["io_sync_count"].(float64) < 3 || node["io_sync_avg_time"].(float64) <= 0 {
		t.Errorf("%v syncs of %v ms on average", node["io_sync_count"], node["io_sync_avg_time"])
	}
	check(t, get[object](s, "/api/lagomq/storage?columns=commit_latency_seconds.count,low_on_space"), map[string]any{
		"low_on_space": false, "commits": nil,
	})
}

// roomFS is a file system whose room a test decides on.
type roomFS struct {
	vfs.FS
	room *atomic.Uint64 // bytes
}

func (fs roomFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: fs.room.Load()}, nil
}

func TestDiskSpace(t *testing.T) {
	t.Parallel()
	var room atomic.Uint64
	room.Store(1 << 20)
	s, _ := startSite(t, lagomq.Options{Store: persistence.Options{FS: roomFS{vfs.NewMem(), &room}, Reserve: 2 << 20}})
	check(t, get[[]object](s, "/api/nodes")[0], map[string]any{
		"disk_free": 1048576., "disk_free_limit": 2097152., "disk_free_alarm": true,
	})
	check(t, get[object](s, "/api/lagomq/storage"), map[string]any{
		"free_bytes": 1048576., "reserve_bytes": 2097152., "low_on_space": true,
	})
	check(t, getFailed(s, "/api/health/checks/local-alarms"), map[string]any{"status": "failed"})

	room.Store(1 << 30)
	for get[object](s, "/healthz")["status"] != "ok" { // until the store has looked again
		continue
	}
	check(t, get[[]object](s, "/api/nodes")[0], map[string]any{"disk_free": 1073741824., "disk_free_alarm": false})
}

// What a queue shows of its memory follows what is in it.
func TestQueueStorage(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	options := lagomq.Options{Store: persistence.Options{FS: disk}}
	before, stop := startSite(t, options)
	_, ch := before.dial("guest", "/", "")
	before.declare(ch, "q", true, false, nil)
	before.publish(ch, "q", 1) // only in memory
	shown := get[object](before, "/api/queues/%2F/q")
	check(t, shown, map[string]any{
		"messages": 1., "messages_ram": 1., "messages_paged_out": 0.,
		"message_bytes": 4., "message_bytes_ram": 4., "message_bytes_paged_out": 0., "storage.runs": 1.,
		"storage.packed_bytes": 0., "storage.resident_bytes": shown["memory"],
	})
	if n := shown["memory"].(float64); n <= 4 {
		t.Errorf("one message takes %v bytes of memory", n)
	}
	message, _, err := ch.Get("q", false)
	before.must(err)
	before.must(message.Ack(false))
	before.publishAll(ch, "q", 1, amqp091.Publishing{DeliveryMode: amqp091.Persistent, Body: []byte("and more")})
	stop()

	s, _ := startSite(t, options) // nothing is in memory before it is wanted
	shown = get[object](s, "/api/queues/%2F/q")
	check(t, shown, map[string]any{
		"messages": 1., "messages_ram": 0., "messages_paged_out": 1.,
		"message_bytes": 8., "message_bytes_ram": 0., "message_bytes_paged_out": 8., "storage.runs": 1.,
		"storage.packed_bytes": shown["memory"], "storage.resident_bytes": 0.,
	})
	if n := shown["memory"].(float64); n <= 0 {
		t.Errorf("a packed run takes %v bytes of memory", n)
	}
}
