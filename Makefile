# The ways to build, test and measure cairn. `make help` lists them.

FUZZTIME   ?= 30s
SOAK       ?= 500
RACE       ?= -race $(foreach p,$(UNSEEN),-gcflags=$(p)=-race=false)
TESTFLAGS  ?=
BENCHFLAGS ?=

# What compresses and cuts for us works on the bytes of one call, and mostly in assembly, which
# the race detector does not see. To look at each byte of the rest takes it half of the tests' time.
UNSEEN      = github.com/klauspost/compress/... github.com/restic/chunker

# Packages whose tests take longest are begun with, or one of them would run on at the end alone.
LONGEST     = ./repo ./cmd/cairn ./ingest ./internal/crash ./postgres/rebuild ./postgres/capture

.PHONY: help build demo test check bench memory fuzz soak test-deps clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "make %-10s %s\n", $$1, $$2 }'

build: ## build bin/cairn, one static binary
	CGO_ENABLED=0 go build -trimpath -o bin/cairn ./cmd/cairn

demo: build ## back up, change, list, diff, restore and check, shown step by step
	bench/demo.sh

test: test-deps ## run go vet and every test (RACE= without the race detector)
	go vet ./...
	@command -v gcc >/dev/null || echo "SKIPPED: no C compiler, the race detector does NOT run" >&2
	@# The first is what the detector is too slow for, or would be measured with. It keeps one core busy, so both run at once.
	@log=$$(mktemp); trap 'rm -f $$log' EXIT; \
	go test -vet=off -timeout 20m $(TESTFLAGS) -run '^(TestSim|TestHeap$$|TestPopulate$$)' ./repo ./internal/prefault >$$log 2>&1 & plain=$$!; \
	go test $$(command -v gcc >/dev/null && echo $(RACE)) -vet=off -timeout 20m $(TESTFLAGS) -skip '^(TestSimMutations|TestSimInterleavings|TestSimRandomFinds)' $(LONGEST) ./...; \
	status=$$?; wait $$plain || status=1; cat $$log; exit $$status

check: ## gofmt, go vet, staticcheck and the import policy
	@unformatted=$$(gofmt -l .) || exit 1; \
	  [ -z "$$unformatted" ] || { echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	tools/staticcheck.sh
	go test ./internal/deps

bench: build ## compare with restic and borg (BENCHFLAGS='-quick -runs 1' for less)
	tools/install-test-deps.sh --bench
	go run ./bench $(BENCHFLAGS)

memory: build ## measure memory where it could grow: a million entries, 20 GB, ten million chunks (WORKLOADS='flat many stream prune')
	bench/memory.sh

fuzz: ## run each fuzz target for FUZZTIME (30s), going on from what the last run found
	FUZZTIME=$(FUZZTIME) tools/fuzz.sh

soak: test-deps ## kill and fail everything SOAK (500) times: one to three hours
	SOAK=$(SOAK) go test -count=1 -timeout 3h -v -run '^(TestKill|TestFaults|TestRandomFaults|TestPowerCut|TestSyncsAreNeeded|TestFailedSync|TestModel|TestSimRandom|TestSimInterleavings|TestSimInterleavingsOfDeltas)$$' \
	  ./internal/crash ./internal/model ./backend/local ./cmd/cairn ./repo > soak.log || { grep -v '^ *\(=== \|--- PASS\)' soak.log; exit 1; }
	@grep -E '^(ok|FAIL)|SKIP|killed|cuts of the power|interleavings|worlds' soak.log

test-deps: # install what tests need and this machine lacks
	@tools/install-test-deps.sh

clean: ## remove what make built and measured
	rm -rf bin .bin bench/out soak.log
