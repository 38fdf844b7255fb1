#!/bin/sh
# Copyright 2026 The LagoMQ Authors
# SPDX-License-Identifier: Apache-2.0
#
# Runs the programs beside this file against this broker: checks.py with pika and
# checks.js with amqplib, the examples, and those of the documentation. PYTHON is a
# Python that has pika and requests (default python3); NODE_PATH is where Node.js finds amqplib.

set -eu
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
broker=
finish() {
	[ -z "$broker" ] || { kill "$broker" 2>/dev/null && wait "$broker"; } || true
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

go build -o "$work/lagomq" ./cmd/lagomq
"$work/lagomq" server --data-dir "$work/data" --amqp-addr 127.0.0.1:0 --management-addr 127.0.0.1:0 \
	>"$work/banner" 2>"$work/broker.log" &
broker=$!
until grep -qs Ready "$work/banner"; do
	kill -0 "$broker" 2>/dev/null || { cat "$work/broker.log" >&2; exit 1; }
	sleep 0.1
done
AMQP_URL="amqp://guest:guest@$(awk '/AMQP 0-9-1/ {print $NF}' "$work/banner")/"
MANAGEMENT_URL=$(awk '/Management/ {print $NF}' "$work/banner")
export AMQP_URL MANAGEMENT_URL

status=0
# run NAME COMMAND... runs a program, which must not take longer than five minutes.
run() {
	name=$1
	shift
	echo "=== $name"
	timeout 300 "$@" || { echo "FAILED: $name"; status=1; }
}
run 'pika' "${PYTHON:-python3}" integration/clients/checks.py
run 'amqplib' node integration/clients/checks.js
run 'examples of the documentation' "${PYTHON:-python3}" integration/clients/docs.py docs/queues.md docs/exchanges.md
run 'example in Python' "${PYTHON:-python3}" examples/python/publish_consume.py
run 'example in JavaScript' node examples/javascript/publish_consume.js
run 'example in Go' go run ./examples/go

if [ "$status" -ne 0 ]; then
	echo "--- the broker's last words:"
	tail -n 20 "$work/broker.log"
fi
exit "$status"
