#!/bin/sh
# Runs a job with a leased environment, and gives the environment back whatever becomes of the job.
#
#   with-lease.sh --type TYPE [options] NAME -- COMMAND [ARGUMENT…]
#   with-lease.sh [--namespace NAMESPACE] [--run ID] --give-back [NAME]
#
# The first form makes the Lease NAME, waits until it is served, runs the command, and gives the lease back: when the command has
# ended, well or not, and on SIGTERM, SIGINT and SIGHUP, once it has ended the command. The second form is the net beneath, for the
# step that a pipeline runs in any case: it gives back what this very run has made and no other lease, and is content where
# nothing is left. Beneath that is the lease's own ttl, for machines that die.
#
#   --type TYPE             the kind of environment, as a Blueprint's resourceType
#   --selector SELECTOR     what its attributes must be, as kubectl takes it: 'arch=arm64, disk in (ssd,nvme), !broken'
#   --parameter KEY=VALUE   what it is made with, where its Blueprint lists the parameter; may be repeated
#   --subject KIND:NAME     who is to use it, where its Blueprint binds subjects: User:NAME, Group:NAME or
#                           ServiceAccount:NAMESPACE:NAME; may be repeated
#   --queue-timeout TIME    give up when none was free for so long, as in 10m; default 30m
#   --ttl TIME              it is taken back after so long in any case; default 1h. More than the job's own time limit
#   --namespace NAMESPACE   where to lease it; default: the kubeconfig's
#   --run ID                what tells this run from every other; for pipelines whose last step runs on another machine. That step
#                           then needs no NAME, and gives back all that the run has made
#
# NAME should differ for each job of each run, the jobs of a matrix included. What Kubernetes does not take as a name (a branch's
# slashes and capitals) is replaced, and a checksum added. Where there is a lease of that name already, made by an earlier attempt
# or by another run, the script waits until that is gone, at most for the queue timeout, and leaves it alone.
#
# The command sees LEASE (the lease's name), LEASE_RESOURCE (what is leased), and as JSON LEASE_OUTPUTS and LEASE_INTERFACES. It runs
# in a process group of its own. When its environment is taken back before it has ended (the ttl, a release, a drained host) the
# whole group has SIGTERM at once, and SIGKILL five seconds later: somebody else has the environment then. Where the API server
# cannot be asked the command goes on.
#
# The exit code is the command's; 128 + the signal's number where one came; 75 where there was no environment, or it was taken
# back before the command had ended, whatever the command says: the lease's conditions, on standard error, say why; 64 for
# wrong arguments.
#
# Calls to the API server that fail in passing are repeated: for two minutes, and for ten seconds where it refuses the credentials
# from the beginning. Which lease a run has made is kept for --give-back in a file below WITH_LEASE_STATE; default: RUNNER_TEMP,
# which is GitHub's, else ~/.local/state.
#
# Needs: kubectl with a kubeconfig, or a Pod's service account, that may get, list, watch, create and delete leases.drydock.dev; awk.
# shellcheck disable=SC2317,SC3028 # traps call what nothing else does; BASHPID is bash's alone, and said so where it is used
set -u

grace=5      # seconds that a command has, after a signal, to end by itself; CI systems wait little longer before they kill
patience=120 # seconds for which a call that fails in passing is repeated
lease_type='' selector='' queue_timeout=30m ttl=1h namespace='' name='' run='' give_back_only='' uid='' parameters='' subjects=''
work='' attempt='' owner='' created='' served='' child='' group='' watcher='' watchdog='' orphanage='' signal='' lost='' code=0

say() { printf 'with-lease: %s\n' "$*" >&2; }
wrong() { say "$*; see the head of $0"; exit 64; }
k() { kubectl ${namespace:+"--namespace=$namespace"} "$@"; }
now() { date +%s; }

fail() {
  say "$*"
  code=75
  exit
}

# --- words ---

