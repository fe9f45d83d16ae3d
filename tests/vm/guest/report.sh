# The report: a line per check, "ok WHAT" or "FAIL WHAT", and after the first failure of a round the state of everything.

failures=0
state_shown=

ok() { echo "ok    $engine: $*"; }

# bad WHAT WANTED SEEN
bad() {
  echo "FAIL  $engine: $1"
  printf 'wanted: %s\nseen:   %s\n' "$2" "$3"
  failures=$((failures + 1))
  [ -n "$state_shown" ] || show_state
  state_shown=yes
}

# expect WHAT WANTED SEEN: WANTED is a pattern, or the text itself.
expect() {
  # shellcheck disable=SC2053
  if [[ $3 == $2 || $3 == "$2" ]]; then ok "$1"; else bad "$1" "$2" "$3"; fi
}

# within SECONDS WHAT WANTED COMMAND...: the command prints what is wanted before the time is over.
within() {
  local seconds=$1 what=$2 wanted=$3 start seen
  shift 3
  start=$(now)
  while :; do
    seen=$("$@" 2>&1)
    # shellcheck disable=SC2053
    [[ $seen == $wanted || $seen == "$wanted" ]] && break
    if [ $(($(now) - start)) -gt $((seconds * 1000)) ]; then
      bad "$what" "$wanted" "$seen"
      return 1
    fi
    sleep 0.1
  done
  ok "$what ($(($(now) - start)) ms)"
}

show_state() {
  local node
  for node in node-1 node-2; do
    echo "=== $node"
    on $node ip -brief address
    on $node ip route
    on $node ipvsadm -Ln
    on $node nft list ruleset
    on $node conntrack -L 2>/dev/null | tail -n 30
    tail -n 20 "/run/netd-$node.log"
  done
  echo "=== API"
  tail -n 20 /run/server.log
  api get nodes,services,endpointslices -o wide
}
