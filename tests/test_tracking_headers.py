from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import prism_ray.tracking
from prism_ray.errors import TrackingError
from prism_ray.tracking import (
    NullTracker,
    StudyHeader,
    default_artifact_root,
    default_tracking_uri,
    redact,
    resolve_tracking_uri,
)
from prism_ray.tracking.parameters import LONGEST_VALUE, decode_column, encode_parameter
from tests.conftest import REPOSITORY
from tests.tracking_support import STUDY, trial_header


def test_importing_the_room_loads_neither_mlflow_nor_pandas() -> None:
    script = "import sys, prism_ray.tracking; print([name for name in ('mlflow', 'pandas') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]"


def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Mlflow'"):
        prism_ray.tracking.Mlflow  # noqa: B018


def test_study_header_survives_json() -> None:
    assert StudyHeader.from_json(STUDY.to_json()) == STUDY
    without = replace(STUDY, baseline=None, curve=None, tags={})
    assert StudyHeader.from_json(without.to_json()) == without


def test_tags_of_a_trial_say_whose_it_is() -> None:
    tags = replace(trial_header(), tags={"prism.gpu": "none", "prism.arm": "other"}).all_tags()
    assert tags["prism.arm"] == "n2"
    assert tags["prism.seed"] == "2"
    assert tags["prism.gpu"] == "none"


def test_null_tracker_keeps_nothing(tmp_path: Path) -> None:
    tracker = NullTracker()
    assert tracker.open_study(STUDY, {}) == ""
    log = tracker.open_trial("", trial_header(), journal_path=tmp_path / "journal.jsonl")
    log.log({"val/mse": 0.1}, 1)
    log.log_files({"a": tmp_path})
    log.set_tags({"a": "b"})
    log.finish("FINISHED")
    tracker.close_study("", "FINISHED", {})
    assert log.run_id is None
    assert list(tmp_path.iterdir()) == []


def test_addresses_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_tracking_uri(Path("results")) == f"sqlite:///{tmp_path}/results/mlflow.db"
    assert resolve_tracking_uri(None, Path("results")) == f"sqlite:///{tmp_path}/results/mlflow.db"
    assert resolve_tracking_uri("sqlite:///here.db?timeout=9", tmp_path) == f"sqlite:///{tmp_path}/here.db?timeout=9"
    assert resolve_tracking_uri("http://host:5000", tmp_path) == "http://host:5000"
    for uri in ("postgresql://me@host/db", "postgres://me@host/db", "postgresql+psycopg2://me@host/db"):
        assert resolve_tracking_uri(uri, tmp_path) == "postgresql+psycopg2://me@host/db"
    assert resolve_tracking_uri("postgresql+psycopg://me@host/db", tmp_path) == "postgresql+psycopg://me@host/db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from-environment:5000")
    assert resolve_tracking_uri(None, tmp_path) == "http://from-environment:5000"
    assert resolve_tracking_uri("http://given:5000", tmp_path) == "http://given:5000"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("mlruns", "is a path; a folder of files is no longer an MLflow store; give sqlite:////absolute"),
        ("file:///tmp/mlruns", "is a path"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_addresses_that_cannot_be_shared_are_refused(uri: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=message):
        resolve_tracking_uri(uri, tmp_path)


def test_credentials_are_hidden() -> None:
    assert redact("postgresql://user:secret@host/db and http://token@h") == "postgresql://***@host/db and http://***@h"
    assert redact("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2, "2"),
        (5e-4, "0.0005"),
        (True, "true"),
        (None, "null"),
        ("hidden", "hidden"),
        (("h3k27ac", "dnase"), "h3k27ac+dnase"),
        ([], "none"),
        ("x" * 7000, "x" * (LONGEST_VALUE - 3) + "..."),
    ],
)
def test_parameters_read_well(value: object, text: str) -> None:
    assert encode_parameter(value) == text


@given(st.lists(st.none() | st.integers(-(10**9), 10**9), min_size=1))
def test_integer_columns_come_back(values: list[int | None]) -> None:
    column = decode_column(None if value is None else encode_parameter(value) for value in values)
    if any(value is not None for value in values):
        assert column.dtype == "Int64"
    assert [None if pd.isna(value) else int(value) for value in column] == values


@pytest.mark.parametrize(
    ("texts", "dtype"),
    [
        (["1", "2.5"], "Float64"),
        (["true", None, "false"], "boolean"),
        (["1", "h3k27ac"], "string"),
        (["1_0", "2"], "string"),
        ([None, None], "string"),
    ],
)
def test_columns_are_typed_by_all_their_values(texts: list[str | None], dtype: str) -> None:
    column = decode_column(texts)
    assert column.dtype == dtype
    assert column.isna().tolist() == [text is None for text in texts]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:////data/mlflow.db", None),
        ("postgresql://me@host/mlflow", Path("/shared/mlartifacts")),
        ("http://host:5000", None),
        ("https://me:secret@host", None),
    ],
)
def test_artifacts_of_a_bare_database_go_to_the_workspace(uri: str, expected: Path | None) -> None:
    assert default_artifact_root(uri, Path("/shared")) == expected
