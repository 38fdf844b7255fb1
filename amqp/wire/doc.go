// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

// Package wire is the AMQP 0-9-1 codec: bytes in, values out, and back. It
// knows no connection, channel, queue or goroutine and imports only the
// standard library.
//
// # Layers
//
//   - Frames: [ParseFrame] cuts one frame off a read buffer; [AppendFrame],
//     [AppendMethod], [AppendContent] and [AppendHeartbeat] build frames at the
//     end of an outbound buffer.
//   - Methods: [ParseMethod] decodes any method of the protocol into its
//     generated struct. The structs come from methods.txt; run go generate
//     after changing it. The methods of the message path have views that
//     neither allocate nor copy: [ParsePublish], [ParseAck], [ParseNack],
//     [ParseReject], [AppendDeliver], [AppendAck] and [AppendNack].
//   - Content: [ParseHeader] splits a content header; [PropertyView.Scan] checks
//     its property list in place and picks out what a broker acts on, while
//     [ParseProperties] decodes all of it.
//   - Field tables: [ParseTable] decodes, [ValidTable] only checks, and
//     [LookupField], [NextField] and [NextValue] read raw bytes in place.
//   - Failures: every rejected input is an [*Error], which carries the reply
//     code and the reply text to close with, worded as RabbitMQ 4.3 words it.
//
// # Ownership
//
// A []byte in a result aliases the input and is valid only as long as the
// caller leaves the input alone. A string, a [Table] or a method struct is a
// copy and stays valid. Append functions append to dst and return it, as the
// built-in append does, and keep no reference to any argument.
//
// # Hostile input
//
// No input makes this package panic. No length field is believed before the
// bytes it announces have arrived, so memory use is proportional to what was
// received, and nesting in field tables is limited to [MaxTableDepth].
//
// Nothing here has mutable state: every function may be called from any number
// of goroutines as long as their buffers are not shared.
package wire

//go:generate go run ./internal/gen -in methods.txt -out methods_gen.go
