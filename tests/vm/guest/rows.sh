# The tests of the rows, one file after the other, each in labs on this kernel.
modprobe -a overlay br_netfilter
# Each lab's nodes are asked for it, and must say that they use it.
MINICTL_TEST_ENGINE=$(sed 's/.*vm_engine=\([a-z]*\).*/\1/' /proc/cmdline)
export MINICTL_TEST_ENGINE
# All is emulated here: limits are so many times longer than on a machine. Nothing may be skipped.
export MINICTL_TEST_SLOWNESS=12 MINICTL_BIN=/usr/bin/minictl CI=true

# The images that a row's pods run, of those that a lab has: to give all to every node would take longest of all.
images() {
  local each
  case $1 in
    dataplane) set -- ;;
    rolling | course | nodes) set -- nginx busybox ;;
    ipv6) set -- nginx ;;
    load_balancer) set -- dalgudcks_http-go httpd gcr.io_google-samples_node-hello_1.0 busybox ;;
    ingress) set -- dalgudcks_http-go busybox ;;
    *) set -- dalgudcks_http-go ;;
  esac
  for each in "$@"; do echo /var/cache/minictl/images/"$each".*.tar; done
}

# Not run: that a pod without a Service goes a quarter of a second before another, which is no row and lost in what the machine
# itself takes.
failed=
while read -r row <&3; do
  echo "== $row ($MINICTL_TEST_ENGINE), after $(cut -d. -f1 /proc/uptime) s"
  MINICTL_TEST_IMAGES=$(images "$row")
  export MINICTL_TEST_IMAGES
  # shellcheck disable=SC2046
  "/tests/$row" --nocapture --test-threads=2 --skip a_pod_of_no_service $(cat /guest/tests) </dev/null 2>&1 | tee /tmp/row
  # A filter that no test fits is a failure, too.
  grep -q '^test result: ok. [1-9]' /tmp/row || failed="$failed $row"
done 3</guest/rows
echo "== after $(cut -d. -f1 /proc/uptime) s"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
