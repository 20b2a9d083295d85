"""`prism-ray submit` against a dashboard that misbehaves as told, and its parts; a real cluster: test_job_submit.py."""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from prism_ray.cli import main, make_parser
from prism_ray.cli.submit import _PASSED_ON
from prism_ray.distributed import jobs, submission_address
from prism_ray.distributed.jobs import check_submitter, submitter_variables
from prism_ray.distributed.submission import Submission, join_or_submit
from prism_ray.distributed.submission_address import check_addresses, is_public_http
from prism_ray.distributed.submission_cluster import JobCluster, StudyJob, find_job
from prism_ray.distributed.submission_package import find_package
from prism_ray.errors import InputError
from prism_ray.study.load import load_study
from tests.conftest import REPOSITORY
from tests.distributed.disks import small_disk_at
from tests.distributed.fake_dashboard import FakeDashboard, job, serving

HERE = {"rayVersion": ray.__version__, "pythonVersion": platform.python_version()}
CANARY = "c4n4ry-p4ssw0rd"


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDashboard]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(FakeDashboard(dict(HERE))) as made:
        yield made


@pytest.fixture
def submission(tmp_path: Path) -> Submission:
    study = load_study(REPOSITORY / "search_spaces" / "smoke.yaml")
    (tmp_path / "work").mkdir()
    return Submission(
        study, ["smoke", "--store", "/s"], Path("/shared/results"), tmp_path / "work", "http://mlflow:5000"
    )


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:8265", "is not the address of a Ray dashboard; give http://HEAD:8265"),
        ("ray://127.0.0.1:10001", "is not the address of a Ray dashboard"),
        ("http://127.0.0.1:8265/api", "is not the address of a Ray dashboard"),
        (f"http://me:{CANARY}@127.0.0.1:8265", "holds a password"),
        ("http://8.8.8.8:8265", "would show Ray's token to everybody on the way; use https://"),
        ("http://[2001:4860:4860::8888]:8265", "would show Ray's token"),
    ],
)
def test_addresses_that_get_no_token(address: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        check_addresses(address)
    assert said in str(refused.value)
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    "address", ["https://8.8.8.8", "http://10.1.2.3:8265", "http://127.0.0.1:8265", "http://[::1]:1"]
)
def test_addresses_that_may_get_a_token(address: str) -> None:
    check_addresses(address)


def test_a_public_tracker_is_refused_too_and_both_can_be_allowed() -> None:
    with pytest.raises(InputError, match="MLflow's password") as refused:
        check_addresses("http://8.8.8.8:8265", f"http://me:{CANARY}@8.8.4.4:5000")
    assert len(refused.value.faults) == 2
    assert CANARY not in str(refused.value)
    check_addresses("http://8.8.8.8:8265", "http://8.8.4.4:5000", insecure=True)


def test_one_public_address_of_a_name_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", ("10.0.0.1", 80)), (0, 0, 0, "", ("8.8.8.8", 80))]
    monkeypatch.setattr(submission_address.socket, "getaddrinfo", lambda *_, **__: found)
    assert is_public_http("http://head.example:8265")
    monkeypatch.setattr(submission_address.socket, "getaddrinfo", lambda *_, **__: found[:1])
    assert not is_public_http("http://head.example:8265")


def submit(dashboard: FakeDashboard, *more: str) -> int:
    """Exit code of `prism-ray submit`, with nothing that exists on this machine."""
    flags = ["--store", "/absent/store", "--storage", "/absent/results", "--tracking-uri", "http://127.0.0.1:5000"]
    return main(["submit", "smoke", "--address", dashboard.address, *flags, "--yes", *more])


