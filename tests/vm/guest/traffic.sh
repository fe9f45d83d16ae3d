# Real traffic: servers that say who they are and whom they see, and calls whose outcome is a word or two:
#
#   NAME CLIENT    a server answered: its name, and the caller's address as the server saw it
#   refused        told so at once; "refused late" if only a repetition of the call was
#   unreachable    told that there is no way
#   silence        nothing within three seconds

# serve HOST PORT: TCP and UDP on all of the host's addresses.
serve() { on "$1" peer serve "$1" "$2" & }

# The ends of the pipes by which each host's caller is told what to do and says what came of it.
declare -A ask told

start_caller() {
  local fd
  mkfifo "/run/$1.ask" "/run/$1.told"
  # Open for both directions, so that neither side waits for the other to open.
  exec {fd}<>"/run/$1.ask"
  ask[$1]=$fd
  exec {fd}<>"/run/$1.told"
  told[$1]=$fd
  on "$1" peer call <"/run/$1.ask" >"/run/$1.told" &
}

# call HOST tcp|udp ADDRESS:PORT [SOURCE-PORT]
call() {
  local outcome
  echo "${@:2}" >&"${ask[$1]}"
  read -r outcome <&"${told[$1]}"
  echo "$outcome"
}

# Milliseconds of the clock.
now() { echo $((${EPOCHREALTIME/./} / 1000)); }
