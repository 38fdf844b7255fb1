// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package amqp

import "syscall"

// tryWrite writes to a socket that does not block, and returns how much of b it
// took.
func tryWrite(fd uintptr, b []byte) int {
	n, err := syscall.Write(int(fd), b)
	if err != nil {
		return 0
	}
	return n
}
