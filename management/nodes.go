// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"time"
)

// node is this broker as RabbitMQ 4.3 shows a node of a cluster.
type node struct {
	Name          string `json:"name"`
	OSPID         string `json:"os_pid"`
	Type          string `json:"type"`
	Running       bool   `json:"running"`
	Uptime        int64  `json:"uptime"`   // milliseconds
	MemUsed       uint64 `json:"mem_used"` // bytes that the process has from the system
	MemAlarm      bool   `json:"mem_alarm"`
	DiskFreeAlarm bool   `json:"disk_free_alarm"`
	Processors    int    `json:"processors"`
	ProcUsed      int    `json:"proc_used"` // goroutines
	RatesMode     string `json:"rates_mode"`
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
	return node{
		Name: s.options.Node, OSPID: strconv.Itoa(os.Getpid()), Type: "disc", Running: true,
		Uptime: time.Since(s.started).Milliseconds(), MemUsed: memoryUsed(),
		Processors: runtime.GOMAXPROCS(0), ProcUsed: runtime.NumGoroutine(),
		RatesMode: "basic", Partitions: []string{},
	}
}

// memoryUsed is what the Go runtime has from the system and did not give back, in
// bytes. Unlike runtime.ReadMemStats it does not stop the world.
func memoryUsed() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
