# Makes calls from the network namespace it runs in: reads lines "tcp|udp ADDRESS PORT", answers each with an outcome,
# as traffic.sh describes them.

# A second and two, instead of minutes.
echo 1 >/proc/sys/net/ipv4/tcp_syn_retries

talk() {
  exec 3<>"/dev/$1/$2/$3" || return
  if [ "$1" = tcp ]; then
    read -r -t 2 answer <&3 && echo "$answer"
  else
    echo >&3 || return
    # The whole datagram at once, which bash's own read does not do.
    timeout 2 head -n 1 <&3
  fi
}

while read -r protocol address port; do
  start=${EPOCHREALTIME/./}
  said=$(talk "$protocol" "$address" "$port" 2>&1)
  took=$(((${EPOCHREALTIME/./} - start) / 1000))
  case $said in
    # "Not permitted" is what a node is told of its own datagram that must not leave.
    *refused* | *"not permitted"*) [ $took -lt 900 ] && echo refused || echo "refused late ($took ms)" ;;
    *unreachable*) echo unreachable ;;
    "" | *"timed out"* | Terminated*) echo silence ;;
    # Without the padding.
    *) echo $said ;;
  esac
done
