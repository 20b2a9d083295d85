"""Two studies, and two launches of one, beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prism_ray.cli import main
from prism_ray.errors import InputError, TrackingError
from prism_ray.report.against import AGAINST_COLUMNS, compare_studies, write_comparison
from prism_ray.statistics import holm, paired_effect
from prism_ray.tracking import StudyHeader, TrialHeader, fetch_study, fetch_trials
from tests.tracking_support import STUDY, fresh_store, track_study, trial_header

FIRST = replace(STUDY, seeds=(2, 22, 222), n_trials=6)
SECOND = replace(FIRST, name="again", study_digest="d" * 64)
VALUES = {"n0": [0.20, 0.22, 0.24], "n2": [0.19, 0.20, 0.23]}
OTHER = {"n0": [0.21, 0.25, 0.26], "n2": [0.18, 0.20, 0.25]}


@pytest.fixture
def uri(tmp_path: Path) -> str:
    (tmp_path / "store").mkdir()
    return fresh_store(tmp_path / "store")


def track(uri: str, header: StudyHeader, values: Mapping[str, list[float]]) -> str:
    runs: list[tuple[TrialHeader, Mapping[str, float], str]] = [
        (trial_header(arm, seed, study=header), {"test/mse": value}, "FINISHED")
        for arm, of_arm in values.items()
        for seed, value in zip(header.seeds, of_arm, strict=False)
    ]
    return track_study(uri, header, runs)


def test_arms_of_the_same_name_are_paired(uri: str, tmp_path: Path) -> None:
    track(uri, FIRST, VALUES)
    track(uri, SECOND, {**OTHER, "n2": OTHER["n2"][:2]})
    comparison = compare_studies(uri, FIRST.name, SECOND.name)
    table = comparison.table
    assert list(table.columns) == AGAINST_COLUMNS
    assert table["arm"].tolist() == ["n0", "n2"]
    assert table["n"].tolist() == [3, 3]
    assert table["n_other"].tolist() == [3, 2]
    assert table["n_pairs"].tolist() == [3, 2]
    differences = [np.subtract(VALUES["n0"], OTHER["n0"]), np.subtract(VALUES["n2"][:2], OTHER["n2"][:2])]
    effects = [paired_effect(sample) for sample in differences]
    assert table["difference"].tolist() == pytest.approx([effect.difference.mean for effect in effects])
    assert table["low"].tolist() == pytest.approx([effect.difference.low for effect in effects])
    assert table["p"].tolist() == pytest.approx(holm([effect.p for effect in effects]))
    assert comparison.notes == (f"They differ in study: {'a' * 12} and {'d' * 12}.",)
    assert "-0.0200" in comparison.text
    files = write_comparison(comparison, tmp_path / "out")
    assert pd.read_csv(files[1])["arm"].tolist() == ["n0", "n2"]
    assert "They differ in study" in files[0].read_text()


def test_two_launches_of_a_study_on_other_data(uri: str) -> None:
    early = track(uri, FIRST, VALUES)
    track(uri, replace(FIRST, data_digest="e" * 64), OTHER)
    with pytest.raises(InputError, match=r"They differ in data: .* give --mixed"):
        compare_studies(uri, FIRST.name, f"{FIRST.name}@{early[:10]}")
    comparison = compare_studies(uri, FIRST.name, f"{FIRST.name}@{early[:10]}", mixed=True)
    assert comparison.other.run_id == early
    assert comparison.table["mean_other"].tolist() == pytest.approx([np.mean(VALUES["n0"]), np.mean(VALUES["n2"])])
    assert comparison.table["mean"].tolist() == pytest.approx([np.mean(OTHER["n0"]), np.mean(OTHER["n2"])])


def test_a_launch_is_found_by_the_start_of_its_run(uri: str) -> None:
    early = track(uri, FIRST, VALUES)
    late = track(uri, replace(FIRST, data_digest="e" * 64), OTHER)
    assert fetch_study(uri, FIRST.name).run_id == late
    assert fetch_study(uri, f"{FIRST.name}@{early}").run_id == early
    assert set(fetch_trials(uri, f"{FIRST.name}@{early}")["parent_run_id"]) == {early}
    with pytest.raises(TrackingError, match="has no launch 'zz'"):
        fetch_study(uri, f"{FIRST.name}@zz")


def test_what_cannot_be_compared_is_refused(uri: str) -> None:
    track(uri, FIRST, VALUES)
    track(uri, replace(SECOND, name="mae", metric="test/mae"), OTHER)
    track(uri, replace(SECOND, name="others", arms=("x", "y"), baseline="x"), {})
    for other, problem in (
        (FIRST.name, "would be compared with itself"),
        ("mae", "reports test/mae"),
        ("others", "has no arm of confounder_count"),
    ):
        with pytest.raises(InputError, match=problem):
            compare_studies(uri, FIRST.name, other)


def test_from_the_command_line(uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    track(uri, FIRST, VALUES)
    track(uri, SECOND, OTHER)
    place = ["--tracking-uri", uri, "--out", str(tmp_path / "out")]
    assert main(["report", FIRST.name, "--against", SECOND.name, *place]) == 0
    assert "confounder_count@" in capsys.readouterr().out
    assert main(["report", FIRST.name, "--against", "nothing", *place]) == 2
    assert "has no study 'nothing'" in capsys.readouterr().err
