# What IPVS must hold on a node, in the words of "ipvsadm -Sn", complete: nothing may be missing, and nothing be left over.

# Somebody else's virtual server on node-1, which netd must never touch.
FOREIGN="-A -t 192.168.56.70:9999 -s wlc"

a=10.244.1.5:8080 b=10.244.1.6:8080 c=10.244.2.5:8080
a6=[fd00:10:244:1::5]:8080 b6=[fd00:10:244:1::6]:8080 c6=[fd00:10:244:2::5]:8080

# server ADDRESS "OPTIONS" BACKEND...: one virtual server, TCP and UDP.
server() {
  local frontend=$1 options=$2 flag backend
  shift 2
  for flag in -t -u; do
    echo "-A $flag $frontend $options"
    for backend in "$@"; do echo "-a $flag $frontend -r $backend -m -w 1"; done
  done
}

# wanted_servers NODE
wanted_servers() {
  local address=192.168.56.70 address6=[fd00:192:168:56::70]
  [ "$1" = node-2 ] && address=192.168.56.71 address6=[fd00:192:168:56::71]
  {
    [ "$1" = node-1 ] && echo "$FOREIGN"
    server 10.96.0.1:443 "-s rr" 192.168.56.70:6443 | grep -v -- -u
    server 10.96.0.20:80 "-s rr" $a $b $c
    server $address:30080 "-s rr" $a $b $c
    server 10.96.0.21:80 "-s rr" $c
    server $address:30081 "-s rr" $c
    server 10.96.0.23:80 "-s rr" $a
    server 10.96.0.24:80 "-s rr -p 10800" $a $b $c
    server 10.96.0.25:80 "-s lc" $a $c
    server 10.96.0.26:80 "-s rr" $c
    server $address:30086 "-s rr" $c
    server [fd00:10:96::20]:80 "-s rr" $a6 $b6 $c6
    server "$address6:30080" "-s rr" $a6 $b6 $c6
    server [fd00:10:96::21]:80 "-s rr" $c6
    server "$address6:30081" "-s rr" $c6
    server [fd00:10:96::23]:80 "-s rr" $a6
    server [fd00:10:96::26]:80 "-s rr" $c6
    server "$address6:30086" "-s rr" $c6
  } | sort
}

seen_servers() { on "$1" ipvsadm -Sn | sed 's/ *$//' | sort; }

wanted_addresses=$(
  printf '10.96.0.%s/32\n' 1 20 21 22 23 24 25 26
  printf 'fd00:10:96::%s/128\n' 20 21 22 23 26
)

# The addresses of the link that makes packets to virtual addresses the node's own; the kernel gives it one of its own, too.
seen_addresses() {
  on "$1" ip -oneline address show dev mini-ipvs0 | awk '{print $4}' | grep -v '^fe80:' | sort
}

ipvs_is_complete() {
  local node
  for node in node-1 node-2; do
    within 30 "$node: exactly the right virtual servers, schedulers and destinations" \
      "$(wanted_servers $node)" seen_servers $node
    within 5 "$node: exactly the virtual addresses are bound" "$wanted_addresses" seen_addresses $node
  done
}

# Nothing of netd's, and the other's untouched. Connections that were closed are remembered for two minutes.
ipvs_is_gone() {
  within 180 "node-1: nothing is left of IPVS but somebody else's server" "$FOREIGN" seen_servers node-1
  within 180 "node-2: nothing is left of IPVS" "" seen_servers node-2
  local node
  for node in node-1 node-2; do
    within 5 "$node: the link of virtual addresses is gone" "*does not exist*" on $node ip link show mini-ipvs0
  done
}

# setting_as_told NODE NAME VALUE: what the kernel has is what is wanted, and what minictl says of both.
setting_as_told() {
  expect "$1: $2 is $3" "$3" "$(on "$1" sysctl -n "$2")"
  expect "$1: $2 is told" "$1 $2 $3 $3 *" "$(
    minictl dataplane status --socket "/run/netd-$1.sock" -o wide 2>&1 | tr -s ' ' | grep -F " $2 "
  )"
}

ipvs_settings_are_told() {
  local node
  for node in node-1 node-2; do
    setting_as_told $node net.ipv4.vs.conntrack 1
    setting_as_told $node net.ipv4.vs.expire_nodest_conn 1
    # Debian's kernel is newer than 5.9.
    setting_as_told $node net.ipv4.vs.conn_reuse_mode 1
    expect "$node: the link of virtual addresses is told" "$node link mini-ipvs0 dummy * addresses *" "$(
      minictl dataplane status --socket "/run/netd-$node.sock" -o wide 2>&1 | tr -s ' ' | grep -F mini-ipvs0
    )"
  done
}
