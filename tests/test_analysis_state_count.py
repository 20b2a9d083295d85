from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis import state_count
from prism_ray.tracking import fetch_trials
from tests.tracking_support import STUDY, fresh_store, track_study, trial_header

VALUES = {("n0", 2): 0.3, ("n0", 22): 0.32, ("n2", 2): 0.2, ("n2", 22): 0.22}


@pytest.fixture
def uri(tmp_path: Path) -> str:
    uri = fresh_store(tmp_path)
    runs = [
        (trial_header(arm, seed), {"test/mse": value, "best/mse": value}, "FINISHED")
        for (arm, seed), value in VALUES.items()
    ]
    track_study(uri, STUDY, runs)
    return uri


def test_study_and_its_table_give_the_same_curve(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert state_count.main(["--study", STUDY.name, "--tracking-uri", uri, "--out", str(tmp_path / "a")]) == 0
    assert "4 of 4 planned trials finished" in capsys.readouterr().out
    fetch_trials(uri, STUDY.name).to_parquet(tmp_path / "trials.parquet")
    assert state_count.main(["--trials", str(tmp_path / "trials.parquet"), "--out", str(tmp_path / "b")]) == 0
    names = [f"state_count.{kind}" for kind in ("csv", "json", "pdf", "png")]
    assert sorted(file.name for file in (tmp_path / "a").iterdir()) == names
    first, second = (pd.read_csv(tmp_path / folder / "state_count.csv") for folder in ("a", "b"))
    pd.testing.assert_frame_equal(first, second)
    assert first.groupby("position")["mean"].first().to_dict() == {0.0: pytest.approx(0.31), 2.0: pytest.approx(0.21)}
    sidecar = json.loads((tmp_path / "a" / "state_count.json").read_text())
    assert sidecar["study"] == STUDY.name
    assert len(sidecar["run_ids"]) == 4
    assert sidecar["files"] == ["state_count.csv", "state_count.png", "state_count.pdf"]


def test_nothing_to_draw_is_said(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    track_study(uri, replace(STUDY, study_digest="e" * 64), [(trial_header(), {}, "FAILED")])
    assert state_count.main(["--study", STUDY.name, "--tracking-uri", uri, "--out", str(tmp_path / "a")]) == 1
    printed = capsys.readouterr().out
    assert "0 of 4 planned trials finished; 1 failed" in printed
    assert "nothing to draw" in printed
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, [], "cannot be read as a Parquet table"),
        (b"no parquet", [], "cannot be read as a Parquet table"),
        (pd.DataFrame({"arm": ["n0"]}), [], "has no column study, seed, fold"),
        (None, ["--metric", "test/unknown"], "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: object, arguments: list[str], message: str
) -> None:
    path = tmp_path / "trials.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, pd.DataFrame):
        content.to_parquet(path)
    assert state_count.main(["--trials", str(path), "--out", str(tmp_path / "a"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_unknown_study_is_refused(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert state_count.main(["--study", "x", "--tracking-uri", uri, "--out", str(tmp_path / "a")]) == 2
    assert "has no study 'x'" in capsys.readouterr().err


def test_unknown_metric_is_refused(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = fetch_trials(uri, STUDY.name).assign(**{"train/loss": 0.1})
    trials.to_parquet(tmp_path / "trials.parquet")
    given = ["--trials", str(tmp_path / "trials.parquet"), "--out", str(tmp_path / "a"), "--metric", "train/loss"]
    assert state_count.main(given) == 2
    assert "is asked for the unknown metric 'train/loss'" in capsys.readouterr().err
