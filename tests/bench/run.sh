#!/usr/bin/env bash
# Measures the figures of docs/benchmarks.md on the release binary and writes them there.
# KUBE_PROXY=/path/to/kube-proxy measures Kubernetes' own proxy beside ours.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
export MINICTL_BIN=${MINICTL_BIN:-$PWD/target/release/minictl}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# What measures is built as tests are, with its own code optimised (Cargo.toml).
cargo build --locked -q -p minictl -p e2e --example figures --example services
"$target/debug/examples/figures" "$folder/cluster"
"$target/debug/examples/services" "$folder/services"

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
END
echo "written to docs/benchmarks.md"
