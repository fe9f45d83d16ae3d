#!/usr/bin/env bash
# Every test: pure ones, those over loopback, and those on real containers, packets and kernels.
# Prints how many were skipped and why; in CI a skip for a missing capability is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo build --locked -p minictl
cargo test --locked --workspace -- --nocapture --test-threads=2 2>&1 | tee "$log"
skipped=$(grep -c '^SKIPPED: ' "$log" || true)
echo
echo "$skipped tests were skipped"
grep '^SKIPPED: ' "$log" || true