# A text as a JSON string.
json() {
  TEXT=$1 LC_ALL=C awk 'BEGIN {
    for (i = 1; i < 32; i++) code[sprintf("%c", i)] = sprintf("\\u%04x", i)
    code["\""] = "\\\""; code["\\"] = "\\\\"
    n = length(s = ENVIRON["TEXT"])
    printf "\""
    for (i = 1; i <= n; i++) { c = substr(s, i, 1); printf "%s", (c in code) ? code[c] : c }
    printf "\""
  }'
}

# Whether the whole of a text matches an extended regular expression.
matches() {
  case $1 in *'
'*) return 1 ;; esac
  printf '%s\n' "$1" | LC_ALL=C grep -Eqx -e "$2"
}

# word TEXT LENGTH: a text as a name or label value of at most this length: itself, or what is left of it and a checksum.
word() {
  if [ "${#1}" -le "$2" ] && matches "$1" '[a-z0-9]([-a-z0-9.]*[a-z0-9])?' && ! matches "$1" '.*(\.\.|\.-|-\.).*'; then
    printf '%s' "$1"
    return
  fi
  left=$(printf '%s' "$1" | LC_ALL=C tr '[:upper:]' '[:lower:]' | LC_ALL=C tr -cs 'a-z0-9' '-' | cut -c1-50 | sed 's/^-//; s/-$//')
  printf '%s-%s' "${left:-lease}" "$(printf '%s' "$1" | cksum | cut -d ' ' -f 1)"
}

# A duration of the API (1h30m, 500ms) in whole seconds.
seconds() {
  TIME=$1 awk 'BEGIN {
    of["h"] = 3600; of["m"] = 60; of["s"] = 1; of["ms"] = 0.001
    for (s = ENVIRON["TIME"]; match(s, /^[0-9]+(ms|h|m|s)/); s = substr(s, RLENGTH + 1)) {
      part = substr(s, 1, RLENGTH); unit = part; sub(/[0-9]+/, "", unit); sum += part * of[unit]
    }
    printf "%d", sum
  }'
}

# A selector in the words of kubectl as that of the API; or what is wrong with it, and exit code 1. The grammar is that of
# k8s.io/apimachinery/pkg/labels.
selector_json() {
  SELECTOR=$1 LC_ALL=C awk '
  function refuse(why) { print why; exit 1 }
  function scan(s,   rest) {
    rest = s
    while (1) {
      sub(/^[ \t\r\n]+/, "", rest)
      if (rest == "") { kind[n + 1] = "end"; return }
      n++; kind[n] = "word"
      if (match(rest, /^(==|!=|=|!|\(|\)|,|<|>)/)) kind[n] = substr(rest, 1, RLENGTH)
      else match(rest, /^[^ \t\r\n=!(),<>]+/)
      text[n] = substr(rest, 1, RLENGTH)
      rest = substr(rest, RLENGTH + 1)
    }
  }
  function found() { return kind[at] == "end" ? "its end" : "\"" text[at] "\"" }
  function key(   whole, name, parts) {
    if (kind[at] != "word") refuse("there is " found() " where a key is expected")
    whole = name = text[at]
    if (parts = index(whole, "/")) {
      name = substr(whole, parts + 1); whole = substr(whole, 1, parts - 1)
      if (length(whole) > 253 || whole !~ /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/)
        refuse("the key \"" text[at] "\" has no domain before its /")
    }
    if (length(name) > 63 || name !~ /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/)
      refuse("\"" text[at] "\" is no key: letters, digits, -, _ and ., at most 63 of them, with a letter or digit at both ends")
    return text[at++]
  }
  function value(s) {
    if (length(s) > 63 || s !~ /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/)
      refuse("\"" s "\" is no value: letters, digits, -, _ and ., at most 63 of them, with a letter or digit at both ends")
    return "\"" s "\""
  }
  function exact() { return value(kind[at] == "word" ? text[at++] : "") }
  function list(   all, one) {
    if (kind[at++] != "(") { at--; refuse("there is " found() " where ( is expected") }
    do {
      one = exact()
      all = all (all == "" ? "" : ", ") one
      if (kind[at] != "," && kind[at] != ")") refuse("there is " found() " where , or ) is expected")
    } while (kind[at++] == ",")
    return all
  }
  function expression(k, operator, values) {
    expressions = expressions (expressions == "" ? "" : ", ") "{\"key\": \"" k "\", \"operator\": \"" operator "\"" \
      (values == "" ? "" : ", \"values\": [" values "]") "}"
  }
  function requirement(   k, v) {
    if (kind[at] == "!") { at++; expression(key(), "DoesNotExist"); return }
    k = key()
    if (kind[at] == "end" || kind[at] == ",") { expression(k, "Exists"); return }
    if (kind[at] == "=" || kind[at] == "==") {
      at++; v = exact()
      if ((k in label) && label[k] != v) refuse(k " cannot be both " label[k] " and " v "; for either write " k " in (…)")
      if (!(k in label)) labels = labels (labels == "" ? "" : ", ") "\"" k "\": " v
      label[k] = v
    }
    else if (kind[at] == "!=") { at++; expression(k, "NotIn", exact()) }
    else if (kind[at] == "word" && text[at] == "in") { at++; expression(k, "In", list()) }
    else if (kind[at] == "word" && text[at] == "notin") { at++; expression(k, "NotIn", list()) }
    else if (kind[at] == "<" || kind[at] == ">") refuse("the attributes of environments cannot be compared by " kind[at])
    else refuse("there is " found() " after " k ", where =, ==, !=, in or notin is expected")
  }
  BEGIN {
    scan(ENVIRON["SELECTOR"]); at = 1
    while (kind[at] != "end") {
      requirement()
      if (kind[at] == "end") break
      if (kind[at++] != ",") { at--; refuse("there is " found() " where , is expected") }
      if (kind[at] == "end") refuse("nothing comes after the last ,")
    }
    if (expressions != "") expressions = ", \"matchExpressions\": [" expressions "]"
    printf "{\"matchLabels\": {%s}%s}", labels, expressions
  }'
}

