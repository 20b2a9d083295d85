"""What a study needs beside its trials, away for a while: MLflow's server, the searcher's database, room on disk."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prism_ray.cli import main
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.study_run import run_study
from prism_ray.study.spec import Study
from prism_ray.tracking import fetch_study, fetch_trials
from tests.distributed.conftest import TINY, Told, study_records, study_settings, tiny_study
from tests.distributed.disks import small_disk_at
from tests.mlflow_server import free_port
from tests.tracking_door import Door, TrackingServer

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


class Acts(Told):
    """Does something when the n-th trial is handed out."""

    def __init__(self, **actions: Any) -> None:
        super().__init__()
        self._actions = actions
        self._n_started = 0

    def started(self, label: str) -> None:
        super().started(label)
        self._n_started += 1
        action = self._actions.get(f"at_{self._n_started}")
        if action is not None:
            action()


def assert_all_finished_once(study: Study, settings: StudySettings) -> None:
    records = study_records(study, settings)
    trials = fetch_trials(settings.tracking_uri, study.name)
    assert sorted(trials["trial_id"]) == sorted(record.trial_id for record in records.values())
    assert set(trials["status"]) == {"FINISHED"}
    by_id = {record.trial_id: record.metrics["test/mse"] for record in records.values()}
    assert dict(zip(trials["trial_id"], trials["test/mse"], strict=True)) == pytest.approx(by_id)
    assert fetch_study(settings.tracking_uri, study.name).status == "FINISHED"


def test_a_tracker_that_is_down_at_the_start_is_named_and_nothing_is_left(
    simulated_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, uri = tiny_study(tmp_path), f"http://127.0.0.1:{free_port()}"
    storage = tmp_path / "results"
    command = ["run", str(study.path), "--store", str(simulated_store), "--storage", str(storage)]
    assert main([*command, "--tracking-uri", uri]) == 2
    assert f"{uri}: cannot be reached" in capsys.readouterr().err
    assert not storage.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("given_up_soon")
def test_a_tracker_that_goes_and_comes_back_or_is_slow(
    simulated_store: Path, door: Door, tracking_server: TrackingServer, tmp_path: Path
) -> None:
    study = tiny_study(tmp_path, name="away", seeds=[2, 22, 222])
    settings = StudySettings(simulated_store, tmp_path / "results", door.uri, backend=InProcessBackend())

    def come_back() -> None:
        door.open()
        # Slow: it takes connections, and answers nothing for two seconds.
        tracking_server.pause(2.0)

    outcome = run_study(study, settings, Acts(at_2=door.close, at_4=come_back))
    assert outcome.failures == {}
    assert outcome.n_finished == 6
    # What could not be delivered is delivered by the next launch, which has nothing to train.
    again = Told()
    repeated = run_study(study, settings, again)
    assert (repeated.exit_code, again.labels("started")) == (0, set())
    assert_all_finished_once(study, settings)


def test_a_lock_that_a_killed_driver_left_in_the_searchers_database_is_removed(
    simulated_store: Path, tmp_path: Path
) -> None:
    search = {"space": {"model.n_states": {"int_range": [0, 2]}}, "sampler": "random", "n_trials": 2}
    without = {"baseline_arm": None, "changes": None, "arms": None, "curve": None, "seeds": [2]}
    study = tiny_study(tmp_path, kind="search", search=search, baseline=TINY, **without)
    settings = dataclasses.replace(study_settings(simulated_store, tmp_path), backend=InProcessBackend())
    folder = settings.study_folder("tiny")
    folder.mkdir(parents=True)
    (folder / "optuna.journal").touch()
    os.symlink(folder / "optuna.journal", folder / "optuna.journal.lock")
    started = time.monotonic()
    outcome = run_study(study, settings, Told())
    assert (outcome.n_finished, outcome.exit_code) == (2, 0)
    assert time.monotonic() - started < 25, "Optuna waits 30 s for such a lock"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "disk", "4m") as folder:
        yield folder


def test_a_full_disk_fails_what_it_stops_and_the_next_launch_goes_on(
    simulated_store: Path, small_disk: Path, tmp_path: Path
) -> None:
    study = tiny_study(tmp_path)
    settings = dataclasses.replace(
        study_settings(simulated_store, tmp_path), storage=small_disk / "results", backend=InProcessBackend()
    )
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass

    outcome = run_study(study, settings, Acts(at_2=fill, at_4=filler.unlink))
    assert outcome.exit_code == 1
    assert outcome.n_finished == 2
    assert all("No space left on device" in reason for reason in outcome.failures.values()), outcome.failures
    assert len(outcome.failures) == 2
    assert outcome.repeating == ()
    repeated = run_study(study, settings, Told())
    assert (repeated.n_found, repeated.n_finished, repeated.exit_code) == (2, 4, 0)
    assert_all_finished_once(study, settings)
