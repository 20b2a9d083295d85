#!/usr/bin/env bash
# Purpose: a Ray head and an MLflow server on this machine, on loopback only, for `ray job submit`.
# Edit:    the site choices below, or give them as environment variables.
# Start:   cluster/local/cluster.sh start      prints the lines to copy for submitting and for comparing
# Check:   cluster/local/cluster.sh status
# Stop:    cluster/local/cluster.sh stop       ends the two that this script started, and no others
set -euo pipefail

STATE=${PRISM_RAY_LOCAL:-$HOME/.prism-ray/local}   # process ids, logs, MLflow's database and artifacts
RAY_PORT=${RAY_PORT:-6379}
DASHBOARD_PORT=${DASHBOARD_PORT:-8265}
MLFLOW_PORT=${MLFLOW_PORT:-5000}
N_CPUS=${N_CPUS:-$(nproc)}
OBJECT_STORE_BYTES=${OBJECT_STORE_BYTES:-500000000}
READY_TIMEOUT_S=${READY_TIMEOUT_S:-120}
BIN=${BIN:-$(dirname "$(command -v ray || echo .venv/bin/ray)")}   # folder of the `ray` and `mlflow` commands

# Token authentication: every process on this machine that runs as you reads the same file.
export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}
export RAY_TRAIN_ENABLE_PREEMPTION_WATCHER=0   # asks a cloud's metadata service, which is not here
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false   # GenAI jobs: seven more processes that nothing here uses

die() { echo "cluster.sh: $*" >&2; exit 2; }

alive() { [ -f "$STATE/$1.pid" ] && kill -0 -- "-$(cat "$STATE/$1.pid")" 2>/dev/null; }

# Each server gets a process group of its own, so that stopping it takes its children and nobody else's.
launch() {
  local name=$1
  shift
  setsid "$@" >"$STATE/$name.log" 2>&1 </dev/null &
  echo $! >"$STATE/$name.pid"
}

wait_for() {
  local name=$1 url=$2 waited=0
  until "$BIN/python" - "$url" 2>/dev/null <<'PY'
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=2)
except urllib.error.HTTPError as answer:
    sys.exit(answer.code >= 500)  # a server that asks for a token is up
PY
  do
    alive "$name" || { tail -n 20 "$STATE/$name.log" >&2; die "$name ended at its start; see $STATE/$name.log"; }
    [ "$waited" -lt "$READY_TIMEOUT_S" ] || die "$name did not answer within $READY_TIMEOUT_S s; see $STATE/$name.log"
    sleep 1
    waited=$((waited + 1))
  done
}

start() {
  [ -x "$BIN/ray" ] || die "no ray command in $BIN; run make install, or set BIN"
  if alive ray || alive mlflow; then die "already running; cluster/local/cluster.sh stop ends it"; fi
  mkdir -p "$STATE"
  if [ "$RAY_AUTH_MODE" = token ] && [ -z "${RAY_AUTH_TOKEN:-}" ]; then
    "$BIN/ray" get-auth-token --generate >/dev/null
  fi
  launch mlflow "$BIN/mlflow" server --host 127.0.0.1 --port "$MLFLOW_PORT" --workers 1 \
    --backend-store-uri "sqlite:///$STATE/mlflow.db" --artifacts-destination "$STATE/mlartifacts"
  launch ray "$BIN/ray" start --head --block --disable-usage-stats --node-ip-address 127.0.0.1 --port "$RAY_PORT" \
    --include-dashboard true --dashboard-host 127.0.0.1 --dashboard-port "$DASHBOARD_PORT" \
    --num-cpus "$N_CPUS" --object-store-memory "$OBJECT_STORE_BYTES"
  wait_for mlflow "http://127.0.0.1:$MLFLOW_PORT/health"
  wait_for ray "http://127.0.0.1:$DASHBOARD_PORT/api/version"
  cat <<TEXT
Ray dashboard and jobs   http://127.0.0.1:$DASHBOARD_PORT
MLflow                   http://127.0.0.1:$MLFLOW_PORT
Submit a study:
  export RAY_AUTH_MODE=$RAY_AUTH_MODE
  ray job submit --address http://127.0.0.1:$DASHBOARD_PORT --working-dir . -- \\
    prism-ray run search_spaces/smoke.yaml --store \$PWD/demo/store --storage \$PWD/results \\
    --tracking-uri http://127.0.0.1:$MLFLOW_PORT
TEXT
}

stop_one() {
  local name=$1 group waited=0
  if ! alive "$name"; then
    rm -f "$STATE/$name.pid"
    echo "$name: not running"
    return
  fi
  group=$(cat "$STATE/$name.pid")
  kill -TERM -- "-$group"
  while alive "$name" && [ "$waited" -lt 20 ]; do
    sleep 1
    waited=$((waited + 1))
  done
  if alive "$name"; then kill -KILL -- "-$group"; fi
  rm -f "$STATE/$name.pid"
  echo "$name: stopped"
}

case "${1:-}" in
  start) start ;;
  stop) stop_one ray; stop_one mlflow ;;
  status) for name in ray mlflow; do if alive "$name"; then echo "$name: running"; else echo "$name: not running"; fi; done ;;
  *) die "usage: cluster/local/cluster.sh start | status | stop" ;;
esac
