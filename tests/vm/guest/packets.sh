# netd's own tests with real packets (netd/tests/packets.rs), which make namespaces of their own. Those that want IPVS or
# SCTP sockets of the kernel are ignored everywhere else.

# real_packets ENGINE OPTION...
real_packets() {
  local which=$1
  shift
  engine="packets, $which"
  # Waits are longer than elsewhere: all is emulated here.
  # shellcheck disable=SC2046
  if MINICTL_TEST_ENGINE=$which MINICTL_TEST_PATIENCE=2500 CI=true \
    packets --include-ignored --nocapture --test-threads=3 "$@" $(cat tests); then
    ok "all tests passed"
  else
    failures=$((failures + 1))
    echo "FAIL  $engine"
  fi
}
