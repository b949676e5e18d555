# make help lists the targets.

GO       ?= go
SHELL    := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN      := bin
# Go's runtime interrupts goroutines that run for long by signals, which scripts that trace signals would show beside those of others. Without
# them it waits for the next function call.
LDFLAGS  := -s -w -X runtime.godebugDefault=asyncpreemptoff=1
# Packages that a run seldom enters are built without inlining, which makes the binary 0.7 MB smaller.
COLD     := modernc.org/... github.com/ianlancetaylor/... golang.org/x/arch/... github.com/klauspost/... github.com/ulikunitz/... \
	github.com/cilium/ebpf/... github.com/chzyer/... github.com/spf13/... debug/... encoding/... regexp/... crypto/... archive/... math/big \
	github.com/sonde-sh/sonde/runtime/seccomp github.com/sonde-sh/sonde/runtime/seccomp/scan github.com/sonde-sh/sonde/runtime/lab github.com/sonde-sh/sonde/runtime/flame github.com/sonde-sh/sonde/lang/cdef github.com/sonde-sh/sonde/cmd/... \
	github.com/sonde-sh/sonde/stdlib github.com/sonde-sh/sonde/codegen/lower github.com/sonde-sh/sonde/lang/check github.com/sonde-sh/sonde/runtime/symbol \
	github.com/sonde-sh/sonde/runtime/attach github.com/sonde-sh/sonde/runtime github.com/sonde-sh/sonde/runtime/kernel github.com/google/... text/... compress/... internal/zstd github.com/fatih/... github.com/alecthomas/... \
	github.com/sonde-sh/sonde/lang/syntax github.com/sonde-sh/sonde/lang/diag github.com/sonde-sh/sonde/codegen/object \
	github.com/sonde-sh/sonde/lang/ast github.com/sonde-sh/sonde/codegen/target github.com/sonde-sh/sonde/codegen/ir/interp \
	golang.org/x/... io/fs path/... time net/... os/... go/... html hash/crc64 log/... github.com/remyoudompheng/... fmt reflect strings
GCFLAGS  := $(foreach p,$(COLD),-gcflags=$(p)=-l)
# The limit of the static binary, in bytes.
SIZE_MAX := 15000000
# Percent of statements, for the packages below lang and codegen.
COVER_MIN ?= 85
FUZZTIME ?= 30s
SOAKTIME ?= 10m
# Tests whose name starts with TestKernel need a kernel's BPF: they run on the
# host and on every lab kernel.
KERNELS  ?= all
LAB_RUN  ?= ^TestKernel
LAB_PACKAGES ?= $(shell grep -rl --include='*_test.go' '^func TestKernel' . 2>/dev/null | xargs -r -n1 dirname | sort -u)
GOLANGCI_VERSION := v2.15.0

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 18

.PHONY: build
build: ## bin/sonde, static
	@CGO_ENABLED=0 $(GO) build -trimpath $(GCFLAGS) -ldflags '$(LDFLAGS)' -o $(BIN)/sonde ./cmd/sonde

PREFIX   ?= /usr/local
.PHONY: install
install: build ## bin/sonde and its completion for bash, below PREFIX (/usr/local)
	install -D -m 0755 $(BIN)/sonde $(DESTDIR)$(PREFIX)/bin/sonde
	install -D -m 0644 cmd/sonde/completion.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/sonde

.PHONY: build-arm64
build-arm64: ## bin/sonde-arm64, for arm64 machines and guests
	@CGO_ENABLED=0 GOARCH=arm64 $(GO) build -trimpath $(GCFLAGS) -ldflags '$(LDFLAGS)' -o $(BIN)/sonde-arm64 ./cmd/sonde

