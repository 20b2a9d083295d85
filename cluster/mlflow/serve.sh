#!/usr/bin/env bash
# Purpose: the MLflow server of a group: PostgreSQL behind it, artifacts in S3, a password for everybody, and an answer
#          only to the host names it was told. mlflow.service, compose.yaml and kuberay/services start this same file.
# Edit:    nothing here: site choices are environment variables (site.env), secrets are files in a folder.
# Start:   ARTIFACTS=s3://BUCKET/PREFIX SECRETS=/etc/prism-ray/secrets cluster/mlflow/serve.sh
# Check:   curl --fail http://127.0.0.1:5000/health      and, with a name and password: curl -u admin http://127.0.0.1:5000/
# Stop:    end the process (systemctl stop mlflow, docker compose down, kubectl delete -k). The runs stay in PostgreSQL.
#
# Secrets, one file each, none with a default; a trailing newline does not count:
#   postgres_password   of the role PGUSER
#   admin_password      of MLflow's user `admin`, read at the first start only: change it later over MLflow's REST API
#   flask_key           signs the forms of MLflow's pages; the same for every replica
#   aws_credentials     an AWS credentials file; absent where the machine's own role opens the bucket
set -euo pipefail

SECRETS=${SECRETS:-${CREDENTIALS_DIRECTORY:-/run/secrets}}   # systemd sets the second one
BIND=${BIND:-127.0.0.1}
PORT=${PORT:-5000}
ALLOWED_HOSTS=${ALLOWED_HOSTS:-localhost:$PORT,127.0.0.1:$PORT}   # the names that clients type, with the port
ARTIFACTS=${ARTIFACTS:-}                                      # s3://BUCKET/PREFIX
WORKERS=${WORKERS:-2}
export PGHOST=${PGHOST:-127.0.0.1} PGPORT=${PGPORT:-5432} PGUSER=${PGUSER:-mlflow} PGDATABASE=${PGDATABASE:-mlflow}
SHORTEST_SECRET=16   # characters
# Checking a password takes 0.3 s of CPU by intent, and a trial makes dozens of calls: a process of the server remembers
# one that was right. A user who is removed or has a new password is refused at the latest so much later.
LOGIN_CACHE_S=60

die() { echo "serve.sh: $*" >&2; exit 2; }

secret() {
  local file=$SECRETS/$1 value
  [ -r "$file" ] || die "$file cannot be read; make it with: openssl rand -hex 24 > $file"
  value=$(<"$file")
  [ "${#value}" -ge "$SHORTEST_SECRET" ] || die "$file has fewer than $SHORTEST_SECRET characters; use openssl rand -hex 24"
  printf '%s' "$value"
}

case "$ARTIFACTS" in
  s3://?*) ;;
  *) die "ARTIFACTS=$ARTIFACTS is not s3://BUCKET/PREFIX; a folder of this machine would be lost with it" ;;
esac
case ",$ALLOWED_HOSTS," in
  *,\*,* | ,,) die "ALLOWED_HOSTS=$ALLOWED_HOSTS lets any page in a browser reach this server; name the hosts" ;;
esac

# Assigned before they are exported: a failure inside `export X=$(...)` would pass unseen.
postgres_password=$(secret postgres_password)
admin_password=$(secret admin_password)
flask_key=$(secret flask_key)
export PGPASSWORD=$postgres_password MLFLOW_AUTH_ADMIN_PASSWORD=$admin_password MLFLOW_FLASK_SERVER_SECRET_KEY=$flask_key
if [ -e "$SECRETS/aws_credentials" ]; then export AWS_SHARED_CREDENTIALS_FILE=$SECRETS/aws_credentials; fi

# An address that says nothing: libpq takes all of it from PGHOST (a socket's folder, too) and its like, and the
# password from PGPASSWORD. Command lines are public on a machine.
database=postgresql+psycopg2://   # SQLAlchemy 2.1 would look for psycopg 3
MLFLOW_AUTH_CONFIG_PATH=$(mktemp)
export MLFLOW_AUTH_CONFIG_PATH
cat >"$MLFLOW_AUTH_CONFIG_PATH" <<INI
[mlflow]
default_permission = READ
database_uri = $database
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = $LOGIN_CACHE_S
INI

export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false   # GenAI jobs: more processes that nothing here uses
exec mlflow server --app-name basic-auth --host "$BIND" --port "$PORT" --allowed-hosts "$ALLOWED_HOSTS" \
  --workers "$WORKERS" --backend-store-uri "$database" --artifacts-destination "$ARTIFACTS"
