# Two commands set everything up on a fresh Debian 12 with Rust: `make lab` and `make test`.

SHELL := /bin/bash
.DEFAULT_GOAL := build
LAB ?= lab

# What the product needs to run, what its build needs, and what its tests check it with.
RUNTIME_PACKAGES := containerd runc nftables iproute2 apt dpkg curl
BUILD_PACKAGES := protobuf-compiler libprotobuf-dev gcc libc6-dev
TEST_PACKAGES := jq conntrack arping ndisc6 bind9-dnsutils openssl ipvsadm qemu-system-x86 cpio e2fsprogs busybox-static util-linux bsdutils procps kmod netbase git
# Second tools to measure with, none of which starts a daemon.
BENCH_PACKAGES := iperf3 dnsperf wrk nghttp2-client dnsmasq-base

# Installs what is missing of a list of packages; $(1) is the list.
define install
	@missing=$$(for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then echo "installing" $$missing; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
endef

.PHONY: build
build: build-deps ## Build target/release/minictl
	cargo build --release --locked -p minictl

.PHONY: lab
lab: deps build ## Start a lab and run the first course note on it
	@mkdir -p /usr/local/bin && ln -sf $(CURDIR)/target/release/minictl /usr/local/bin/minictl
	target/release/minictl lab up $(LAB)
	@examples/first-note.sh target/release/minictl $(LAB)

.PHONY: lab-down
lab-down: ## Remove the lab
	target/release/minictl lab down $(LAB)

.PHONY: test
test: test-deps ## Run every test, including those on real containers and packets
	tests/run.sh

.PHONY: vm vm-slow vm-rows
vm: test-deps ## Prove the IPVS engine on Debian's kernel in a virtual machine
	cargo build --locked -p minictl -p e2e --bins --example peer
	cargo test --locked -p netd --test packets --test loop --test executor --no-run
	tests/vm/run.sh target/debug/minictl
vm-slow: test-deps ## The same with checks that wait for minutes
	VM_SLOW=1 $(MAKE) vm
vm-rows: test-deps build ## Run the tests of Services and names with pods in the virtual machine (docs/vm.md); VM_ENGINE=…
	cargo test --locked -p e2e --tests --no-run
	tests/vm/rows.sh

.PHONY: bench
bench: test-deps build ## Measure the figures of docs/benchmarks.md
	$(call install,$(BENCH_PACKAGES))
	tests/bench/run.sh

.PHONY: exchange
exchange: test-deps ## Test with Kubernetes' own parts: KUBE_APISERVER=… ETCD=… KUBE_PROXY=… (docs/exchange.md)
	cargo build --locked -p minictl
	cargo test --locked -p minictl -p e2e --test exchange -- --include-ignored --nocapture --test-threads=1

.PHONY: fuzz
fuzz: build-deps ## Throw made-up packets at the name server for FUZZ_SECONDS (nightly compiler, cargo-fuzz)
	@cp Cargo.lock netd/dns/fuzz/Cargo.lock
	@for target in packet upstream; do mkdir -p target/fuzz/$$target; \
	  (cd netd/dns && cargo +nightly fuzz run $$target ../../target/fuzz/$$target fuzz/corpus/$$target -- \
	    -max_total_time=$${FUZZ_SECONDS:-300} -max_len=4096 -artifact_prefix=../../target/fuzz/$$target-) || exit 1; done

.PHONY: check
check: build-deps ## Formatting and lints
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: deps build-deps test-deps
deps:
	$(call install,$(RUNTIME_PACKAGES))
build-deps:
	$(call install,$(BUILD_PACKAGES))
test-deps: deps build-deps
	$(call install,$(TEST_PACKAGES))
	@command -v kubectl >/dev/null || { apt-get install -y -qq --no-install-recommends kubernetes-client >/dev/null; }

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14
