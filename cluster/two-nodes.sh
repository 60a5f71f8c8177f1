#!/usr/bin/env bash
# Two real Ray nodes on one Linux machine, each in a network namespace: what a search does on a cluster, tried before
# there is one. Needs root (network and process namespaces), iproute2, util-linux, and `ray` on the PATH or in .venv.
#
#   sudo -E env PATH="$PATH" cluster/two-nodes.sh up
#   eval "$(cluster/two-nodes.sh env)"
#   ray job submit --working-dir . -- python -m ambient_ray.search study=two output_dir="$PWD/outputs" \
#     trial.workers=2 trial.cpus_per_worker=2
#   sudo cluster/two-nodes.sh down
#
#   up          both nodes, token authentication on; waits until jobs can be submitted
#   down        ends both and removes all that `up` made; what is not there is no error
#   env         prints what to export for `ray job submit`
#   status      which nodes run, and where their logs are
#   cut, heal   the network between the nodes: packets vanish, as behind a switch that has failed
#   kill-node   SIGKILL to the second node's raylet; the rest of that node ends with it, as a pod does
#   start-node  the second node again, a new one for Ray
#   net         the namespaces alone, without Ray (for `ray symmetric-run`)
#   exec        exec head|node COMMAND...: in a node's network, in a process namespace of its own
#
# Both nodes see the same files, as over NFS, but neither the other's loopback nor its processes. They have no way to
# the Internet: data sets and weights must be there already. Of the environment:
#   TWO_NODES_NAME       of the namespaces, default ambient; at most 9 letters. Several pairs may run side by side
#   TWO_NODES_NET        the first three numbers of the addresses, default 10.213.77
#   TWO_NODES_STATE      folder of token, logs and Ray's sessions, default /tmp/NAME-nodes; a short path, not on tmpfs
#   TWO_NODES_CPUS       of each node, default 2; TWO_NODES_HEAD_CPUS: the head's own, 0 as on Kubernetes
set -euo pipefail

name=${TWO_NODES_NAME:-ambient}
net=${TWO_NODES_NET:-10.213.77}
state=${TWO_NODES_STATE:-/tmp/$name-nodes}
cpus=${TWO_NODES_CPUS:-2}
head_cpus=${TWO_NODES_HEAD_CPUS:-$cpus}
head_ns=$name-head
node_ns=$name-node
head_ip=$net.2
node_ip=$net.3
token=$state/token

die() {
  echo "two-nodes.sh: $*" >&2
  exit 1
}

need_root() {
  [ "$(id -u)" -eq 0 ] || die "needs root, for network namespaces: sudo -E env PATH=\"\$PATH\" $0 ..."
  command -v ip > /dev/null || die "needs iproute2 (the command ip)"
  command -v unshare > /dev/null || die "needs util-linux (the command unshare)"
}

# The user who called sudo owns what is written, and runs the nodes.
as_user() {
  if [ -n "${SUDO_UID:-}" ]; then
    setpriv --reuid "$SUDO_UID" --regid "${SUDO_GID:-$SUDO_UID}" --init-groups -- "$@"
  else
    "$@"
  fi
}

find_ray() {
  local beside
  beside=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv/bin
  if ! command -v ray > /dev/null; then
    [ -x "$beside/ray" ] || die "found no ray: activate the environment first, or run make search once"
    PATH=$beside:$PATH
  fi
}

exists() { ip netns list | grep -qE "^$1( |\$)"; }

