#!/bin/sh
# Runs a job with a leased environment, and gives the environment back whatever becomes of the job.
#
#   with-lease.sh --type TYPE [options] NAME -- COMMAND [ARGUMENT…]
#   with-lease.sh [--namespace NAMESPACE] --give-back NAME
#
# The first form makes the Lease NAME (a name for this run alone), waits until it is served, runs the command, and gives the
# lease back: when the command has ended, well or not, and on SIGTERM, SIGINT and SIGHUP, once it has ended the command. The
# second form is the net beneath, for the step that a pipeline runs in any case; it is content where nothing is left. Beneath
# that is the lease's own ttl, for machines that die.
#
#   --type TYPE             the kind of environment, as a Blueprint's resourceType
#   --selector KEY=VALUE,…  what its attributes must be
#   --queue-timeout TIME    give up when none was free for so long, as in 10m; default 30m
#   --ttl TIME              it is taken back after so long in any case; default 1h. More than the job's own time limit
#   --namespace NAMESPACE   where to lease it; default: the kubeconfig's
#
# The command sees LEASE (the lease's name), LEASE_RESOURCE (what is leased), and as JSON LEASE_OUTPUTS and LEASE_INTERFACES.
# The exit code is the command's; 128 + the signal's number where one came; 75 where there was no environment, or it was taken
# back before the command had ended: the lease's conditions, on standard error, say why; 64 for wrong arguments.
#
# Needs: kubectl with a kubeconfig, or a Pod's service account, that may get, list, watch, create and delete leases.drydock.dev.
set -u

grace=5 # seconds that a command has, after a signal, to end by itself; CI systems wait little longer before they kill
lease_type='' selector='' queue_timeout=30m ttl=1h namespace='' name='' give_back_only=''
run='' owner='' said='' child='' watchdog='' signal='' code=0

say() { printf 'with-lease: %s\n' "$*" >&2; }
wrong() { say "$*; see the head of $0"; exit 64; }
k() { kubectl ${namespace:+"--namespace=$namespace"} "$@"; }
field() { k get leases.drydock.dev "$name" --ignore-not-found -o "jsonpath=$1"; }

# A condition in words: its reason and message.
why() {
  field "{range .status.conditions[?(@.type==\"$1\")]}{.reason}: {.message}{end}"
}

# Tries a few times: an API server may be away for a moment.
insist() {
  for pause in 1 2 4; do
    "$@" && return
    sleep "$pause"
  done
  "$@"
}

# It does not wait for the teardown: Drydock keeps the object until that is done.
give_back() {
  # A second signal must not cut this short.
  trap '' HUP INT TERM
  insist k delete leases.drydock.dev "$@" --ignore-not-found --wait=false --request-timeout=10s >&2 && return
  say "could not give it back; its ttl ends it"
  return 1
}

# By the label, not by the name: a namesake that another run has made stays, and what a cut-off request has made goes.
finish() {
  give_back --selector "with-lease=$run"
  rm -f "$said"
  exit "$code"
}

fail() {
  say "$*"
  code=75
  exit
}

# On a signal. Who waits for the child goes on when that has ended.
interrupted() {
  signal=$1
  [ -z "$child" ] || stop_child
}

stop_child() {
  kill -s TERM "$child" 2>/dev/null
  (sleep "$grace" && kill -s KILL "$child") >/dev/null 2>&1 3<&- &
  watchdog=$!
}

leave_if_interrupted() {
  [ -n "$signal" ] || return 0
  say "ended by signal $signal"
  code=$((128 + signal))
  exit
}

# Runs a program beside this shell, which would hear no signal while it waits for one in front; returns its exit code.
beside() {
  "$@" <&3 3<&- &
  child=$!
  [ -z "$signal" ] || stop_child # it came a moment too early to be passed on
  wait "$child"
  ended=$?
  while kill -0 "$child" 2>/dev/null; do # a signal has ended the waiting, not the child
    wait "$child"
    ended=$?
  done
  child=''
  [ -z "$watchdog" ] || kill "$watchdog" 2>/dev/null
  return "$ended"
}

