#!/usr/bin/env bash
# Copyright 2026 The LagoMQ Authors
# SPDX-License-Identifier: Apache-2.0
#
# The broker beside the relay: prints the table of docs/benchmarks.md. Arguments
# are passed on, such as -runs 3 or -only transient. Run it on a machine that does
# nothing else.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[[ -x bin/lagomq ]] || make build
exec go run ./integration/bench "$@"
