# A cluster of minictl's API server and one netd per node, on a kernel that has both engines: IPVS first, then nftables,
# then IPVS again.

# begin NAME DATAPLANE-OF-NODE-1 DATAPLANE-OF-NODE-2 ENGINE-OF-NODE-1 ENGINE-OF-NODE-2: a round, with all Services there.
begin() {
  engine=$1 state_shown=
  start_netd node-1 "$2"
  start_netd node-2 "$3"
  api apply -f services.yaml >/dev/null || bad "objects are accepted" "" "see above"
  local said='{range .items[*]}{.metadata.name} {.spec.podCIDR} {.metadata.annotations.minictl\.io/dataplane}{"\n"}{end}'
  within 60 "the nodes say which engine serves them" \
    "$(printf '%s\n' "node-1 10.244.1.0/24 $4" "node-2 10.244.2.0/24 $5")" api get nodes -o "jsonpath=$said"
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

  begin IPVS auto ipvs "ipvs (kernel has ip_vs)" "ipvs (as asked)"
  # shellcheck disable=SC2086
  on node-1 ipvsadm $FOREIGN
  ipvs_is_complete
  traffic
  an_endpoint_goes
  a_service_goes
  stop_netds

  begin nftables nftables nftables "nftables (as asked)" "nftables (as asked)"
  ipvs_is_gone
  traffic
  an_endpoint_goes
  a_service_goes
  stop_netds

  begin "IPVS again" ipvs ipvs "ipvs (as asked)" "ipvs (as asked)"
  ipvs_is_complete
  spread pod-d tcp 10.96.0.20:80 pod-a pod-b pod-c
  stop_netds
}
