"""The local cluster's script and what is submitted to it, read back over MLflow's REST API.

One cluster for all tests of this file, in the order that they stand in: the last one stops it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from prism_ray.distributed.attempts import read_attempts
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.study_run import run_study
from prism_ray.study.load import load_study
from prism_ray.training.checkpoint import saved_step
from tests.conftest import REPOSITORY
from tests.distributed.conftest import Told, study_records, study_settings
from tests.distributed.killing import CHECKPOINT_EVERY, assert_exactly_once, running, wait_until
from tests.distributed.local_cluster import COMMIT, JOB_TIMEOUT_S, SCRIPT, LocalCluster, is_live, live_members
from tests.mlflow_server import artifacts_of, history_of, metrics_of, params_of, runs_of, tags_of
from tests.s3 import s3_server, upload

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
PASSWORD = "c4n4ry-p4ssw0rd"
N_STEPS = 40


@dataclass(frozen=True)
class Bucket:
    """Address of a store, what a process needs to read it, and the bytes that were read, by path."""

    url: str
    keys: dict[str, str]
    served: Counter[str]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    made = LocalCluster.at(tmp_path_factory.mktemp("local"))
    try:
        started = made.script("start")
        assert started.returncode == 0, started.stdout + started.stderr
        assert f"--tracking-uri {made.mlflow}" in started.stdout
        yield made
    finally:
        made.destroy()


@pytest.fixture(scope="module")
def bucket(simulated_store: Path) -> Iterator[Bucket]:
    """The simulated store behind an S3 API: what this machine, and every job that is told of it, reads."""
    boto3 = pytest.importorskip("boto3")
    served: Counter[str] = Counter()
    with s3_server(served) as keys, pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        yield Bucket(upload(simulated_store, client, "stores", "made/simulated"), keys, served)
        client.close()


def submission(cluster: LocalCluster, bucket: Bucket, storage: Path, *more: str) -> list[str]:
    """`prism-ray submit` of the smoke study on the store in the bucket, whose keys the job is given, with a password in
    the tracker's address (which asks for none)."""
    command = ["submit", "smoke", "--address", cluster.dashboard, "--store", bucket.url, "--storage", str(storage)]
    command += [word for name in bucket.keys for word in ("--env", name)]
    uri = cluster.mlflow.replace("//", f"//prism:{PASSWORD}@")
    return [*command, "--tracking-uri", uri, "--set", f"training.n_steps={N_STEPS}", "--yes", *more]


