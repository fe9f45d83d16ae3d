#!/usr/bin/env bash
# Measures the figures of docs/benchmarks.md on the release binary and writes them there.
# KUBE_PROXY=/path/to/kube-proxy measures Kubernetes' own proxy beside ours; dnsmasq, unbound, nginx and haproxy are
# measured where they are installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
export MINICTL_BIN=${MINICTL_BIN:-$PWD/target/release/minictl}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# What measures is built as tests are, with its own code optimised (Cargo.toml).
cargo build --locked -q -p minictl -p e2e --example figures --example services --example names --example l7
"$target/debug/examples/figures" "$folder/cluster"
"$target/debug/examples/services" "$folder/services"
"$target/debug/examples/names" "$folder/names"
"$target/debug/examples/l7" "$folder/l7"

cat >docs/benchmarks.md <<END
# Measured figures

Made by \`make bench\` on a machine with $(nproc) cores, Linux $(uname -r), on $(date -u +%F). The limits are those the project
sets itself; a figure beyond its limit is a regression. The last column has the middle half of all runs.

## The cluster

$(cat "$folder/cluster")

## Services

A \`minictl netd\` by itself on a node made of network namespaces (\`tests/src/bed.rs\`), engine nftables. Ratios are of runs of 8 ms
that take turns, the address and the pod itself, with caller and server each on a processor of its own; beside the middle half of all
runs stands where the median lies, 19 times of 20. A first packet is a new TCP connection's first round trip; one caller on one bed
calls the same ten Services while the elements of 9,990 others are added to the table and taken away again. "Cold" is the time of all
full looks of a new netd, by its own metric, "from the start of the process" all of it.

$(cat "$folder/services")

## Names

The same \`minictl netd\` answers a pod for 1,000 Services and, from its cache, for 100 names outside; other servers on the same node
know the same names. One processor asks (\`dnsperf\`), the other one answers. "Per core and second" is what was answered by the seconds
that the server's processes took of a processor. A change is that of an endpoint of a headless Service, and a pod asks every 0.2 ms; the
request is an HTTP request to the API server, which writes it to its disk before it answers.

$(cat "$folder/names")

## Ingress

nginx and haproxy stand beside it on the same node, with the same pod behind them (nginx, one page of 1 KiB) and the same two
processors, which client and pod share with them. \`wrk\` keeps 64 connections, \`h2load\` 16 with 4 requests at a time. Proxies take turns of
2 s. "µs of a processor each" is what a request costs the proxy's processes.

$(cat "$folder/l7")
END
echo "written to docs/benchmarks.md"
