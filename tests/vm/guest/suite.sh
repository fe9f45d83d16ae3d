# What every engine must do. Names and addresses are those of network.sh and services.yaml.

NODE_1=192.168.56.70
NODE_2=192.168.56.71
NODE_1_6=[fd00:192:168:56::70]
NODE_2_6=[fd00:192:168:56::71]

# answers HOST TO WANTED WHY: both protocols.
answers() {
  local protocol
  for protocol in tcp udp; do
    expect "$4: $1 to $2, $protocol" "$3" "$(call "$1" $protocol "$2")"
  done
}

# refused HOST TO WHY. Of the messages that refuse UDP the kernel sends a client one a second.
refused() {
  local seen try
  expect "$3: $1 to $2, tcp" refused "$(call "$1" tcp "$2")"
  for try in 1 2 3; do
    seen=$(call "$1" udp "$2")
    [ "$seen" = refused ] && break
  done
  expect "$3: $1 to $2, udp (call $try)" refused "$seen"
}

# spread HOST tcp|udp TO NAME...: these answer, each at least once in 60 calls, and nobody else.
spread() {
  local host=$1 protocol=$2 to=$3 calls=0 seen='' wanted outcome
  shift 3
  wanted=$(printf '%s\n' "$@" | sort)
  until [ "$seen" = "$wanted" ] || [ $calls = 60 ]; do
    outcome=$(call "$host" "$protocol" "$to")
    calls=$((calls + 1))
    # shellcheck disable=SC2086
    seen=$(printf '%s\n' $seen "${outcome%% *}" | sort -u)
    [[ " $* " == *" ${outcome%% *} "* ]] || break
  done
  expect "each backend answers: $host to $to, $protocol ($calls calls)" "$wanted" "$seen"
}

cluster_addresses() {
  local host protocol
  for host in pod-a pod-d node-1 node-2; do
    for protocol in tcp udp; do
      spread $host $protocol 10.96.0.20:80 pod-a pod-b pod-c
    done
  done
  answers pod-a 10.96.0.21:80 "pod-c 10.244.1.5" "a pod elsewhere, which sees its client"
  answers pod-d 10.96.0.21:80 "pod-c 10.244.2.6" "a pod of the same node, which sees its client"
  answers pod-a 10.96.0.23:80 "pod-a *" "a pod reaches itself"
  for host in pod-a node-2; do
    spread $host tcp [fd00:10:96::20]:80 pod-a pod-b pod-c
  done
  answers pod-a [fd00:10:96::21]:80 "pod-c fd00:10:244:1::5" "a pod elsewhere, which sees its client"
  answers pod-a [fd00:10:96::23]:80 "pod-a *" "a pod reaches itself"
  answers client [fd00:10:96::20]:80 unreachable "cluster addresses are the cluster's own"
  answers client 10.96.0.20:80 unreachable "cluster addresses are the cluster's own"
  # On pod-a's own node.
  for host in pod-a pod-c; do
    expect "the API by its own Service: $host" namespace/default "$(
      on $host minictl --kubeconfig /run/admin.kubeconfig -s https://10.96.0.1:443 get namespace default -o name 2>&1
    )"
  done
}

a_client_keeps_its_pod() {
  local protocol outcome seen
  for protocol in tcp udp; do
    seen=$(for _ in {1..8}; do
      outcome=$(call pod-d $protocol 10.96.0.24:80)
      echo "${outcome%% *}"
    done | sort -u)
    expect "affinity: 8 calls of pod-d get one pod, $protocol" "pod-[abc]" "$seen"
  done
}

node_ports() {
  local host node protocol
  for node in $NODE_1 $NODE_2; do
    for protocol in tcp udp; do
      spread client $protocol $node:30080 pod-a pod-b pod-c
    done
    for host in client node-1 node-2 pod-a pod-d; do
      answers $host $node:30081 "pod-c *" "node port of one pod on node-2"
    done
  done
  answers client $NODE_1:30081 "pod-c $NODE_1" "a pod elsewhere sees the node that was asked"
  answers client $NODE_2:30081 "pod-c 192.168.56.10" "a pod of the node that was asked sees its client"
  answers client "$NODE_1_6:30081" "pod-c fd00:192:168:56::70" "a pod elsewhere sees the node that was asked"
  answers client "$NODE_2_6:30086" "pod-c fd00:192:168:56::10" "policy Local: the pod sees its client"
  answers client "$NODE_1_6:30086" silence "policy Local: no pod here"
  answers client $NODE_2:30086 "pod-c 192.168.56.10" "policy Local: the pod sees its client"
  answers client $NODE_1:30086 silence "policy Local: no pod here"
  answers pod-a $NODE_1:30086 "pod-c *" "policy Local is for clients outside"
}

