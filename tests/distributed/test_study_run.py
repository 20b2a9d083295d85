"""A study on a real local Ray cluster, tracked in a real MLflow store."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

import prism_ray.store
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.study_run import StudyOutcome, StudySettings, run_study
from prism_ray.distributed.trial import TrialTask
from prism_ray.errors import ConfigError, InputError
from prism_ray.metrics import regression_metrics
from prism_ray.study.designs import expand
from prism_ray.study.spec import Study
from prism_ray.tracking import fetch_study, fetch_trials
from prism_ray.training.loop import train
from prism_ray.training.record import TrialRecord, read_record
from tests.distributed.conftest import TINY, Told, study_settings, tiny_study

pytestmark = pytest.mark.ray
MakeStudy = Callable[..., Study]


def records(study: Study, settings: StudySettings) -> dict[str, TrialRecord]:
    digest = prism_ray.store.open(settings.store).digest
    found = {}
    for trial in expand(study):
        record = read_record(settings.storage / "trials" / trial.trial_id(digest))
        assert record is not None, trial.name
        found[trial.name] = record
    return found


@dataclasses.dataclass(frozen=True)
class Ran:
    """A study that ran, with what it told; not to be changed."""

    study: Study
    settings: StudySettings
    told: Told
    outcome: StudyOutcome

    @property
    def records(self) -> dict[str, TrialRecord]:
        return records(self.study, self.settings)


@pytest.fixture(scope="module")
def ran(simulated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two arms with two seeds each, run once for all tests that only look at what there is then."""
    folder, told = tmp_path_factory.mktemp("ran"), Told()
    study, settings = tiny_study(folder), study_settings(simulated_store, folder)
    return Ran(study, settings, told, run_study(study, settings, told))


def test_runs_tracks_and_repeats_nothing(ran: Ran) -> None:
    study, settings, told, outcome = ran.study, ran.settings, ran.told, ran.outcome
    assert (outcome.n_trials, outcome.n_found, outcome.n_finished, outcome.failures) == (4, 0, 4, {})
    assert [line.split()[0] for line in told.networks] == ["n0", "n2"]
    assert told.events[0] == ("begin", "4 0")
    labels = {f"{arm} seed {seed} fold_1" for arm in ("n0", "n2") for seed in (2, 22)}
    assert told.labels("started") == told.labels("finished") == labels

    trials = fetch_trials(settings.tracking_uri, "tiny")
    assert sorted(zip(trials["arm"], trials["seed"], strict=True)) == [("n0", 2), ("n0", 22), ("n2", 2), ("n2", 22)]
    assert set(trials["status"]) == {"FINISHED"}
    assert set(trials["parent_run_id"]) == {outcome.parent_run_id}
    by_name = ran.records
    for _, row in trials.iterrows():
        record = by_name[f"{row['arm']}-K562-fold_1-seed{row['seed']}"]
        assert row["test/mse"] == record.metrics["test/mse"]
        assert row["best/mse"] == record.metrics["val/mse"]
        assert row["param/model.n_states"] == record.config.model.n_states
    header = fetch_study(settings.tracking_uri, "tiny")
    assert header.status == "FINISHED"
    assert header.header.baseline == "n0"

    # Once more: nothing is trained, nothing is doubled.
    again = Told()
    repeated = run_study(study, settings, again)
    assert (repeated.n_found, repeated.n_finished) == (4, 4)
    assert again.events == [("begin", "4 4")]
    pd.testing.assert_frame_equal(fetch_trials(settings.tracking_uri, "tiny"), trials)
    assert not list((settings.storage / "studies").rglob("*tune*"))


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


def test_a_trial_equals_the_plain_loop_in_this_process(ran: Ran) -> None:
    store = prism_ray.store.open(ran.settings.store)
    for trial in expand(ran.study):
        record = read_record(ran.settings.storage / "trials" / trial.trial_id(store.digest))
        assert record is not None
        data = trial.config.data
        arrays = store.load(data.window_bp, data.signals, data.cell_type)
        alone = train(trial.config, arrays, store.folds.split(data.fold, arrays.chrom))
        assert alone.metrics == pytest.approx(record.metrics, rel=1e-5, nan_ok=True)


