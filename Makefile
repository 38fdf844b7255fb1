# Copyright 2026 The LagoMQ Authors
# SPDX-License-Identifier: Apache-2.0
#
# Only Go is needed, except for: race (a C compiler), test-clients (Python with
# pika and requests, Node.js with amqplib; .ci/run installs these out of the way).

GO          ?= go
STATICCHECK ?= $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
PKG         ?= ./...
CRASHTIME   ?= 10m
KILLS       ?= 60
FUZZTIME    ?= 30s

# One static binary. Tests are built the same way, so that the cache is shared.
export CGO_ENABLED = 0

.DEFAULT_GOAL := build
.PHONY: build test race crash-long fuzz lint generate generate-check bench bench-go cover test-kill test-space test-client-go test-clients clean

build: ## the binary, bin/lagomq
	$(GO) build -trimpath -o bin/lagomq ./cmd/lagomq

test: ## all tests that need nothing but Go; PKG=./amqp/... for some
	$(GO) test $(PKG)

race: ## the same under the race detector, with fewer random samples
	CGO_ENABLED=1 $(GO) test -race -short $(PKG)

crash-long: ## crashes of new random histories for CRASHTIME
	LAGOMQ_CRASH_TIME=$(CRASHTIME) $(GO) test ./vhosts -run '^(TestSimulation|TestCrashTimes)$$' -count=1 -timeout 0 -v

fuzz: ## every fuzz target for FUZZTIME, one after the other
	@grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do \
		grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | sed 's/^func //' | while read -r target; do \
			echo "$$dir $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$dir </dev/null || exit 1; \
		done || exit 1; \
	done

lint: ## format, vet, staticcheck, and the rules of CONTRIBUTING.md
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "run gofmt -w on:" $$unformatted; exit 1; fi
	$(GO) vet ./...
	$(STATICCHECK) ./...
	$(GO) test ./integration -run '^TestLint'

generate: ## all generated code and documentation
	$(GO) generate ./...

# Compares with the work tree as it was, so that it also works between commits.
generate-check: ## fails if make generate changes anything
	@before=$$(git diff | git hash-object --stdin; git ls-files --others --exclude-standard); \
	$(GO) generate ./... || exit 1; \
	after=$$(git diff | git hash-object --stdin; git ls-files --others --exclude-standard); \
	if [ "$$before" != "$$after" ]; then git --no-pager diff --stat; echo "generated files were stale: commit what make generate writes"; exit 1; fi

bench: build ## the broker beside the yardstick, as in docs/benchmarks.md
	integration/bench/run.sh

bench-go: ## Go benchmarks with allocations; PKG=./amqp/wire for one package
	$(GO) test -run '^$$' -bench . -benchmem $(PKG)

cover: ## statement coverage of all packages by all tests
	$(GO) test -coverpkg=./... -coverprofile=cover.out $(PKG)
	$(GO) tool cover -func=cover.out | tail -n 1

test-client-go: build ## the tests of RabbitMQ's Go client, unmodified
	integration/clientgo/run.sh

test-clients: build ## programs with pika and amqplib
	integration/clients/run.sh

clean:
	rm -rf bin cover.out

test-kill: ## KILLS times kill -9 under load; prints what was lost
	integration/crash/run.sh $(KILLS)

test-space: ## a backlog of 1 GiB that gives its space back
	$(GO) test ./integration -run '^TestSpaceIsGivenBack$$' -count 1 -v -args -backlog 1024
