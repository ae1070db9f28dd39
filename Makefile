# What can be done here: make help.

GO       ?= go
FUZZTIME ?= 20s
COUNT    ?= 6
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null)

# The tools have a module of their own, so that their dependencies are not Metamorph's.
TOOL := $(GO) tool -modfile=$(CURDIR)/tools/go.mod
# Modules with Go code of ours beside the main one.
NESTED := $(patsubst %/go.mod,%,$(wildcard test/helm/go.mod test/gatekeeper/go.mod test/broker/go.mod test/cluster/go.mod test/coredns/go.mod))
# Packages whose tests start no control plane.
UNIT = $(shell $(GO) list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./... | grep -v -e '^[^ ]*/metamorph/test/' -e /metamorph/test/apiserver | cut -d ' ' -f 1)

export GO FUZZTIME COUNT NESTED

.DEFAULT_GOAL := help
.PHONY: help build test test-unit race lint fmt generate verify fuzz bench cluster cluster-down e2e image broker-matrix controlplane demo clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build bin/metamorph
	$(GO) build -buildvcs=false -trimpath -ldflags "-X main.version=$(VERSION)" -o bin/metamorph ./cmd/webhook

test: ## Run every test but those that need a cluster with nodes
	@hack/test.sh

test-unit: ## Run the tests that start nothing (seconds, once compiled)
	$(GO) test $(UNIT)

race: ## Run the unit tests with the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race $(UNIT)

lint: ## Run golangci-lint; the first time it is compiled, which takes some minutes
	@status=0; for dir in . $(NESTED); do echo "==> golangci-lint in $$dir"; \
		(cd $$dir && $(TOOL) golangci-lint run --config $(CURDIR)/.golangci.yml ./...) || status=1; done; exit $$status

fmt: ## Format the Go code
	$(TOOL) golangci-lint fmt
	$(TOOL) gofumpt -l -w $(NESTED)

generate: ## Write the generated files anew
	$(GO) run ./hack/docgen
	$(GO) run ./hack/manifests

verify: ## Check that the generated files and the go.mod files are up to date
	@hack/verify.sh

fuzz: ## Run each fuzz target for FUZZTIME (20s)
	@hack/fuzz.sh

bench: ## Run the benchmarks and compare them with the last run's
	@TOOL="$(TOOL)" hack/bench.sh

cluster: ## Bring up a one-node Kubernetes on this Linux machine, from source and without Docker (needs root)
	cd test/cluster && $(GO) run . up

cluster-down: ## Take that cluster down
	cd test/cluster && $(GO) run . down

e2e: ## Run the end-to-end suite: on the cluster of METAMORPH_E2E_KUBECONFIG, or on one that comes and goes with it
	cd test/cluster && $(GO) run . e2e

image: ## Build Metamorph's container image without Docker, into dist/metamorph.tar
	cd test/cluster && $(GO) run . image

broker-matrix: ## Run real brokers in all combinations of settings; make test runs a dozen of them (hours)
	cd test/broker && $(GO) test -v -timeout 24h -run TestCombinations . -full

controlplane: ## Build the control plane that the tests use (once; some minutes)
	$(GO) run ./test/apiserver/build

demo: build ## Show Metamorph at work in a real control plane, and take it down again
	$(GO) run ./test/demo

clean: ## Remove what was built here (not the control plane, which is in the user's cache)
	rm -rf bin dist
