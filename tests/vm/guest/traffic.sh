# Real traffic: servers that say who they are and whom they see, and calls whose outcome is a word or two:
#
#   NAME CLIENT    a server answered: its name, and the caller's address as the server saw it
#   refused        told so at once; "refused late" if only a repetition of the call was
#   unreachable    told that there is no way
#   silence        nothing within two seconds or three

# serve HOST PORT: TCP and UDP on all of the host's addresses.
serve() {
  on "$1" socat "TCP4-LISTEN:$2,fork,reuseaddr,backlog=64" "EXEC:/guest/answer $1" 2>/dev/null &
  on "$1" socat "UDP4-RECVFROM:$2,fork" "EXEC:/guest/answer $1" 2>/dev/null &
}

# A process per host waits for calls to make: starting one for each call would be most of the time.
declare -A ask told

start_caller() {
  local fd
  mkfifo "/run/$1.ask" "/run/$1.told"
  # Open for both directions, so that neither side waits for the other to open.
  exec {fd}<>"/run/$1.ask"
  ask[$1]=$fd
  exec {fd}<>"/run/$1.told"
  told[$1]=$fd
  on "$1" bash /guest/caller.sh <"/run/$1.ask" >"/run/$1.told" &
}

# call HOST tcp|udp ADDRESS:PORT
call() {
  local outcome
  echo "$2 ${3%:*} ${3#*:}" >&"${ask[$1]}"
  read -r outcome <&"${told[$1]}"
  echo "$outcome"
}

# flow HOST PORT ADDRESS:PORT: a datagram from a port of the caller's choice, so that calls belong together.
flow() {
  # shellcheck disable=SC2005,SC2046
  echo $(echo | on "$1" socat -t2 -T2 - "UDP4:$3,sourceport=$2,readbytes=32" 2>&1)
}

# Milliseconds of the clock.
now() { echo $((${EPOCHREALTIME/./} / 1000)); }
