"""One suite for whatever runs trials: a study in this process and the same on a real Ray cluster."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray
from mlflow.tracking import MlflowClient

import prism_ray.store
from prism_ray.config import RunConfig
from prism_ray.distributed import trial as trial_module
from prism_ray.distributed.attempts import read_attempts
from prism_ray.distributed.backend import Backend
from prism_ray.distributed.disk import kept_bytes
from prism_ray.distributed.failures import forget_failure
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch import StudyOutcome
from prism_ray.distributed.launch_note import read_launch
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.ray_backend import RayBackend
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.stop_request import request_stop
from prism_ray.distributed.study_run import run_study
from prism_ray.distributed.study_status import study_status
from prism_ray.errors import InputError
from prism_ray.metrics import regression_metrics
from prism_ray.study.designs import expand
from prism_ray.study.spec import Study
from prism_ray.tracking import fetch_study, fetch_trials
from prism_ray.training.loop import TrainResult, train
from prism_ray.training.record import TrialRecord, read_record
from prism_ray.workload import step_multiply_adds
from tests.distributed.conftest import TINY, Told, study_records, study_settings, tiny_study

pytestmark = pytest.mark.ray
MakeStudy = Callable[..., Study]
BACKENDS: dict[str, Backend] = {"process": InProcessBackend(), "ray": RayBackend()}
SEARCH = {
    "space": {
        "model.n_states": {"int_range": [0, 2]},
        "data.window_bp": {"choice": [128, 256]},
        "data.signals": {"subset": {"of": ["h3k27ac", "dnase", "hic"], "min_size": 1}},
    },
    "sampler": "tpe",
    "n_startup_trials": 2,
    "seed": 7,
    "n_trials": 3,
}


def no_cluster(*_: object, **__: object) -> None:
    raise AssertionError("a cluster is used")


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Any:
    """Each backend; while trials run in this process, nothing may reach for a cluster."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "process":
            for name in ("init", "get", "put", "wait", "nodes", "cluster_resources"):
                patch.setattr(ray, name, no_cluster)
        yield BACKENDS[request.param]


@pytest.fixture
def there(settings: StudySettings, backend: Backend) -> StudySettings:
    """Settings of the test with the backend."""
    return dataclasses.replace(settings, backend=backend)


@dataclasses.dataclass(frozen=True)
class Ran:
    """A study that ran, with what it told; not to be changed."""

    study: Study
    settings: StudySettings
    told: Told
    outcome: StudyOutcome

    @property
    def records(self) -> dict[str, TrialRecord]:
        """By the trial's name."""
        return study_records(self.study, self.settings)


