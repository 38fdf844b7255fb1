// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

package amqp

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lagomq/lagomq/vhosts"
)

// Options configure a Server.
type Options struct {
	// Hosts is the broker that is served. Required.
	Hosts *vhosts.Hosts

	// ServerProperties clients see in connection.start. Some client libraries
	// decide by product and version what the server can do.
	Product     string // default LagoMQ
	Version     string // default 4.3.5
	ClusterName string // default lagomq

	// Heartbeat is the interval offered to clients in seconds; negative for none.
	// Default 60.
	Heartbeat int
	// FrameMax is the largest frame in bytes, at least 8192. Default 131072.
	FrameMax int
	// ChannelMax is how many channels a connection may have open. Default 2047.
	ChannelMax int
	// HandshakeTimeout bounds the time from connect to connection.open. Default
	// 10 s.
	HandshakeTimeout time.Duration
	// MaxMessageSize is the largest body in bytes, at most 536870912. Default
	// 16777216.
	MaxMessageSize int64
	// MaxTxBytes is how much a transaction may publish before it is refused.
	// Default 64 MiB.
	MaxTxBytes int64
	// FailureDelay is how long a refused login waits for its end, which slows down
	// guessing. Default 3 s; negative for none.
	FailureDelay time.Duration

	// Strict lets a bug that one connection runs into panic, as tests want it,
	// instead of closing that connection only.
	Strict bool

	// Logger gets one line for each connection's beginning and end. Default
	// slog.Default().
	Logger *slog.Logger
}

// maxMaxMessageSize is RabbitMQ's upper bound for max_message_size.
const maxMaxMessageSize = maxBodySize

// EnsureDefaults fills unset fields.
func (o *Options) EnsureDefaults() {
	setDefault(&o.Product, "LagoMQ")
	setDefault(&o.Version, "4.3.5")
	setDefault(&o.ClusterName, "lagomq")
	setDefault(&o.Heartbeat, 60)
	setDefault(&o.FrameMax, 131072)
	setDefault(&o.ChannelMax, 2047)
	setDefault(&o.HandshakeTimeout, 10*time.Second)
	setDefault(&o.MaxMessageSize, 16_777_216)
	setDefault(&o.MaxTxBytes, 64<<20)
	setDefault(&o.FailureDelay, 3*time.Second)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate lists every problem of the options.
func (o *Options) Validate() error {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("amqp: "+format, args...))
	}
	if o.Hosts == nil {
		bad("Options.Hosts is missing")
	}
	if o.Heartbeat > 65535 {
		bad("heartbeat of %d s is more than 65535", o.Heartbeat)
	}
	if o.FrameMax < 8192 || o.FrameMax > 1<<30 {
		bad("frame_max %d is not between 8192 and %d", o.FrameMax, 1<<30)
	}
	if o.ChannelMax < 1 || o.ChannelMax > 65535 {
		bad("channel_max %d is not between 1 and 65535", o.ChannelMax)
	}
	if o.HandshakeTimeout < 0 {
		bad("handshake timeout %v is negative", o.HandshakeTimeout)
	}
	if o.MaxMessageSize < 1 || o.MaxMessageSize > maxMaxMessageSize {
		bad("max_message_size %d is not between 1 and %d", o.MaxMessageSize, maxMaxMessageSize)
	}
	if o.MaxTxBytes < 1 {
		bad("max_tx_bytes %d is not positive", o.MaxTxBytes)
	}
	return errors.Join(problems...)
}

// closeTimeout is how long the server waits for the answer to connection.close,
// and for a client that reads slowly to accept the last of what is sent to it.
func (o *Options) closeTimeout() time.Duration { return 30 * time.Second }

// lingerTimeout is how long the client of a connection that ends may accept
// nothing of what is still to be written to it.
func (o *Options) lingerTimeout() time.Duration { return 3 * time.Second }
