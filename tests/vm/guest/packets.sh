# netd's own tests: with real packets (netd/tests/packets.rs), and of its whole loop (netd/tests/loop.rs). They make
# namespaces of their own. Those that want IPVS or SCTP sockets of the kernel are ignored everywhere else.

# netd_tests PROGRAM ENGINE OPTION...
netd_tests() {
  local program=$1 which=$2
  shift 2
  engine="$program, $which"
  # Waits are longer than elsewhere: all is emulated here.
  # shellcheck disable=SC2046
  if MINICTL_TEST_ENGINE=$which MINICTL_TEST_PATIENCE=2500 CI=true \
    "$program" --include-ignored --nocapture --test-threads=3 "$@" $(cat tests); then
    ok "all tests passed"
  else
    failures=$((failures + 1))
    echo "FAIL  $engine"
  fi
}

# without_module NAME PATH COMMAND...: as if the kernel had been built without it.
without_module() {
  local name=$1 file="/lib/modules/$(uname -r)/kernel/$2"
  shift 2
  # Namespaces of tests that ended, and the links in them, go a little later.
  within 30 "module $name is unloaded" "" modprobe -r "$name"
  mv "$file" /run/module.ko
  if ip link add probe type "$name" 2>/dev/null; then
    ip link del probe
    bad "there is no $name" "no such link" "one was made"
  else
    ok "there is no $name"
  fi
  "$@"
  mv /run/module.ko "$file"
  modprobe "$name"
}