.PHONY: kernels-doc
kernels-doc: build build-arm64 ## write docs/kernels.md: the examples on every lab kernel
	@{ printf '%s\n' '# The examples on other kernels' '' 'Written by `make kernels-doc`: `sonde verify` of every script in `examples`, on kernels of the distribution under QEMU.' '' '```'; \
		$(BIN)/sonde verify --kernel all examples/*.bt || true; printf '%s\n' '```' '' 'On arm64, where a library that a script names must be there for that architecture on the machine that runs this:' '' '```'; \
		$(BIN)/sonde verify --arch arm64 --kernel 6.1,6.12 examples/*.bt || true; printf '```\n'; } > docs/kernels.md.new; mv docs/kernels.md.new docs/kernels.md

# The programs that tests need and that are not Go's. Missing ones are
# installed when that is possible; without them the tests say what they need.
.PHONY: deps
deps: ## install QEMU and bpftrace when they are missing (as root, with apt)
	@if ! command -v qemu-system-x86_64 >/dev/null || ! command -v qemu-system-aarch64 >/dev/null || ! command -v bpftrace >/dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			export DEBIAN_FRONTEND=noninteractive; \
			apt-get update -qq </dev/null && apt-get install -y -qq --no-install-recommends \
				qemu-system-x86 qemu-system-arm bpftrace </dev/null >/dev/null; \
		else \
			echo 'QEMU or bpftrace is missing and this is not root on a Debian machine: install qemu-system-x86, qemu-system-arm and bpftrace'; \
		fi; \
	fi

# Only a hang reaches the limits: here the longest package takes two minutes, in a guest three.
HOST_TESTS = $(GO) test -json -timeout 30m ./...
LAB_TESTS = $(if $(strip $(LAB_PACKAGES)),$(BIN)/labrun -kernel $(KERNELS) -timeout 30m -json -test '$(LAB_PACKAGES)' -- -test.run '$(LAB_RUN)',true)

$(BIN)/labrun: FORCE
	@CGO_ENABLED=0 $(GO) build -o $@ ./runtime/lab/labrun
.PHONY: FORCE
FORCE:

.PHONY: test
test: deps $(BIN)/labrun ## all tests: on this kernel, and kernel tests on every lab kernel
	@mkdir -p $(BIN); { status=0; $(HOST_TESTS) || status=1; $(LAB_TESTS) || status=1; exit $$status; } | $(GO) run ./cmd/testsum -o $(BIN)/test.json

.PHONY: test-host
test-host: ## tests on this kernel only
	@$(HOST_TESTS) | $(GO) run ./cmd/testsum

.PHONY: test-kernels
test-kernels: deps $(BIN)/labrun ## kernel tests on the lab kernels (KERNELS=6.12,newest)
	@$(LAB_TESTS) | $(GO) run ./cmd/testsum

# Every fuzz target in turn. The go command sometimes takes the end of its own time for a failure ("context deadline exceeded", with no input to
# show); such a run is repeated once.
define run-fuzz
	@mkdir -p $(BIN); \
	grep -rhoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . >/dev/null || { echo 'no fuzz targets'; exit 0; }; \
	for dir in $$(grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -r -n1 dirname | sort -u); do \
		for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | sed 's/func //' | sort -u); do \
			echo "fuzz $$dir $$f for $(1)"; \
			fuzz() { $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(1) $$dir </dev/null >$(BIN)/fuzz.out 2>&1; }; \
			fuzz || { grep -q 'context deadline exceeded' $(BIN)/fuzz.out && ! grep -q 'Failing input' $(BIN)/fuzz.out && fuzz; } || status=$$?; \
			grep -v '^fuzz: elapsed' $(BIN)/fuzz.out || true; \
			[ "$${status:-0}" = 0 ] || exit 1; \
		done; \
	done
endef

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s)
	$(call run-fuzz,$(FUZZTIME))

# Long campaigns. SOAKSCRIPTS random scripts and SOAKFUNCS random functions from SOAKSEED on, here and on SOAKKERNELS. A kernel under emulation
# loads a few scripts in a second.
SOAKSCRIPTS ?= 5000
SOAKFUNCS   ?= 4000
SOAKSEED    ?= 1
SOAKKERNELS ?= 5.10,newest
.PHONY: soak soak-fuzz soak-host soak-kernels
soak: soak-fuzz soak-host soak-kernels ## long campaigns: fuzz targets (SOAKTIME, 10m each), random scripts and functions here and on SOAKKERNELS

soak-fuzz: ## every fuzz target for SOAKTIME
	$(call run-fuzz,$(SOAKTIME))

soak-host: ## random scripts and functions on this kernel
	$(GO) test -timeout 0 -v -run Random ./stdlib/scriptgen -scripts $(SOAKSCRIPTS) -seed $(SOAKSEED)
	$(GO) test -timeout 0 -run Random ./codegen/bpf -random $(SOAKFUNCS) -seed $(SOAKSEED)
	SONDE_SOAK=1 $(GO) test -timeout 0 ./cmd/sonde/shell ./runtime/symbol
	SONDE_SOAK=1 $(GO) test -timeout 0 -v -run 'EqualsStrace|Replay|ContainerStarts|ManyProcesses|Cost' ./runtime/seccomp -launches 200

soak-kernels: deps ## random scripts on SOAKKERNELS, loaded, and run and compared with the interpreter
	CGO_ENABLED=0 $(GO) test -timeout 0 -v -run Across ./stdlib/scriptgen -across $(SOAKKERNELS) -scripts $(SOAKSCRIPTS) -seed $(SOAKSEED)
	CGO_ENABLED=0 $(GO) test -timeout 0 -v -run Across ./stdlib/scriptgen -across $(SOAKKERNELS) -scripts $(SOAKSCRIPTS) -seed $(SOAKSEED) -runs

$(BIN)/bench: FORCE
	@CGO_ENABLED=0 $(GO) build -trimpath -o $@ ./cmd/bench

# Arguments for cmd/bench, such as BENCH='-only code -rounds 15'.
BENCH ?=
.PHONY: bench
bench: build $(BIN)/bench ## measure, beside bpftrace where it is installed (20 minutes, without it 7)
	@$(BIN)/bench -sonde $(BIN)/sonde $(BENCH)

.PHONY: bench-write
bench-write: build $(BIN)/bench ## the same, written to docs/performance.md
	@$(BIN)/bench -sonde $(BIN)/sonde -write $(BENCH)

.PHONY: bench-quick
bench-quick: build $(BIN)/bench ## the same in two minutes, rough
	@$(BIN)/bench -sonde $(BIN)/sonde -quick $(BENCH)

.PHONY: bench-icount
bench-icount: build $(BIN)/bench deps ## instructions of the generated code in an emulated kernel
	@$(BIN)/bench -sonde $(BIN)/sonde -icount $(BENCH)

.PHONY: lint
lint: ## golangci-lint at the pinned version
	@test -x $(BIN)/golangci-lint-$(GOLANGCI_VERSION) || { \
		GOBIN=$(abspath $(BIN)) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION) && \
		mv $(BIN)/golangci-lint $(BIN)/golangci-lint-$(GOLANGCI_VERSION); }
	$(BIN)/golangci-lint-$(GOLANGCI_VERSION) run ./...

.PHONY: fmt
fmt: ## format the Go files
	gofmt -s -w $$(git ls-files -co --exclude-standard '*.go')

.PHONY: check-fmt
check-fmt: ## fail when a Go file is not formatted
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "not formatted, run make fmt: $$bad"; exit 1; }

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...

.PHONY: generate
generate: ## write generated files: docs/reference
	$(GO) generate ./...
	@if [ -d cmd/gendocs ]; then $(GO) run ./cmd/gendocs; fi

.PHONY: check-generate
check-generate: generate ## fail when a generated file is not up to date
	@git diff --exit-code --stat && test -z "$$(git ls-files -o --exclude-standard docs/reference)" || \
		{ echo 'generated files differ: commit the result of make generate'; exit 1; }

.PHONY: cover
cover: ## statement coverage of lang and codegen, with a floor
	@mkdir -p $(BIN)
	$(GO) test -coverprofile=$(BIN)/cover.out -coverpkg=./lang/...,./codegen/... ./lang/... ./codegen/...
	@total=$$($(GO) tool cover -func=$(BIN)/cover.out | awk '/^total:/ {sub("%","",$$3); print $$3}'); \
	echo "total $$total %, floor $(COVER_MIN) %"; awk -v t=$$total -v m=$(COVER_MIN) 'BEGIN { exit t < m }'

.PHONY: size
size: build ## fail when the binary is larger than its limit
	@n=$$(stat -c %s $(BIN)/sonde); echo "bin/sonde: $$n bytes, limit $(SIZE_MAX)"; test $$n -le $(SIZE_MAX)

.PHONY: ci
ci: ## what CI runs
	.ci/run

.PHONY: clean
clean: ## remove what was built; the kernel cache stays
	rm -rf $(BIN)
	$(GO) clean -testcache
