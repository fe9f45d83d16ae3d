#!/usr/bin/env bash
# Measures the figures of docs/benchmarks.md on the release binary and writes them there.
set -euo pipefail
cd "$(dirname "$0")/../.."
export MINICTL_BIN=$PWD/target/release/minictl
cargo run --locked --release -q -p e2e --example figures docs/benchmarks.md