def test_a_study_is_submitted_joined_cancelled_killed_and_done(
    cluster: LocalCluster, bucket: Bucket, simulated_store: Path, tmp_path: Path
) -> None:
    """Its driver is killed with -9 in the middle of a trial, on a cluster that stays: the same command does the rest,
    and every trial is trained once, to the numbers of a study that nothing befell."""
    storage = tmp_path / "results"

    def submit(*more: str) -> subprocess.CompletedProcess[str]:
        flags = ("--max-concurrent", "1", "--checkpoint-every", str(CHECKPOINT_EVERY))
        return cluster.prism_ray(*submission(cluster, bucket, storage, *flags, *more), **bucket.keys)

    first = submit()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "4: 4 left, 0 finished" in first.stdout
    assert f"source     {COMMIT}" in first.stdout
    joined = submit()
    ((name, study),) = re.findall(r"^job +(prism-(smoke-set-\w+)-\w+-1): submitted$", first.stdout, re.MULTILINE)
    assert f"{name}: is there already" in joined.stdout
    assert joined.returncode == 0, joined.stderr
    wait_until(lambda: any(storage.glob("trials/*/progress.json")), "a trial runs", JOB_TIMEOUT_S)

    at = (study, "--address", cluster.dashboard)
    cancelled = cluster.prism_ray("cancel", *at)
    assert (cancelled.returncode, f"job {name}: STOPPED" in cancelled.stdout) == (0, True), cancelled.stdout
    status = cluster.prism_ray("status", *at)
    assert f"job {name}: STOPPED" in status.stderr
    assert f"{study}: 4 trials: " in status.stdout
    logs = cluster.prism_ray("logs", *at, "--follow")
    assert logs.returncode == 130, logs.stderr
    assert "STOPPED with " in logs.stdout

    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(submit, "--follow")
        wait_until(lambda: running(storage), "a trial runs", JOB_TIMEOUT_S)
        time.sleep(random.Random(11).uniform(0, 1.0))
        trained = wait_until(lambda: running(storage), "a trial runs", JOB_TIMEOUT_S)
        steps = [(folder, saved_step(folder)) for folder, _ in trained]
        pids = {attempt.pid for _, attempt in trained}
        os.kill(json.loads((storage / "studies" / study / "driver.json").read_text())["pid"], signal.SIGKILL)
        killed = following.result()
    assert "FAILED" in killed.stderr + killed.stdout
    assert killed.returncode not in (0, 2), killed.stdout + killed.stderr
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "what it owned has ended")

    done = submit("--follow")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"4 of 4 trials are finished \([0-3] before this launch\)", done.stdout), done.stdout
    said = "".join(one.stdout + one.stderr for one in (first, joined, status, cancelled, logs, killed, done))
    token = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert token not in said
    assert cluster.files_with(token, storage) == []
    assert PASSWORD not in said
    ours = (cluster.state, storage)
    assert [path for path in cluster.files_with(PASSWORD, storage) if any(map(path.is_relative_to, ours))] == []

    (tmp_path / "alone").mkdir()
    same = load_study(REPOSITORY / "search_spaces" / "smoke.yaml", overrides={"training.n_steps": N_STEPS})
    alone = dataclasses.replace(study_settings(simulated_store, tmp_path / "alone"), backend=InProcessBackend())
    assert run_study(same, alone, Told()).exit_code == 0
    expected = {name: record.metrics for name, record in study_records(same, alone).items()}
    assert_exactly_once(same, dataclasses.replace(alone, storage=storage, tracking_uri=cluster.mlflow), expected, steps)
    hows = [attempt.how for folder in storage.glob("trials/*") for attempt in read_attempts(folder)]
    # A trial hears late that its driver is gone, and may have come to its end by then.
    assert hows.count("died") <= len(steps) == 1


def test_a_submitted_study_is_in_mlflow(cluster: LocalCluster, bucket: Bucket) -> None:
    parent, children = runs_of(cluster.mlflow, "smoke-set-%")
    # The last launch read the one projection of the study once for all its trials; the bucket gave away no less.
    reads = metrics_of(parent)
    assert reads["store/read_bytes"] == reads["store/node_read_bytes"]
    assert reads["store/read_bytes"] == reads["store/planned_bytes"]
    given = sum(size for path, size in bucket.served.items() if path.endswith(".parquet"))
    assert given > reads["store/read_bytes"]
    assert tags_of(parent)["prism.study"].startswith("smoke-set-")
    assert parent["info"]["status"] == "FINISHED"
    assert "study.yaml" in artifacts_of(cluster.mlflow, parent)
    assert "report/report.html" in artifacts_of(cluster.mlflow, parent, "report")
    drawn = {(tags_of(run)["prism.arm"], tags_of(run)["prism.seed"]) for run in children}
    assert drawn == {("n0", "2"), ("n0", "22"), ("n2", "2"), ("n2", "22")}
    assert len(children) == 4
    for run in children:
        assert run["info"]["status"] == "FINISHED"
        assert tags_of(run)["mlflow.parentRunId"] == parent["info"]["run_id"]
        assert params_of(run)["model.n_states"] == tags_of(run)["prism.arm"].lstrip("n")
        assert params_of(run)["training.n_steps"] == str(N_STEPS)
        assert {"test/mse", "test/pearson_r", "best/mse"} <= metrics_of(run).keys()
        assert {"model", "test_predictions.parquet"} <= artifacts_of(cluster.mlflow, run)
        assert "model/model.safetensors" in artifacts_of(cluster.mlflow, run, "model")
        steps = [step for step, _ in history_of(cluster.mlflow, run, "val/mse")]
        assert len(steps) > 1
        assert steps == sorted(set(steps)), "a trial that was cancelled and went on tells no point twice"
        assert steps[-1] == N_STEPS
    assert {tags_of(run)["prism.git_commit"] for run in [parent, *children]} == {COMMIT}


