#!/bin/sh
# Copyright 2026 The LagoMQ Authors
# SPDX-License-Identifier: Apache-2.0
#
# Kills a server under confirmed load, 50 times or as often as the argument
# says, and prints one line: what was attempted, confirmed, delivered and lost.
# Fails if a confirmed message was lost, one came that nobody sent or that had
# been purged, or the order was broken. See integration/crash_test.go.

set -eu
cd "$(dirname "$0")/../.."

if ! output=$(go test ./integration -run '^TestKillUnderLoad$' -count 1 -timeout 1h -v -args -kills "${1:-50}" 2>&1); then
	printf '%s\n' "$output"
	exit 1
fi
printf '%s\n' "$output" | sed -n 's/.*\(kills=.*\)/\1/p'
