"""A study on a group's tracking server: PostgreSQL and S3 behind it, artifacts by its proxy, read over REST."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import prism_ray.store
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch import StudySettings
from prism_ray.distributed.study_run import run_study
from prism_ray.report.build import write_report
from tests.distributed.conftest import Told, study_records, tiny_study
from tests.mlflow_server import (
    artifact,
    artifacts_of,
    free_port,
    history_of,
    metrics_of,
    mlflow_server,
    params_of,
    runs_of,
    tags_of,
)
from tests.postgres import PostgresServer
from tests.s3 import s3_server

BUCKET = "mlflow"
PLACE = f"s3://{BUCKET}/runs"
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


def test_a_study_on_a_server_with_postgresql(postgres: PostgresServer, simulated_store: Path, tmp_path: Path) -> None:
    study = tiny_study(tmp_path, seeds=[2])
    port = free_port()
    server = f"http://127.0.0.1:{port}"
    settings = StudySettings(
        simulated_store, tmp_path / "results", server, command="prism-ray run tiny", backend=InProcessBackend()
    )
    database = postgres.new_database("tracking")
    # The keys of the bucket are the server's alone.
    with s3_server() as keys, bucket_of(keys) as bucket, mlflow_server(tmp_path, port, database, PLACE, **keys):
        assert run_study(study, settings, Told()).exit_code == 0
        # All of it is found, and nothing is done twice.
        assert run_study(study, settings, Told()).n_found == 2
        write_report(server, study.name, tmp_path / "report")
        parent, children = runs_of(server, study.name)
        records = {record.trial_id: record for record in study_records(study, settings).values()}

        assert tags_of(parent)["mlflow.note.content"].startswith("**Does it run?**")
        assert tags_of(parent)["prism.data_digest"] == prism_ray.store.open(simulated_store).digest
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
