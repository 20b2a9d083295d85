"""Going on with a launch, trying failed trials again, cancelling: on the in-process backend, or on folders alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

import prism_ray.store
from prism_ray.cli import main
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch_note import read_launch, write_launch
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.study_control import cancel_study, resumed_launch, retried_launch
from prism_ray.distributed.study_run import run_study
from prism_ray.distributed.study_status import study_status
from prism_ray.errors import BusyError, InputError, TrackingError
from prism_ray.study.designs import expand
from prism_ray.study.load import load_study
from prism_ray.study.spec import Study
from prism_ray.tracking import MlflowTracker, fetch_study, fetch_trials
from prism_ray.training.loop import train
from prism_ray.training.record import read_record
from prism_ray.training.reporter import Placement
from tests.distributed.conftest import TINY, Told
from tests.distributed.workspaces import done, held, launch, write
from tests.tracking_support import STUDY, fresh_store, trial_header

MakeStudy = Callable[..., Study]


@pytest.fixture
def here(settings: StudySettings) -> StudySettings:
    """Settings of a launch in this process."""
    return replace(settings, backend=InProcessBackend())


def test_a_launch_notes_all_that_it_takes_to_go_on(make_study: MakeStudy, here: StudySettings) -> None:
    study = make_study(seeds=[2])
    resources = TrialResources(checkpoint_every_steps=3)
    here = replace(here, resources=resources, max_concurrent=1, tracking_uri=here.tracking_uri)
    run_study(study, here, Told())
    note = read_launch(here.storage, "tiny")
    assert note.study_text == study.path.read_text()
    assert (note.n_trials, note.n_found, [trial.label for trial in note.trials]) == (
        2,
        0,
        ["n2 seed 2 fold_1", "n0 seed 2 fold_1"],
    )
    assert all((here.storage / "trials" / trial.trial_id / "result.json").exists() for trial in note.trials)
    status = study_status(here.storage, "tiny")
    assert (status.counts["done"], status.driver) == (2, None)

    resumed = resumed_launch(here.storage, "tiny")
    assert resumed.study.digest() == study.digest()
    assert replace(resumed.settings, backend=here.backend, command=here.command, study_file=None) == here
    assert resumed.notes == ()
    told = Told()
    outcome = run_study(resumed.study, replace(resumed.settings, backend=InProcessBackend()), told)
    assert (outcome.n_found, outcome.n_finished) == (2, 2)
    # The note of the resumed launch names the file that the user has, not the copy.
    assert read_launch(here.storage, "tiny").study_file == str(study.path)


def test_a_search_notes_its_proposals_as_it_makes_them(make_study: MakeStudy, here: StudySettings) -> None:
    search = {
        "space": {"model.n_states": {"int_range": [0, 2]}},
        "sampler": "random",
        "seed": 7,
        "n_trials": 2,
    }
    without = {"baseline_arm": None, "changes": None, "arms": None, "curve": None, "seeds": [2]}
    run_study(make_study(kind="search", search=search, baseline=TINY, **without), here, Told())
    note = read_launch(here.storage, "tiny")
    assert (note.kind, note.n_trials, len(note.trials)) == ("search", 2, 2)
    status = study_status(here.storage, "tiny")
    assert status.counts["done"] == 2
    assert set(fetch_trials(here.tracking_uri, "tiny")["trial_id"]) == {trial.trial_id for trial in status.trials}
    # The proposals of the first launch are known to the next from its start.
    resumed = resumed_launch(here.storage, "tiny")
    run_study(resumed.study, replace(resumed.settings, backend=InProcessBackend()), Told())
    again = read_launch(here.storage, "tiny").trials
    assert [trial.key for trial in again] == [trial.key for trial in note.trials]
    assert any(trial.planned_s is not None for trial in again), "what steps took is known by then, and comes first"


def test_a_finished_trial_that_was_not_told_of_is_told_of(make_study: MakeStudy, here: StudySettings) -> None:
    study = make_study(seeds=[2])
    run_study(study, here, Told())
    trials = fetch_trials(here.tracking_uri, "tiny")
    # As a kill between the record and its delivery leaves it.
    MlflowClient(here.tracking_uri).set_terminated(trials["run_id"][0], "KILLED")
    MlflowClient(here.tracking_uri).delete_run(trials["run_id"][1])
    outcome = run_study(study, here, Told())
    assert outcome.n_found == 2
    again = fetch_trials(here.tracking_uri, "tiny")
    assert again["status"].tolist() == ["FINISHED"] * 2
    assert again["trial_id"].is_unique
    assert sorted(again["test/mse"]) == sorted(trials["test/mse"])


class Killed(BaseException):
    """Ends a run from inside, as a kill would."""


class DiesAt:
    """A reporter that ends the run at a step."""

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        if step == 5:
            raise Killed

    def validated(self, metrics: Mapping[str, float], step: int, history: Sequence[Mapping[str, float]]) -> bool:
        return False


def test_steps_that_a_dead_process_had_not_told_are_told(make_study: MakeStudy, here: StudySettings) -> None:
    study = make_study(seeds=[2])
    (trial, *_) = expand(study)
    store = prism_ray.store.open(here.store)
    data = trial.config.data
    arrays = store.load(data.window_bp, data.signals, data.cell_type)
    folder = here.storage / "trials" / trial.trial_id(store.digest)
    with pytest.raises(Killed):
        train(
            trial.config,
            arrays,
            store.folds.split(data.fold, arrays.chrom),
            folder=folder,
            reporter=DiesAt(),
            placement=Placement(checkpoint_every_steps=2),
        )
    run_study(study, here, Told())
    record = read_record(folder)
    assert record is not None
    trials = fetch_trials(here.tracking_uri, "tiny").set_index("trial_id")
    points = MlflowClient(here.tracking_uri).get_metric_history(trials.loc[folder.name, "run_id"], "train/loss")
    told = {point.step: point.value for point in points}
    assert told == {int(entry["step"]): entry["train/loss"] for entry in record.history() if "train/loss" in entry}
    assert sorted(told) == [1, 2, 3, 4, 5, 6]


def test_overrides_and_flags_of_a_resumed_launch(make_study: MakeStudy, here: StudySettings, tmp_path: Path) -> None:
    make_study(seeds=[2])
    study = load_study(tmp_path / "tiny.yaml", overrides={"training.n_steps": 4, "data.signals": ["dnase"]})
    run_study(study, here, Told())
    make_study(seeds=[2, 22])
    # Settings that are replaced make another experiment, with a name of its own.
    resumed = resumed_launch(here.storage, study.name, n_workers=2, max_concurrent=3, loading="cache", command="again")
    assert resumed.study.digest() == study.digest()
    assert resumed.study.arms[0].config.data.signals == ("dnase",)
    assert "tiny.yaml has changed since the launch" in resumed.notes[0]
    settings = resumed.settings
    assert (settings.resources.n_workers, settings.max_concurrent, settings.loading) == (2, 3, "cache")
    assert settings.command == "again"


def test_other_data_are_another_launch(make_study: MakeStudy, here: StudySettings) -> None:
    run_study(make_study(seeds=[2]), here, Told())
    note = read_launch(here.storage, "tiny")
    write_launch(here.storage, replace(note, data_digest="0" * 64))
    with pytest.raises(InputError, match=r"holds other data .* than the launch of tiny read") as refused:
        resumed_launch(here.storage, "tiny")
    assert "run the study's file: on other data it is another launch" in str(refused.value)


def test_failed_trials_are_run_again_when_asked(make_study: MakeStudy, here: StudySettings) -> None:
    study = make_study(seeds=[2])
    run_study(study, here, Told())
    trial = study_status(here.storage, "tiny").trials[0]
    folder = here.storage / "trials" / trial.trial_id
    (folder / "result.json").unlink()
    failure = {"trial_id": trial.trial_id, "kind": "TrainingError", "reason": "the loss is nan", "repeats": True}
    (folder / "failure.json").write_text(json.dumps(failure))
    resumed = resumed_launch(here.storage, "tiny")
    outcome = run_study(resumed.study, replace(resumed.settings, backend=InProcessBackend()), Told())
    assert outcome.n_finished == 1

    again, n_forgotten = retried_launch(here.storage, "tiny")
    assert n_forgotten == 1
    outcome = run_study(again.study, replace(again.settings, backend=InProcessBackend()), Told())
    assert (outcome.n_finished, outcome.failures) == (2, {})
    assert set(fetch_trials(here.tracking_uri, "tiny")["status"]) == {"FINISHED"}
    assert retried_launch(here.storage, "tiny")[1] == 0


def test_nothing_is_forgotten_while_a_driver_lives(make_study: MakeStudy, here: StudySettings) -> None:
    run_study(make_study(seeds=[2]), here, Told())
    held(here.storage / "studies" / "tiny" / "driver.json")
    (trial, *_) = study_status(here.storage, "tiny").trials
    (here.storage / "trials" / trial.trial_id / "result.json").unlink()
    content = {"trial_id": trial.trial_id, "kind": "OSError", "reason": "disk full", "repeats": False}
    path = here.storage / "trials" / trial.trial_id / "failure.json"
    path.write_text(json.dumps(content))
    with pytest.raises(BusyError, match=r"is being run .*; wait for it, or stop it: prism-ray cancel tiny"):
        retried_launch(here.storage, "tiny")
    assert path.exists()


def left_by_a_dead_driver(storage: Path, uri: str, **changes: Any) -> str:
    """A launch whose driver and one trial died: parent run and trial count as running in MLflow."""
    tracker = MlflowTracker(uri)
    parent = tracker.open_study(STUDY, {})
    tracker.open_trial(parent, trial_header("n0")).finish("FINISHED")
    tracker.open_trial(parent, trial_header("n2")).log({"val/mse": 0.5}, 1)
    launch(storage, 2, tracking_uri=uri, parent_run_id=parent, **changes)
    done(storage, 0, 0.25)
    write(storage, 1, "attempts.json", [])
    for path in (storage / "studies" / "tiny" / "driver.json", storage / "trials" / "t1" / "lease.json"):
        held(path, process_started=1.0)
    (storage / "studies" / "tiny" / "tune-abc").mkdir()
    return parent


def test_what_a_dead_driver_left_is_closed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = fresh_store(tmp_path)
    parent = left_by_a_dead_driver(tmp_path, uri)
    assert main(["cancel", "tiny", "--storage", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "tiny lost its driver; what that left is closed: 1 of 2 trials are done" in said
    assert "go on with: prism-ray resume tiny" in said
    assert fetch_study(uri, STUDY.name).status == "KILLED"
    statuses = fetch_trials(uri, STUDY.name, parent_run_id=parent).set_index("arm")["status"]
    assert statuses.to_dict() == {"n0": "FINISHED", "n2": "KILLED"}
    folder = tmp_path / "studies" / "tiny"
    assert not (folder / "tune-abc").exists()
    # The next launch is not told to stop.
    assert not (folder / "stop.json").exists()


def test_a_tracker_that_is_away_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by_a_dead_driver(tmp_path, fresh_store(tmp_path))

    def away(*_: object) -> None:
        raise TrackingError("the store cannot be reached")

    monkeypatch.setattr(MlflowTracker, "close_study", away)
    assert main(["cancel", "tiny", "--storage", str(tmp_path)]) == 1
    assert "its runs in MLflow could not be closed: the store cannot be reached" in capsys.readouterr().out


def test_what_does_not_end_is_named_and_still_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launch(tmp_path, 2)
    held(tmp_path / "trials" / "t1" / "lease.json", place="another machine", host="there", pid=42)
    assert main(["cancel", "tiny", "--storage", str(tmp_path), "--wait", "0.1"]) == 1
    said = capsys.readouterr()
    assert "still living after 0 s: n0 seed 1 fold_1 (there, process 42)" in said.out
    assert "waiting for 1 running trials to save and end" in said.err
    assert (tmp_path / "studies" / "tiny" / "stop.json").exists()


def test_cancelling_waits_for_what_ends(tmp_path: Path) -> None:
    launch(tmp_path, 1, tracking_uri=fresh_store(tmp_path), parent_run_id="unknown")
    lease = tmp_path / "studies" / "tiny" / "driver.json"
    held(lease)
    cancelled = cancel_study(tmp_path, "tiny", wait_s=30.0, tell=lambda status: lease.unlink(missing_ok=True))
    assert cancelled.was_running
    assert cancelled.living == ()


def test_sync_delivers_and_says_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = fresh_store(tmp_path)
    parent = MlflowTracker(uri).open_study(STUDY, {})
    log = MlflowTracker(uri).open_trial(parent, trial_header())
    folder = tmp_path / "trials" / "t0"
    folder.mkdir(parents=True)
    line = {
        "journal": 1,
        "tracking_uri": uri,
        "parent_run_id": parent,
        "header": {**vars(trial_header()), "parameters": {}, "tags": {}},
    }
    operation = {"kind": "metrics", "content": {"val/mse": [0.125, 3, 1_700_000_000_000]}}
    (folder / "undelivered.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(operation)}\n")
    (tmp_path / "trials" / "t1").mkdir()
    broken = tmp_path / "trials" / "t1" / "undelivered.jsonl"
    broken.write_text("nonsense")
    assert main(["sync", "--storage", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "1 of 2 journals are delivered" in said
    assert f"LEFT {broken}: " in said
    assert fetch_trials(uri, STUDY.name).set_index("run_id").loc[log.run_id, "val/mse"] == 0.125
    broken.unlink()
    assert main(["sync", "--storage", str(tmp_path)]) == 0
    assert main(["sync", "--storage", str(tmp_path / "absent")]) == 2
    assert "is no folder" in capsys.readouterr().err
