# What both virtual machines are made of: Debian's kernel and its modules, programs with their libraries, QEMU.
# To be sourced by run.sh and rows.sh, which set: root (the repository), cache (a folder for the kernel), built (where cargo
# puts programs), image (the guest's root folder, to be filled).

# Without AVX: emulated, a digest by it takes three times as long as one by plain instructions.
CPU=max,-avx,-avx2

fail() { echo "$0: $*" >&2; exit 2; }

# needs PROGRAM...: ends where one of them is missing.
needs() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || fail "$program is missing: make test-deps"
  done
}

# newest_tests NAME: the programs of a test, the newest first; cargo names them by a hash, and keeps old ones.
newest_tests() { find "$built/deps" -name "$1-*" -type f -perm -u+x -printf '%T@ %p\n' | sort -rn | cut -d' ' -f2; }
newest_test() { newest_tests "$1" | sed -n 1p; }

# The kernel and its modules, from the package that linux-image-cloud-amd64 stands for; once.
fetch_kernel() {
  mkdir -p "$cache"
  (flock 9 && download_kernel) 9>"$cache/lock"
}

download_kernel() {
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

# The folders of the guest's root, and busybox.
make_root() {
  mkdir -p "$image"/{applets,dev,etc,proc,run,sys,tmp,var} "$image"/usr/{bin,lib,lib64}
  # Merged as in Debian, so that a program's and a library's two names are one.
  ln -s usr/bin "$image/bin"; ln -s usr/bin "$image/sbin"; ln -s bin "$image/usr/sbin"
  ln -s usr/lib "$image/lib"; ln -s usr/lib64 "$image/lib64"
  install "$(command -v busybox)" "$image/usr/bin/busybox"
  # Where the kernel looks for it.
  ln -s busybox "$image/usr/bin/modprobe"
  # By which nft writes "tcp" and not "6".
  cp /etc/protocols "$image/etc/protocols"
  cp -r "$root/tests/vm/guest" "$image/guest"
}

# Copies programs with the libraries they are linked to.
add_programs() {
  local program
  for program in "$@"; do
    install -D "$program" "$image/usr/bin/$(basename "$program")"
    # Lines such as "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)"; the loader's has no arrow.
    { ldd "$program" 2>/dev/null || true; } | { grep -o '/[^ ]*' || true; } | while read -r library; do
      [ -e "$image/$library" ] || install -D "$library" "$image/$library"
    done
  done
}

# add_tools NAME...: the same by their names.
add_tools() {
  local tool
  for tool in "$@"; do
    add_programs "$(command -v "$tool" || fail "$tool is missing: make test-deps")"
  done
}

# add_modules PATH...: modules, with the index by which the kernel and modprobe find them.
add_modules() {
  local from version part
  from=$(echo "$cache"/kernel/lib/modules/*)
  version=$(basename "$from")
  for part in "$@"; do
    mkdir -p "$image/lib/modules/$version/kernel/$(dirname "$part")"
    cp -r "$from/kernel/$part" "$image/lib/modules/$version/kernel/$part"
  done
  cp "$from"/modules.builtin* "$from/modules.order" "$image/lib/modules/$version/"
  busybox depmod -b "$image" "$version"
}

# boot LOG SECONDS PARAMETERS OPTION...: starts QEMU with parameters of the kernel and more options; shows what the guest says
# on its serial port, which is its only way in and out, and ends with the code of its line "vm: exit CODE".
boot() {
  local log=$1 limit=$2 parameters=$3 input=/dev/null
  shift 3
  if [ "${VM_SHELL:-0}" = 1 ]; then input=/dev/stdin limit=0; fi
  # The kernel's tests of its own ciphers take long where all is emulated, and once stood still.
  # timeout(1) ends QEMU, and only that, by its PID.
  timeout --foreground --kill-after=5 "$limit" qemu-system-x86_64 \
    -accel tcg,thread=multi -smp 2 -cpu "$CPU" -nodefaults -no-reboot -nic none \
    -display none -serial stdio -kernel "$cache/kernel/vmlinuz" \
    -append "console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests=1 vm_shell=${VM_SHELL:-0} $parameters" "$@" <"$input" |
    sed -u 's/\r$//' | tee "$log" || echo "vm: QEMU ended with ${PIPESTATUS[0]}"
  exit "$(sed -n 's/^vm: exit \([0-9]*\)$/\1/p' "$log" | grep . || echo 3)"
}
