# Everything that people and CI run. `make check` is the quick one, `make test` the whole one.
GO ?= go
SEEDS ?= 1000
COVERSEEDS ?= 3000
MOVES ?= 200
BIN := bin/cdc-node
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: build check lint generate unit test sim sim-check cover model mutants integration moves bench bench-scale fuzz image compose-test release deploytest clean

build: ## the binary, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/cdc-node

check: ## what to run before a commit: format, vet, lint, quick tests
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(MAKE) lint
	$(GO) test -short ./...

lint: ## golangci-lint, pinned in a module of its own
	$(GO) tool -modfile=tools/lint/go.mod golangci-lint run ./...
	cd integration/browser && $(GO) tool -modfile=../../tools/lint/go.mod golangci-lint run ./...

generate: ## the code that is made from peer.proto
	$(GO) generate ./...

unit: ## every package but the process suite, with the race detector
	$(GO) test -race -timeout 8m $$($(GO) list ./... | grep -vE '/integration|/internal/sim')
	$(GO) test -timeout 4m ./sink/file # under the race detector it crashes at every fourth effect only, else at each

integration: ## real processes: killed, stopped, restarted
	$(GO) test -timeout 12m -p 1 -count=1 -v $$($(GO) list ./integration/... | grep -v /integration/faults)

moves: ## MOVES moves, with splits, merges, drains and restarts, under 2,000 changes a second: nothing twice, and p99 of the delay
	$(GO) test -timeout 15m -count=1 -v ./integration -run TestEverythingMovesUnderLoad -moves $(MOVES)

.PHONY: databases
databases: ## sources and sinks that are databases, on servers that the tests start themselves; both parts at once, since they wait for the most part
	$(MAKE) --no-print-directory -j2 databases-suites databases-processes

.PHONY: databases-suites databases-processes
databases-suites:
	$(GO) test -tags databases -p 3 -timeout 8m -count=1 ./source/postgres ./sink/postgres ./sink/mysql ./verify/verifypostgres
databases-processes:
	$(GO) test -tags databases -timeout 8m -count=1 ./integration -run TestDatabases

SERVERS ?= /var/tmp/fencerow-servers

.PHONY: newer-databases
newer-databases: ## the same on servers that are newer than this machine's, which tools/newer-servers fetches: PostgreSQL 17 and 18, and MySQL
	test -x $(SERVERS)/sid/usr/sbin/mysqld || tools/newer-servers $(SERVERS)
	FENCEROW_POSTGRES=$(SERVERS)/trixie/usr/lib/postgresql/17/bin $(GO) test -tags databases -p 3 -timeout 8m -count=1 ./source/postgres ./sink/postgres ./verify/verifypostgres
	FENCEROW_POSTGRES=$(SERVERS)/sid/usr/lib/postgresql/18/bin FENCEROW_MYSQLD=$(SERVERS)/sid/usr/sbin/mysqld $(MAKE) --no-print-directory databases

.PHONY: database-faults
database-faults: ## pgbench copied to a PostgreSQL and a MariaDB by three nodes that are killed, stopped and cut off; FAULTS=30
	$(GO) test -tags databases -timeout 60m -count=1 -v ./integration/databases -faults.n $(or $(FAULTS),30)

test: ## all tests, installing what they need
	tools/test

bench: ## speed against real baselines; writes docs/benchmarks.md, exits 1 below the table
	$(GO) run ./bench

bench-scale: ## 10,000 changefeeds and 1,000,000 spans on 100 nodes in one process; writes docs/benchmarks-scale.md
	$(GO) run ./bench/scale

sim-check: ## the simulation's own tests: the checker on bad histories, one seed one trace
	$(GO) test -race -timeout 4m ./internal/sim -sim.seeds=10
	$(GO) test -timeout 4m ./internal/sim/cmd/...

sim: sim-check ## a whole cluster in one goroutine, SEEDS times, every step judged
	$(GO) run ./internal/sim/cmd/sim -seeds 1..$(SEEDS)

cover: ## the same, and which statements of the cores and which outcomes of the fences the simulation's seeds execute
	$(GO) run ./internal/sim/cmd/simcover -seeds 1..$(COVERSEEDS)

model: ## the protocol's models, exhaustively, each fence also removed
	docs/spec/check

mutants: ## every fence of the code removed, and every order turned round: which test notices, and which seed
	tools/mutants -simulation 3000 -o docs/mutants.md

fuzz: ## every decoder of bytes from outside, FUZZTIME each
	tools/fuzz

image: build ## a container image from scratch with the static binary
	docker build -t cdc-node:$(VERSION) -t cdc-node:latest .

release: ## static binaries for linux/amd64 and arm64 in dist/, with checksums and bills of materials; the same bytes each time
	tools/release $(VERSION) dist

.PHONY: browsertest
browsertest: ## the console in a headless Chromium, on real nodes; SHOTS=-shots writes the pictures of docs/img anew
	cd integration/browser && $(GO) vet ./... && $(GO) test -count=1 -timeout 4m . $(SHOTS)

deploytest: ## what a release and an installation consist of, held to the binary and to those who will read it
	cd integration/deploy && $(GO) vet ./... && $(GO) test -timeout 8m ./...

compose-test: ## docker-compose.yml for real; skipped, loudly, where no container engine runs
	tools/compose-test

clean:
	rm -rf bin dist

.PHONY: faults
faults: ## FAULTS faults on real processes in network namespaces, each at a known place of the protocol; needs root
	$(GO) test -timeout 60m -count=1 -v ./integration/faults -faults.n $(or $(FAULTS),300)
