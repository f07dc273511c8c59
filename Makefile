# Everything works from a fresh clone with Go, Node, npm, make and a C compiler. As root on Debian the other programs are
# installed; elsewhere they are named.

SHELL := /bin/sh
.DEFAULT_GOAL := help

BIN := .cache/bin
LINT := $(BIN)/golangci-lint
TESTSUM := $(BIN)/testsum

# What "make generate" writes; "make check" compares these.
GENERATED := frontend/packages/graph/src/generated frontend/packages/ui/src/tokens.css

# The race detector is on: most of this product is about who comes first. GOTESTFLAGS= switches it off. Vet has its place in
# "make check", once for all.
GOTESTFLAGS ?= -race -vet=off -timeout 15m
GOPACKAGES ?= ./...

# How long "make chaos" breaks things, which run it repeats (0: a new one), and further flags of internal/chaos.
CHAOS ?= 10m
SEED ?= 0
CHAOSFLAGS ?=
VITEST := --config frontend/vitest.config.ts
PLAYWRIGHT := --config frontend/e2e/playwright.config.ts

NPM_INSTALLED := node_modules/.installed
FRONTEND_BUILT := .cache/frontend-built
FORGE_BUILT := frontend/dist-forge/panel/index.html
FRONTEND_SOURCES := $(shell find frontend \( -name node_modules -o -path frontend/dist -o -path frontend/dist-forge -o -path frontend/e2e \) -prune -o -type f ! -name '*.test.*' ! -name '*.go' -print)
# The verify page holds the verifier, compiled to WebAssembly.
VERIFIER_SOURCES := go.mod go.sum $(shell find frontend/apps/verify/wasm server/evidence server/approval -name '*.go' ! -name '*_test.go')
PACKAGE_FILES := package.json package-lock.json .npmrc $(wildcard frontend/apps/*/package.json frontend/packages/*/package.json frontend/e2e/package.json descriptor/package.json)

.PHONY: help demo test attack chaos chaos-selftest model check generate format e2e bench restore-drill bench-go screenshots frontend size descriptor clean
.PHONY: tools check-packages check-modules check-generated check-frontend check-go check-darwin

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools $(FRONTEND_BUILT) $(FORGE_BUILT) ## Play the whole story against a simulated Bitbucket and stay up (DEMO=once: exit after it)
	@go run ./demo

test: ## Run the checks and every test, the browser ones included; ends with one line that sums them up
	@scripts/system-deps.sh chromium fonts redis
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory $(FRONTEND_BUILT) $(FORGE_BUILT) $(TESTSUM)
	@$(TESTSUM) -go "$(GOTESTFLAGS) $(GOPACKAGES)" -vitest "$(VITEST)" -playwright "$(PLAYWRIGHT) --project browser"

check: tools check-packages check-modules check-generated check-frontend size check-go check-darwin ## Check format, lint, types, generated files, modules and the macOS build

generate: $(NPM_INSTALLED) ## Write the generated files again
	@npm run --silent generate
	@go generate ./...

format: $(LINT) $(NPM_INSTALLED) ## Format Go and front end
	@$(LINT) fmt
	@npm run --silent format

e2e: $(FRONTEND_BUILT) $(FORGE_BUILT) $(TESTSUM) ## Run the browser tests only
	@scripts/system-deps.sh chromium fonts redis
	@$(TESTSUM) -playwright "$(PLAYWRIGHT) --project browser"

attack: ## Play the operator against the evidence and the server; prints who catches which forgery (internal/attack/ATTACKS.md)
	@scripts/system-deps.sh redis
	@go test -count=1 ./internal/attack/
	@go test -v -run '^TestTheTableIsWhatIsTested$$' ./internal/attack/

chaos: ## Break everything around three servers, and check what must hold (CHAOS=10m for how long, SEED=n repeats a run; CHAOS=1h at night)
	@scripts/system-deps.sh redis
	@go run ./internal/chaos -duration "$(CHAOS)" -seed "$(SEED)" $(CHAOSFLAGS)

chaos-selftest: ## Build seven bugs into the server, one after the other, and see chaos catch each of them (SEED=n)
	@scripts/system-deps.sh redis
	@go run ./internal/chaos -selftest -duration 6m -seed "$(SEED)" $(CHAOSFLAGS)

model: ## Explore the model of evaluate, decide, put and merge further than the tests do: tens of millions of states
	@go test ./server/gate -run TestEveryOrderOfEvents -count=1 -v -timeout 60m -wide

