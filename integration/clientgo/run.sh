#!/bin/sh
# Copyright 2026 The LagoMQ Authors
# SPDX-License-Identifier: Apache-2.0
#
# Runs the integration tests that come with RabbitMQ's Go client, unmodified,
# against this broker. See README.md beside this file. Arguments go to go test,
# as in: run.sh -run TestConsume

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

# The tests look for the management API on this port.
go build -o "$work/lagomq" ./cmd/lagomq
"$work/lagomq" server --data-dir "$work/data" --amqp-addr 127.0.0.1:0 --management-addr 127.0.0.1:15672 \
	>"$work/banner" 2>"$work/broker.log" &
broker=$!
until grep -q Ready "$work/banner"; do
	kill -0 "$broker" 2>/dev/null || { cat "$work/broker.log" >&2; exit 1; }
	sleep 0.1
done
address=$(awk '/AMQP 0-9-1/ {print $NF}' "$work/banner")

go mod download github.com/rabbitmq/amqp091-go
cp -R "$(go list -m -f '{{.Dir}}' github.com/rabbitmq/amqp091-go)" "$work/client"
chmod -R u+w "$work/client" # the module cache is read-only

status=0
(cd "$work/client" && AMQP_URL="amqp://guest:guest@$address/" \
	go test -tags integration -count 1 -timeout 20m -v "$@" ./...) >"$work/tests.log" 2>&1 || status=$?

if [ "$status" -ne 0 ]; then
	cat "$work/tests.log"
	echo "--- the broker's last words:"
	tail -n 20 "$work/broker.log"
fi
printf 'passed %s, failed %s, skipped %s\n' \
	"$(grep -c '^--- PASS' "$work/tests.log")" "$(grep -c '^--- FAIL' "$work/tests.log")" "$(grep -c '^--- SKIP' "$work/tests.log")"
grep -E '^--- (FAIL|SKIP)' "$work/tests.log" || true
exit "$status"
