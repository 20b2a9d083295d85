#!/usr/bin/env bash
# Purpose: a Ray head and an MLflow server on this machine, for `prism-ray submit`. MLflow, the dashboard and the job API
#          answer on loopback only. Ray's own node ports cannot be kept to loopback: a token guards them.
# Edit:    the site choices below, or give them as environment variables.
# Start:   cluster/local/cluster.sh start      prints the lines to copy for submitting and for comparing
# Check:   cluster/local/cluster.sh status
# Stop:    cluster/local/cluster.sh stop       ends the two that this script started, with their jobs, and no others
set -euo pipefail

STATE=${PRISM_RAY_LOCAL:-$HOME/.prism-ray/local}   # process ids, logs, MLflow's database and artifacts
RAY_PORT=${RAY_PORT:-6379}
DASHBOARD_PORT=${DASHBOARD_PORT:-8265}
MLFLOW_PORT=${MLFLOW_PORT:-5000}
N_CPUS=${N_CPUS:-$(nproc)}
OBJECT_STORE_BYTES=${OBJECT_STORE_BYTES:-500000000}
READY_TIMEOUT_S=${READY_TIMEOUT_S:-120}
STOP_TIMEOUT_S=${STOP_TIMEOUT_S:-20}
# Ray's sessions and sockets. A folder of its own, so that no other Ray of this machine is mistaken for this one; short,
# since a socket's path has 107 characters at most.
RAY_FOLDER=${RAY_FOLDER:-/tmp/prism-ray-$(id -u)-$RAY_PORT}
BIN=${BIN:-$(dirname "$(command -v ray || echo .venv/bin/ray)")}   # folder of the `ray` and `mlflow` commands

# Token authentication: every process on this machine that runs as you reads the same file.
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}
export RAY_TRAIN_ENABLE_PREEMPTION_WATCHER=0   # asks a cloud's metadata service, which is not here
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false   # GenAI jobs: seven more processes that nothing here uses
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0   # jobs end with the head; it would wait for them to move elsewhere
unset RAY_ADDRESS   # of another cluster

die() { echo "cluster.sh: $*" >&2; exit 2; }

started_at() { cut -d ' ' -f 22 "/proc/$1/stat" 2>/dev/null || echo gone; }

# A server runs while its process group does. After a reboot its number may be another program's: then the start differs.
alive() {
  local group start now
  [ -f "$STATE/$1.pid" ] && read -r group start <"$STATE/$1.pid" && kill -0 -- "-$group" 2>/dev/null || return 1
  now=$(started_at "$group")
  [ "$now" = "$start" ] || [ "$now" = gone ]
}

# Each server gets a process group of its own, so that stopping it takes its children and nobody else's.
launch() {
  local name=$1
  shift
  setsid "$@" >"$STATE/$name.log" 2>&1 </dev/null &
  echo "$! $(started_at $!)" >"$STATE/$name.pid"
  # On a busy machine its group may not be there yet, and a server without one counts as ended.
  until kill -0 -- "-$!" 2>/dev/null || ! kill -0 "$!" 2>/dev/null; do sleep 0.05; done
}

