// Copyright 2026 The LagoMQ Authors
// SPDX-License-Identifier: Apache-2.0

//go:build race

package vhosts

// raceEnabled says whether the race detector runs, which makes tests slow.
const raceEnabled = true