def test_a_failing_trial_does_not_stop_the_others(make_study: MakeStudy, settings: StudySettings) -> None:
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
    outcome = run_study(study, settings, told)
    assert (outcome.n_finished, outcome.status) == (1, "FAILED")
    assert list(outcome.failures) == ["wild seed 2 fold_1"]
    assert "TrainingError: the loss is" in outcome.failures["wild seed 2 fold_1"]
    assert told.labels("failed") == {"wild seed 2 fold_1"}
    trials = fetch_trials(settings.tracking_uri, "tiny").set_index("arm")
    assert trials.loc["wild", "status"] == "FAILED"
    assert trials.loc["n0", "status"] == "FINISHED"
    assert fetch_study(settings.tracking_uri, "tiny").status == "FAILED"


def test_a_second_study_takes_over_trials_it_shares(make_study: MakeStudy, settings: StudySettings) -> None:
    first = make_study(seeds=[2])
    run_study(first, settings, Told())
    wider = make_study(seeds=[2, 22])
    told = Told()
    outcome = run_study(wider, settings, told)
    assert (outcome.n_found, outcome.n_finished) == (2, 4)
    assert told.labels("started") == {"n0 seed 22 fold_1", "n2 seed 22 fold_1"}
    trials = fetch_trials(settings.tracking_uri, "tiny")
    assert len(trials) == 4
    assert set(trials["status"]) == {"FINISHED"}
    assert trials["test/mse"].notna().all()


def test_search_runs_and_goes_on(make_study: MakeStudy, settings: StudySettings) -> None:
    search = {
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
    without = {"baseline_arm": None, "changes": None, "arms": None, "curve": None, "seeds": [2]}
    study = make_study(kind="search", search=search, baseline=TINY, **without)
    outcome = run_study(study, settings, Told())
    assert (outcome.n_found, outcome.n_finished, outcome.failures) == (0, 3, {})
    more = make_study(kind="search", search={**search, "n_trials": 4}, baseline=TINY, **without)
    told = Told()
    continued = run_study(more, settings, told)
    assert (continued.n_found, continued.n_finished) == (3, 4)
    assert len(told.labels("finished")) == 1
    trials = fetch_trials(settings.tracking_uri, "tiny")
    assert len(trials) == 4
    assert trials["fingerprint"].is_unique


def test_two_workers_a_trial_give_the_numbers_of_one(ran: Ran, make_study: MakeStudy, settings: StudySettings) -> None:
    study, alone = make_study(seeds=[2]), ran.records
    together = dataclasses.replace(settings, resources=TrialResources(n_workers=2, cpus_per_worker=1))
    # Two workers fill this cluster: the trial that waits for them must leave them their CPUs.
    outcome = run_study(study, together, Told())
    assert outcome.failures == {}
    for name, shared in records(study, together).items():
        assert shared.cost["n_workers"] == 2
        assert all(np.isfinite(value) for value in shared.metrics.values())
        assert shared.metrics == pytest.approx(alone[name].metrics, rel=1e-3)


def test_what_cannot_run_is_refused_before_anything_is_written(make_study: MakeStudy, settings: StudySettings) -> None:
    study = make_study(baseline={**TINY, "data.signals": ["h3k27", "dnase"], "data.window_bp": 100_000})
    with pytest.raises(ConfigError) as refused:
        run_study(study, settings, Told())
    assert "the signal 'h3k27' is not in the store" in str(refused.value)
    assert "Did you mean 'h3k27ac'?" in str(refused.value)
    assert "100000 bp, but the store has 8000 bp" in str(refused.value)
    assert not settings.storage.exists()


def test_more_than_the_cluster_has_is_refused(make_study: MakeStudy, settings: StudySettings) -> None:
    for resources, what in (
        (TrialResources(gpus_per_worker=1.0), "1 GPUs"),
        (TrialResources(n_workers=8), "8 CPUs"),
    ):
        with pytest.raises(InputError, match=f"a run needs {what}"):
            run_study(make_study(), dataclasses.replace(settings, resources=resources), Told())
    with pytest.raises(ConfigError, match="8 genes a step do not divide among 3 workers"):
        run_study(make_study(), dataclasses.replace(settings, resources=TrialResources(n_workers=3)), Told())


def test_a_task_is_plain_data(make_study: MakeStudy, settings: StudySettings) -> None:
    import pickle

    (trial, *_) = expand(make_study())
    task = TrialTask("s", trial.arm, "0" * 16, trial.config, settings.store, "d", settings.storage)
    assert pickle.loads(pickle.dumps(task)) == task
