"""cluster/mlflow: the compose file and the unit, read; what serve.sh refuses before it starts anything."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "cluster" / "mlflow"
PLACE = ("127.0.0.1", "5432", "mlflow", "mlflow")
SECRETS = ("postgres_password", "admin_password", "flask_key")


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


@pytest.fixture
def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FOLDER / "mlflow.service")
    return parser


def test_compose_listens_on_loopback_unless_told(compose: Any) -> None:
    published = {name: service.get("ports", []) for name, service in compose["services"].items()}
    assert published == {"postgres": [], "backup": [], "mlflow": ["${BIND:-127.0.0.1}:${PORT:-5000}:5000"]}
    assert compose["networks"]["database"] == {"internal": True}
    assert compose["services"]["postgres"]["networks"] == ["database"]
    site = dict(line.split("=", 1) for line in (FOLDER / "site.env").read_text().splitlines() if line[:1].isalpha())
    assert site["BIND"] == "127.0.0.1"
    assert {host.split(":")[0] for host in site["ALLOWED_HOSTS"].split(",")} == {"localhost", "127.0.0.1"}


def test_compose_takes_secrets_from_files_alone(compose: Any) -> None:
    for service in compose["services"].values():
        for name, value in service["environment"].items():
            assert "PASSWORD" not in name or (name.endswith("_FILE") and value.startswith("/run/secrets/"))
        assert set(service["secrets"]) <= compose["secrets"].keys()
    assert all(secret.keys() == {"file"} for secret in compose["secrets"].values())
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()
    assert "/cluster/mlflow/secrets/" in ignored


@pytest.mark.parametrize("mistake", ["", "restart"])
def test_compose_is_what_docker_understands(mistake: str) -> None:
    """The project's name is given apart: Debian's Compose, of 2021, does not know it as a key of the file."""
    command = _compose_command()
    text = "".join(line for line in (FOLDER / "compose.yaml").open() if not line.startswith("name:"))
    if mistake:
        text = text.replace(f"{mistake}:", f"{mistake}ed:")
    command += ["--project-name", "prism-ray-mlflow", "--env-file", "site.env", "--file", "-", "config", "--quiet"]
    done = subprocess.run(command, cwd=FOLDER, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode == 0) == (not mistake), done.stderr
    assert not mistake or f"{mistake}ed" in done.stderr


def _compose_command() -> list[str]:
    docker = shutil.which("docker")
    if docker and not subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        return [docker, "compose"]
    alone = shutil.which("docker-compose")
    if alone is None:
        pytest.skip("neither `docker compose` nor docker-compose is installed")
    return [alone]


def test_the_unit_starts_the_script_with_credentials(unit: configparser.RawConfigParser, tmp_path: Path) -> None:
    service = unit["Service"]
    assert service["ExecStart"] == "/opt/prism-ray/cluster/mlflow/serve.sh"
    assert service["DynamicUser"] == "yes"
    text = (FOLDER / "mlflow.service").read_text()
    assert set(re.findall(r"LoadCredential=(\w+):/etc/prism-ray/secrets/\1\n", text)) == {*SECRETS, "aws_credentials"}
    assert not re.search(r"(?m)^Environment=.*(PASSWORD|KEY|TOKEN)", text)
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    file = tmp_path / "mlflow.service"
    file.write_text(text.replace(service["ExecStart"], str(FOLDER / "serve.sh")))
    done = subprocess.run([analyze, "verify", "--man=no", file], capture_output=True, text=True, check=False)
    assert "mlflow.service:" not in done.stderr


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    """Environment of serve.sh with all it needs, and a folder of secrets."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name in SECRETS:
        (secrets / name).write_text(f"{name}-" + "0123456789abcdef" * 2 + "\n")
    # `mlflow` of this PATH tells how it was called.
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    told = 'env | grep -E "^(PG|MLFLOW)" >&2\ngrep = "$MLFLOW_AUTH_CONFIG_PATH" | tr -d " " >&2\n'
    (bin_folder / "mlflow").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n' + told)
    (bin_folder / "mlflow").chmod(0o755)
    return {"PATH": f"{bin_folder}:/usr/bin:/bin", "SECRETS": str(secrets), "ARTIFACTS": "s3://bucket/runs"}


def serve(site: dict[str, str], **changes: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(FOLDER / "serve.sh")]
    return subprocess.run(command, env=site | changes, capture_output=True, text=True, check=False, timeout=60)


def test_the_server_is_on_loopback_with_passwords_and_host_names(site: dict[str, str]) -> None:
    done = serve(site)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    flags = dict(zip(words[1::2], words[2::2], strict=True))
    assert flags["--app-name"] == "basic-auth"
    assert flags["--host"] == "127.0.0.1"
    assert flags["--allowed-hosts"] == "localhost:5000,127.0.0.1:5000"
    assert flags["--backend-store-uri"] == "postgresql+psycopg2://"
    # Command lines can be read by everybody on the machine.
    assert "0123456789abcdef" not in done.stdout
    heard = dict(line.split("=", 1) for line in done.stderr.splitlines())
    assert heard["PGPASSWORD"] == "postgres_password-" + "0123456789abcdef" * 2
    assert heard["auth_cache_ttl_seconds"] == "60", "without it each call hashes its password anew, for 0.3 s"
    assert (heard["PGHOST"], heard["PGPORT"], heard["PGUSER"], heard["PGDATABASE"]) == PLACE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ARTIFACTS": ""}, "ARTIFACTS= is not s3://BUCKET/PREFIX"),
        ({"ARTIFACTS": "/var/mlartifacts"}, "is not s3://"),
        ({"ALLOWED_HOSTS": "*"}, "name the hosts"),
        ({"ALLOWED_HOSTS": "localhost,*"}, "name the hosts"),
        ({"SECRETS": "/nowhere"}, "/nowhere/postgres_password cannot be read"),
    ],
)
def test_the_server_refuses(site: dict[str, str], changes: dict[str, str], said: str) -> None:
    done = serve(site, **changes)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("weak", ["", "password1234", "\n"])
def test_the_server_refuses_weak_secrets(site: dict[str, str], name: str, weak: str) -> None:
    (Path(site["SECRETS"]) / name).write_text(weak)
    done = serve(site)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{name} has fewer than 16 characters" in done.stderr
