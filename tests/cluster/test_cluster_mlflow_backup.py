"""cluster/mlflow/backup.sh on a real PostgreSQL: what was dumped comes back, and nothing is lost by a mistake."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from prism_ray.tracking import MlflowTracker, fetch_trials
from tests.conftest import REPOSITORY
from tests.postgres import ROLE, PostgresServer
from tests.tracking_support import STUDY, trial_header

SCRIPT = REPOSITORY / "cluster" / "mlflow" / "backup.sh"
pytestmark = pytest.mark.slow


class Database:
    """One database of the server, and the script as its user runs it."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.uri = server.new_database(name)
        self._server, self._name = server, name

    def script(self, *command: str) -> tuple[int, str]:
        """Exit code, and what was said."""
        environment = {"PGHOST": str(self._server.folder), "PGUSER": ROLE, "PGDATABASE": self._name}
        environment["PATH"] = f"{self._server.binaries}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", str(SCRIPT), *command], env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, done.stdout + done.stderr


def close_connections(uri: str) -> None:
    """What a server that is stopped does; MLflow keeps its connections for the life of the process."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore._engine_map[uri].dispose()


def runs(uri: str) -> list[dict[str, Any]]:
    """Trials of the study, as MLflow has them."""
    return list(fetch_trials(uri, STUDY.name).to_dict("records"))


def test_runs_come_back_as_they_were(postgres: PostgresServer, tmp_path: Path) -> None:
    source, target = Database(postgres, "backup_source"), Database(postgres, "backup_target")
    tracker = MlflowTracker(source.uri, tmp_path)
    parent = tracker.open_study(STUDY, {})
    for seed in (2, 22):
        log = tracker.open_trial(parent, trial_header(seed=seed))
        log.log({"val/mse": 1 / seed, "test/mse": 0.25}, 10)
        log.finish("FINISHED")
    before = runs(source.uri)
    assert len(before) == 2

    file = tmp_path / "mlflow.dump"
    code, said = source.script("dump", str(file))
    assert (code, f"{file}: {file.stat().st_size} bytes, 3 runs" in said) == (0, True), said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert source.script("verify", str(file)) == (0, f"{file}: whole\n")
    assert "never written over" in source.script("dump", str(file))[1]
    assert sorted(path.name for path in tmp_path.glob("mlflow.dump*")) == ["mlflow.dump", "mlflow.dump.sha256"]

    code, said = target.script("restore", str(file))
    assert (code, "restored, 3 runs" in said) == (0, True), said
    assert runs(target.uri) == before
    close_connections(target.uri)
    assert "give --replace to drop them first" in target.script("restore", str(file))[1]

    # The server still runs, as far as the database can see: its runs are kept.
    code, said = source.script("restore", "--replace", str(file))
    assert (code, "stop the MLflow server first" in said) == (2, True), said
    tracker.open_trial(parent, trial_header(seed=222)).finish("FAILED")
    assert len(runs(source.uri)) == 3
    close_connections(source.uri)
    assert source.script("restore", "--replace", str(file))[0] == 0
    assert runs(source.uri) == before

    damaged = file.read_bytes()[:-100]
    file.write_bytes(damaged)
    close_connections(source.uri)
    code, said = source.script("restore", "--replace", str(file))
    assert (code, "its SHA-256 differs" in said) == (2, True), said
    assert runs(source.uri) == before