add_parameter() {
  case $1 in [!=]*=*) ;; *) wrong "--parameter $1: write KEY=VALUE" ;; esac
  parameters="$parameters${parameters:+, }$(json "${1%%=*}"): $(json "${1#*=}")"
}

add_subject() {
  of=${1#*:} rbac='"apiGroup": "rbac.authorization.k8s.io"'
  case $1 in
    [Uu]ser:?*) subject="\"kind\": \"User\", $rbac, \"name\": $(json "$of")" ;;
    [Gg]roup:?*) subject="\"kind\": \"Group\", $rbac, \"name\": $(json "$of")" ;;
    [Ss]ervice[Aa]ccount:?*[:/]?*)
      subject="\"kind\": \"ServiceAccount\", \"namespace\": $(json "${of%%[:/]*}"), \"name\": $(json "${of#*[:/]}")"
      ;;
    *) wrong "--subject $1: write User:NAME, Group:NAME or ServiceAccount:NAMESPACE:NAME" ;;
  esac
  subjects="$subjects${subjects:+, }{$subject}"
}

# --- processes and signals ---

# On a signal. Who waits for the child goes on when that has ended.
interrupted() {
  signal=$1 trapped=yes
  [ -z "$child" ] || stop_child
}

# The watch says that the lease is over.
taken_back() {
  lost=yes trapped=yes
  [ -z "$group" ] || stop_child
}

# To the whole of a process group, or to the one process where there is no group, or not yet. (No other form of kill takes a group
# in dash, bash and busybox.)
send() { kill "-$1" "-$2" 2>/dev/null || kill "-$1" "$2" 2>/dev/null; }

stop_child() {
  send TERM "$child"
  [ -z "$watchdog" ] || return 0
  (sleep "$grace" && send KILL "$child") </dev/null >/dev/null 2>&1 3<&- 4>&- &
  watchdog=$!
}

leave_if_interrupted() {
  [ -n "$signal" ] || return 0
  say "ended by signal $signal"
  code=$((128 + signal))
  exit
}

# Ends what runs beside this shell. By SIGKILL: a subshell of bash that has just begun takes others for signals to this one.
drop() { [ -z "$1" ] || kill -KILL "$1" 2>/dev/null || :; }

