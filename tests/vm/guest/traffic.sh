# Real traffic: servers that say who they are and whom they see, and calls whose outcome is one word or two:
#
#   NAME CLIENT    a server answered: its name, and the caller's address as the server saw it
#   refused        told so at once
#   unreachable    told that there is no way
#   silence        nothing within two seconds

# serve HOST PORT: TCP and UDP on all of the host's addresses. Answers are 32 bytes, so that a caller knows the end of
# a datagram's answer, too.
serve() {
  local answer="printf '%-31s\\\\n' \"$1 \$SOCAT_PEERADDR\""
  on "$1" socat "TCP4-LISTEN:$2,fork,reuseaddr,backlog=64" "SYSTEM:$answer" 2>/dev/null &
  on "$1" socat "UDP4-RECVFROM:$2,fork" "SYSTEM:$answer" 2>/dev/null &
}

# call HOST tcp|udp ADDRESS:PORT [OPTIONS OF SOCAT]
call() {
  local protocol=TCP4 said
  [ "$2" = udp ] && protocol=UDP4
  said=$(echo | on "$1" timeout 3 socat -t2 -T2 - "$protocol:$3,readbytes=32${4:+,$4}${5:-$(patience "$2")}" 2>&1)
  case $said in
    # A node's own datagram that is rejected on its way out is "not permitted".
    *refused* | *"not permitted"*) echo refused ;;
    *unreachable*) echo unreachable ;;
    "" | *"timed out"*) echo silence ;;
    *) echo $said ;;
  esac
}

patience() {
  [ "$1" = tcp ] && echo ,connect-timeout=2
}

# Hundredths of a second since boot.
now() {
  local up rest
  read -r up rest </proc/uptime
  echo "${up%.*}${up#*.}"
}