FAULTS: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "no token": (
        {"status": 401, "text": "Unauthorized: Missing authentication token"},
        [],
        ["token is missing or wrong"],
    ),
    "wrong token": ({"status": 403, "text": "Forbidden: Invalid authentication token"}, [], ["RAY_AUTH_TOKEN_PATH"]),
    "another server": ({"status": 404, "text": "not found"}, [], ["does not answer as a Ray dashboard does"]),
    "another Ray": (
        {"versions": {**HERE, "rayVersion": "2.9.3"}},
        [],
        [f"has Ray 2.9.3, and this environment has Ray {ray.__version__}", "submit from an environment with Ray 2.9.3"],
    ),
    "another Python": (
        {"versions": {**HERE, "pythonVersion": "3.9.1"}},
        [],
        ["has Python 3.9, and this environment has"],
    ),
    "no GPUs": ({}, ["--gpus-per-worker", "1"], ["has 0 GPUs on 1 nodes, and a trial needs 1"]),
    "few CPUs": ({}, ["--workers", "5"], ["has 4 CPUs on 1 nodes, and a trial needs 5"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_cluster_that_cannot_run_the_study(
    name: str, dashboard: FakeDashboard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, flags, said = FAULTS[name]
    vars(dashboard).update(changes)
    monkeypatch.setenv("RAY_AUTH_TOKEN", CANARY)
    assert submit(dashboard, *flags) == 2
    told = capsys.readouterr()
    assert all(words in told.err for words in said), told.err
    assert CANARY not in told.err + told.out
    assert dashboard.jobs == {}


@pytest.mark.ray
def test_too_little_room_is_refused_here_where_it_is_known(
    dashboard: FakeDashboard, simulated_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dashboard.resources["object_store_memory"] = 2.0**16
    with small_disk_at(tmp_path / "full", "64k") as storage:
        flags = ["--store", str(simulated_store), "--storage", str(storage), "--tracking-uri", "http://127.0.0.1:5000"]
        submitted = ["submit", "smoke", "--address", dashboard.address, *flags, "--yes"]
        assert main([*submitted, "--loading", "cache"]) == 2
        said = capsys.readouterr().err
        assert "2 faults" in said
        assert f"--storage {storage}: its disk has 64 KiB free, and the trials that are left write up to" in said
        assert "memory: the object store holds 64 KiB, and the genes that a node keeps decoded take" in said
        assert "on 1 of 1 nodes: 10.0.0.2" in said
        assert main(submitted) == 2  # what does not fit is streamed, but for the disk
        assert "memory" not in capsys.readouterr().err
    assert dashboard.jobs == {}


@pytest.mark.parametrize(
    ("store", "said", "code"),
    [
        ("ftp://host/store", "ftp://host/store: stores are not read from ftp://", 2),
        ("s3://bucket/store", "s3://bucket/store is not on this machine: the job looks at it", 0),
    ],
)
def test_a_store_in_a_bucket_that_this_machine_does_not_read(
    store: str,
    said: str,
    code: int,
    dashboard: FakeDashboard,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert submit(dashboard, "--store", store) == code
    assert said in capsys.readouterr().err
    assert [store in one["entrypoint"] for one in dashboard.jobs.values()] == [True] * (code == 0)


def test_a_head_that_is_not_there(dashboard: FakeDashboard, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dashboard.address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        assert submit(dashboard) == 2
    assert "nobody answers there" in capsys.readouterr().err


def test_what_no_job_could_run_with_is_said_together(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", CANARY)
    argv = ["submit", "smoke", "--address", "http://8.8.8.8:1", "--store", "/s", "--storage", "results"]
    assert main([*argv, "--env", "RAY_AUTH_TOKEN", "--env", "NOT_SET_ANYWHERE"]) == 2
    said = capsys.readouterr().err
    assert "6 faults" in said
    for words in (
        "--storage: results: a submitted job runs in a copy",
        "--address http://8.8.8.8:1: is a public address",
        "--tracking-uri: is not given",
        "--env RAY_AUTH_TOKEN: is the cluster's own token",
        "--env NOT_SET_ANYWHERE: is not set",
        "--yes: is not given, and nobody can be asked here",
    ):
        assert words in said


def test_a_study_is_submitted_once_and_joined_then(
    dashboard: FakeDashboard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_PASSWORD", CANARY)
    uri, database = f"http://me:{CANARY}@127.0.0.1:5000", f"postgresql://me:{CANARY}@db/p"
    secrets = ["--tracking-uri", uri, "--search-database", database, "--env", "A_PASSWORD"]
    assert submit(dashboard, *secrets) == 0
    assert submit(dashboard, *secrets) == 0
    said = capsys.readouterr()
    (submitted,) = dashboard.jobs.values()
    assert "is there already, running" in said.out
    assert "4 trials" in said.out
    assert submitted["entrypoint"] == (
        "prism-ray run search_spaces/smoke.yaml --store /absent/store --storage /absent/results"
    )
    variables = submitted["runtime_env"].pop("env_vars")
    assert variables["MLFLOW_TRACKING_URI"] == uri
    assert variables["PRISM_RAY_SEARCH_DATABASE"] == database
    assert variables["A_PASSWORD"] == CANARY
    assert len(variables["PRISM_RAY_GIT_COMMIT"]) == 40
    assert CANARY not in json.dumps(submitted) + said.out + said.err
    assert main(["status", "smoke", "--address", dashboard.address]) == 0
    assert main(["logs", "smoke", "--address", dashboard.address]) == 0
    assert main(["cancel", "smoke", "--address", dashboard.address]) == 0
    said = capsys.readouterr()
    assert "step 1\n" in said.out
    assert "/absent/results is not on this machine" in said.err
    assert submitted["status"] == "STOPPED"
    assert main(["cancel", "smoke", "--address", dashboard.address]) == 0
    assert "smoke is not running" in capsys.readouterr().out


def test_other_flags_of_a_job_that_is_joined_are_said(
    dashboard: FakeDashboard, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(dashboard) == 0
    assert submit(dashboard, "--max-concurrent", "2") == 0
    assert "it was submitted with other flags, which are those that count: prism-ray run" in capsys.readouterr().out
    assert len(dashboard.jobs) == 1


def test_ids_of_a_study_follow_each_other(dashboard: FakeDashboard, submission: Submission) -> None:
    cluster = JobCluster(dashboard.address)
    first = join_or_submit(cluster, submission)
    assert first.job.id == f"{submission.id_stem}-1"
    dashboard.jobs[first.job.id]["status"] = "FAILED"
    second = join_or_submit(cluster, submission)
    assert (second.job.id, second.is_joined) == (f"{submission.id_stem}-2", False)
    assert join_or_submit(cluster, submission).job.id == second.job.id


def test_a_submission_that_is_overtaken_joins_the_other(dashboard: FakeDashboard, submission: Submission) -> None:
    name = f"{submission.id_stem}-1"
    dashboard.taken = {name: job(name, "PENDING", metadata=submission.metadata)}
    found = join_or_submit(JobCluster(dashboard.address), submission)
    assert (found.job.id, found.is_joined) == (name, True)


def test_a_name_that_another_study_has_is_refused(dashboard: FakeDashboard, submission: Submission) -> None:
    name = f"{submission.id_stem}-1"
    dashboard.jobs = {name: job(name, "RUNNING", metadata={**submission.metadata, "prism.study_digest": "f" * 64})}
    with pytest.raises(InputError, match=f"is run by job {name} as another study"):
        join_or_submit(JobCluster(dashboard.address), submission)
    assert list(dashboard.jobs) == [name]


def test_the_job_of_a_name(dashboard: FakeDashboard) -> None:
    def one(name: str, status: str, storage: str, start: int) -> dict[str, Any]:
        return job(name, status, start_time=start, metadata={"prism.study": "s", "prism.storage": storage})

    cluster = JobCluster(dashboard.address)
    with pytest.raises(InputError, match="no study was submitted to it"):
        find_job(cluster, "s")
    dashboard.jobs = {"a": one("a", "RUNNING", "/a", 1), "b": one("b", "SUCCEEDED", "/b", 2), "c": job("c", "RUNNING")}
    assert find_job(cluster, "s").id == "a"
    assert find_job(cluster, "s", "/b").id == "b"
    with pytest.raises(InputError, match="Did you mean 's'"):
        find_job(cluster, "S")
    dashboard.jobs["b"]["status"] = "PENDING"
    with pytest.raises(InputError, match="runs 2 times; say which by --storage: /a, /b"):
        find_job(cluster, "s")


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 1, 1),
        ("FAILED", 2, 2),
        ("FAILED", 130, 130),
        ("FAILED", None, 1),
        ("STOPPED", None, 130),
    ],
)
def test_a_job_ends_as_its_study(status: str, code: int | None, exit_code: int) -> None:
    assert StudyJob("i", "s", "d", "/r", status, "", "", 1, 2, code).exit_code == exit_code


def test_flags_that_are_passed_on_are_those_of_run() -> None:
    run = make_parser().parse_args(["run", "smoke", "--store", "s"])
    kept = {flag: getattr(run, flag.removeprefix("--").replace("-", "_")) for flag in _PASSED_ON}
    assert kept == _PASSED_ON
    own = {"command", "command_name", "study", "smoke", "assignments", "store", "storage", "address"}
    own |= {"tracking_uri", "search_database", "checkpoint_activations"}
    assert {flag.removeprefix("--").replace("-", "_") for flag in _PASSED_ON} == vars(run).keys() - own


def test_a_package_has_what_no_ignore_file_names(tmp_path: Path) -> None:
    for name in ("a.py", "study.yaml", ".git/x", "sub/__pycache__/y", "data/big.bin", "sub/b.log", "sub/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * (5000 if "big" in name else 10))
    (tmp_path / ".rayignore").write_text("data/\n")
    (tmp_path / "sub" / ".gitignore").write_text("*.log\n")
    package = find_package(tmp_path, tmp_path / "study.yaml")
    assert set(package.files) == {".rayignore", "a.py", "study.yaml", "sub/.gitignore", "sub/c.py"}
    assert package.files["a.py"] == 10
    assert package.n_bytes == sum(package.files.values())
    (tmp_path / ".gitignore").write_text("study.yaml\n")
    with pytest.raises(InputError, match=r"study.yaml: is left out by .gitignore or .rayignore"):
        find_package(tmp_path, tmp_path / "study.yaml")
    (tmp_path / ".rayignore").unlink()
    with pytest.raises(InputError, match=r"the largest files are data/big.bin 4.88 KiB"):
        find_package(tmp_path, tmp_path / "elsewhere.yaml", most_bytes=4000)


def test_a_job_of_other_versions_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(jobs.SUBMITTER_VARIABLE, raising=False)
    check_submitter()
    ((name, value),) = submitter_variables().items()
    monkeypatch.setenv(name, value)
    check_submitter()
    monkeypatch.setenv(name, json.dumps({**json.loads(value), "prism-ray": "0.0.1"}))
    monkeypatch.setenv(jobs.JOB_VARIABLE, "{}")
    with pytest.raises(InputError, match=r"runs the job with prism-ray \S+, and it was submitted with prism-ray 0.0.1"):
        check_submitter()
    assert main(["run", "smoke", "--store", "/s", "--storage", "/absent"]) == 2