# Waits for the child; returns its exit code.
ended() {
  [ -z "$signal" ] || stop_child # it came a moment too early to be passed on
  status=''
  while :; do
    trapped=''
    wait "$child"
    answer=$?
    [ "$answer" -eq 127 ] && [ -n "$status" ] || status=$answer # 127: the wait before has told it
    [ -n "$trapped" ] || return "$status" # or a signal has ended the waiting, and not the child
  done
}

# Runs a program beside this shell, which would hear no signal while it waits for one in front; returns its exit code.
beside() {
  "$@" 3<&- 4>&- &
  child=$!
  ended
  status=$?
  child=''
  drop "$watchdog"
  watchdog=''
  return "$status"
}

# Starts the command in a process group of its own, so that all that it has started can be ended with it.
start_apart() {
  group=yes
  if ! command -v setsid >/dev/null 2>&1; then
    set -m 2>/dev/null
    "$@" <&3 3<&- &
    child=$!
    set +m
    return
  fi
  # Where this script is killed nobody else ends what runs in another session. Its end is that of a pipe which nothing else holds.
  # Whoever waits for it is there before the command, and the command says which process it is before it begins.
  if ! mkfifo "$work/alive"; then
    setsid "$@" <&3 3<&- &
    child=$!
    return
  fi
  exec 4<>"$work/alive"
  # shellcheck disable=SC2016
  setsid sh -c 'read -r child; read -r _; kill "$1"; kill -TERM "-$child" && sleep "$2" && kill -KILL "-$child"' sh "$watcher" "$grace" \
    <"$work/alive" >/dev/null 2>&1 3<&- 4>&- &
  orphanage=$!
  # shellcheck disable=SC2016
  setsid sh -c 'echo "$$" >&4; exec 4>&-; exec "$@"' sh "$@" <&3 3<&- &
  child=$!
}

# Runs the command to its end, or ends it: on a signal, or when the lease is over.
apart() {
  start_apart "$@"
  [ -z "$lost" ] || stop_child
  ended
  status=$?
  if [ -n "$signal$lost" ]; then # what it has started may not have heard it
    left=$grace
    while kill -0 "-$child" 2>/dev/null && [ "$left" -ge 0 ]; do
      sleep 1
      left=$((left - 1))
    done
    send KILL "$child"
  fi
  group='' child=''
  drop "$watchdog"
  drop "$orphanage"
  exec 4>&-
  return "$status"
}

# --- the API server ---

# Whether asking again cannot help, after kubectl has said this.
refused_for_good() {
  case $1 in
    *"failed to download openapi"* | *"failed calling webhook"*) return 1 ;;
    *"(Invalid)"* | *" is invalid"* | *"(BadRequest)"* | *"(AlreadyExists)"* | *denied*request* | *"add drydock.dev/owner"*) ;;
    *"error validating"* | *"invalid configuration"* | *"error loading config"* | *"context was not found"* | *"context "*"does not exist"*) ;;
    *"unknown flag"* | *"unknown command"*) ;;
    *"(NotFound)"*"leases.drydock.dev"*'"'"$name"'"'*) ;;
    *) return 1 ;;
  esac
}

# Whether the API server does not know the credentials or the path, as also a moment after it has started.
not_known() {
  case $1 in
    *"(Forbidden)"* | *"(Unauthorized)"* | *"logged in"* | *"(NotFound)"* | *"could not find the requested"* | *"have a resource type"*) ;;
    *) return 1 ;;
  esac
}

# Calls kubectl until it answers; its answer is in $work/out, or why there is none in $work/err. A few words of a call that is
# repeated go to standard error.
call() {
  began=$(now) pause=1
  while :; do
    beside kubectl ${namespace:+"--namespace=$namespace"} --request-timeout=10s "$@" </dev/null >"$work/out" 2>"$work/err"
    status=$?
    leave_if_interrupted
    [ "$status" -ne 0 ] || { served=yes && return; }
    limit=$patience
    why=$(cat "$work/err")
    if [ "$status" -eq 127 ] || refused_for_good "$why"; then return 1; fi
    if not_known "$why"; then if [ -n "$served" ]; then limit=60; else limit=10; fi; fi
    [ $(($(now) - began + pause)) -le "$limit" ] || return 1
    say "trying again in ${pause}s: $why"
    beside sleep "$pause"
    leave_if_interrupted
    [ "$pause" -ge 8 ] || pause=$((pause * 2))
  done
}

