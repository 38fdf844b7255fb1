// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"time"

	"github.com/lagomq/lagomq/persistence"
	"github.com/lagomq/lagomq/vhosts"
)

// node is this broker as RabbitMQ 4.3 shows a node of a cluster.
type node struct {
	Name          string  `json:"name"`
	OSPID         string  `json:"os_pid"`
	Type          string  `json:"type"`
	Running       bool    `json:"running"`
	Uptime        int64   `json:"uptime"`                    // milliseconds
	MemUsed       uint64  `json:"mem_used"`                  // bytes that the process has from the system
	MemAlarm      bool    `json:"mem_alarm"`                 // always false: memory is bounded otherwise
	DiskFree      *int64  `json:"disk_free,omitempty"`       // bytes, missing if that cannot be known
	DiskFreeLimit *int64  `json:"disk_free_limit,omitempty"` // bytes, missing if there is none
	DiskFreeAlarm bool    `json:"disk_free_alarm"`
	IOSyncCount   int64   `json:"io_sync_count"`    // syncs of the log
	IOSyncAvgTime float64 `json:"io_sync_avg_time"` // milliseconds
	Processors    int     `json:"processors"`
	ProcUsed      int     `json:"proc_used"` // goroutines
	RatesMode     string  `json:"rates_mode"`
	// BeingDrained is RabbitMQ's maintenance mode, which there is none of.
	BeingDrained bool     `json:"being_drained"`
	Partitions   []string `json:"partitions"`
}

func (s *Server) nodes(r *http.Request) (any, error) {
	if !monitors(userOf(r)) {
		return nil, errNoMonitor
	}
	return listing(r, []node{s.self()}, func(n *node) string { return n.Name })
}

func (s *Server) self() node {
	store := s.options.Store.Stats()
	return node{
		Name: s.options.Node, OSPID: strconv.Itoa(os.Getpid()), Type: "disc", Running: true,
		Uptime: time.Since(s.started).Milliseconds(), MemUsed: memoryUsed(),
		DiskFree: known(store.FreeBytes), DiskFreeLimit: known(store.Reserve),
		DiskFreeAlarm: slices.Contains(s.options.Hosts.Alarms().Reasons(), vhosts.AlarmDisk),
		IOSyncCount:   store.SyncLatency.Count, IOSyncAvgTime: averageMilliseconds(&store.SyncLatency),
		Processors: runtime.GOMAXPROCS(0), ProcUsed: runtime.NumGoroutine(),
		RatesMode: "basic", Partitions: []string{},
	}
}

// averageMilliseconds is the mean of a histogram of seconds, in milliseconds.
func averageMilliseconds(h *persistence.Histogram) float64 {
	if h.Count == 0 {
		return 0
	}
	return 1000 * h.Sum / float64(h.Count)
}

// memoryUsed is what the Go runtime has from the system and did not give back, in
// bytes. Unlike runtime.ReadMemStats it does not stop the world.
func memoryUsed() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