free_port() { "$BIN/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

check_port() {
  "$BIN/python" - "$2" 2>/dev/null <<'PY' || die "$1=$2 is in use or cannot be used; set $1 to a free port"
import socket, sys
probe = socket.socket()
probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
probe.bind(("", int(sys.argv[1])))
PY
}

needs_token_file() { [ "$RAY_AUTH_MODE" = token ] && [ -z "${RAY_AUTH_TOKEN:-}" ]; }

check_token_file() {
  needs_token_file && [ -n "${RAY_AUTH_TOKEN_PATH:-}" ] || return 0
  [ -s "$RAY_AUTH_TOKEN_PATH" ] || die "RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH is not a file with a token"
}

make_token() {
  needs_token_file && [ -z "${RAY_AUTH_TOKEN_PATH:-}" ] || return 0
  "$BIN/ray" get-auth-token --generate >/dev/null 2>"$STATE/token.log" || die "no token; see $STATE/token.log"
}

mlflow_ready() {
  "$BIN/python" - "http://127.0.0.1:$MLFLOW_PORT/health" 2>/dev/null <<'PY'
import sys, urllib.request
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(sys.argv[1], timeout=2)
PY
}

# Written by `ray start` when all of the head's processes run, the dashboard among them, which answers long before.
ray_ready() { [ -f "$RAY_FOLDER/ray_current_cluster" ]; }

wait_for() {
  local name=$1 end=$((SECONDS + READY_TIMEOUT_S))
  until "${name}_ready"; do
    alive "$name" || { tail -n 20 "$STATE/$name.log" >&2; die "$name ended at its start; see $STATE/$name.log"; }
    [ "$SECONDS" -lt "$end" ] || die "$name did not answer within $READY_TIMEOUT_S s; see $STATE/$name.log"
    sleep 0.5
  done
}

start() {
  [ -x "$BIN/ray" ] || die "no ray command in $BIN; run make install, or set BIN"
  if alive ray || alive mlflow; then die "already running; cluster/local/cluster.sh stop ends it"; fi
  BIN=$(cd "$BIN" && pwd)
  export PATH="$BIN:$PATH"   # a job's command line is looked up here: `prism-ray`
  check_token_file
  check_port RAY_PORT "$RAY_PORT"
  check_port DASHBOARD_PORT "$DASHBOARD_PORT"
  check_port MLFLOW_PORT "$MLFLOW_PORT"
  mkdir -p "$STATE"
  STATE=$(cd "$STATE" && pwd)
  mkdir -p "$RAY_FOLDER"
  [ -O "$RAY_FOLDER" ] || die "$RAY_FOLDER belongs to someone else; set RAY_FOLDER to a folder of yours"
  chmod 700 "$RAY_FOLDER"
  make_token
  rm -f "$RAY_FOLDER/ray_current_cluster"
  trap stop EXIT   # one server without the other is no use
  launch mlflow "$BIN/mlflow" server --host 127.0.0.1 --port "$MLFLOW_PORT" --workers 1 \
    --backend-store-uri "sqlite:///$STATE/mlflow.db" --artifacts-destination "$STATE/mlartifacts"
  # The ports that nobody types are free ones: Ray's fixed numbers would clash with another Ray of this machine.
  launch ray "$BIN/ray" start --head --block --disable-usage-stats --node-ip-address 127.0.0.1 --port "$RAY_PORT" \
    --include-dashboard true --dashboard-host 127.0.0.1 --dashboard-port "$DASHBOARD_PORT" \
    --dashboard-agent-listen-port 0 --ray-client-server-port "$(free_port)" --min-worker-port 0 --max-worker-port 0 \
    --num-cpus "$N_CPUS" --object-store-memory "$OBJECT_STORE_BYTES" --temp-dir "$RAY_FOLDER"
  wait_for ray
  wait_for mlflow
  trap - EXIT
  cat <<TEXT
Ray dashboard and jobs   http://127.0.0.1:$DASHBOARD_PORT
MLflow                   http://127.0.0.1:$MLFLOW_PORT
Submit a study:
  export RAY_AUTH_MODE=$RAY_AUTH_MODE
  prism-ray submit smoke --address http://127.0.0.1:$DASHBOARD_PORT --store \$PWD/demo/store \\
    --storage \$PWD/results --tracking-uri http://127.0.0.1:$MLFLOW_PORT --follow
TEXT
}

# Process groups of a server: its own, and those that Ray gave to workers and jobs below it.
groups_of() {
  ps -eo pid=,ppid=,pgid= | awk -v top="$1" '
    { parent[$1] = $2; group[$1] = $3 }
    END { for (pid in parent) { up = pid; while (up in parent && group[up] != top) up = parent[up]
                                if (up in parent) print group[pid] } }' | sort -u
}

signal_all() {
  local signal=$1 group
  shift
  for group in "$@"; do kill "-$signal" -- "-$group" 2>/dev/null || true; done
}

any_alive() {
  local group
  for group in "$@"; do if kill -0 -- "-$group" 2>/dev/null; then return 0; fi; done
  return 1
}

stop_one() {
  local name=$1 end=$((SECONDS + STOP_TIMEOUT_S)) leader groups
  if ! alive "$name"; then
    rm -f "$STATE/$name.pid"
    echo "$name: not running"
    return 0
  fi
  read -r leader _ <"$STATE/$name.pid"
  mapfile -t groups < <(groups_of "$leader")
  signal_all TERM "${groups[@]}"
  while any_alive "${groups[@]}" && [ "$SECONDS" -lt "$end" ]; do sleep 0.2; done
  signal_all KILL "${groups[@]}"
  rm -f "$STATE/$name.pid"
  echo "$name: stopped"
}

stop() { stop_one ray; stop_one mlflow; }

status() {
  local name
  for name in ray mlflow; do
    if alive "$name"; then echo "$name: running"; else echo "$name: not running"; fi
  done
}

case "${1:-}" in
  start) start ;;
  stop) stop ;;
  status) status ;;
  *) die "usage: cluster/local/cluster.sh start | status | stop" ;;
esac
