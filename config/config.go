// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package config reads the server's settings: built-in defaults, then a YAML
// file, then LAGOMQ_ environment variables, then command-line flags, each
// overriding the one before.
//
// The file lagomq.default.yaml, embedded in the binary, is the one place where
// defaults and their documentation are written. Config has a field for each of
// its keys; names of flags and environment variables follow from the key.
// docs/configuration.md is generated from the same file.
//
//go:generate go test . -run ^TestConfigurationPage$ -rewrite
package config

import "time"

// Config is every setting of the server as plain values. Load returns it
// complete and valid; the composition root copies what each package needs into
// that package's own options. The meaning of each setting is written beside its
// key in lagomq.default.yaml; comments here add only what matters to code.
type Config struct {
	DataDir string `config:"data_dir"`

	AMQP       AMQP       `config:"amqp"`
	Management Management `config:"management"`
	Debug      Debug      `config:"debug"`
	Log        Log        `config:"log"`

	DefaultUser   string   `config:"default_user"`
	DefaultPass   string   `config:"default_pass"`
	DefaultVHost  string   `config:"default_vhost"`
	LoopbackUsers []string `config:"loopback_users"`

	DefaultQueueType string `config:"default_queue_type"` // classic or quorum

	Heartbeat        int           `config:"heartbeat"` // seconds, 0 to 65535; 0 proposes none
	FrameMax         int           `config:"frame_max"` // bytes, frame header and end octet included
	ChannelMax       int           `config:"channel_max"`
	HandshakeTimeout time.Duration `config:"handshake_timeout"`
	MaxMessageSize   Size          `config:"max_message_size"`
	MaxTxBytes       Size          `config:"max_tx_bytes"`
	ShutdownTimeout  time.Duration `config:"shutdown_timeout"`

	ServerProperties ServerProperties `config:"server_properties"`
	ClusterName      string           `config:"cluster_name"` // never empty after Load

	Storage Storage `config:"storage"`
	Queue   Queue   `config:"queue"`
	Memory  Memory  `config:"memory"`
}

// AMQP is the listener of AMQP 0-9-1 clients.
type AMQP struct {
	Addr string `config:"addr"`
}

// Management is the listener of the HTTP API; an empty Addr means none.
type Management struct {
	Addr string `config:"addr"`
}

// Debug is the listener of Go's pprof handlers; an empty Addr means none.
type Debug struct {
	Addr string `config:"addr"`
}

// Log says what is logged and in which form.
type Log struct {
	Level  string `config:"level"`  // debug, info, warn or error
	Format string `config:"format"` // text or json
}

// ServerProperties are the parts of connection.start's server-properties an
// operator may change, because some client libraries act on them.
type ServerProperties struct {
	Product string `config:"product"`
	Version string `config:"version"` // starts with three dotted numbers
}

// Storage bounds the embedded store.
type Storage struct {
	MemtableSize    Size          `config:"memtable_size"`
	CacheSize       Size          `config:"cache_size"`
	SettleDelay     time.Duration `config:"settle_delay"`
	MaxPendingBytes Size          `config:"max_pending_bytes"`
	FreeReserve     Size          `config:"free_reserve"` // 0 for none
}

// Queue bounds what queues keep in memory.
type Queue struct {
	ResidentBytes  Size `config:"resident_bytes"`
	ResidentBudget Size `config:"resident_budget"` // of all queues together
}

// Memory steers the Go runtime. Zero leaves a knob as GOGC or GOMEMLIMIT set it.
type Memory struct {
	GCPercent int  `config:"gc_percent"`
	Limit     Size `config:"limit"`
}