field() { k get leases.drydock.dev "$name" --ignore-not-found --request-timeout=10s -o "jsonpath=$1"; }

# A condition in words: its reason and message.
why() {
  field "{range .status.conditions[?(@.type==\"$1\")]}{.reason}: {.message}{end}" 2>/dev/null || echo 'nobody could be asked'
}

# Where the lease stands: 0 it is this attempt's and ready, 1 it is over or gone, 2 that cannot be said now. Only a proper answer
# makes it over: an API server that is away, or that has just started, gives none.
standing() {
  if seen=$(field '{.metadata.uid} {.metadata.deletionTimestamp} {.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null); then
    case $seen in
      "$uid  True") return 0 ;;
      "$uid "[0-9]* | "$uid  False") return 1 ;;
      "$uid "*) return 2 ;;
    esac
    # There is none, or another has its name: the list says the same, and fails where the path is not served.
    seen=$(k get leases.drydock.dev --field-selector "metadata.name=$name" --request-timeout=10s -o 'jsonpath={.items[*].metadata.uid}' 2>/dev/null) || return 2
    [ "$seen" = "$uid" ] || return 1
  fi
  return 2
}

# Tells this shell when the lease is over, while the command runs.
watch_over() {
  while kill -0 "$$"; do
    kubectl ${namespace:+"--namespace=$namespace"} wait --for=condition=Ready=False --timeout=60s "leases.drydock.dev/$name" &
    echo "$!" >"$work/watch"
    wait "$!"
    standing
    [ $? -ne 1 ] || { kill -s USR1 "$$"; exit; }
    sleep 1 # a watch that is cut at once is not begun again at once
  done
}

stop_watching() {
  drop "$watcher"
  watcher=''
  drop "$(cat "$work/watch" 2>/dev/null)"
}

# Gives back the leases that these arguments name. It does not wait for the teardown: Drydock keeps the object until that is done.
give_back() {
  # A second signal must not cut this short.
  trap '' HUP INT TERM
  for pause in 1 2 4 8 15 30; do
    answer=$(k delete leases.drydock.dev "$@" --wait=false --request-timeout=10s 2>&1) && say "$answer" && return
    say "$answer"
    [ "$pause" -lt 30 ] || break
    [ "$pause" -lt 4 ] || [ -n "$served" ] || ! not_known "$answer" || break
    sleep "$pause"
  done
  say "could not give it back; its ttl ends it"
  return 1
}

# --- what this run has made ---

state_file() {
  folder=${WITH_LEASE_STATE:-${RUNNER_TEMP:-${XDG_STATE_HOME:-${HOME:-/tmp}/.local/state}}}/with-lease
  printf '%s/%s' "$folder" "$(printf '%s/%s' "$namespace" "$name" | cksum | cut -d ' ' -f 1)-$name"
}

# By the label, not by the name: a namesake that another run has made stays, and what a cut-off request has made goes.
finish() {
  [ "${BASHPID:-$$}" = "$$" ] || exit # a subshell of bash is not to do it
  [ -z "$watcher" ] || stop_watching
  if [ -z "$created" ] || give_back --selector "with-lease=$attempt"; then
    [ "$(cat "$state" 2>/dev/null)" != "$attempt" ] || rm -f "$state"
  fi
  rm -rf "$work"
  exit "$code"
}

# The net beneath.
give_back_what_is_left() {
  if [ -n "$run" ]; then
    give_back --selector "with-lease-run=$run" ${name:+"--field-selector=metadata.name=$name"}
    return
  fi
  state=$(state_file)
  if ! attempt=$(cat "$state" 2>/dev/null) || [ -z "$attempt" ]; then
    say "this run has made no lease $name, or it has given it back: nothing to do"
    return
  fi
  give_back --selector "with-lease=$attempt" && rm -f "$state"
}