# --- the network --------------------------------------------------------------------------------------------------
# A bridge in the head's namespace carries the head's address; the second node and this machine are plugged into it.
# (Were it in the machine's own namespace, a firewall that filters bridges, as Docker sets one up, would be in between.)
make_network() {
  exists "$head_ns" && die "the nodes are up already; down ends them"
  [ "${#name}" -le 9 ] || die "TWO_NODES_NAME=$name is longer than 9 letters"
  ip link show "$name-host" > /dev/null 2>&1 && ip link delete "$name-host"
  ! ip -4 route get "$head_ip" 2> /dev/null | grep -qE 'dev (lo|.*-host)' || die "$net.0/24 is taken: set TWO_NODES_NET"
  ip netns add "$head_ns"
  ip netns add "$node_ns"
  ip -n "$head_ns" link set lo up
  ip -n "$node_ns" link set lo up
  ip -n "$head_ns" link add "$name" type bridge
  ip -n "$head_ns" addr add "$head_ip/24" dev "$name"
  ip -n "$head_ns" link set "$name" up
  ip link add "$name-host" type veth peer name host netns "$head_ns"
  ip -n "$head_ns" link set host master "$name" up
  ip addr add "$net.1/24" dev "$name-host"
  ip link set "$name-host" up
  ip -n "$head_ns" link add node type veth peer name head netns "$node_ns"
  ip -n "$head_ns" link set node master "$name" up
  ip -n "$node_ns" addr add "$node_ip/24" dev head
  ip -n "$node_ns" link set head up
}

# --- the nodes ----------------------------------------------------------------------------------------------------
# What every target of this folder sets on all of its nodes. Ray takes a node that is silent for dead after five checks of
# at most 10 s, 3 s apart. A network that was away for 30 s costs that many: TCP waits up to twice as long before it tries
# again. Ten checks of 5 s outlast it, and find a node that is gone within 80 s, one whose raylet alone died within 30 s.
environment() {
  export RAY_health_check_timeout_ms=${RAY_health_check_timeout_ms:-5000}
  export RAY_health_check_failure_threshold=${RAY_health_check_failure_threshold:-10}
  unset RAY_AUTH_TOKEN # one of another cluster would take precedence over the file
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token RAY_USAGE_STATS_ENABLED=0
  export PYTHONUNBUFFERED=1
  export RAY_JOB_STOP_WAIT_TIME_S=${RAY_JOB_STOP_WAIT_TIME_S:-60} # to close MLflow's runs; Ray's own 3 s are too few
}