manifest() {
  labels=$(printf '%s' "$selector" | sed 's/["\\]//g; s/\([^=,]*\)=\([^,]*\)/"\1": "\2"/g')
  cat <<MANIFEST
{
  "apiVersion": "drydock.dev/v1alpha1",
  "kind": "Lease",
  "metadata": {"name": "$name", "labels": {"with-lease": "$run"}, "annotations": {$owner}},
  "spec": {
    "resourceType": "$lease_type",
    "selector": {"matchLabels": {$labels}},
    "queueTimeout": "$queue_timeout",
    "ttl": "$ttl"
  }
}
MANIFEST
}

# Whoever the kubeconfig stands for, as an annotation.
me() {
  user=$(k auth whoami --request-timeout=10s -o 'jsonpath={.status.userInfo.username}') || return
  printf '"drydock.dev/owner": "%s"' "$(printf '%s' "$user" | sed 's/["\\]/\\&/g')"
}

create() {
  answer=$(manifest | k create --request-timeout=30s -f - 2>&1)
  created=$?
  leave_if_interrupted
  # Before Kubernetes 1.36 nothing else says who made it, where policies.ownerOnly asks for that.
  case $owner$answer in "Error from server"*"add drydock.dev/owner"*) owner=$(me) && create && return ;; esac
  [ "$created" -eq 0 ] || fail "$answer"
  say "$answer"
}

# Settled is True when there is nothing more to wait for: the lease is ready, or it has ended.
await() {
  failures=0
  while :; do
    beside kubectl ${namespace:+"--namespace=$namespace"} wait --for=condition=Settled --timeout=60s \
      "leases.drydock.dev/$name" >"$said" 2>&1
    waited=$?
    leave_if_interrupted
    [ "$waited" -ne 0 ] || break
    tell_why_it_waits
  done
  [ "$(field '{.status.conditions[?(@.type=="Ready")].status}')" = True ] && return
  fail "there is no environment. Released: $(why Released). Acquired: $(why Acquired)"
}

tell_why_it_waits() {
  case $(cat "$said") in
    *"timed out waiting"*)
      failures=0
      reason=$(why Acquired)
      say "waits: ${reason:-nothing is said of it yet; does the controller of Drydock look after this namespace?}"
      ;;
    *)
      failures=$((failures + 1))
      [ "$failures" -lt 5 ] || fail "$(cat "$said")"
      beside sleep "$failures"
      leave_if_interrupted
      ;;
  esac
}

job() {
  LEASE=$name
  LEASE_RESOURCE=$(field '{.status.resourceRef.name}')
  LEASE_OUTPUTS=$(field '{.status.outputs}')
  LEASE_INTERFACES=$(field '{.status.interfaces}')
  export LEASE LEASE_RESOURCE LEASE_OUTPUTS LEASE_INTERFACES
  say "has $LEASE_RESOURCE"
  beside "$@"
  code=$?
  leave_if_interrupted
  # What a command says that had lost its environment is worth nothing.
  ready=$(insist field '{.status.conditions[?(@.type=="Ready")].status}') || return
  [ "$ready" != True ] || return
  say "the lease was over before the command. Released: $(why Released)"
  [ "$code" -ne 0 ] || code=75
}

while [ $# -gt 0 ]; do
  case $1 in
    --type | --selector | --queue-timeout | --ttl | --namespace) [ $# -gt 1 ] || wrong "$1 needs a value" ;;
  esac
  case $1 in
    --type) lease_type=$2 && shift ;;
    --selector) selector=$2 && shift ;;
    --queue-timeout) queue_timeout=$2 && shift ;;
    --ttl) ttl=$2 && shift ;;
    --namespace) namespace=$2 && shift ;;
    --give-back) give_back_only=yes ;;
    --) shift && break ;;
    -*) wrong "there is no option $1" ;;
    *) [ -z "$name" ] || wrong "one name, and not $1 too" && name=$1 ;;
  esac
  shift
done
[ -n "$name" ] || wrong "the lease needs a name"
if [ -n "$give_back_only" ]; then
  [ $# -eq 0 ] || wrong "--give-back runs no command"
  give_back "$name"
  exit
fi
[ -n "$lease_type" ] || wrong "--type is needed"
[ $# -gt 0 ] || wrong "a command is needed, after --"

run=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
said=$(mktemp) || exit
exec 3<&0 # the command's standard input; what runs beside a shell would have none
trap finish EXIT
trap 'interrupted 1' HUP
trap 'interrupted 2' INT
trap 'interrupted 15' TERM
create
await
job "$@"
exit