# --- the lease ---

manifest() {
  cat <<MANIFEST
{
  "apiVersion": "drydock.dev/v1alpha1",
  "kind": "Lease",
  "metadata": {
    "name": "$name",
    "labels": {"with-lease": "$attempt"${run:+, \"with-lease-run\": \"$run\"}},
    "annotations": {$owner}
  },
  "spec": {
    "resourceType": $(json "$lease_type"),
    "selector": $selector,
    "parameters": {$parameters},
    "subjects": [$subjects],
    "queueTimeout": $(json "$queue_timeout"),
    "ttl": $(json "$ttl")
  }
}
MANIFEST
}

create() {
  taken_since=''
  while :; do
    manifest >"$work/lease.json"
    created=yes
    call create -f "$work/lease.json" && break
    refusal=$(cat "$work/err")
    case $refusal in
      *"(AlreadyExists)"*)
        # Its own, where an answer was lost; or another's.
        call get leases.drydock.dev "$name" -o 'jsonpath={.metadata.labels.with-lease} {.status.phase} {.metadata.deletionTimestamp}' ||
          continue
        there=$(cat "$work/out")
        [ "${there%% *}" != "$attempt" ] || break
        await_the_name
        ;;
      *)
        # Before Kubernetes 1.36 nothing else says who made it, where policies.ownerOnly asks for that.
        case $owner$refusal in "Error from server"*"add drydock.dev/owner"*) me && continue ;; esac
        fail "${refusal:-kubectl does not run}"
        ;;
    esac
  done
  say "lease.drydock.dev/$name created"
}

# Whoever the kubeconfig stands for, as an annotation.
me() {
  call auth whoami -o 'jsonpath={.status.userInfo.username}' || return
  owner="\"drydock.dev/owner\": $(json "$(cat "$work/out")")"
}

# Waits until the lease that has the name is gone, for as long as this one would have waited in the queue.
await_the_name() {
  [ -n "$taken_since" ] || { taken_since=$(now) && whole=$(seconds "$queue_timeout"); }
  left=$((whole - $(now) + taken_since))
  [ "$left" -gt 0 ] || fail "a lease $name already exists, and is not gone after the queue timeout: $refusal"
  queue_timeout=${left}s
  case $there in
    # The record of one that was over before its job could give it back: it holds nothing.
    [!\ ]*" Destroyed ") k delete leases.drydock.dev --selector "with-lease=${there%% *}" --request-timeout=10s --wait=false >&2 ;;
  esac
  say "a lease $name already exists (${there#* }): waiting until it is gone, at most $left s"
  [ "$left" -le 60 ] || left=60
  beside kubectl ${namespace:+"--namespace=$namespace"} wait --for=delete "--timeout=${left}s" "leases.drydock.dev/$name" </dev/null >/dev/null 2>"$work/err"
  leave_if_interrupted
  case $(cat "$work/err") in '' | *"timed out waiting"*) ;; *) beside sleep 1 ;; esac
  leave_if_interrupted
}

# Settled is True when there is nothing more to wait for: the lease is ready, or it has ended.
await() {
  failing_since=''
  while :; do
    beside kubectl ${namespace:+"--namespace=$namespace"} wait --for=condition=Settled --timeout=60s "leases.drydock.dev/$name" \
      </dev/null >/dev/null 2>"$work/err"
    waited=$?
    leave_if_interrupted
    [ "$waited" -ne 0 ] || break
    case $(cat "$work/err") in
      *"timed out waiting"*)
        failing_since=''
        reason=$(why Acquired)
        say "waits: ${reason:-nothing is said of it yet; does the controller of Drydock look after this namespace?}"
        ;;
      *)
        [ -n "$failing_since" ] || failing_since=$(now)
        [ $(($(now) - failing_since)) -le "$patience" ] || fail "$(cat "$work/err")"
        # Gone, where the list says so too.
        case $(cat "$work/err") in *"(NotFound)"*)
          left=$(k get leases.drydock.dev --selector "with-lease=$attempt" --request-timeout=10s -o name 2>/dev/null) && [ -z "$left" ] &&
            fail "there is no environment: the lease $name was deleted before it was served"
          ;;
        esac
        beside sleep 2
        leave_if_interrupted
        ;;
    esac
  done
  look
  [ "$ready" = True ] && [ -n "$LEASE_RESOURCE" ] && return
  fail "there is no environment. Released: $(why Released). Acquired: $(why Acquired)"
}

