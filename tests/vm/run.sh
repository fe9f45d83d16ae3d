#!/usr/bin/env bash
# Proves Services on Debian's own kernel: boots it in QEMU (no KVM, no network, no disk) with the minictl binary, runs
# guest/checks.sh there, shows what the guest says, and ends with the guest's exit code.
#
#   tests/vm/run.sh [MINICTL]     default: $MINICTL_BIN, else target/debug/minictl
#   PEER_BIN                      the two ends of a call; default: target/debug/examples/peer
#   PACKETS_BIN, LOOP_BIN         netd's tests with real packets and of its whole loop; default: the newest that cargo built
#   VM_PART=cluster|packets|loop  a part of the checks only
#   VM_SLOW=1                     those that wait for minutes, too
#   VM_TESTS="NAME... OPTION..."  of netd's tests only these
#   VM_SHELL=1 tests/vm/run.sh    a shell in the guest instead of the checks
#
# Nothing is installed: the kernel is unpacked into target/vm, where it stays for the next run.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${CARGO_TARGET_DIR:-$root/target}/vm
minictl=${1:-${MINICTL_BIN:-$root/target/debug/minictl}}
built=${CARGO_TARGET_DIR:-$root/target}/debug
peer=${PEER_BIN:-$built/examples/peer}
# Cargo names a test's program by a hash, and keeps old ones.
newest() { find "$built/deps" -name "$1-*" -type f -perm -u+x -printf '%T@ %p\n' | sort -rn | head -1 | cut -d' ' -f2; }
packets=${PACKETS_BIN:-$(newest packets)}
loop=${LOOP_BIN:-$(newest loop)}

VM_SHELL=${VM_SHELL:-0} VM_PART=${VM_PART:-all} VM_SLOW=${VM_SLOW:-0}
MEMORY=1024       # MiB; the initramfs takes about 250 of it
TIME_LIMIT=${VM_TIME_LIMIT:-1800}   # seconds until QEMU is killed: several times what an idle machine needs
TOOLS=(bash ip nft ipvsadm conntrack nsenter ss sysctl)

fail() { echo "$0: $*" >&2; exit 2; }

# The kernel and its modules, from the package that linux-image-cloud-amd64 stands for.
fetch_kernel() {
  [ -e "$cache/kernel/vmlinuz" ] && return
  local package work
  work=$(mktemp -d "$cache/fetch.XXXXXX")
  # The lists of a fresh machine are empty, those of an old one name packages that are gone.
  download() {
    package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: //p' | head -1)
    [ -n "$package" ] && (cd "$work" && apt-get download -qq "$package" 2>/dev/null)
  }
  echo "vm: downloading Debian's kernel"
  download || { apt-get update -qq && download; } || fail "no package linux-image-cloud-amd64 to be had"
  dpkg-deb -x "$work"/linux-image-*.deb "$work/unpacked"
  mv "$work"/unpacked/boot/vmlinuz-* "$work/unpacked/vmlinuz"
  mv "$work/unpacked" "$cache/kernel"
  rm -rf "$work"
}

# Copies programs with the libraries they are linked to.
add_programs() {
  local program
  for program in "$@"; do
    install -D "$program" "$image/usr/bin/$(basename "$program")"
    # Lines such as "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)"; the loader's has no arrow.
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
      [ -e "$image/$library" ] || install -D "$library" "$image/$library"
    done
  done
}

# The modules of networking, with the index by which the kernel and modprobe find them.
add_modules() {
  local from version part
  from=$(echo "$cache"/kernel/lib/modules/*)
  version=$(basename "$from")
  for part in lib net/802 net/bridge net/llc net/ipv4 net/ipv6 net/netfilter net/sctp drivers/net/{dummy,veth}.ko; do
    mkdir -p "$image/lib/modules/$version/kernel/$(dirname "$part")"
    cp -r "$from/kernel/$part" "$image/lib/modules/$version/kernel/$part"
  done
  cp "$from"/modules.builtin* "$from/modules.order" "$image/lib/modules/$version/"
  busybox depmod -b "$image" "$version"
}

# The guest's root file system, which is all that it has.
build_image() {
  local tool
  mkdir -p "$image"/{applets,dev,etc,proc,run,sys,tmp,var} "$image"/usr/{bin,lib,lib64}
  # Merged as in Debian, so that a program's and a library's two names are one.
  ln -s usr/bin "$image/bin"; ln -s usr/bin "$image/sbin"; ln -s bin "$image/usr/sbin"
  ln -s usr/lib "$image/lib"; ln -s usr/lib64 "$image/lib64"
  install "$(command -v busybox)" "$image/usr/bin/busybox"
  # Where the kernel looks for it.
  ln -s busybox "$image/usr/bin/modprobe"
  # Debug builds carry more symbols than code.
  strip -o "$work/minictl" "$minictl"
  strip -o "$work/peer" "$peer"
  strip -o "$work/packets" "$packets"
  strip -o "$work/loop" "$loop"
  add_programs "$work/minictl" "$work/peer" "$work/packets" "$work/loop"
  for tool in "${TOOLS[@]}"; do
    add_programs "$(command -v "$tool" || fail "$tool is missing: make test-deps")"
  done
  add_modules
  cp -r "$here/guest" "$image/guest"
  echo "${VM_TESTS:-}" >"$image/guest/tests"
  # By which nft writes "tcp" and not "6".
  cp /etc/protocols "$image/etc/protocols"
  ln -s guest/init "$image/init"
}

# Boots; the guest says its exit code in a line "vm: exit CODE". Its serial port is the only way in and out.
boot() {
  local log=$work/serial input=/dev/null limit=$TIME_LIMIT
  if [ "$VM_SHELL" = 1 ]; then input=/dev/stdin limit=0; fi
  # timeout(1) ends QEMU, and only that, by its PID.
  timeout --foreground --kill-after=5 "$limit" qemu-system-x86_64 \
    -accel tcg,thread=multi -smp 2 -cpu max -m "$MEMORY" -nodefaults -no-reboot -nic none \
    -display none -serial stdio -kernel "$cache/kernel/vmlinuz" -initrd "$work/initramfs" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off vm_shell=$VM_SHELL vm_part=$VM_PART vm_slow=$VM_SLOW" <"$input" |
    sed -u 's/\r$//' | tee "$log" || echo "vm: QEMU ended with ${PIPESTATUS[0]}"
  exit "$(sed -n 's/^vm: exit \([0-9]*\)$/\1/p' "$log" | grep . || echo 3)"
}

[ -x "$minictl" ] || fail "$minictl is missing: cargo build -p minictl"
[ -x "$peer" ] || fail "$peer is missing: cargo build -p e2e --example peer"
[ -x "$packets" ] || fail "no packets in $built/deps: cargo test --no-run -p netd --test packets"
[ -x "$loop" ] || fail "no loop in $built/deps: cargo test --no-run -p netd --test loop"
for needed in qemu-system-x86_64 cpio busybox strip; do
  command -v "$needed" >/dev/null || fail "$needed is missing: make test-deps"
done
mkdir -p "$cache"
(flock 9 && fetch_kernel) 9>"$cache/lock"
work=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf "$work"' EXIT
image=$work/image
build_image
# Not compressed: it never leaves this machine's memory, and unpacking is slow in the guest.
(cd "$image" && find . | cpio --quiet -o -H newc) >"$work/initramfs"
rm -rf "$image"
boot
