// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The bounds that are not ours to choose. RabbitMQ 4.3 refuses frames below 8192
// bytes and messages above 512 MiB; the protocol carries heartbeat and channel
// numbers in 16 bits, and names of users and virtual hosts with a length octet.
const (
	minFrameMax      = 8192
	maxFrameMax      = 16 << 20
	maxMessageSize   = 512 * MiB
	maxShort         = 65535
	maxNameBytes     = 255
	minMemtableSize  = 1 * MiB
	maxMemtableSize  = 1 * GiB
	minCacheSize     = 1 * MiB
	maxCacheSize     = 1024 * GiB
	maxSettleDelay   = time.Minute
	maxTimeout       = time.Hour
	minResidentBytes = 1 * MiB
	minMemoryLimit   = 64 * MiB
	maxGCPercent     = 10000
)

var versionPattern = regexp.MustCompile(`^\d+\.\d+\.\d+`)

// Validate checks values against their bounds and against each other. Its error
// is a Problems that lists all that is wrong, or nil.
func (c Config) Validate() error {
	var v validator
	v.notEmpty("data_dir", c.DataDir, "name a directory, as in ./data")
	v.addr("amqp.addr", c.AMQP.Addr)
	if c.Management.Addr != "" {
		v.addr("management.addr", c.Management.Addr)
	}
	if c.Debug.Addr != "" {
		v.addr("debug.addr", c.Debug.Addr)
	}
	v.distinct("management.addr", c.Management.Addr, "amqp.addr", c.AMQP.Addr)
	v.distinct("debug.addr", c.Debug.Addr, "amqp.addr", c.AMQP.Addr)
	v.distinct("debug.addr", c.Debug.Addr, "management.addr", c.Management.Addr)
	v.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, "text", "json")

	v.name("default_user", c.DefaultUser)
	v.notEmpty("default_pass", c.DefaultPass, "set a password")
	v.name("default_vhost", c.DefaultVHost)
	if slices.Contains(c.LoopbackUsers, "") {
		v.add("loopback_users", "holds an empty name", "write [] for no users")
	}

	v.oneOf("default_queue_type", c.DefaultQueueType, "classic", "quorum")

	between(&v, "heartbeat", c.Heartbeat, 0, maxShort)
	between(&v, "frame_max", c.FrameMax, minFrameMax, maxFrameMax)
	between(&v, "channel_max", c.ChannelMax, 1, maxShort)
	between(&v, "handshake_timeout", c.HandshakeTimeout, time.Millisecond, maxTimeout)
	between(&v, "max_message_size", c.MaxMessageSize, 1, maxMessageSize)
	v.holdsMessage("max_tx_bytes", c.MaxTxBytes, c.MaxMessageSize)
	between(&v, "shutdown_timeout", c.ShutdownTimeout, time.Millisecond, maxTimeout)

	v.notEmpty("server_properties.product", c.ServerProperties.Product, "name the product, as in LagoMQ")
	if !versionPattern.MatchString(c.ServerProperties.Version) {
		v.add("server_properties.version", "does not start with three dotted numbers, which clients compare", "write it as 4.3.5")
	}

	between(&v, "storage.memtable_size", c.Storage.MemtableSize, minMemtableSize, maxMemtableSize)
	between(&v, "storage.cache_size", c.Storage.CacheSize, minCacheSize, maxCacheSize)
	between(&v, "storage.settle_delay", c.Storage.SettleDelay, time.Millisecond, maxSettleDelay)
	v.holdsMessage("storage.max_pending_bytes", c.Storage.MaxPendingBytes, c.MaxMessageSize)
	v.atLeast("queue.resident_bytes", c.Queue.ResidentBytes, minResidentBytes)
	v.atLeast("queue.resident_budget", c.Queue.ResidentBudget, minResidentBytes)
	between(&v, "memory.gc_percent", c.Memory.GCPercent, 0, maxGCPercent)
	if c.Memory.Limit != 0 {
		v.atLeast("memory.limit", c.Memory.Limit, minMemoryLimit)
	}
	return v.problems.orNil()
}

// validator collects problems; its methods are the kinds of rule there are.
type validator struct{ problems Problems }

func (v *validator) add(key, wrong, remedy string) {
	v.problems = append(v.problems, Problem{Subject: key, Wrong: wrong, Remedy: remedy})
}

func (v *validator) notEmpty(key, text, remedy string) {
	if text == "" {
		v.add(key, "is empty", remedy)
	}
}

func (v *validator) name(key, text string) {
	v.notEmpty(key, text, "give it a name")
	if len(text) > maxNameBytes {
		v.add(key, fmt.Sprintf("is %d bytes long", len(text)), fmt.Sprintf("use at most %d", maxNameBytes))
	}
}

func (v *validator) oneOf(key, text string, choices ...string) {
	if !slices.Contains(choices, text) {
		v.add(key, strconv.Quote(text)+" is not known", "use one of "+strings.Join(choices, ", "))
	}
}

func between[T cmp.Ordered](v *validator, key string, value, low, high T) {
	if value < low || value > high {
		v.add(key, fmt.Sprintf("%v is out of range", value), fmt.Sprintf("use %v to %v", low, high))
	}
}

func (v *validator) atLeast(key string, size, least Size) {
	if size < least {
		v.add(key, fmt.Sprintf("%v is too small", size), fmt.Sprintf("use %v or more", least))
	}
}

// holdsMessage wants room for the largest message: a smaller bound could never
// be met by one.
func (v *validator) holdsMessage(key string, size, message Size) {
	if size < message {
		v.add(key, fmt.Sprintf("%v is less than max_message_size, %v", size, message), "raise it or lower max_message_size")
	}
}

func (v *validator) addr(key, addr string) {
	const remedy = "write HOST:PORT or :PORT, as in 127.0.0.1:5672"
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		v.add(key, strconv.Quote(addr)+" is not an address", remedy)
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		v.add(key, strconv.Quote(port)+" is not a port from 0 to 65535", remedy)
	}
}

// distinct refuses two listeners on one fixed port of the same address. Only the
// obvious case is found here; the rest shows when listening fails.
func (v *validator) distinct(key, addr, otherKey, other string) {
	if addr == "" || addr != other {
		return
	}
	if _, port, err := net.SplitHostPort(addr); err == nil && port != "0" {
		v.add(key, addr+" is taken by "+otherKey, "give one of them another port")
	}
}
