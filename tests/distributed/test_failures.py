"""What is noted of a failed trial, and which failures are not tried again unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ray.exceptions import ObjectStoreFullError

from prism_ray.distributed.failures import (
    FAILURE_NAME,
    Failure,
    ProcessDiedError,
    forget_failure,
    note_failure,
    read_failure,
    would_repeat,
)
from prism_ray.errors import CheckpointError, ConfigError, StoreError, TrainingError, WorkerLostError


@pytest.mark.parametrize("problem", [TrainingError("nan"), ValueError("bug"), KeyError("bug"), RuntimeError("cuda")])
def test_a_loss_and_a_bug_would_repeat(problem: Exception) -> None:
    assert would_repeat(problem)


@pytest.mark.parametrize(
    "problem",
    [
        ConfigError("no GPU here"),
        StoreError("a damaged file"),
        CheckpointError("a damaged file"),
        OSError(28, "No space left on device"),
        MemoryError(),
        ObjectStoreFullError(),
        ProcessDiedError("three times"),
        WorkerLostError("connection closed by peer"),
    ],
)
def test_what_may_be_mended_would_not(problem: Exception) -> None:
    assert not would_repeat(problem)


def test_a_failure_is_noted_read_and_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    assert read_failure(folder) is None
    noted = note_failure(folder, "0123", ConfigError("no such fold"))
    assert read_failure(folder) == noted == Failure("0123", "ConfigError", "no such fold", False)
    assert str(noted) == "ConfigError: no such fold"
    assert forget_failure(folder)
    assert not forget_failure(folder)
    assert list(folder.iterdir()) == []


def test_a_bug_is_noted_with_its_place_and_its_whole_traceback(tmp_path: Path) -> None:
    def broken() -> None:
        raise IndexError("index 7 is out of bounds")

    try:
        broken()
    except IndexError as problem:
        failure = note_failure(tmp_path, "0123", problem)
    assert "index 7 is out of bounds" in failure.reason
    assert "test_failures.py:" in failure.reason
    assert "in broken" in failure.reason
    traceback = tmp_path / "traceback.txt"
    assert str(traceback) in failure.reason
    assert traceback.read_text().startswith("Traceback (most recent call last)")
    assert traceback.read_text().endswith("IndexError: index 7 is out of bounds\n")
    forget_failure(tmp_path)
    assert not traceback.exists()


def test_a_note_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "trial").write_text("a file where the folder would be")
    failure = note_failure(tmp_path / "trial", "0123", OSError(28, "No space left on device"))
    assert failure.reason == "[Errno 28] No space left on device"


@pytest.mark.parametrize(("kind", "repeats"), [("TrainingError", True), ("StoreError", False)])
def test_a_note_of_an_earlier_version_is_read(tmp_path: Path, kind: str, repeats: bool) -> None:
    (tmp_path / FAILURE_NAME).write_text(json.dumps({"trial_id": "0123", "kind": kind, "reason": "why"}))
    assert read_failure(tmp_path) == Failure("0123", kind, "why", repeats)