def test_a_job_gets_a_lean_copy_and_an_absolute_storage(cluster: LocalCluster) -> None:
    study = "prism-ray run search_spaces/smoke.yaml --store nowhere"
    done = cluster.submit("sh", "-c", f"find . -type f -printf 'FILE %s %p\\n'; exec {study} --storage results")
    assert done.returncode == 1
    assert "--storage: results: a submitted job runs in a copy of the folder that Ray deletes" in done.stdout
    assert "failed with exit code 2" in done.stdout
    assert "Traceback" not in done.stdout
    sizes = {path: int(size) for size, path in re.findall(r"FILE (\d+) \./(\S+)", done.stdout)}
    assert {"prism_ray/cli/run.py", "search_spaces/smoke.yaml", "pyproject.toml"} <= sizes.keys()
    left_out = {".venv", ".git", "demo", "results", "tests", "docs", "benchmarks", ".hypothesis", ".mypy_cache"}
    assert not left_out & {path.split("/")[0] for path in sizes}
    assert sum(sizes.values()) < 4 * 2**20


def test_it_is_not_started_twice(cluster: LocalCluster) -> None:
    before = {name: cluster.group(name) for name in ("ray", "mlflow")}
    refused = cluster.script("start")
    assert refused.returncode == 2
    assert "already running" in refused.stderr
    assert {name: cluster.group(name) for name in before} == before
    assert cluster.script("status").stdout == "ray: running\nmlflow: running\n"


def test_a_taken_port_is_named_and_nothing_is_started(cluster: LocalCluster, tmp_path: Path) -> None:
    other = LocalCluster.at(tmp_path)
    try:
        refused = other.script("start", MLFLOW_PORT=cluster.environment["MLFLOW_PORT"])
        assert refused.returncode == 2
        assert f"MLFLOW_PORT={cluster.environment['MLFLOW_PORT']} is in use" in refused.stderr
        assert not other.state.exists()
    finally:
        other.destroy()


def test_a_token_that_is_missing_is_named(tmp_path: Path) -> None:
    other = LocalCluster.at(tmp_path)
    try:
        refused = other.script("start", RAY_AUTH_TOKEN_PATH=str(tmp_path / "absent"))
        assert refused.returncode == 2
        assert f"RAY_AUTH_TOKEN_PATH={tmp_path / 'absent'} is not a file with a token" in refused.stderr
        assert not list(other.state.glob("*.pid"))
    finally:
        other.destroy()


def test_a_server_that_ends_at_its_start_takes_the_other_with_it(tmp_path: Path) -> None:
    other = LocalCluster.at(tmp_path)
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("python", "ray"):
        (commands / name).symlink_to(Path(sys.executable).parent / name)
    # MLflow is ended before it has come up: what comes up there takes long, and this does not.
    (commands / "mlflow").write_text("#!/bin/sh\nexec sleep 600\n")
    (commands / "mlflow").chmod(0o755)
    try:
        refused = other.script("start", BIN=str(commands), OBJECT_STORE_BYTES="1")
        assert refused.returncode == 2
        assert "ray ended at its start" in refused.stderr
        assert "mlflow: stopped" in refused.stdout
        assert not list(other.state.glob("*.pid"))
    finally:
        other.destroy()


ASK_AT_EACH = """
import contextlib, io, json, sys, time
from prism_ray.cli import main

*command, head = sys.argv[1:]
for address in ("127.0.0.1:1", *head.split(",")):
    said, started = io.StringIO(), time.monotonic()
    with contextlib.redirect_stderr(said):
        code = main([*command, "--address", address])
    print(json.dumps([code, time.monotonic() - started, said.getvalue()]))
"""


