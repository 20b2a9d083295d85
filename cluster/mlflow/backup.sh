#!/usr/bin/env bash
# Purpose: keep and bring back MLflow's database: experiments, runs, metrics, registered models, users. Artifacts are in
#          the bucket: switch its versioning on; they are not copied here.
# Edit:    nothing; PGHOST, PGPORT, PGUSER, PGDATABASE and PGPASSFILE (or PGPASSWORD) say which database, as for psql.
# Back up: PGHOST=127.0.0.1 PGUSER=mlflow PGDATABASE=mlflow cluster/mlflow/backup.sh dump FILE     (the server may run)
#          on Kubernetes: kubectl -n prism-ray port-forward statefulset/postgres 5432, in another terminal, first
# Check:   cluster/mlflow/backup.sh verify FILE                                       whole, and readable by pg_restore
# Restore: stop the server; cluster/mlflow/backup.sh restore FILE      into an empty database; all of it or nothing
#          cluster/mlflow/backup.sh restore --replace FILE            what the database holds now is dropped first
# Remove:  rm FILE FILE.sha256
set -euo pipefail
umask 077   # users' password hashes are in it

die() { echo "backup.sh: $*" >&2; exit 2; }
usage() { die "usage: backup.sh dump FILE | verify FILE | restore [--replace] FILE"; }
ask() { psql --no-psqlrc --tuples-only --no-align --quiet --command "$1"; }

dump() {
  local file=$1
  [ ! -e "$file" ] && [ ! -e "$file.sha256" ] || die "$file is there already; a backup is never written over"
  [ -d "$(dirname "$file")" ] || die "$(dirname "$file") is not a folder"
  partial=$file.partial   # not local: the trap runs after the function's end
  trap 'rm -f "$partial"' EXIT
  pg_dump --format=custom --no-owner --no-privileges --file="$file.partial" || die "nothing was written"
  pg_restore --list "$file.partial" >/dev/null
  sync "$file.partial"
  (cd "$(dirname "$file")" && sha256sum "$(basename "$file").partial" | sed 's/\.partial$//' >"$(basename "$file").sha256")
  mv "$file.partial" "$file"
  echo "$file: $(stat --format=%s "$file") bytes, $(ask 'select count(*) from runs') runs"
}

verify() {
  local file=$1
  [ -f "$file" ] || die "$file is not a file"
  [ -f "$file.sha256" ] || die "$file.sha256 is missing; a backup is a pair of files"
  (cd "$(dirname "$file")" && sha256sum --check --status "$(basename "$file").sha256") ||
    die "$file is not what was dumped: its SHA-256 differs"
  pg_restore --list "$file" >/dev/null || die "$file cannot be read by this pg_restore"
}

restore() {
  local replace=$1 file=$2 others tables
  verify "$file"
  others=$(ask "select count(*) from pg_stat_activity where datname = current_database()
    and backend_type = 'client backend' and pid <> pg_backend_pid()")
  [ "$others" = 0 ] || die "$others connections to this database are open; stop the MLflow server first"
  tables=$(ask "select count(*) from pg_tables where schemaname = 'public'")
  [ "$tables" = 0 ] || [ "$replace" = yes ] || die "this database has $tables tables; give --replace to drop them first"
  # One transaction: a restore that fails leaves the database as it was.
  {
    echo 'begin;'
    [ "$tables" = 0 ] || echo 'drop schema public cascade; create schema public;'
    pg_restore --no-owner --no-privileges --file=- "$file" && echo 'commit;'
  } | psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --output=/dev/null || die "nothing was changed"
  echo "$file: restored, $(ask 'select count(*) from public.runs') runs"
}

if ! command -v pg_dump >/dev/null; then die "pg_dump is not here; install a PostgreSQL client, no older than the server"; fi
case "${1:-}" in
  dump) [ $# = 2 ] || usage; dump "$2" ;;
  verify) [ $# = 2 ] || usage; verify "$2"; echo "$2: whole" ;;
  restore)
    if [ "${2:-}" = --replace ]; then [ $# = 3 ] || usage; restore yes "$3"; else [ $# = 2 ] || usage; restore no "$2"; fi ;;
  *) usage ;;
esac
