"""`prism-ray study list` and `show`: plain in a log, drawn on a terminal, JSON for machines."""

from __future__ import annotations

import json

import pytest

from prism_ray.cli import main


@pytest.fixture(params=[False, True], ids=["log", "terminal"])
def screen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    on_terminal: bool = request.param
    monkeypatch.setattr("sys.stdout.isatty", lambda: on_terminal, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return on_terminal


def test_list_shows_each_study_with_its_question(screen: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "list"]) == 0
    said = capsys.readouterr()
    (line,) = [line for line in said.out.splitlines() if " confounder_count " in line]
    assert line.startswith("How many background states should Prism average over?")
    assert line.split()[-3:] == ["ablation", "25", "8"]
    assert said.err == ""


def test_show_of_an_ablation(screen: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "show", "confounder_count", "--smoke", "--set", "model.d_state=4"]) == 0
    said = capsys.readouterr().out
    for part in (
        "How many background states should Prism average over?",
        "confounder_count-smoke-set-",
        "replaced   model.d_state 4",
        "n0 (baseline)",
        "model.n_states 4",
        "the published choice",
        "seeds      2, 22",
    ):
        assert part in said


def test_show_of_a_search(screen: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "show", "joint_search"]) == 0
    said = capsys.readouterr().out
    parts = (
        "int_range [0, 8]",
        "model.n_states {at_least 1}",
        "sampler tpe",
        "trials     80",
        "2222, 22222]",
        "n_steps 50000",
    )
    for part in parts:
        assert part in said


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "list", "--json"]) == 0
    assert "smoke" in {study["name"] for study in json.loads(capsys.readouterr().out)}
    assert main(["study", "show", "smoke", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["baseline_arm"] == "n0"


def test_a_study_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "show", "smok"]) == 2
    assert "Did you mean 'smoke'?" in capsys.readouterr().err
