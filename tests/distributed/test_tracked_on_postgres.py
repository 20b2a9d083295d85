"""A study on a group's tracking server, as cluster/mlflow/serve.sh starts it, read over REST.

Behind it PostgreSQL and S3; a password for everybody, and artifacts by its proxy.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import prism_ray.distributed.launch as launch_module
import prism_ray.store
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.study_run import run_study
from prism_ray.errors import TrackingError
from prism_ray.report.build import write_report
from prism_ray.study.spec import Study
from tests.conftest import REPOSITORY
from tests.distributed.conftest import Told, study_records, tiny_study
from tests.distributed.test_kill_services import Acts, assert_all_finished_once
from tests.mlflow_server import (
    artifact,
    artifacts_of,
    free_port,
    history_of,
    metrics_of,
    new_user,
    params_of,
    runs_of,
    served,
    tags_of,
)
from tests.postgres import ROLE, PostgresServer
from tests.s3 import s3_server

BUCKET = "mlflow"
PASSWORD = "0123456789abcdef" * 2
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@contextmanager
def bucket_of(keys: dict[str, str]) -> Iterator[Any]:
    """A client of the server, which has the bucket."""
    boto3 = pytest.importorskip("boto3")
    client = boto3.client(
        "s3",
        endpoint_url=keys["AWS_ENDPOINT_URL"],
        region_name=keys["AWS_DEFAULT_REGION"],
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket=BUCKET)
    yield client
    client.close()


@contextmanager
def group_server(
    postgres: PostgresServer, folder: Path, port: int, keys: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The server of a group; the keys of the bucket are its alone."""
    secrets = folder / "secrets"
    secrets.mkdir(mode=0o700, exist_ok=True)
    for name in ("postgres_password", "admin_password", "flask_key"):
        (secrets / name).write_text(PASSWORD)
    site = {"PGHOST": str(postgres.folder), "PGUSER": ROLE, "PGDATABASE": "tracking", "SECRETS": str(secrets)}
    site |= {"ARTIFACTS": f"s3://{BUCKET}/runs", "PORT": str(port), "WORKERS": "1"}
    site["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with served(["bash", str(REPOSITORY / "cluster/mlflow/serve.sh")], folder, port, **site, **keys) as process:
        yield process


def refusal(server: str, **headers: str) -> int:
    """Status with which the server refuses a request with these headers."""
    url = f"{server}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            urllib.request.Request(url, headers=headers), timeout=60
        )
    return refused.value.code


def test_a_study_on_the_server_of_a_group_which_is_killed_and_comes_back(
    postgres: PostgresServer, simulated_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_module, "DELIVERY_S", 1.0)
    study = tiny_study(tmp_path, seeds=[2])
    port = free_port()
    server = f"http://127.0.0.1:{port}"
    settings = StudySettings(
        simulated_store, tmp_path / "results", server, command="prism-ray run tiny", backend=InProcessBackend()
    )
    postgres.new_database("tracking")
    with s3_server() as keys, bucket_of(keys) as bucket:
        with group_server(postgres, tmp_path, port, keys) as process:
            assert (refusal(server), refusal(server, Host="elsewhere.example")) == (401, 403)
            with pytest.raises(TrackingError, match="MLFLOW_TRACKING_USERNAME"):
                run_study(study, settings, Told())
            assert not (tmp_path / "results").exists()
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
            new_user(server, "trials", PASSWORD)
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "trials")

            def kill() -> None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

            outcome = run_study(study, settings, Acts(at_2=kill))
            assert (outcome.failures, outcome.n_finished) == ({}, 2)
        with group_server(postgres, tmp_path, port, keys):
            # All of it is found, what the server lacks is delivered, and nothing is done twice.
            assert run_study(study, settings, Told()).n_found == 2
            assert_all_finished_once(study, settings)
            assert_all_of_it_is_there(study, settings, tmp_path, bucket)


def assert_all_of_it_is_there(study: Study, settings: StudySettings, folder: Path, bucket: Any) -> None:
    """Parent and children with their numbers and files, as the server has them over REST, and the bucket."""
    server = settings.tracking_uri
    write_report(server, study.name, folder / "report")
    parent, children = runs_of(server, study.name)
    records = {record.trial_id: record for record in study_records(study, settings).values()}

    assert tags_of(parent)["mlflow.note.content"].startswith("**Does it run?**")
    assert tags_of(parent)["prism.data_digest"] == prism_ray.store.open(settings.store).digest
    assert artifact(server, parent, "study.yaml") == study.path.read_bytes()
    assert json.loads(artifact(server, parent, "plan.json"))["n_trials"] == 2
    assert b"Does it run?" in artifact(server, parent, "report/report.html")
    assert {tags_of(run)["prism.trial_id"] for run in children} == records.keys()
    for run in children:
        record = records[tags_of(run)["prism.trial_id"]]
        assert run["info"]["status"] == "FINISHED"
        # The server's own kind of address: a trial needs neither its folder nor the keys of its bucket.
        assert run["info"]["artifact_uri"].startswith("mlflow-artifacts:/")
        assert params_of(run)["model.n_states"] == str(record.config.model.n_states)
        assert metrics_of(run)["test/mse"] == record.metrics["test/mse"]
        assert metrics_of(run)["cost/read_bytes"] == record.cost["read_bytes"] > 0
        assert metrics_of(run)["system/system_memory_usage_megabytes"] > 0
        told = {"prism.device": "cpu", "prism.host": platform.node(), "prism.n_hosts": "1"}
        assert tags_of(run).items() >= {**told, "prism.version.torch": torch.__version__}.items()
        logged = [(int(entry["step"]), entry["val/mse"]) for entry in record.history() if "val/mse" in entry]
        assert history_of(server, run, "val/mse") == logged
        assert artifacts_of(server, run, "model") == {"model/model.safetensors", "model/config.json"}
        weights = record.folder / "model" / "model.safetensors"
        assert artifact(server, run, "model/model.safetensors") == weights.read_bytes()
        kept = f"runs/{run['info']['artifact_uri'].partition(':/')[2]}/model/model.safetensors"
        assert bucket.get_object(Bucket=BUCKET, Key=kept)["Body"].read() == weights.read_bytes()
