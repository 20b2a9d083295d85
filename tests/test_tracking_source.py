"""Which source a run was made from: of a clone, and of a job that has no repository."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest

from prism_ray.tracking import source_diff, source_state, source_tags
from prism_ray.tracking.source_state import (
    COMMIT_VARIABLE,
    DIFF_VARIABLE,
    DIRTY_VARIABLE,
    left_out_diff,
    source_variables,
)


def _git(folder: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *settings, *arguments], check=True, capture_output=True)


def test_source_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRISM_RAY_GIT_COMMIT", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert source_tags(tmp_path) == {}
    _git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("1")
    _git(tmp_path, "add", "file")
    _git(tmp_path, "commit", "-q", "-m", "first")
    clean = source_tags(tmp_path)
    assert len(clean["prism.git_commit"]) == 40
    assert clean["prism.git_dirty"] == "false"
    (tmp_path / "file").write_text("2")
    assert source_tags(tmp_path)["prism.git_dirty"] == "true"
    # A submitted job has no repository: what its submitter saw counts.
    monkeypatch.setenv("PRISM_RAY_GIT_COMMIT", "d" * 40)
    monkeypatch.setenv("PRISM_RAY_GIT_DIRTY", "false")
    assert source_tags(tmp_path) == {"prism.git_commit": "d" * 40, "prism.git_dirty": "false"}
    assert source_tags(tmp_path / "absent")["prism.git_commit"] == "d" * 40


def test_a_job_knows_what_was_changed_beside_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (COMMIT_VARIABLE, DIFF_VARIABLE, DIRTY_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    clone, job = tmp_path / "clone", tmp_path / "job"
    clone.mkdir()
    _git(clone, "init", "-q")
    (clone / "a.py").write_text("x = 1\n")
    _git(clone, "add", ".")
    _git(clone, "commit", "-q", "-m", "first")
    assert source_diff(clone) == ""
    (clone / "a.py").write_text("x = 2\n")
    diff, tags = source_diff(clone), source_tags(clone)
    assert "-x = 1\n+x = 2\n" in diff
    for name, value in source_variables(clone).items():
        monkeypatch.setenv(name, value)
    assert (source_diff(job), source_tags(job)) == (diff, tags)
    assert tags["prism.git_diff_sha256"] == hashlib.sha256(diff.encode()).hexdigest()
    monkeypatch.setenv(DIFF_VARIABLE, "no base 64")
    assert source_diff(job) == ""


def test_a_diff_that_is_too_long_for_a_variable_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = np.random.default_rng(1).bytes(60_000).hex()
    monkeypatch.setattr(source_state, "source_diff", lambda folder: long)
    monkeypatch.setenv(COMMIT_VARIABLE, "d" * 40)
    assert source_variables(tmp_path).keys() == {COMMIT_VARIABLE, DIRTY_VARIABLE}
    assert left_out_diff(tmp_path) == len(long)
    monkeypatch.setattr(source_state, "source_diff", lambda folder: "short")
    assert left_out_diff(tmp_path) == 0
    assert DIFF_VARIABLE in source_variables(tmp_path)
