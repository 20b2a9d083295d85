"""What is particular to a study on a real Ray cluster, tracked in a real MLflow store; see test_backends.py."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

import prism_ray.store
from prism_ray.distributed.launch import StudySettings
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.room import kept_bytes
from prism_ray.distributed.study_run import run_study
from prism_ray.distributed.trial import TrialTask
from prism_ray.errors import ConfigError, InputError
from prism_ray.metrics import regression_metrics
from prism_ray.study.designs import expand
from prism_ray.study.spec import Study
from prism_ray.tracking import fetch_study, fetch_trials
from prism_ray.training.loop import train
from prism_ray.training.record import TrialRecord, read_record
from tests.distributed.conftest import TINY, Told, study_records, study_settings, tiny_study

pytestmark = pytest.mark.ray
MakeStudy = Callable[..., Study]


@dataclasses.dataclass(frozen=True)
class Ran:
    """A study that ran; not to be changed."""

    study: Study
    settings: StudySettings

    @property
    def records(self) -> dict[str, TrialRecord]:
        return study_records(self.study, self.settings)


@pytest.fixture(scope="module")
def ran(simulated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two arms with two seeds each, run once for all tests that only look at what there is then."""
    folder = tmp_path_factory.mktemp("ran")
    study, settings = tiny_study(folder), study_settings(simulated_store, folder)
    run_study(study, settings, Told())
    return Ran(study, settings)


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


def test_what_the_node_read_is_with_the_run_of_the_study(ran: Ran) -> None:
    client = MlflowClient(ran.settings.tracking_uri)
    parent = client.get_run(fetch_study(ran.settings.tracking_uri, "tiny").run_id)
    store, data = prism_ray.store.open(ran.settings.store), next(iter(ran.records.values())).config.data
    planned = store.bytes_to_read(data.window_bp, data.signals, data.cell_type)
    reads = parent.data.metrics
    assert reads["store/planned_bytes"] == planned
    # The one projection, read once for four trials, and the columns that name genes.
    assert planned <= reads["store/node_read_bytes"] == reads["store/read_bytes"] < 1.3 * planned


def test_a_trial_equals_the_plain_loop_in_this_process(ran: Ran) -> None:
    store = prism_ray.store.open(ran.settings.store)
    for trial in expand(ran.study):
        record = read_record(ran.settings.storage / "trials" / trial.trial_id(store.digest))
        assert record is not None
        data = trial.config.data
        arrays = store.load(data.window_bp, data.signals, data.cell_type)
        alone = train(trial.config, arrays, store.folds.split(data.fold, arrays.chrom))
        assert alone.metrics == pytest.approx(record.metrics, rel=1e-5, nan_ok=True)


def test_two_workers_a_trial_give_the_numbers_of_one(ran: Ran, make_study: MakeStudy, settings: StudySettings) -> None:
    study, alone = make_study(seeds=[2]), ran.records
    # Starting workers takes its time: the arm whose network has all parts stands for both, the other one is done.
    done, shown = "n0-K562-fold_1-seed2", "n2-K562-fold_1-seed2"
    shutil.copytree(alone[done].folder, settings.storage / "trials" / alone[done].trial_id)
    together = dataclasses.replace(settings, resources=TrialResources(n_workers=2, cpus_per_worker=1))
    # Two workers fill this cluster: the trial that waits for them must leave them their CPUs.
    outcome = run_study(study, together, Told())
    assert outcome.failures == {}
    shared = study_records(study, together)[shown]
    assert (shared.cost["n_workers"], shared.cost["n_hosts"]) == (2, 1)
    assert all(np.isfinite(value) for value in shared.metrics.values())
    assert shared.metrics == pytest.approx(alone[shown].metrics, rel=1e-3)


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
