"""How far a study is, by its folders: each state, the best, the time that is left, and 10,000 trials in seconds."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from prism_ray.cli import main
from prism_ray.cli.status import status_document, summary_lines
from prism_ray.cli.words import duration_text
from prism_ray.distributed import study_status as module
from prism_ray.distributed.launch_note import MoreTrials, TrialNote
from prism_ray.distributed.study_status import StudyStatus, study_status
from prism_ray.training import checkpoint, record
from tests.distributed.workspaces import attempted, done, held, launch, progress, stale, write

NOW = 1100.0


def seconds_left(status: StudyStatus) -> float:
    assert status.left is not None
    assert status.left.cap == ""
    return status.left.seconds


def running(storage: Path, number: int, **changes: Any) -> None:
    progress(storage, number, **changes)
    held(storage / "trials" / f"t{number}" / "lease.json")


def failed(storage: Path, number: int) -> None:
    content = {"trial_id": f"t{number}", "kind": "TrainingError", "reason": "the loss is nan", "repeats": True}
    write(storage, number, "failure.json", content)


def test_every_state_is_told(tmp_path: Path) -> None:
    launch(tmp_path, 8)
    done(tmp_path, 0, 0.25)
    running(tmp_path, 1)
    # Its process is there, however long it has written nothing.
    stale(tmp_path / "trials" / "t1" / "lease.json")
    failed(tmp_path, 2)
    progress(tmp_path, 3)
    # Its process died: no such process started then.
    progress(tmp_path, 4)
    held(tmp_path / "trials" / "t4" / "lease.json", process_started=1.0)
    # On another machine, and silent for an hour.
    progress(tmp_path, 5)
    held(tmp_path / "trials" / "t5" / "lease.json", place="another machine")
    stale(tmp_path / "trials" / "t5" / "lease.json")
    # On another machine, and heard of.
    progress(tmp_path, 6)
    held(tmp_path / "trials" / "t6" / "lease.json", place="another machine", host="there", pid=42)

    status = study_status(tmp_path, "tiny", NOW)
    states = ["done", "running", "failed", "interrupted", "interrupted", "interrupted", "running", "missing"]
    assert [trial.state for trial in status.trials] == states
    assert status.counts == {"done": 1, "running": 2, "failed": 1, "interrupted": 3, "pruned": 0, "missing": 1}
    first, goes_on, broken = status.trials[:3]
    assert (first.step, first.n_steps, first.metrics, first.train_s) == (
        100,
        100,
        {"val/mse": 0.25, "test/mse": 0.5},
        60.0,
    )
    assert (goes_on.step, goes_on.metrics, goes_on.for_s) == (50, {"val/mse": 0.4}, 100.0)
    assert goes_on.left_s == pytest.approx(100.0)  # 40 steps in 80 s, and 50 are left
    assert broken.reason == "TrainingError: the loss is nan"
    assert status.trials[6].where == "there, process 42"
    assert status.driver is None
    assert status.worker_hours == pytest.approx(1 / 60)


def test_the_files_of_trials_have_the_names_that_training_gives_them() -> None:
    assert (module.RESULT_NAME, module.CHECKPOINT_NAME) == (record.RESULT_NAME, checkpoint.CHECKPOINT_NAME)


def test_a_driver_that_lives_is_seen(tmp_path: Path) -> None:
    launch(tmp_path, 1)
    path = tmp_path / "studies" / "tiny" / "driver.json"
    held(path)
    driver = study_status(tmp_path, "tiny").driver
    assert driver is not None
    held(path, process_started=1.0)
    assert study_status(tmp_path, "tiny").driver is None


@pytest.mark.parametrize(("direction", "best"), [("minimize", "t1"), ("maximize", "t2")])
def test_the_best_is_by_the_studys_own_metric_on_validation_genes(tmp_path: Path, direction: str, best: str) -> None:
    launch(tmp_path, 5, direction=direction)
    for number, value, test in [(0, 0.3, 0.0), (1, 0.2, 0.9), (2, 0.4, 1.0), (3, math.nan, -1.0), (4, math.inf, -1.0)]:
        done(tmp_path, number, value, test=test)
    found = study_status(tmp_path, "tiny").best
    assert found is not None
    assert found.trial_id == best


def test_a_record_that_is_damaged_is_a_failure(tmp_path: Path) -> None:
    launch(tmp_path, 1)
    done(tmp_path, 0, 0.25)
    (tmp_path / "trials" / "t0" / "result.json").write_text("{")
    (trial,) = study_status(tmp_path, "tiny").trials
    assert trial.state == "failed"
    assert "result.json is damaged" in trial.reason


def test_proposals_of_a_search_that_are_to_come_are_missing(tmp_path: Path) -> None:
    launch(tmp_path, 2, kind="search", n_trials=10)
    done(tmp_path, 0, 0.25)
    assert study_status(tmp_path, "tiny").counts["missing"] == 9


def search_launch(storage: Path, labels: list[str]) -> None:
    """A search of three proposals, then two finalists and the baseline, each one seed and four times as long."""
    trials = tuple(
        TrialNote(f"t{number}", label, 100 if label.startswith("proposal") else 400)
        for number, label in enumerate(labels)
    )
    launch(storage, 0, kind="search", trials=trials, n_trials=6, n_finalists=3, finalist_steps=400)


def test_finalists_of_a_search_are_told_before_they_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search_launch(tmp_path, ["proposal-a seed 2 fold_1", "proposal-b seed 2 fold_1"])
    done(tmp_path, 0, 0.25)
    attempted(tmp_path, 0, 0, 100)
    running(tmp_path, 1)
    status = study_status(tmp_path, "tiny", NOW)
    assert status.n_trials == 6
    none = dict.fromkeys(status.counts, 0)
    assert status.counts == {**none, "done": 1, "running": 1, "missing": 4}
    assert status.parts == {
        "proposals": {**none, "done": 1, "running": 1, "missing": 1},
        "finalists": {**none, "missing": 3},
    }
    # 100 s a proposal; one waits, and three finalists of four times its length; 100 s of the running one are left.
    assert seconds_left(status) == pytest.approx(100 + 100 + 3 * 400)
    assert main(["status", "tiny", "--storage", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:4] == [
        "tiny: 6 trials: 1 done, 1 running, 4 missing",
        "         3 proposals: 1 done, 1 running, 1 missing",
        "         3 finalists: at most, once all proposals have ended",
        "best     proposal-a seed 2 fold_1: val/mse 0.2500, test/mse 0.5000",
    ]


def test_a_finalist_that_is_its_own_proposal_counts_as_both(tmp_path: Path) -> None:
    labels = [f"{arm} seed 2 fold_1" for arm in ("proposal-a", "proposal-b", "proposal-c", "baseline", "finalist-b")]
    search_launch(tmp_path, labels)
    MoreTrials(tmp_path, "tiny").add(TrialNote("t0", "finalist-a seed 2 fold_1", 100))
    for number in range(3):
        done(tmp_path, number, 0.25)
    status = study_status(tmp_path, "tiny", NOW)
    assert {part: (states["done"], states["missing"]) for part, states in status.parts.items()} == {
        "proposals": (3, 0),
        "finalists": (1, 2),
    }
    assert status.n_trials == sum(status.counts.values()) == 6
    assert status.worker_hours == pytest.approx(3 / 60), "trained once, counted once"


def test_the_time_left_is_by_what_this_launch_did_and_by_how_many_run_at_once(tmp_path: Path) -> None:
    notes = tuple(TrialNote(f"t{number}", f"n0 seed {number} fold_1", 100, multiply_adds=1000) for number in range(8))
    launch(tmp_path, 0, trials=notes, n_trials=8, n_concurrent=2)
    held(tmp_path / "studies" / "tiny" / "driver.json")
    # Of another launch, on another machine maybe; of a process that died; what cannot be read.
    done(tmp_path, 0, 0.25, train_s=9.0)
    attempted(tmp_path, 0, 0, 100, launch="another", ended="2026-01-01T00:00:00+00:00")
    attempted(tmp_path, 1, 0, 90, how="died")
    write(tmp_path, 2, "attempts.json", ["no attempt"])
    assert study_status(tmp_path, "tiny", NOW).left is None
    # 100 s a trial: ten left of two that were begun, 40 of one that runs with no report yet.
    attempted(tmp_path, 3, 10, 90, how="interrupted")
    held(tmp_path / "trials" / "t4" / "lease.json")
    attempted(tmp_path, 4, 0, 0, how="", started="1970-01-01T00:17:20+00:00")
    assert seconds_left(study_status(tmp_path, "tiny", NOW)) == pytest.approx(max(10 + 100 + 100, 40 + 10 + 100 + 100))
    # Nobody drives it: as many at once as run.
    (tmp_path / "studies" / "tiny" / "driver.json").unlink()
    assert seconds_left(study_status(tmp_path, "tiny", NOW)) == pytest.approx(40 + 10 + 10 + 4 * 100)


@pytest.mark.parametrize(
    ("caps", "said"),
    [
        ({"ends_by": NOW + 45.0}, "about 45 s, when budget.wall_hours ends the launch"),
        # Half a GPU for 100 s of one that has ended and 80 s of one that runs, by its last note: 20 s are left.
        ({"gpu_hours": 100 / 3600}, "about 20 s, when budget.gpu_hours ends the launch"),
        ({"ends_by": NOW + 1e6, "gpu_hours": 100.0}, "about 1 min 40 s"),
    ],
)
def test_the_time_left_knows_the_budget(
    caps: dict[str, float], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(tmp_path, 2, resources={"n_workers": 1, "gpus_per_worker": 0.5}, **caps)
    attempted(tmp_path, 0, 0, 100, gpus=0.5)
    done(tmp_path, 0, 0.25)
    running(tmp_path, 1)
    attempted(tmp_path, 1, 10, 10, gpus=0.5, how="", ended="")
    for name, second in (("attempts.json", 1090.0), ("progress.json", 1080.0)):
        os.utime(tmp_path / "trials" / "t1" / name, (second, second))
    status = study_status(tmp_path, "tiny", NOW)
    assert f"left     {said}" in summary_lines(status)
    document = status_document(status)
    assert document["left_cap"] == (said.split("budget.")[1].split()[0] if "budget" in said else None)


def test_ten_thousand_trials_of_which_half_are_done(tmp_path: Path) -> None:
    launch(tmp_path, 10_000)
    for number in range(0, 10_000, 2):
        done(tmp_path, number, number / 1e4)
    status = study_status(tmp_path, "tiny")
    assert (status.counts["done"], status.counts["missing"]) == (5000, 5000)
    assert status.best is not None
    assert status.best.trial_id == "t0"


def test_the_command_says_it_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launch(tmp_path, 4, direction="maximize")
    done(tmp_path, 0, 0.25, train_s=3600.0)
    running(tmp_path, 1, started=time.time() - 100)
    failed(tmp_path, 2)
    assert main(["status", "tiny", "--storage", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "tiny: 4 trials: 1 done, 1 running, 1 failed, 1 missing"
    assert said[1] == "best     n0 seed 0 fold_1: val/mse 0.2500, test/mse 0.5000"
    assert said[3] == "cost     1.00 hours of workers in finished trials"
    assert said[4:6] == ["driver   none lives", "go on    prism-ray retry tiny --failed"]
    table = said[7:]
    assert table[0].split() == ["trial", "state", "step", "last", "val/mse", "for", "left", "where,", "or", "why"]
    assert "50/100" in table[1]
    assert "0.4000" in table[1]
    assert "1 min 40 s" in table[1]
    assert table[2].split()[4:] == ["failed", "-/100", "TrainingError:", "the", "loss", "is", "nan"]


def test_the_command_says_it_to_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launch(tmp_path, 3)
    done(tmp_path, 0, math.nan)
    running(tmp_path, 1)
    assert main(["status", "tiny", "--storage", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["counts"]["running"] == 1
    assert found["best"] is None
    assert found["trials"][0]["metrics"]["val/mse"] is None
    assert [entry["state"] for entry in found["trials"]] == ["done", "running", "missing"]
    assert "study_text" not in found["launch"]


@pytest.mark.parametrize("command", [["status"], ["resume"], ["cancel"], ["retry", "--failed"]], ids=" ".join)
def test_a_name_that_was_never_run_is_wrong_input(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(tmp_path, 1)
    assert main([*command, "tinny", "--storage", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "has no study 'tinny' that was run; use one of tiny. Did you mean 'tiny'?" in said
    assert main([*command, "tiny", "--storage", str(tmp_path / "absent")]) == 2
    assert "is no folder; give the --storage" in capsys.readouterr().err
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_lengths_of_time_in_words(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
