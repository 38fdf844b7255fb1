// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"net/http"
	"runtime"
	"time"
)

// node is this broker as RabbitMQ 4.3 shows a node of a cluster.
type node struct {
	Name          string `json:"name"`
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
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return node{
		Name: s.options.Node, Type: "disc", Running: true,
		Uptime: time.Since(s.started).Milliseconds(), MemUsed: memory.Sys,
		Processors: runtime.GOMAXPROCS(0), ProcUsed: runtime.NumGoroutine(),
		RatesMode: "basic", Partitions: []string{},
	}
}