def test_addresses_that_do_not_let_it_in_are_refused_in_words(
    cluster: LocalCluster, simulated_store: Path, tmp_path: Path
) -> None:
    """Nobody there, a dashboard, a head whose token is another: all asked by one process, which takes long to start."""
    storage, wrong = tmp_path / "results", "0" * 64
    study = ["run", "search_spaces/smoke.yaml", "--store", str(simulated_store), "--storage", str(storage)]
    command = [sys.executable, "-c", ASK_AT_EACH, *study, f"{cluster.dashboard},{cluster.head}"]
    done = cluster.run(command, 300, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=wrong)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert [code for code, _, _ in answers] == [2, 2, 2]
    assert all(seconds < 60 for _, seconds, _ in answers)
    nobody, dashboard, head = (said for _, _, said in answers)
    assert "--address 127.0.0.1:1: nobody listens there" in nobody
    assert f"--address {cluster.dashboard}: is not the address of a Ray cluster; give HOST:PORT" in dashboard
    assert f"Ray cluster {cluster.head}: does not let this process in" in head
    assert "RAY_AUTH_TOKEN_PATH" in head
    assert not any(word in said for word in ("Traceback", wrong) for said in (done.stderr, nobody, dashboard, head))


def test_stop_ends_these_two_with_their_jobs_and_nobody_else(cluster: LocalCluster, ray_cluster: None) -> None:
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        # This process's own: another user's may end at any moment.
        others = psutil.Process().children(recursive=True)
        others = [one for one in others if one.pid == stranger.pid or one.name() in ("gcs_server", "raylet")]
        assert len(others) > 2
        submitted = cluster.submit("sleep", "601", wait=False)
        assert submitted.returncode == 0, submitted.stderr
        wait_until(lambda: any(process.name() == "sleep" for process in cluster.processes()), "the job runs")
        ours = cluster.processes()
        groups = [cluster.group(name) for name in ("ray", "mlflow")]
        assert len(ours) > 5

        stopped = cluster.script("stop")
        assert (stopped.returncode, stopped.stdout) == (0, "ray: stopped\nmlflow: stopped\n")
        # Nobody waits for the job to end by itself, which Ray does for half a minute.
        assert "Draining" not in (cluster.state / "ray.log").read_text()
        wait_until(lambda: not any(map(is_live, ours)), "all of the cluster's processes are gone")
        assert not any(live_members(group) for group in groups)
        assert stranger.poll() is None
        assert all(map(is_live, others))
        assert cluster.script("status").stdout == "ray: not running\nmlflow: not running\n"
        assert cluster.script("stop").stdout == "ray: not running\nmlflow: not running\n"
    finally:
        os.killpg(stranger.pid, signal.SIGKILL)
        stranger.wait()
    assert not list((Path(cluster.environment["HOME"])).rglob("auth_token"))


def test_a_process_that_got_an_old_number_is_left_alone(tmp_path: Path) -> None:
    idle = LocalCluster.at(tmp_path)
    idle.state.mkdir()
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        (idle.state / "ray.pid").write_text(f"{stranger.pid} 1\n")
        assert idle.script("status").stdout == "ray: not running\nmlflow: not running\n"
        assert idle.script("stop").stdout == "ray: not running\nmlflow: not running\n"
        assert stranger.poll() is None
    finally:
        os.killpg(stranger.pid, signal.SIGKILL)
        stranger.wait()
        idle.destroy()


def test_what_the_script_does_not_know_is_refused(tmp_path: Path) -> None:
    idle = LocalCluster.at(tmp_path)
    try:
        refused = idle.script("restart")
        assert (refused.returncode, refused.stderr) == (
            2,
            "cluster.sh: usage: cluster/local/cluster.sh start | status | stop\n",
        )
    finally:
        idle.destroy()


def test_the_script_is_clean() -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    checked = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")
