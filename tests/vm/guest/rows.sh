# The tests of the rows, one file after the other, each in labs on this kernel.
modprobe -a overlay br_netfilter
engine=$(sed 's/.*vm_engine=\([a-z]*\).*/\1/' /proc/cmdline)
[ "$engine" = auto ] || export MINICTL_TEST_ENGINE=$engine
# All is emulated here: limits are so many times longer than on a machine. Nothing may be skipped.
export MINICTL_TEST_SLOWNESS=12 MINICTL_BIN=/usr/bin/minictl CI=true
failed=
while read -r row; do
  echo "== $row ($engine), after $(cut -d. -f1 /proc/uptime) s"
  # shellcheck disable=SC2046
  "/tests/$row" --nocapture --test-threads=2 $(cat /guest/tests) || failed="$failed $row"
done </guest/rows
echo "== after $(cut -d. -f1 /proc/uptime) s"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