bench: ## Measure the server against bare counterparts: a table, .bench/results.json, and a comparison with internal/bench/baseline.json (BENCH=quick: within three minutes; BENCH=growth BENCH_SCALE=0.05: on a grown database; BENCH_ARGS=-help)
	@scripts/system-deps.sh redis
	@if [ "$(BENCH)" = growth ]; then scripts/system-deps.sh postgres; fi
	@mkdir -p .bench && go build -o .bench/bench ./internal/bench
	@BENCH=$(BENCH) .bench/bench $(BENCH_ARGS)

restore-drill: ## Back up a running server's database with pg_dump, restore it, verify its log, and see an outdated backup refused
	@scripts/system-deps.sh redis postgres
	@mkdir -p .bench && go build -o .bench/bench ./internal/bench
	@BENCH=growth BENCH_SCALE=0.0005 .bench/bench -only '^backup$$' -baseline ""

bench-go: ## Run the Go benchmarks of the packages (GOPACKAGES=./server/gate: of one package)
	@go test -run '^$$' -bench . -benchmem $(GOPACKAGES)

screenshots: $(FRONTEND_BUILT) ## Take the pictures of the README again
	@scripts/system-deps.sh chromium fonts redis
	@npm run --silent e2e -- --project screenshots

frontend: $(FRONTEND_BUILT) ## Build the pages that the server embeds

size: $(FORGE_BUILT) $(FRONTEND_BUILT) ## Print how large the pages are; fails where the panel inside Bitbucket or the verifier is beyond its limit
	@echo "check: size of the pages"
	@npm run --silent size

descriptor: tools $(NPM_INSTALLED) ## Render the Forge app for each environment, and check it with Atlassian's validator
	@go run ./tools/descriptor

clean: ## Remove what was built or downloaded, and the data of the demo
	@rm -rf .cache .demo .chaos .bench node_modules frontend/*/*/node_modules test-results frontend/dist-forge descriptor/rendered
	@find frontend/dist -mindepth 1 ! -name .keep -delete

tools:
	@for tool in go node npm cc; do command -v $$tool >/dev/null || { echo "$$tool is missing: install it first" >&2; exit 1; }; done

check-packages: $(NPM_INSTALLED)
	@echo "check: npm packages are pinned, and the lock file is in step"
	@node scripts/check-packages.mjs
	@npm ci --dry-run --loglevel=error >/dev/null

check-modules:
	@echo "check: go.mod is tidy"
	@go mod tidy -diff >/dev/null || { echo "go.mod or go.sum is out of step: run go mod tidy" >&2; exit 1; }
	@go -C tools/lint mod verify >/dev/null
	@go -C tools/witness mod verify >/dev/null

check-generated: $(NPM_INSTALLED)
	@echo "check: generated files are in step"
	@MAKE="$(MAKE)" scripts/check-generated.sh $(GENERATED)

check-frontend: $(NPM_INSTALLED)
	@echo "check: front end, format and lint (Biome), types (tsc)"
	@npm run --silent check
	@npm run --silent typecheck

check-go: $(LINT)
	@echo "check: Go, vet, format and lint (golangci-lint)"
	@$(LINT) run
	@GOOS=js GOARCH=wasm $(LINT) run ./frontend/apps/...

check-darwin:
	@echo "check: Go, build for macOS"
	@GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 go build ./...

$(NPM_INSTALLED): $(PACKAGE_FILES)
	@echo "installing the npm packages"
	@npm ci --loglevel=error
	@touch $@

$(FRONTEND_BUILT): $(NPM_INSTALLED) $(FRONTEND_SOURCES) $(VERIFIER_SOURCES)
	@echo "building the front end"
	@npm run --silent build
	@mkdir -p $(@D) && touch $@

# To be measured: "make descriptor" builds these pages again for each environment, with its server's origin in them.
$(FORGE_BUILT): $(NPM_INSTALLED) $(FRONTEND_SOURCES)
	@echo "building the pages that Bitbucket frames"
	@npm run --silent build:forge

# A module of its own keeps the linter's hundreds of dependencies out of ours.
$(LINT): tools/lint/go.mod tools/lint/go.sum
	@echo "building golangci-lint (about two minutes, the first time only)"
	@go -C tools/lint build -o ../../$(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: $(TESTSUM)
$(TESTSUM):
	@go build -o $@ ./tools/testsum
