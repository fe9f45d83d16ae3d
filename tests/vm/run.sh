#!/usr/bin/env bash
# Proves Services on Debian's own kernel: boots it in QEMU (no KVM, no network, no disk) with the minictl binary, runs
# guest/checks.sh there, shows what the guest says, and ends with the guest's exit code.
#
#   tests/vm/run.sh [MINICTL]     default: $MINICTL_BIN, else target/debug/minictl
#   PEER_BIN                      the two ends of a call; default: target/debug/examples/peer
#   PACKETS_BIN, LOOP_BIN         netd's tests with real packets and of its whole loop; default: the newest that cargo built
#   EXECUTOR_BIN                  those of what it does to the kernel; likewise
#   VM_PART=cluster|packets|loop  a part of the checks only
#   VM_SLOW=1                     those that wait for minutes, too
#   VM_TESTS="NAME... OPTION..."  of netd's tests only these
#   VM_SHELL=1 tests/vm/run.sh    a shell in the guest instead of the checks
#
# Nothing is installed: the kernel is unpacked into target/vm, where it stays for the next run.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
cache=${CARGO_TARGET_DIR:-$root/target}/vm
. "$root/tests/vm/machine.sh"
minictl=${1:-${MINICTL_BIN:-$root/target/debug/minictl}}
built=${CARGO_TARGET_DIR:-$root/target}/debug
peer=${PEER_BIN:-$built/examples/peer}
packets=${PACKETS_BIN:-$(newest_test packets)}
loop=${LOOP_BIN:-$(newest_test loop)}
executor=${EXECUTOR_BIN:-$(newest_test executor)}

MEMORY=1024       # MiB; the initramfs takes about 250 of it
TIME_LIMIT=${VM_TIME_LIMIT:-1800}   # seconds until QEMU is killed: several times what an idle machine needs
TOOLS=(bash ip nft ipvsadm conntrack nsenter ss sysctl)

# The guest's root file system, which is all that it has.
build_image() {
  make_root
  # Debug builds carry more symbols than code.
  strip -o "$work/minictl" "$minictl"
  strip -o "$work/peer" "$peer"
  strip -o "$work/packets" "$packets"
  strip -o "$work/loop" "$loop"
  strip -o "$work/executor" "$executor"
  add_programs "$work/minictl" "$work/peer" "$work/packets" "$work/loop" "$work/executor"
  add_tools "${TOOLS[@]}"
  add_modules lib net/802 net/bridge net/llc net/ipv4 net/ipv6 net/netfilter net/sctp drivers/net/{dummy,veth}.ko
  echo "${VM_TESTS:-}" >"$image/guest/tests"
  ln -s guest/init "$image/init"
}

[ -x "$minictl" ] || fail "$minictl is missing: cargo build -p minictl"
[ -x "$peer" ] || fail "$peer is missing: cargo build -p e2e --example peer"
[ -x "$packets" ] || fail "no packets in $built/deps: cargo test --no-run -p netd --test packets"
[ -x "$loop" ] || fail "no loop in $built/deps: cargo test --no-run -p netd --test loop"
[ -x "$executor" ] || fail "no executor in $built/deps: cargo test --no-run -p netd --test executor"
needs qemu-system-x86_64 cpio busybox strip
fetch_kernel
work=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
image=$work/image
build_image
# Not compressed: it never leaves this machine's memory, and unpacking is slow in the guest.
(cd "$image" && find . | cpio --quiet -o -H newc) >"$work/initramfs"
rm -rf "$image"
boot "$work/serial" "$TIME_LIMIT" "vm_part=${VM_PART:-all} vm_slow=${VM_SLOW:-0}" -m "$MEMORY" -initrd "$work/initramfs"
