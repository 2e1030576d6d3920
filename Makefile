# SPDX-License-Identifier: Apache-2.0

.DEFAULT_GOAL := help
.PHONY: help demo build deps test test-all test-matrix test-hosts lab bench lint install gates fuzz clean

GO          ?= go
PREFIX      ?= /usr/local
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2

# TESTFLAGS=-v also shows what is skipped, and why; OUTBAND_REQUIRE=all in the
# environment makes that a failure.
TESTFLAGS   ?=
# -quick: a few rounds, to see that all of it works.
BENCHFLAGS  ?=
FUZZTIME    ?= 10s
# RERUN=1 runs a test that failed once more, alone, and says so: one that fails
# now and then is a defect to mend, not a reason to turn a change away.
RERUN       ?=
GOTESTSUM   ?= gotest.tools/gotestsum@v1.13.0
# A test that hangs ends here; the packages' own deadlines are far shorter.
TIMEOUT     ?= 10m

gotest = $(if $(RERUN),$(GO) run $(GOTESTSUM) --format standard-verbose \
	--rerun-fails=1 --rerun-fails-max-failures=4 --packages="$(1)" --,$(GO) test $(1))

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: build ## build outband and see it at work; needs Go, nothing else
	bin/outband demo

build: ## build bin/outband, static
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/outband ./cmd/outband

deps: ## install from apt what the tests use (Debian, root)
	hack/deps

test: ## vet, format, all tests, the arm64 build; installs nothing
	@unformatted=$$($$($(GO) env GOROOT)/bin/gofmt -l .); [ -z "$$unformatted" ] || { echo "not gofmt-formatted: $$unformatted" >&2; exit 1; }
	$(GO) vet ./...
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) vet ./...
	CGO_ENABLED=0 $(GO) -C test/cri vet -trimpath ./... # as test/lab builds it
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64 $(GO) build -o /dev/null ./cmd/outband
	@# One package after the other (-p 1): each looks whether it left the machine as it was.
	@# The matrix and what runs on whole hosts have targets of their own.
	CGO_ENABLED=0 $(call gotest,$$($(GO) list ./... | grep -vE '/test/(matrix|hosts/guest)$$' | tr '\n' ' ')) -p 1 -count=1 -timeout $(TIMEOUT) $(TESTFLAGS)

# One after the other, whatever -j says: each looks whether it left the machine
# as it was. It installs nothing; make deps does.
test-all: ## everything: test, gates, test-matrix, test-hosts on all hosts (root)
	$(MAKE) test
	$(MAKE) gates
	$(MAKE) test-matrix
	$(MAKE) test-hosts HOST=sid,bookworm,bullseye

# UPDATE=1 also writes docs/matrix.md; RUN=docker/busybox takes a part of it.
test-matrix: ## enter containers of real engines, each on a host of its own (root)
	CGO_ENABLED=0 $(call gotest,./test/matrix) -count=1 -timeout 20m $(TESTFLAGS) $(if $(RUN),-run 'TestMatrix/$(RUN)') $(if $(UPDATE),-update)

lab: ## build bin/lab, which starts a container of a real engine to try things on
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/lab ./test/lab/cmd/lab

# HOST: sid, bookworm, bullseye, separated by commas; PKG and RUN: what runs
# there instead of the host's own selection.
HOST        ?= sid
PKG         ?=
RUN         ?=
HOSTFLAGS   ?=

test-hosts: ## tests on whole hosts in qemu: HOST, PKG, RUN (root)
	CGO_ENABLED=0 $(GO) run ./test/hosts -host '$(HOST)' -pkg '$(PKG)' -run '$(RUN)' $(HOSTFLAGS)

# The after-fork code must not care how it was built.
gates: ## the tests of internal/forkexec, built in each way that Go has
	$(GO) test -count=1 -timeout $(TIMEOUT) $(TESTFLAGS) ./internal/forkexec
	CGO_ENABLED=1 $(GO) test -count=1 -timeout $(TIMEOUT) $(TESTFLAGS) -race ./internal/forkexec
	$(GO) test -count=1 -timeout $(TIMEOUT) $(TESTFLAGS) -cover ./internal/forkexec
	$(GO) test -count=1 -timeout $(TIMEOUT) $(TESTFLAGS) -gcflags=all='-N -l' ./internal/forkexec
	$(GO) test -count=1 -timeout $(TIMEOUT) $(TESTFLAGS) -gcflags=all=-d=checkptr ./internal/forkexec

bench: ## compare with nsenter, runc and crun; writes docs/benchmarks.md (root)
	CGO_ENABLED=0 $(GO) run ./test/bench $(BENCHFLAGS)

fuzz: ## each fuzz test for FUZZTIME
	hack/fuzz $(FUZZTIME)

lint: ## golangci-lint 2 if it is installed, else vet and staticcheck
	$(GO) mod tidy -diff
	$(GO) -C test/cri mod tidy -diff
	@if golangci-lint version 2>/dev/null | grep -q 'version v\?2\.'; then set -x; golangci-lint run; \
	else set -x; $(GO) vet ./... && $(GO) run $(STATICCHECK) ./...; fi

install: build ## copy it to PREFIX/bin (/usr/local; DESTDIR is kept)
	install -D -m 0755 bin/outband $(DESTDIR)$(PREFIX)/bin/outband

clean: ## remove what was built here
	rm -rf bin coverage* *.prof *.test
