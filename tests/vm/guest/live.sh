# A cluster of minictl's API server and one netd per node, on a kernel that has both engines. The engine is changed while
# the cluster works and connections are open: IPVS, nftables, and IPVS again.

# engines_are TEXT TEXT: what node-1 and node-2 say of their engines.
engines_are() {
  local said='{range .items[*]}{.metadata.name} {.spec.podCIDR} {.metadata.annotations.minictl\.io/dataplane}{"\n"}{end}'
  within 60 "the nodes say which engine serves them" \
    "$(printf '%s\n' "node-1 10.244.1.0/24 $1" "node-2 10.244.2.0/24 $2")" api get nodes -o "jsonpath=$said"
}

all_services() { api apply -f services.yaml >/dev/null || bad "objects are accepted" "" "see above"; }

# use ENGINE: on all nodes, while everything goes on.
use() {
  engine="$1, live" state_shown=
  all_services
  open_connections
  expect "the engine is changed" "*" "$(api dataplane use "$1" 2>&1)"
  still_open "changed to $1"
}

traffic() {
  cluster_addresses
  a_client_keeps_its_pod
  node_ports
  refusals
}

live_cluster() {
  engine="the cluster"
  make_network
  for pod in pod-a pod-b pod-c pod-d; do serve $pod 8080; done
  for node in node-1 node-2; do serve $node 22; done
  for host in client node-1 node-2 pod-a pod-b pod-c pod-d; do start_caller $host; done
  start_server
  api apply -f cluster.yaml >/dev/null || bad "nodes are accepted" "" "see above"

  engine=IPVS
  start_netd node-1 auto
  start_netd node-2 ipvs
  all_services
  engines_are "ipvs (kernel has ip_vs)" "ipvs (as asked)"
  # shellcheck disable=SC2086
  on node-1 ipvsadm $FOREIGN
  ipvs_is_complete
  ipvs_settings_are_told
  traffic
  an_endpoint_goes
  a_service_goes

  use nftables
  engines_are "nftables (as asked)" "nftables (as asked)"
  traffic
  an_endpoint_goes
  still_open "without its endpoint"
  a_service_goes
  still_open "without its Service"
  close_connections

  use ipvs
  engines_are "ipvs (as asked)" "ipvs (as asked)"
  ipvs_is_complete
  spread pod-d tcp 10.96.0.20:80 pod-a pod-b pod-c

  # Whoever starts with another engine finds what the one before left.
  engine="nftables, restarted" state_shown=
  stop_netds
  still_open "while netd is away"
  api annotate nodes --all minictl.io/dataplane-engine- >/dev/null
  start_netd node-1 nftables
  start_netd node-2 nftables
  engines_are "nftables (as asked)" "nftables (as asked)"
  still_open "after the restart"
  spread pod-d tcp 10.96.0.20:80 pod-a pod-b pod-c
  close_connections
  if grep -q vm_slow=1 /proc/cmdline; then ipvs_is_gone; fi
  stop_netds
}
