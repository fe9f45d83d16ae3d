# All checks: netd's own tests with real packets, and a live cluster, each on both engines.
cd /guest || exit
. ./network.sh
. ./traffic.sh
. ./report.sh
. ./cluster.sh
. ./ipvs.sh
. ./suite.sh
. ./live.sh
. ./packets.sh

# wanted PART: was this part of the checks, or all of them, asked for?
wanted() { grep -qE "vm_part=($1|all)" /proc/cmdline; }

# Tests and cluster can't be in each other's way: either makes its own namespaces, and one follows the other.
# Bridge netfilter is what a machine with Docker has. Modules of IPVS are left for netd to load.
modprobe br_netfilter
if wanted packets || wanted loop; then
  # Tests at the same time would each want the same module first.
  for module in sctp veth bridge dummy nf_tables nfnetlink; do modprobe $module; done
fi
if wanted packets; then
  netd_tests executor ipvs
  # Firewalls of others need their programs, and are told from another's words on nftables only.
  netd_tests packets ipvs --skip firewalls::
  # All of it runs on nftables on any machine: here what must be the same on this kernel, and what is new.
  [ -n "$(cat tests)" ] || netd_tests packets nftables matrix:: table:: sctp
  without_module dummy drivers/net/dummy.ko netd_tests packets ipvs links:: everyday::
fi
# There is no dig in the guest, and its names have nothing to do with the kernel.
if wanted loop; then netd_tests loop ipvs --skip names::; fi
if wanted cluster; then live_cluster; fi

echo "$failures checks failed"
[ $failures = 0 ]
