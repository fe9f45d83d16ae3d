# The network of the checks, namespaces on one switch, which is this machine itself:
#
#   client 192.168.56.10     node-1 192.168.56.70          node-2 192.168.56.71
#                            mini0 10.244.1.1              mini0 10.244.2.1
#                            pod-a .1.5   pod-b .1.6       pod-c .2.5   pod-d .2.6
#
# The same in IPv6: fd00:192:168:56::10, ::70 and ::71; fd00:10:244:1::1, ::5, ::6; fd00:10:244:2::1, ::5, ::6.
#
# Pods are wired as minictl's agent does it: an address of their own only, everything by the gateway, isolated ports.
# The client knows the nodes' network and nothing else.

# Runs a command on a host.
on() {
  local host=$1
  shift
  nsenter --net="/run/netns/$host" "$@"
}

make_host() {
  ip netns add "$1"
  on "$1" ip link set lo up
  # Addresses are usable at once: nobody else has them.
  on "$1" sh -c "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad"
}

# make_switched HOST ADDRESS: a host on the switch.
make_switched() {
  make_host "$1"
  ip link add "to-$1" type veth peer name eth0 netns "$1"
  ip link set "to-$1" master switch up
  on "$1" ip link set eth0 up
  on "$1" ip address add "$2/24" dev eth0
  on "$1" ip address add "fd00:192:168:56::${2##*.}/64" dev eth0 nodad
}

# make_node N: bridge and gateway of a node's pods.
make_node() {
  make_switched "node-$1" "192.168.56.7$(($1 - 1))"
  on "node-$1" ip link add mini0 type bridge
  on "node-$1" ip address add "10.244.$1.1/24" dev mini0
  on "node-$1" ip address add "fd00:10:244:$1::1/64" dev mini0 nodad
  on "node-$1" ip link set mini0 up
}

# make_pod NAME N ADDRESS: a pod of node N.
make_pod() {
  make_host "$1"
  on "node-$2" ip link add "to-$1" type veth peer name eth0 netns "$1"
  on "node-$2" ip link set "to-$1" master mini0 up
  on "node-$2" ip link set "to-$1" type bridge_slave isolated on
  on "$1" ip link set eth0 up
  on "$1" ip address add "$3/32" dev eth0
  on "$1" ip route add "10.244.$2.1" dev eth0
  on "$1" ip route add default via "10.244.$2.1"
  on "$1" ip address add "fd00:10:244:$2::${3##*.}/128" dev eth0 nodad
  on "$1" ip route add "fd00:10:244:$2::1" dev eth0
  on "$1" ip route add default via "fd00:10:244:$2::1"
}

make_network() {
  ip link add switch type bridge
  ip link set switch up
  make_switched client 192.168.56.10
  make_node 1
  make_node 2
  make_pod pod-a 1 10.244.1.5
  make_pod pod-b 1 10.244.1.6
  make_pod pod-c 2 10.244.2.5
  make_pod pod-d 2 10.244.2.6
}