refusals() {
  local host
  for host in pod-a pod-d node-1 node-2; do
    refused $host 10.96.0.22:80 "nobody serves"
  done
  for host in pod-a node-2; do
    refused $host [fd00:10:96::22]:80 "nobody serves"
    refused $host [fd00:10:96::20]:22 "a port that the Service has not"
  done
  refused client "$NODE_1_6:30082" "nobody serves the node port"
  refused client $NODE_1:30082 "nobody serves the node port"
  refused client $NODE_2:30082 "nobody serves the node port"
  # Both nodes listen on port 22 of all their addresses.
  expect "the node's own port 22 answers: pod-a" "node-1 *" "$(call pod-a tcp $NODE_1:22)"
  expect "the node's own port 22 answers: client" "node-2 *" "$(call client tcp $NODE_2:22)"
  for host in pod-a pod-d node-1 node-2; do
    refused $host 10.96.0.20:22 "a port that the Service has not"
  done
  refused pod-a 10.96.0.20:30080 "a node port is no port of the virtual address"
  answers pod-a 10.96.99.99:80 silence "an address of no Service"
}

# state_with NODE TEXT...: the lines of the kernel's state that speak of all these.
state_with() {
  local node=$1 lines text
  shift
  lines=$(on "$node" ipvsadm -Sn; on "$node" nft list ruleset; on "$node" ip -oneline address)
  for text in "$@"; do lines=$(grep -F "$text" <<<"$lines"); done
  [ -z "$lines" ] || echo "$lines"
}

# traces NODE TEXT...: how many those are.
traces() {
  state_with "$@" | grep -c .
}

# takers NODE TEXT...: the same without what only waits for its last connections: destinations of IPVS with weight 0, and
# servers, which take none without a destination.
takers() {
  state_with "$@" | grep -cvE '^-A|-w 0 *$'
}

# gone COUNT WHAT TEXT...: on either node COUNT, which is traces or takers, finds nothing.
gone() {
  local node count=$1 what=$2
  shift 2
  for node in node-1 node-2; do
    within 30 "$what: out of the kernel of $node" 0 "$count" $node "$@"
  done
}

# pod-b leaves web.
an_endpoint_goes() {
  local port outcome seen=
  declare -A before
  # A client that keeps its UDP port is one flow: as many as it takes for pod-b to have one.
  for port in {5001..5040}; do
    outcome=$(call pod-d udp 10.96.0.20:80 "$port")
    before[$port]=${outcome%% *}
    [ "${before[$port]}" = pod-b ] && break
  done
  expect "pod-b is in the kernel" "[1-9]*" "$(traces node-2 10.96.0.20 10.244.1.6)"
  api apply -f web-without-pod-b.yaml >/dev/null
  gone takers "an endpoint that went" 10.96.0.20 10.244.1.6
  for port in "${!before[@]}"; do
    outcome=$(call pod-d udp 10.96.0.20:80 "$port")
    if [ "${before[$port]}" = pod-b ]; then
      expect "its UDP flow goes to another pod" "pod-[ac] *" "$outcome"
    else
      expect "another pod's UDP flow stays" "${before[$port]} *" "$outcome"
    fi
  done
  for port in {1..12}; do
    outcome=$(call pod-d tcp 10.96.0.20:80)
    seen="$seen ${outcome%% *}"
  done
  # shellcheck disable=SC2086
  expect "it gets no connection" "$(printf '%s\n' pod-a pod-c)" "$(printf '%s\n' $seen | sort -u)"
}

# What waits for its last connections stays in IPVS, and gets no more.
a_service_goes() {
  api delete service web >/dev/null
  gone takers "a Service that went, its destinations" "10.96.0.20:80 -r"
  gone takers "a Service that went, those of its node port" ":30080 -r"
  gone traces "a Service that went, its address in maps" "10.96.0.20 . tcp . 80"
  gone traces "a Service that went, its node port in maps" ". tcp . 30080"
  answers pod-a 10.96.0.20:80 silence "a Service that went"
  refused client $NODE_1:30080 "a Service that went"
}

# Connections that stay open, each of a client of its own, and what was said over them at first.
declare -A kept
OPEN=(pod-d/10.96.0.20:80 pod-a/[fd00:10:96::20]:80 node-1/10.96.0.21:80 client/192.168.56.70:30080)

open_connections() {
  local one
  for one in "${OPEN[@]}"; do
    kept[$one]=$(call "${one%%/*}" open "${one#*/}")
    expect "a connection is open: $one" "pod-[abc] *" "${kept[$one]}"
  done
}

still_open() {
  local one
  for one in "${OPEN[@]}"; do
    expect "$1: the open connection goes on: $one" "${kept[$one]}" "$(call "${one%%/*}" again)"
  done
}

close_connections() {
  local one
  for one in "${OPEN[@]}"; do call "${one%%/*}" close >/dev/null; done
}