# start_ray NAMESPACE ADDRESS ARGUMENTS...: a process namespace that ends as a whole when its first process does. Each
# node has its own folder for Ray's session, as two that share one remove each other's working directories.
start_ray() {
  local ns=$1 ip=$2 pid waited=0
  shift 2
  local kept=$state/${ns##*-} log=$state/${ns##*-}.log
  as_user mkdir -p "$kept"
  : > "$log"
  (
    environment
    # setsid: a Ctrl-C in the terminal is not for the nodes
    exec setsid ip netns exec "$ns" unshare --pid --fork --kill-child --mount-proc \
      ${SUDO_UID:+setpriv --reuid "$SUDO_UID" --regid "${SUDO_GID:-$SUDO_UID}" --init-groups --} \
      ray start --block --node-ip-address "$ip" --temp-dir "$kept" --object-store-memory 200000000 \
      --disable-usage-stats "$@"
  ) > "$log" 2>&1 < /dev/null &
  pid=$!
  echo "$pid" > "$state/${ns##*-}.pid"
  until grep -q "Ray runtime started" "$log"; do
    kill -0 "$pid" 2> /dev/null || die "the ${ns##*-} did not start: $(tail -n 5 "$log")"
    [ "$waited" -lt 3000 ] || die "the ${ns##*-} has not started within 5 minutes; its log is $log"
    waited=$((waited + 1))
    sleep 0.1
  done
}

start_head() {
  start_ray "$head_ns" "$head_ip" --head --port 6379 --num-cpus "$head_cpus" \
    --dashboard-host "$head_ip" --dashboard-port 8265
}

start_node() { start_ray "$node_ns" "$node_ip" --address "$head_ip:6379" --num-cpus "$cpus"; }

wait_for_jobs() {
  local waited=0
  until (: < "/dev/tcp/$head_ip/8265") 2> /dev/null; do
    [ "$waited" -lt 3000 ] || die "the job server has not answered within 5 minutes; the log is $state/head.log"
    waited=$((waited + 1))
    sleep 0.1
  done
}

# The processes of a node are those in its namespace, which nobody else has entered.
end_node() {
  local ns=$1 pid waited=0
  exists "$ns" || return 0
  for pid in $(ip netns pids "$ns"); do
    kill -KILL "$pid" 2> /dev/null || true
  done
  while [ -n "$(ip netns pids "$ns")" ]; do
    [ "$waited" -lt 100 ] || die "processes of $ns do not end: $(ip netns pids "$ns" | tr '\n' ' ')"
    waited=$((waited + 1))
    sleep 0.1
  done
  rm -f "$state/${ns##*-}.pid"
}

# --- the commands -------------------------------------------------------------------------------------------------
up() {
  need_root
  find_ray
  # Ray's sockets lie below it, and a socket's path has at most 107 letters.
  [ "${#state}" -le 36 ] || die "TWO_NODES_STATE=$state is too long for Ray's sockets: at most 36 letters"
  make_network
  trap 'down; exit 1' INT TERM
  trap '[ $? -eq 0 ] || clean_up_failure' EXIT
  [ ! -L "$state" ] || die "$state is a link"
  mkdir -p "$state"
  [ -O "$state" ] || [ -n "${SUDO_UID:-}" ] || die "$state belongs to another user"
  chmod 700 "$state"
  [ -z "${SUDO_UID:-}" ] || chown "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$state"
  (
    umask 077
    as_user tee "$token" < <(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n') > /dev/null
  )
  start_head
  start_node
  wait_for_jobs
  echo "two Ray nodes of $head_cpus and $cpus CPUs at $head_ip and $node_ip; eval \"\$($0 env)\", then ray job submit"
}

# A failed `up` leaves no processes and no namespaces, but its logs.
clean_up_failure() {
  end_node "$node_ns"
  end_node "$head_ns"
  remove_network
}

remove_network() {
  local ns
  for ns in "$node_ns" "$head_ns"; do
    if exists "$ns"; then ip netns delete "$ns"; fi
  done
  ip link show "$name-host" > /dev/null 2>&1 && ip link delete "$name-host"
  return 0
}

down() {
  need_root
  clean_up_failure
  if [ -f "$token" ] && [ ! -L "$state" ]; then rm -rf "$state"; fi
}

case ${1:-} in
  up) up ;;
  down) down ;;
  env)
    [ -f "$token" ] || die "the nodes are not up"
    echo "unset RAY_AUTH_TOKEN"
    echo "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token RAY_API_SERVER_ADDRESS=http://$head_ip:8265"
    ;;
  status)
    need_root
    for ns in "$head_ns" "$node_ns"; do
      count=$(if exists "$ns"; then ip netns pids "$ns" | wc -l; else echo 0; fi)
      echo "${ns##*-}: $count processes, log $state/${ns##*-}.log, Ray's logs $state/${ns##*-}/session_latest/logs"
    done
    ;;
  cut)
    need_root
    ip -n "$head_ns" link set node nomaster
    ;;
  heal)
    need_root
    ip -n "$head_ns" link set node master "$name"
    ;;
  kill-node)
    need_root
    found=
    for pid in $(ip netns pids "$node_ns"); do
      if [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = raylet ]; then
        kill -KILL "$pid"
        found=$pid
      fi
    done
    [ -n "$found" ] || die "the second node's raylet does not run"
    ;;
  start-node)
    need_root
    find_ray
    exists "$node_ns" || die "the nodes are not up"
    end_node "$node_ns" # what is left of it
    start_node
    ;;
  net)
    need_root
    make_network
    ;;
  exec)
    need_root
    case ${2:-} in
      head | node) ;;
      *) die "exec head|node COMMAND..." ;;
    esac
    where=$name-$2
    shift 2
    find_ray
    if [ -f "$token" ]; then environment; fi # with `net` alone the command brings its own
    # In a process namespace of its own, so that a `ray stop` in it ends what it has started and nothing else.
    exec ip netns exec "$where" unshare --pid --fork --kill-child --mount-proc "$@"
    ;;
  *)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
