// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package amqp

// tryWrite takes nothing where there is no write that does not block: all is
// written by writeLoop.
func tryWrite(uintptr, []byte) int { return 0 }
