# Real traffic: servers that say who they are and whom they see, and calls whose outcome is one word or two:
#
#   NAME CLIENT    a server answered: its name, and the caller's address as the server saw it
#   refused        told so at once
#   unreachable    told that there is no way
#   silence        nothing within $PATIENCE seconds
PATIENCE=2

# serve HOST PORT: TCP and UDP on all of the host's addresses.
serve() {
  on "$1" socat "TCP4-LISTEN:$2,fork,reuseaddr,backlog=64" "EXEC:/guest/answer $1" 2>/dev/null &
  on "$1" socat "UDP4-RECVFROM:$2,fork" "EXEC:/guest/answer $1" 2>/dev/null &
}

# call HOST tcp|udp ADDRESS:PORT [SOURCE-PORT]
call() {
  local address said
  case $2 in
    tcp) address=TCP4:$3,connect-timeout=$PATIENCE ;;
    udp) address=UDP4:$3 ;;
  esac
  said=$(echo | on "$1" socat "-t$PATIENCE" "-T$PATIENCE" - "$address,readbytes=32${4:+,sourceport=$4}" 2>&1)
  case $said in
    # What a node is told of its own datagram that must not leave.
    *refused* | *"not permitted"*) echo refused ;;
    *unreachable*) echo unreachable ;;
    "" | *"timed out"*) echo silence ;;
    # Without the padding.
    *) echo $said ;;
  esac
}

# Milliseconds of the clock.
now() { echo $((${EPOCHREALTIME/./} / 1000)); }