@pytest.fixture(scope="module")
def ran(simulated_store: Path, backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two arms with two seeds each, run once for all tests that only look at what there is then."""
    folder, told = tmp_path_factory.mktemp("ran"), Told()
    study = tiny_study(folder)
    settings = dataclasses.replace(study_settings(simulated_store, folder), backend=backend, max_concurrent=None)
    return Ran(study, settings, told, run_study(study, settings, told))


def test_finished_trials_are_told_recorded_and_tracked(ran: Ran) -> None:
    outcome, told = ran.outcome, ran.told
    assert (outcome.n_trials, outcome.n_found, outcome.n_finished) == (4, 0, 4)
    assert (outcome.failures, outcome.n_left, outcome.status, outcome.exit_code) == ({}, 0, "FINISHED", 0)
    assert [line.split()[0] for line in told.networks] == ["n0", "n2"]
    assert told.events[0] == ("begin", "4 0")
    labels = {f"{arm} seed {seed} fold_1" for arm in ("n0", "n2") for seed in (2, 22)}
    assert told.labels("started") == told.labels("finished") == labels
    assert len(told.events) == 1 + 2 * 4

    trials = fetch_trials(ran.settings.tracking_uri, "tiny")
    assert sorted(zip(trials["arm"], trials["seed"], strict=True)) == [("n0", 2), ("n0", 22), ("n2", 2), ("n2", 22)]
    assert set(trials["status"]) == {"FINISHED"}
    assert set(trials["parent_run_id"]) == {outcome.parent_run_id}
    by_name = ran.records
    for _, row in trials.iterrows():
        record = by_name[f"{row['arm']}-K562-fold_1-seed{row['seed']}"]
        assert row["test/mse"] == record.metrics["test/mse"]
        assert row["best/mse"] == record.metrics["val/mse"]
        assert row["param/model.n_states"] == record.config.model.n_states
    header = fetch_study(ran.settings.tracking_uri, "tiny")
    assert header.status == "FINISHED"
    assert header.header.baseline == "n0"
    assert not list((ran.settings.storage / "studies").rglob("*tune*"))


def test_the_launch_is_noted_with_what_its_trials_cost(ran: Ran) -> None:
    """In the order in which they were handed out, and under the name that their attempts have."""
    note = read_launch(ran.settings.storage, "tiny")
    assert note.n_concurrent >= 1
    assert [trial.label for trial in note.trials] == [
        *("n2 seed 2 fold_1", "n0 seed 2 fold_1"),
        *("n2 seed 22 fold_1", "n0 seed 22 fold_1"),
    ]
    for trial in note.trials:
        config = ran.records[f"{trial.label[:2]}-K562-fold_1-seed{trial.label.split()[2]}"].config
        assert trial.multiply_adds > config.training.n_steps * step_multiply_adds(config)
        assert (trial.evaluates, trial.planned_s) == (False, None), "nothing was measured before"
        (attempt,) = read_attempts(ran.settings.storage / "trials" / trial.trial_id)
        assert attempt.launch == note.launch_id
    assert study_status(ran.settings.storage, "tiny").left is None


def test_curves_artifacts_and_predictions_are_in_mlflow(ran: Ran, tmp_path: Path) -> None:
    record = ran.records["n2-K562-fold_1-seed2"]
    trials = fetch_trials(ran.settings.tracking_uri, "tiny").set_index(["arm", "seed"])
    run_id = trials.loc[("n2", 2), "run_id"]
    client = MlflowClient(ran.settings.tracking_uri)
    curve = [(point.step, point.value) for point in client.get_metric_history(run_id, "val/mse")]
    expected = [(int(entry["step"]), entry["val/mse"]) for entry in record.history() if "val/mse" in entry]
    assert curve == expected
    local = Path(client.download_artifacts(run_id, "test_predictions.parquet", str(tmp_path)))
    predictions = pd.read_parquet(local)
    metrics = regression_metrics(predictions["prediction"].to_numpy(), predictions["label"].to_numpy())
    assert metrics["mse"] == pytest.approx(record.metrics["test/mse"], rel=1e-12)
    assert {item.path for item in client.list_artifacts(run_id, "model")} == {
        "model/config.json",
        "model/model.safetensors",
    }


def test_trials_leave_no_more_than_a_launch_makes_room_for(ran: Ran) -> None:
    store = prism_ray.store.open(ran.settings.store)
    for record in ran.records.values():
        left = sum(path.stat().st_size for path in record.folder.rglob("*") if path.is_file())
        assert left <= kept_bytes(record.config, store) <= 3 * left + 64 * 1024


@pytest.mark.parametrize("backend", ["ray"], indirect=True)
def test_what_the_node_read_is_with_the_run_of_the_study(ran: Ran) -> None:
    client = MlflowClient(ran.settings.tracking_uri)
    parent = client.get_run(fetch_study(ran.settings.tracking_uri, "tiny").run_id)
    store, data = prism_ray.store.open(ran.settings.store), next(iter(ran.records.values())).config.data
    # The one projection, read once for four trials, with the columns that name genes.
    planned = store.bytes_to_read(data.window_bp, data.signals, data.cell_type) + store.naming_bytes(data.cell_type)
    reads = parent.data.metrics
    assert reads["store/planned_bytes"] == reads["store/node_read_bytes"] == reads["store/read_bytes"] == planned


def test_a_trial_equals_the_plain_loop_in_this_process(ran: Ran) -> None:
    store = prism_ray.store.open(ran.settings.store)
    for trial in expand(ran.study):
        record = read_record(ran.settings.storage / "trials" / trial.trial_id(store.digest))
        assert record is not None
        data = trial.config.data
        arrays = store.load(data.window_bp, data.signals, data.cell_type)
        alone = train(trial.config, arrays, store.folds.split(data.fold, arrays.chrom))
        assert alone.metrics == pytest.approx(record.metrics, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("backend", ["ray"], indirect=True)
def test_two_workers_a_trial_give_the_numbers_of_one(ran: Ran, make_study: MakeStudy, there: StudySettings) -> None:
    study, alone = make_study(seeds=[2]), ran.records
    # Starting workers takes its time: the arm whose network has all parts stands for both, the other one is done.
    done, shown = "n0-K562-fold_1-seed2", "n2-K562-fold_1-seed2"
    shutil.copytree(alone[done].folder, there.storage / "trials" / alone[done].trial_id)
    together = dataclasses.replace(there, resources=TrialResources(n_workers=2, cpus_per_worker=1))
    # Two workers fill this cluster: the trial that waits for them must leave them their CPUs.
    outcome = run_study(study, together, Told())
    assert outcome.failures == {}
    shared = study_records(study, together)[shown]
    assert (shared.cost["n_workers"], shared.cost["n_hosts"]) == (2, 1)
    assert all(np.isfinite(value) for value in shared.metrics.values())
    assert shared.metrics == pytest.approx(alone[shown].metrics, rel=1e-3)


def test_found_trials_are_not_run_again(ran: Ran) -> None:
    trials = fetch_trials(ran.settings.tracking_uri, "tiny")
    again = Told()
    repeated = run_study(ran.study, ran.settings, again)
    assert (repeated.n_found, repeated.n_finished) == (4, 4)
    assert again.events == [("begin", "4 4")]
    pd.testing.assert_frame_equal(fetch_trials(ran.settings.tracking_uri, "tiny"), trials)


def test_a_failing_trial_does_not_stop_the_others(make_study: MakeStudy, there: StudySettings) -> None:
    study = make_study(
        seeds=[2],
        changes=["optimizer.learning_rate"],
        arms={
            "wild": {"patch": {"optimizer.learning_rate": 1.0e30}, "reason": "cannot train"},
            "n0": {"patch": {}, "reason": "plain"},
        },
        curve=None,
    )
    told = Told()
    outcome = run_study(study, there, told)
    assert (outcome.n_finished, outcome.status) == (1, "FAILED")
    assert list(outcome.failures) == ["wild seed 2 fold_1"]
    assert "TrainingError: the loss is" in outcome.failures["wild seed 2 fold_1"]
    assert told.labels("failed") == {"wild seed 2 fold_1"}
    trials = fetch_trials(there.tracking_uri, "tiny").set_index("arm")
    assert trials.loc["wild", "status"] == "FAILED"
    assert trials.loc["n0", "status"] == "FINISHED"
    assert fetch_study(there.tracking_uri, "tiny").status == "FAILED"

    # It would fail again, so it is not run again unasked; the others' work stays.
    again = Told()
    repeated = run_study(study, there, again)
    assert again.events == [("begin", "2 1")]
    assert repeated.failures == outcome.failures
    assert repeated.repeating == ("wild seed 2 fold_1",)
    assert (repeated.exit_code, repeated.stop) == (1, None)


class StopsAtOnce(Told):
    """Asks the launch to stop as soon as a trial is handed out."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def started(self, label: str) -> None:
        super().started(label)
        request_stop(self._folder, "a test wants it")


def test_an_interrupted_study_goes_on_where_it_was(ran: Ran, make_study: MakeStudy, there: StudySettings) -> None:
    study, told = make_study(), StopsAtOnce(there.study_folder("tiny"))
    outcome = run_study(study, there, told)
    assert (outcome.n_finished, outcome.failures, outcome.n_left) == (0, {}, 4)
    assert (outcome.status, outcome.exit_code) == ("KILLED", 130)
    assert outcome.stop is not None
    assert outcome.stop.reason == "a test wants it"
    assert told.labels("interrupted") == told.labels("started")
    assert 1 <= len(told.labels("started")) <= 2, "none is started after the request"
    trials = fetch_trials(there.tracking_uri, "tiny")
    assert set(trials["status"]) == {"KILLED"}
    assert fetch_study(there.tracking_uri, "tiny").status == "KILLED"

    continued = run_study(study, there, Told())
    assert (continued.n_found, continued.n_finished, continued.exit_code) == (0, 4, 0)
    trials = fetch_trials(there.tracking_uri, "tiny")
    assert (len(trials), set(trials["status"])) == (4, {"FINISHED"})
    uninterrupted = ran.records
    for name, record in study_records(study, there).items():
        assert record.metrics == pytest.approx(uninterrupted[name].metrics, rel=1e-5, nan_ok=True)
        attempts = read_attempts(record.folder)
        if len(attempts) == 2:
            assert [attempt.how for attempt in attempts] == ["interrupted", "finished"]
            assert attempts[0].last_step == attempts[1].first_step >= 1, "nothing is done twice"
        assert {file.name for file in record.folder.iterdir()}.isdisjoint({"lease.json", "checkpoint.pt"})


class Signalled(Told):
    """Sends this process a signal as soon as a trial is handed out, as a terminal or a scheduler does."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self._number = number

    def started(self, label: str) -> None:
        super().started(label)
        signal.raise_signal(self._number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_launch_in_an_orderly_way(
    make_study: MakeStudy, settings: StudySettings, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    told = Signalled(number)
    outcome = run_study(make_study(seeds=[2]), dataclasses.replace(settings, backend=InProcessBackend()), told)
    assert (outcome.exit_code, outcome.n_left, len(told.labels("started"))) == (130, 2, 1)
    assert outcome.stop is not None
    assert outcome.stop.reason == f"the launch was told to end by {number.name}"
    assert set(fetch_trials(settings.tracking_uri, "tiny")["status"]) == {"KILLED"}
    assert not (settings.study_folder("tiny") / "driver.json").exists()
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("backend", ["process"], indirect=True)
def test_a_second_study_takes_over_trials_it_shares(ran: Ran, make_study: MakeStudy, there: StudySettings) -> None:
    shutil.copytree(ran.settings.storage / "trials", there.storage / "trials")
    told = Told()
    outcome = run_study(make_study(seeds=[2, 22, 222]), there, told)
    assert (outcome.n_found, outcome.n_finished) == (4, 6)
    assert told.labels("started") == {"n0 seed 222 fold_1", "n2 seed 222 fold_1"}
    trials = fetch_trials(there.tracking_uri, "tiny")
    assert len(trials) == 6
    assert set(trials["status"]) == {"FINISHED"}
    assert trials["test/mse"].notna().all()


@pytest.mark.parametrize("backend", ["process"], indirect=True)
def test_search_runs_and_goes_on(make_study: MakeStudy, there: StudySettings) -> None:
    without = {"baseline_arm": None, "changes": None, "arms": None, "curve": None, "seeds": [2]}
    study = make_study(kind="search", search=SEARCH, baseline=TINY, **without)
    outcome = run_study(study, there, Told())
    assert (outcome.n_found, outcome.n_finished, outcome.failures) == (0, 3, {})
    more = make_study(kind="search", search={**SEARCH, "n_trials": 4}, baseline=TINY, **without)
    told = Told()
    continued = run_study(more, there, told)
    assert (continued.n_found, continued.n_finished) == (3, 4)
    assert len(told.labels("finished")) == 1
    trials = fetch_trials(there.tracking_uri, "tiny")
    assert len(trials) == 4
    assert trials["fingerprint"].is_unique


def test_a_bug_is_one_trials_failure(
    make_study: MakeStudy, settings: StudySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def buggy(config: RunConfig, *arguments: Any, **named: Any) -> TrainResult:
        if config.model.n_states:
            raise IndexError("index 2 is out of bounds")
        return train(config, *arguments, **named)

    monkeypatch.setattr(trial_module, "train", buggy)
    there = dataclasses.replace(settings, backend=InProcessBackend())
    outcome = run_study(make_study(seeds=[2]), there, Told())
    assert (outcome.n_finished, outcome.exit_code, outcome.repeating) == (1, 1, ("n2 seed 2 fold_1",))
    (reason,) = outcome.failures.values()
    assert reason.startswith("IndexError: index 2 is out of bounds (test_backends.py:")
    assert "the whole traceback is in " in reason
    monkeypatch.setattr(trial_module, "train", train)
    (folder,) = {file.parent for file in settings.storage.rglob("failure.json")}
    assert forget_failure(folder)
    assert run_study(make_study(seeds=[2]), there, Told()).exit_code == 0


def test_a_cap_on_failures_ends_the_launch(make_study: MakeStudy, settings: StudySettings) -> None:
    there = dataclasses.replace(settings, backend=InProcessBackend())
    study = make_study(
        seeds=[2, 22, 222],
        baseline={**TINY, "optimizer.learning_rate": 1.0e30, "training.n_steps": 400},
        budget={"max_failures": 2},
    )
    told = Told()
    outcome = run_study(study, there, told)
    assert len(told.labels("started")) == len(told.labels("failed")) == 2, "none is started after the second failure"
    assert (outcome.n_left, len(outcome.failures)) == (4, 2)
    assert (outcome.exit_code, outcome.status) == (1, "KILLED")
    assert outcome.stop is not None
    assert "budget.max_failures is 2" in outcome.stop.reason
    assert "prism-ray retry tiny --failed" in outcome.stop.reason
    again = Told()
    assert run_study(study, there, again).exit_code == 1
    assert again.labels("started") == set(), "the failures of the first launch still count"


def test_what_needs_a_cluster_is_refused_in_this_process(make_study: MakeStudy, settings: StudySettings) -> None:
    asked = dataclasses.replace(
        settings,
        backend=InProcessBackend(),
        resources=TrialResources(n_workers=2),
        loading="stream",
        address="127.0.0.1:6379",
    )
    with pytest.raises(InputError) as refused:
        run_study(make_study(), asked, Told())
    assert [fault.where for fault in refused.value.faults] == ["n_workers", "loading", "address"]
    assert not settings.storage.exists()
