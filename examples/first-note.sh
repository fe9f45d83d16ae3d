#!/usr/bin/env bash
# The first course note on a running lab: a Deployment, its Service, and who can reach it.
# usage: first-note.sh [MINICTL [LAB]]
set -euo pipefail
minictl=${1:-minictl}
lab=${2:-lab}
course=$(cd "$(dirname "$0")/../docs/course" && pwd)
KUBECONFIG=$("$minictl" lab kubeconfig "$lab")
export KUBECONFIG

# Shows a command as a person would type it, then runs it.
run() {
  printf '\n$ minictl %s\n' "$*"
  "$minictl" "$@"
}

run apply -f "$course/ClusterIP.yaml"
"$minictl" get svc clusterip-nginx >/dev/null 2>&1 || run expose deployment/clusterip-nginx
"$minictl" get svc nginx-nodeport >/dev/null 2>&1 ||
  run expose deployment/clusterip-nginx --type=NodePort --name=nginx-nodeport
"$minictl" rollout status deployment/clusterip-nginx --timeout=60s >/dev/null
run get nodes -o wide
run get pods -l run=clusterip-nginx -o wide
run get svc clusterip-nginx nginx-nodeport
run get ep clusterip-nginx

vip=$("$minictl" get svc clusterip-nginx -o jsonpath='{.spec.clusterIP}')
port=$("$minictl" get svc nginx-nodeport -o jsonpath='{.spec.ports[0].nodePort}')
nodes=$("$minictl" get nodes -o jsonpath='{.items[*].status.addresses[0].address}')

printf '\n# From a pod to the virtual address of the Service:\n'
# Quick commands are over before a client can attach; it says so and reads their log.
run run "visitor-$RANDOM" --rm -i --restart=Never --image=busybox --quiet -- timeout 5 wget -qO- "$vip" \
  2> >(grep -v "couldn't attach" >&2) | grep -E '^\$|<title>'

printf '\n# From the client, a host outside the cluster, to the same port of every node:\n'
for node in $nodes; do
  run lab exec "$lab/client" -- curl -s -m 5 "http://$node:$port" | grep -E '^\$|<title>'
done

cat <<END

The lab goes on running. Try:
  minictl get pods -o wide            what runs where
  minictl describe svc clusterip-nginx
  minictl run busybox --rm -it --image=busybox /bin/sh
  minictl lab exec $lab/node-1 -- nft list table inet minictl
  minictl lab status $lab              hosts, processes, memory
  minictl lab down $lab                the end
kubectl works, too:  export KUBECONFIG=$KUBECONFIG
END
