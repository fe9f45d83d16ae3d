# The cluster: minictl's API server on node-1, and minictl's netd on each node; no agent, so pods and nodes are what
# network.sh made, and their objects come from manifests.

pki=/run/cluster/pki
server=https://192.168.56.70:6443
# Both families; the first is what a Service gets that does not ask.
ranges=(--cluster-cidr 10.244.0.0/16,fd00:10:244::/56 --service-cidr 10.96.0.0/12,fd00:10:96::/112)

api() { on node-1 minictl --kubeconfig /run/admin.kubeconfig "$@"; }

kubeconfig() { minictl --server "$server" kubeconfig --pki-dir "$pki" "$@"; }

start_server() {
  kubeconfig >/run/admin.kubeconfig
  on node-1 minictl server --data-dir /run/cluster/data --pki-dir "$pki" --advertise 192.168.56.70:6443 \
    "${ranges[@]}" >/run/server.log 2>&1 &
  local node
  for node in node-1 node-2; do
    kubeconfig --as-user "system:node:$node" --as-group system:nodes >"/run/$node.kubeconfig"
  done
  within 60 "the API server answers" namespace/default api get namespace default -o name
}

# start_netd NODE DATAPLANE
start_netd() {
  # Not by "on": the background would be the shell's, and the process to stop its child.
  nsenter --net="/run/netns/$1" minictl --kubeconfig "/run/$1.kubeconfig" netd --name "$1" --dataplane "$2" \
    --socket "/run/netd-$1.sock" "${ranges[@]}" >>"/run/netd-$1.log" 2>&1 &
  netd_processes+=($!)
}

stop_netds() {
  kill "${netd_processes[@]}"
  wait "${netd_processes[@]}"
  netd_processes=()
}
netd_processes=()
