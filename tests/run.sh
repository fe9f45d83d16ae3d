#!/usr/bin/env bash
# Every test: pure ones, those over loopback, and those on real containers, packets and kernels.
# Prints how many were skipped and why; in CI a skip for a missing capability is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo build --locked -p minictl

# Beside the kubectl of the PATH, the one that Debian 12 packages: it is so old (1.20) that it speaks
# SPDY only and validates with OpenAPI v2. It is unpacked, not installed.
old=$PWD/target/kubectl/usr/bin/kubectl
if [ ! -x "$old" ]; then
  mkdir -p target/kubectl
  (cd target/kubectl && apt-get download -qq kubernetes-client && dpkg-deb -x kubernetes-client_*.deb .) ||
    echo "SKIPPED: Debian's kubectl cannot be downloaded"
fi
KUBECTLS=$(command -v kubectl)
[ ! -x "$old" ] || KUBECTLS=$KUBECTLS:$old
export KUBECTLS

cargo test --locked --workspace --no-fail-fast -- --nocapture --test-threads=2 2>&1 | tee "$log"
skipped=$(grep -c '^SKIPPED: ' "$log" || true)
echo
echo "$skipped tests were skipped"
grep '^SKIPPED: ' "$log" || true
