# `make` alone lists the targets. Everything that is built or fetched lands in ./bin.
SHELL       := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# golangci-lint is built by `go install` and stamped with its version: another pin here builds it anew.
LINT_VERSION := v2.15.0
LINT         := bin/golangci-lint-$(LINT_VERSION)

# The race detector needs a C compiler; without one the tests run all the same, and say so.
RACE := $(shell command -v "$$(go env CC)" >/dev/null 2>&1 && echo -race)
TEST := go test $(RACE) -timeout 30m

# The model of the cutover runs in one goroutine: the race detector finds nothing there, and makes it many times slower.
MODEL := ./move/explore

.PHONY: help
help: ## list these targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/landlord and bin/landlordvet
	go build -o bin/ ./cmd/landlord ./cmd/landlordvet

.PHONY: demo
demo: build postgres ## start two local servers, place tenants in all three models, migrate and move them under traffic, show that none can cross
	bin/landlord demo

.PHONY: test
test: postgres pgbouncer ## run all tests against a real PostgreSQL (race detector on)
	$(if $(RACE),,@echo "make: no C compiler, so the race detector is off (Debian: apt-get install gcc)" >&2)
	go test $(MODEL)
	packages=$$(go list ./... | grep -v '$(MODEL:.%=%)$$') && $(TEST) $$packages

.PHONY: test-docker
test-docker: ## run all tests against PostgreSQL in Docker (testcontainers-go)
	scripts/test-docker.sh

.PHONY: test-matrix
test-matrix: ## run all tests on the oldest and the newest supported PostgreSQL
	scripts/test-matrix.sh

.PHONY: model
model: ## walk every order of events that a move's cutover can meet (about a minute, no PostgreSQL)
	LANDLORD_MODEL=full go test -count=1 -v $(MODEL)

.PHONY: matrix
matrix: postgres ## let movers fail at every point, in every way and in every transition, and look at what moves promise (hours)
	go test -tags landlord_faults -count=1 -timeout 24h -parallel 4 ./integration/matrix

# What the sample is made of: another number chooses other cells.
MATRIX_SEED := 1

.PHONY: matrix-sample
matrix-sample: postgres ## the same for one failure of each transition, some of networks and offline moves, and the controls that must see damage (minutes)
	LANDLORD_MATRIX_SEED=$(MATRIX_SEED) go test -tags landlord_faults -count=1 -timeout 30m -parallel 4 ./integration/matrix

.PHONY: storm
storm: postgres ## run 100,000 operations in each mode while everything fails that can, and random programs beside hostile tenants (hours)
	LANDLORD_SCALE=full go test -count=1 -v -timeout 24h -parallel 4 -run AStorm ./router
	LANDLORD_SCALE=full go test -count=1 -v -timeout 24h -run TenantsAreApart ./integration

.PHONY: check
check: vet lint test matrix-sample ## all that a change must pass: formatting, vet, linters, tests, a sample of failing movers

.PHONY: lint
lint: $(LINT) ## run the linters, import arrows and formatting included
	$(LINT) run ./...

.PHONY: fmt
fmt: $(LINT) ## format the code (gofumpt, goimports)
	$(LINT) fmt ./...

.PHONY: vet
vet: ## run go vet, and landlordvet on our own code
	go vet ./...
	go build -o bin/ ./cmd/landlordvet
	go vet -vettool=bin/landlordvet ./...

# Flags of landlord bench, such as "--mode sealed --for 20s".
BENCH_FLAGS :=

.PHONY: bench
bench: build postgres pgbouncer ## time the router against plain pgx on local servers, and run the benchmarks and tests of scale
	bin/landlord bench --local $(BENCH_FLAGS)
	go test -run '^$$' -bench . ./router ./pools
	LANDLORD_SCALE=full go test -timeout 60m -v -run 'ManyDedicated|MemoryIsBounded|FaultsUnderLoad' ./router
	$(MAKE) bench-seal
	$(MAKE) bench-migrate
	$(MAKE) bench-move

.PHONY: bench-seal
bench-seal: postgres ## time every mode beside a hand-written filter and plain row-level security, per transaction and per statement
	LANDLORD_SCALE=full go test -count=1 -v -timeout 30m -run WhatTheSealCosts ./router

.PHONY: bench-migrate
bench-migrate: postgres ## time fleet migrations beside goose and raw SQL on a local server, over a thousand schemas
	LANDLORD_SCALE=full go test -timeout 60m -v -run 'ManySchemas|TwoRoundTrips|ClientsMemory' ./migrate/fleet
	LANDLORD_SCALE=full go test -timeout 60m -run '^$$' -bench . ./migrate/fingerprint
	go test -run '^$$' -bench . ./onboard

.PHONY: bench-move
bench-move: postgres ## time the online mover: copy beside psql, apply beside a subscription, cutovers, neighbours, verification
	go test -timeout 60m -run '^$$' -bench 'Copy|Apply|Compare|Cutover|Neighbours' -benchtime 1x ./move/chunk ./move/follow ./move/verify ./move

.PHONY: clean
clean: ## remove what was built here
	rm -rf bin .cache coverage.*

.PHONY: postgres
postgres:
	@scripts/ensure-postgres.sh

.PHONY: pgbouncer
pgbouncer:
	@scripts/ensure-pgbouncer.sh

$(LINT):
	rm -f bin/golangci-lint-*
	GOBIN="$(CURDIR)/bin" GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv bin/golangci-lint $@
