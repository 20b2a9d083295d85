"""Lists of studies and pages on one, as plain values; by name from a clone and from an installed package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prism_ray.study import load
from prism_ray.study.describe import describe, list_studies
from prism_ray.study.load import load_study
from tests.conftest import REPOSITORY
from tests.study.texts import ABLATION, SEARCH

STUDIES = REPOSITORY / "search_spaces"


def test_every_study_is_listed_by_its_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = list_studies()
    assert {study.name for study in listed} == {file.stem for file in STUDIES.glob("*.yaml")}
    assert all(study.kind and study.n_trials > 1 and study.n_smoke_trials for study in listed)
    questions = [study.question.lower() for study in listed]
    assert questions == sorted(questions)


def test_the_first_folder_wins_and_a_faulty_file_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    for folder in (near, far):
        folder.mkdir()
    (near / "shared.yaml").write_text(ABLATION)
    (far / "shared.yaml").write_text(SEARCH)
    (far / "broken.yaml").write_text("question: 3\n")
    (far / "other.yaml").write_text(SEARCH[: SEARCH.index("smoke:")])
    monkeypatch.setattr("prism_ray.study.describe.study_folders", lambda: (near, far))
    by_name = {study.name: study for study in list_studies()}
    assert (by_name["shared"].path, by_name["shared"].kind) == (near / "shared.yaml", "ablation")
    assert (by_name["shared"].n_trials, by_name["shared"].n_smoke_trials) == (6, 2)
    assert (by_name["other"].kind, by_name["other"].n_trials, by_name["other"].n_smoke_trials) == ("search", 12, 0)
    assert by_name["broken"].kind == ""
    assert "broken.yaml:1: question: 3" in by_name["broken"].question


def test_a_page_says_all_and_goes_through_json(tmp_path: Path) -> None:
    for text in (ABLATION, SEARCH):
        (tmp_path / "asked.yaml").write_text(text)
        study = load_study(tmp_path / "asked.yaml")
        about = describe(study)
        assert json.loads(json.dumps(about))["n_trials"] == study.n_trials
        assert (about["question"], about["claim"], about["source"]) == (study.question, study.claim, study.source)
    assert about["search"]["space"]["model.n_states"] == {"int_range": [0, 8]}
    assert about["search"]["n_trials"] == 12
    (tmp_path / "asked.yaml").write_text(ABLATION)
    about = describe(load_study(tmp_path / "asked.yaml", overrides={"model.n_layers": 2}))
    assert about["baseline"] == {"model.d_model": 16, "model.n_layers": 2}
    assert about["arms"][1] == {"name": "n2", "patch": {"model.n_states": 2}, "reason": "published"}
    assert about["overrides"] == {"model.n_layers": 2}


def test_an_installed_package_finds_its_studies_anywhere(tmp_path: Path) -> None:
    """As the wheel is laid out: `search_spaces` is data of the package."""
    installed = tmp_path / "site"
    shutil.copytree(REPOSITORY / "prism_ray", installed / "prism_ray", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(STUDIES, installed / "prism_ray" / "search_spaces")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = f"import sys; sys.path.insert(0, {str(installed)!r}); from prism_ray.cli import main; sys.exit(main())"
    run = subprocess.run(
        [sys.executable, "-I", "-c", script, "study", "list", "--json"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    listed = json.loads(run.stdout)
    assert {study["name"] for study in listed} == {file.stem for file in STUDIES.glob("*.yaml")}
    assert all(study["path"].startswith(str(installed)) for study in listed)


def test_the_wheel_carries_the_studies_where_they_are_looked_for() -> None:
    written = (REPOSITORY / "pyproject.toml").read_text()
    assert '"search_spaces" = "prism_ray/search_spaces"' in written
    assert load._PACKAGED.parts[-2:] == ("prism_ray", "search_spaces")