# Reads all that the command is to know in one answer.
look() {
  call get leases.drydock.dev "$name" -o 'jsonpath={.metadata.uid}{"\n"}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{.status.resourceRef.name}{"\n"}{.status.outputs}{"\n"}{.status.interfaces}{"\n"}' ||
    fail "there is no environment: $(cat "$work/err")"
  {
    IFS= read -r uid
    IFS= read -r ready
    IFS= read -r LEASE_RESOURCE
    IFS= read -r LEASE_OUTPUTS
    IFS= read -r LEASE_INTERFACES
  } <"$work/out"
}

job() {
  LEASE=$name
  [ -n "$LEASE_OUTPUTS" ] || LEASE_OUTPUTS='{}'
  [ -n "$LEASE_INTERFACES" ] || LEASE_INTERFACES='[]'
  export LEASE LEASE_RESOURCE LEASE_OUTPUTS LEASE_INTERFACES
  say "has $LEASE_RESOURCE"
  trap taken_back USR1
  watch_over </dev/null >/dev/null 2>&1 3<&- &
  watcher=$!
  apart "$@"
  code=$?
  stop_watching
  trap '' USR1
  leave_if_interrupted
  # What a command says that had lost its environment is worth nothing.
  for pause in 1 2 4 0; do
    [ -z "$lost" ] || break
    standing
    case $? in 0) return ;; 1) lost=yes ;; *) sleep "$pause" ;; esac
  done
  [ -n "$lost" ] || return
  say "the lease was over before the command, which ended with $code. Released: $(why Released)"
  code=75
}

while [ $# -gt 0 ]; do
  case $1 in
    --type | --selector | --parameter | --subject | --queue-timeout | --ttl | --namespace | --run) [ $# -gt 1 ] || wrong "$1 needs a value" ;;
  esac
  case $1 in
    --type) lease_type=$2 && shift ;;
    --selector) selector=$2 && shift ;;
    --parameter) add_parameter "$2" && shift ;;
    --subject) add_subject "$2" && shift ;;
    --queue-timeout) queue_timeout=$2 && shift ;;
    --ttl) ttl=$2 && shift ;;
    --namespace) namespace=$2 && shift ;;
    --run) [ -n "$2" ] || wrong "--run needs a value that is not empty" && run=$(word "$2" 63) && shift ;;
    --give-back) give_back_only=yes ;;
    --) shift && break ;;
    -*) wrong "there is no option $1" ;;
    *) [ -z "$name" ] || wrong "one name, and not $1 too" && name=$1 ;;
  esac
  shift
done
if [ -z "$name" ] && { [ -z "$give_back_only" ] || [ -z "$run" ]; }; then wrong "the lease needs a name"; fi
[ -z "$name" ] || name=$(word "$name" 253)
if [ -n "$give_back_only" ]; then
  [ $# -eq 0 ] || wrong "--give-back runs no command"
  give_back_what_is_left
  exit
fi
[ -n "$lease_type" ] || wrong "--type is needed"
[ $# -gt 0 ] || wrong "a command is needed, after --"
selector=$(selector_json "$selector") || wrong "--selector: $selector"

attempt=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
work=$(mktemp -d) || exit
state=$(state_file)
(umask 077 && mkdir -p "${state%/*}" && printf '%s\n' "$attempt" >"$state") 2>/dev/null ||
  say "cannot write $state: --give-back will not know this lease; set WITH_LEASE_STATE"
exec 3<&0 # the command's standard input; what runs beside a shell would have none
trap finish EXIT
trap 'interrupted 1' HUP
trap 'interrupted 2' INT
trap 'interrupted 15' TERM
create
await
job "$@"
exit
