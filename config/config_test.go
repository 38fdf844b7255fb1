// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The defaults clients and operators know from RabbitMQ, and those that bound
// memory, are promises: changing one takes changing it here too.
func TestDefault(t *testing.T) {
	t.Parallel()
	want := Config{
		DataDir:          "./data",
		AMQP:             AMQP{Addr: ":5672"},
		Management:       Management{Addr: ":15672"},
		Log:              Log{Level: "info", Format: "text"},
		DefaultUser:      "guest",
		DefaultPass:      "guest",
		DefaultVHost:     "/",
		LoopbackUsers:    []string{"guest"},
		DefaultQueueType: "classic",
		Heartbeat:        60,
		FrameMax:         131072,
		ChannelMax:       2047,
		HandshakeTimeout: 10 * time.Second,
		MaxMessageSize:   16 * MiB,
		MaxTxBytes:       64 * MiB,
		ShutdownTimeout:  10 * time.Second,
		ServerProperties: ServerProperties{Product: "LagoMQ", Version: "4.3.5"},
		Storage:          Storage{MemtableSize: 16 * MiB, CacheSize: 8 * MiB, SettleDelay: 100 * time.Millisecond, MaxPendingBytes: 64 * MiB, FreeReserve: 256 * MiB},
		Queue:            Queue{ResidentBytes: 16 * MiB, ResidentBudget: 256 * MiB},
	}
	if got := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if err := want.Validate(); err != nil {
		t.Error(err)
	}
}

// The default file has exactly the settings there are, each with a comment, and
// each setting has names of its own.
func TestDefaultFileDocumentsEverySetting(t *testing.T) {
	t.Parallel()
	about, err := descriptions(defaultFile)
	if err != nil {
		t.Fatal(err)
	}
	settings := new(Config).settings()
	keys := names(settings, func(s setting) string { return s.key })
	for _, key := range keys {
		text, found := about[key]
		if !found {
			t.Errorf("%s is not in the default file", key)
		} else if len(text) < 20 || !strings.HasSuffix(text, ".") {
			t.Errorf("%s has no comment that explains it: %q", key, text)
		}
	}
	for key := range about {
		if !slices.Contains(keys, key) {
			t.Errorf("the default file has %s, which is not a setting", key)
		}
	}
	taken := map[string]string{fileEnv: fileFlag, fileFlag: fileFlag}
	for _, s := range settings {
		if strings.HasSuffix(s.key, ".") || s.key != strings.ToLower(s.key) {
			t.Errorf("%q is not a key in snake_case", s.key)
		}
		for _, name := range []string{s.env(), s.flag()} {
			if other, found := taken[name]; found {
				t.Errorf("%s and %s share the name %s", s.key, other, name)
			}
			taken[name] = s.key
		}
		if Flags().Lookup(s.flag()) == nil {
			t.Errorf("%s has no flag --%s", s.key, s.flag())
		}
	}
}

// Each case breaks one rule and must be blamed on that key alone.
func TestValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key   string
		spoil func(*Config)
	}{
		{"data_dir", func(c *Config) { c.DataDir = "" }},
		{"amqp.addr", func(c *Config) { c.AMQP.Addr = "" }},
		{"amqp.addr", func(c *Config) { c.AMQP.Addr = "5672" }},
		{"amqp.addr", func(c *Config) { c.AMQP.Addr = ":65536" }},
		{"amqp.addr", func(c *Config) { c.AMQP.Addr = "::1:5672" }},
		{"management.addr", func(c *Config) { c.Management.Addr = ":http" }},
		{"management.addr", func(c *Config) { c.Management.Addr = c.AMQP.Addr }},
		{"debug.addr", func(c *Config) { c.Debug.Addr = "localhost" }},
		{"debug.addr", func(c *Config) { c.Debug.Addr = c.Management.Addr }},
		{"log.level", func(c *Config) { c.Log.Level = "INFO" }},
		{"log.format", func(c *Config) { c.Log.Format = "" }},
		{"default_user", func(c *Config) { c.DefaultUser = "" }},
		{"default_pass", func(c *Config) { c.DefaultPass = "" }},
		{"default_vhost", func(c *Config) { c.DefaultVHost = strings.Repeat("v", 256) }},
		{"loopback_users", func(c *Config) { c.LoopbackUsers = []string{""} }},
		{"default_queue_type", func(c *Config) { c.DefaultQueueType = "stream" }},
		{"heartbeat", func(c *Config) { c.Heartbeat = -1 }},
		{"heartbeat", func(c *Config) { c.Heartbeat = 65536 }},
		{"frame_max", func(c *Config) { c.FrameMax = 8191 }},
		{"frame_max", func(c *Config) { c.FrameMax = 16<<20 + 1 }},
		{"channel_max", func(c *Config) { c.ChannelMax = 0 }},
		{"handshake_timeout", func(c *Config) { c.HandshakeTimeout = 0 }},
		{"max_message_size", func(c *Config) { c.MaxMessageSize = 0 }},
		{"max_tx_bytes", func(c *Config) { c.MaxTxBytes = c.MaxMessageSize - 1 }},
		{"shutdown_timeout", func(c *Config) { c.ShutdownTimeout = -time.Second }},
		{"server_properties.product", func(c *Config) { c.ServerProperties.Product = "" }},
		{"server_properties.version", func(c *Config) { c.ServerProperties.Version = "4.3" }},
		{"storage.memtable_size", func(c *Config) { c.Storage.MemtableSize = 2 * GiB }},
		{"storage.cache_size", func(c *Config) { c.Storage.CacheSize = 0 }},
		{"storage.settle_delay", func(c *Config) { c.Storage.SettleDelay = 0 }},
		{"storage.settle_delay", func(c *Config) { c.Storage.SettleDelay = time.Hour }},
		{"storage.max_pending_bytes", func(c *Config) { c.Storage.MaxPendingBytes = MiB }},
		{"queue.resident_budget", func(c *Config) { c.Queue.ResidentBudget = 0 }},
		{"queue.resident_bytes", func(c *Config) { c.Queue.ResidentBytes = 0 }},
		{"memory.gc_percent", func(c *Config) { c.Memory.GCPercent = -1 }},
		{"memory.limit", func(c *Config) { c.Memory.Limit = MiB }},
	} {
		cfg := Default()
		c.spoil(&cfg)
		var problems Problems
		if !errors.As(cfg.Validate(), &problems) || len(problems) != 1 || problems[0].Subject != c.key {
			t.Errorf("%s: problems %v", c.key, problems)
		}
	}
	cfg := Default()
	cfg.AMQP.Addr, cfg.Management.Addr, cfg.Debug.Addr = "127.0.0.1:0", "127.0.0.1:0", ""
	cfg.LoopbackUsers = nil
	if err := cfg.Validate(); err != nil {
		t.Errorf("free ports: %v", err)
	}
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "7B": 7, "64MiB": 64 * MiB, " 64 MiB ": 64 * MiB, "1GiB": GiB, "3KiB": 3 * KiB,
		"9223372036854775807": math.MaxInt64,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "+1", "1.5MiB", "64MB", "64M", "1e6", "0x10", "9223372036854775808", "9007199254740992KiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
}

func TestSizeRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]Size{Byte, KiB, MiB, GiB}).Draw(t, "unit")
		want := Size(rapid.Int64Range(0, int64(math.MaxInt64/unit)).Draw(t, "count")) * unit
		if got, err := ParseSize(want.String()); err != nil || got != want {
			t.Fatalf("%d is written %s and read back as %d, %v", want, want, got, err)
		}
	})
}
