#!/usr/bin/env bash
# Runs end-to-end tests in labs with real pods on Debian's own kernel, on IPVS: boots it in QEMU (no KVM, no network) from a
# disk with minictl, containerd, runc, the course images and the tests' programs, and ends with the guest's exit code.
#
#   tests/vm/rows.sh [TEST...]      files of tests/tests; default: all that the rows of Services and names have
#   MINICTL_BIN                     default: target/release/minictl; a debug build is far slower in here
#   VM_ENGINE=ipvs|nftables         what labs are asked for, and what each of their nodes must say; default: ipvs
#   VM_TESTS="NAME... OPTION..."    of these files only these tests
#   VM_TIME_LIMIT=SECONDS           until QEMU is killed
#   VM_SHELL=1 tests/vm/rows.sh     a shell in the guest instead
#
# Root, because the course images are kept where labs keep them.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
cache=${CARGO_TARGET_DIR:-$root/target}/vm
built=${CARGO_TARGET_DIR:-$root/target}/debug
. "$root/tests/vm/machine.sh"
minictl=${MINICTL_BIN:-$root/target/release/minictl}

ROWS=(services services_paths services_endpoints rolling dataplane ipv6 nodes names load_balancer ingress course)
MEMORY=${VM_MEMORY:-6144}          # MiB; labs' folders are in it
TIME_LIMIT=${VM_TIME_LIMIT:-7200}  # seconds until QEMU is killed
TOOLS=(bash containerd containerd-shim-runc-v2 ctr runc kubectl ip nft ipvsadm conntrack nsenter ss sysctl curl dig openssl
  jq tar script hostname setpriv taskset timeout git arping ndisc6)
IMAGES=/var/cache/minictl/images
[ $# -gt 0 ] && ROWS=("$@")

# The newest program of a file of tests/tests. Crates of the same name have tests, too: it must know the file's first one.
program_of() {
  local first program
  first=$(grep -A1 -m1 '^#\[test\]' "$root/tests/tests/$1.rs" | sed -n 's/^fn \([a-z0-9_]*\).*/\1/p')
  for program in $(newest_tests "$1"); do
    if "$program" --list 2>/dev/null | grep -qx "$first: test"; then echo "$program"; return; fi
  done
}

# The guest's root file system. Everything that is written later goes to the guest's memory.
build_image() {
  local test program
  make_root
  mkdir -p "$image"/{root,tests,var/cache/minictl,usr/lib/ssl}
  strip -o "$work/minictl" "$minictl"
  add_programs "$work/minictl"
  add_tools "${TOOLS[@]}"
  for test in "${ROWS[@]}"; do
    program=$(program_of "$test")
    [ -x "$program" ] || fail "no $test in $built/deps: cargo test --no-run -p e2e --test $test"
    strip -o "$work/$test" "$program"
    add_programs "$work/$test"
    mv "$image/usr/bin/$test" "$image/tests/$test"
  done
  # busybox would run its own "ip" and not the one that tests mean.
  ln -s bash "$image/usr/bin/sh"
  cp -r /etc/{passwd,group,services,nsswitch.conf} "$image/etc/"
  cp /etc/ssl/openssl.cnf "$image/usr/lib/ssl/"
  cp -r "$IMAGES" "$image/var/cache/minictl/images"
  rm -rf "$image/var/cache/minictl/images/packages"
  add_modules lib crypto arch fs/overlayfs net drivers/net/{dummy,veth,tun}.ko
  printf '%s\n' "${ROWS[@]}" >"$image/guest/rows"
  echo "${VM_TESTS:-}" >"$image/guest/tests"
}

needs qemu-system-x86_64 busybox strip mke2fs
[ -x "$minictl" ] || fail "$minictl is missing: cargo build --release -p minictl"
fetch_kernel
"$minictl" image build --output "$IMAGES" >/dev/null
work=$(mktemp -d "$cache/rows.XXXXXX")
trap 'rm -rf "$work"' EXIT
image=$work/image
build_image
# A file system without root's rights and without loop devices.
mke2fs -q -t ext4 -O ^has_journal -E root_owner=0:0 -d "$image" "$work/disk" "${VM_DISK:-1500m}"
rm -rf "$image"
# The cloud kernel has NVMe and ext4 built in: it needs no initramfs.
boot "$work/serial" "$TIME_LIMIT" "root=/dev/nvme0n1 rootfstype=ext4 rw init=/guest/rows.init vm_engine=${VM_ENGINE:-ipvs}" \
  -m "$MEMORY" -drive "file=$work/disk,format=raw,if=none,id=disk,cache=unsafe" -device nvme,serial=minictl,drive=disk
