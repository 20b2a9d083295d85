"""Evaluation studies from their file to their records: models are trained once, then given other input."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from ray.tune.search import Searcher

import prism_ray.store
from prism_ray.config import EvaluationConfig, RunConfig, patched
from prism_ray.distributed.evaluation import evaluate_trial, evaluated_genes
from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch import StudyOutcome
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.loading_choice import Loading, LoadingAsked
from prism_ray.distributed.plan import plan_study
from prism_ray.distributed.projections import read_run
from prism_ray.distributed.ray_backend import RayBackend
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.stream_reads import StreamReads
from prism_ray.distributed.study_run import run_study
from prism_ray.distributed.train import has_pipeline
from prism_ray.distributed.trial import TrialTask
from prism_ray.distributed.trial_queue import GivenTrials
from prism_ray.metrics import regression_metrics
from prism_ray.model import load
from prism_ray.report.tables import arm_table
from prism_ray.sizes import size_text
from prism_ray.store import GeneArrays
from prism_ray.store.reading import bytes_read
from prism_ray.study.spec import Study
from prism_ray.tracking import fetch_study, fetch_trials
from prism_ray.training.evaluate import predict_rows, state_rows
from prism_ray.training.record import TrialRecord, read_record
from prism_ray.training.reporter import Placement
from tests.distributed.conftest import TINY, Told, study_records, study_settings, tiny_study
from tests.distributed.two_evaluators import N_WORKERS, evaluate
from tests.processes import run_workers

MakeStudy = Callable[..., Study]
HERE = InProcessBackend()
OWN: dict[str, Any] = {
    "kind": "evaluation",
    "models": {
        "n0": {"patch": {}, "reason": "plain"},
        "n2": {"patch": {"model.n_states": 2, "model.predict_with": "adjusted"}, "reason": "adjusted"},
    },
    "changes": [
        "model.n_states",
        "model.predict_with",
        "evaluation.signals",
        "evaluation.scalars",
        "evaluation.remove_by",
        "evaluation.window_bp",
        "evaluation.cell_type",
    ],
    "arms": {
        "no_tracks": {
            "patch": {"evaluation.signals": ["h3k27ac"], "evaluation.scalars": ["promoter_activity"]},
            "reason": "away",
        },
        "shuffled": {
            "patch": {"evaluation.signals": ["dnase", "hic"], "evaluation.remove_by": "shuffle"},
            "reason": "another gene's",
        },
        "mean": {"patch": {"evaluation.signals": ["hic"], "evaluation.remove_by": "mean"}, "reason": "its mean"},
        "cut": {"patch": {"evaluation.window_bp": 128}, "models": ["n2"], "reason": "a shorter window"},
        "there": {"patch": {"evaluation.cell_type": "GM12878"}, "models": ["n0"], "reason": "another cell type"},
    },
    "curve": None,
    "seeds": [2],
}
N_TRIALS = 2 + 2 * 3 + 2


@dataclasses.dataclass(frozen=True)
class Ran:
    """An evaluation study that ran; not to be changed."""

    study: Study
    settings: StudySettings
    told: Told
    outcome: StudyOutcome

    @property
    def records(self) -> Mapping[str, TrialRecord]:
        """By arm."""
        return {name.split("-")[0]: record for name, record in study_records(self.study, self.settings).items()}


@pytest.fixture(scope="module")
def ran(simulated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two models with their changed inputs, run once for all tests that only look at what there is then."""
    folder, told = tmp_path_factory.mktemp("ran"), Told()
    study = tiny_study(folder, **OWN)
    settings = dataclasses.replace(study_settings(simulated_store, folder), backend=HERE)
    return Ran(study, settings, told, run_study(study, settings, told))


def genes(ran: Ran, cell_type: str = "K562") -> GeneArrays:
    store = prism_ray.store.open(ran.settings.store)
    return store.load(256, ("h3k27ac", "dnase", "hic"), cell_type)


def by_hand(ran: Ran, record: TrialRecord, arrays: GeneArrays) -> dict[str, float]:
    """Metrics of the record's model on arrays that were changed by hand."""
    assert record.trained_trial is not None
    model = load(ran.settings.storage / "trials" / record.trained_trial)
    split = prism_ray.store.open(ran.settings.store).folds.split("fold_1", arrays.chrom)
    metrics = {}
    for name, rows in (("val", split.validation), ("test", split.test)):
        prediction = predict_rows(model, arrays, rows, Placement(), record.config.model.predict_with)
        found = regression_metrics(prediction, arrays.label[rows])
        metrics |= {f"{name}/{key}": value for key, value in found.items()}
    return metrics


def metrics_of(record: TrialRecord) -> dict[str, float]:
    return {name: value for name, value in record.metrics.items() if name != "best_step"}


class TestKnownAnswers:
    def test_zeroed_tracks_and_scalars(self, ran: Ran) -> None:
        arrays = genes(ran)
        arrays.signals[:, :, 0] = 0
        arrays.scalars[:, arrays.scalar_names.index("promoter_activity")] = 0
        for model in ("n0", "n2"):
            record = ran.records[f"{model}__no_tracks"]
            assert metrics_of(record) == pytest.approx(by_hand(ran, record, arrays), rel=1e-5, nan_ok=True)
            assert record.metrics["test/mse"] != ran.records[f"{model}__intact"].metrics["test/mse"]

    def test_the_mean_of_training_genes(self, ran: Ran) -> None:
        arrays = genes(ran)
        split = prism_ray.store.open(ran.settings.store).folds.split("fold_1", arrays.chrom)
        arrays.signals[:, :, 2] = arrays.signals[split.train, :, 2].astype(np.float64).mean(axis=0)
        record = ran.records["n2__mean"]
        assert metrics_of(record) == pytest.approx(by_hand(ran, record, arrays), rel=1e-5, nan_ok=True)

    def test_a_cut_window(self, ran: Ran) -> None:
        store = prism_ray.store.open(ran.settings.store)
        short = store.load(128, ("h3k27ac", "dnase", "hic"), "K562")
        record = ran.records["n2__cut"]
        assert metrics_of(record) == pytest.approx(by_hand(ran, record, short), rel=1e-5, nan_ok=True)

    def test_another_cell_type(self, ran: Ran) -> None:
        record = ran.records["n0__there"]
        assert metrics_of(record) == pytest.approx(by_hand(ran, record, genes(ran, "GM12878")), rel=1e-5, nan_ok=True)
        assert record.config.data.cell_type == "K562"

    def test_models_are_shuffled_alike(self, ran: Ran) -> None:
        """The two models' shuffled predictions rest on the same partners: the seed's."""
        tables = [
            pd.read_parquet(ran.records[f"{model}__shuffled"].folder / "test_predictions.parquet")
            for model in ("n0", "n2")
        ]
        assert tables[0]["gene_id"].tolist() == tables[1]["gene_id"].tolist()
        for model in ("n0", "n2"):
            intact, shuffled = (ran.records[f"{model}__{arm}"].metrics["test/mse"] for arm in ("intact", "shuffled"))
            assert intact != shuffled


class TestRecords:
    def test_all_trials_finish_and_models_are_trained_before_they_are_evaluated(self, ran: Ran) -> None:
        outcome, told = ran.outcome, ran.told
        assert (outcome.n_trials, outcome.n_finished, outcome.failures, outcome.n_left) == (N_TRIALS, N_TRIALS, {}, 0)
        # Of one seed the largest comes first, though the study names it last.
        assert told.events[1] == ("started", "n2__intact seed 2 fold_1")
        for model in ("n0", "n2"):
            trained = told.events.index(("finished", f"{model}__intact seed 2 fold_1"))
            evaluated = [
                place
                for place, (event, label) in enumerate(told.events)
                if event == "started" and label.startswith(f"{model}__") and "intact" not in label
            ]
            assert min(evaluated) > trained

    def test_an_evaluation_names_its_model_and_keeps_no_copy(self, ran: Ran) -> None:
        for name, record in ran.records.items():
            intact = ran.records[f"{name.split('__')[0]}__intact"]
            if name.endswith("__intact"):
                assert record.trained_trial is None
                continue
            assert record.trained_trial == intact.trial_id
            assert record.n_parameters == intact.n_parameters
            assert record.metrics["best_step"] == intact.metrics["best_step"]
            states = {"state_weights.parquet"} if name.startswith("n2__") else set()
            kept = {"test_predictions.parquet", "result.json"} | states
            assert {file.name for file in record.folder.iterdir()} == {"attempts.json", "history.json"} | kept
            assert set(record.files()) == kept
            assert (record.cost["train_s"], record.history()) == (0.0, [])
            assert record.cost["evaluate_s"] > 0

    @pytest.mark.parametrize("arm", ["no_tracks", "cut"])
    def test_states_are_those_of_the_changed_input(self, ran: Ran, arm: str) -> None:
        arrays = genes(ran)
        if arm == "cut":
            arrays = arrays.cut(128)
        else:
            arrays.signals[:, :, 0] = 0
        record = ran.records[f"n2__{arm}"]
        kept = pd.read_parquet(record.folder / "state_weights.parquet")
        split = prism_ray.store.open(ran.settings.store).folds.split("fold_1", arrays.chrom)
        assert kept["gene_id"].tolist() == arrays.gene_id[split.test].tolist()
        model = load(ran.settings.storage / "trials" / str(record.trained_trial))
        expected = state_rows(model, arrays, split.test, Placement())
        intact = pd.read_parquet(ran.records["n2__intact"].folder / "state_weights.parquet")
        for number in range(2):
            found = np.stack(kept[f"state_{number + 1}"].to_list())
            np.testing.assert_allclose(found, expected[:, :, number], atol=1e-6)
            assert np.abs(found - np.stack(intact[f"state_{number + 1}"].to_list())).max() > 1e-4

    def test_predictions_give_the_metrics(self, ran: Ran) -> None:
        for record in ran.records.values():
            table = pd.read_parquet(record.folder / "test_predictions.parquet")
            found = regression_metrics(table["prediction"].to_numpy(), table["label"].to_numpy())
            assert found["mse"] == pytest.approx(record.metrics["test/mse"], rel=1e-6)


class TestTracking:
    def test_runs_are_linked_to_the_trial_of_their_model(self, ran: Ran) -> None:
        trials = fetch_trials(ran.settings.tracking_uri, "tiny").set_index("arm")
        assert set(trials["status"]) == {"FINISHED"}
        client = MlflowClient(ran.settings.tracking_uri)
        for arm, record in ran.records.items():
            run = client.get_run(trials.loc[arm, "run_id"])
            assert run.data.tags.get("prism.trained_trial") == record.trained_trial
            assert run.data.metrics["test/mse"] == record.metrics["test/mse"]
            has_model = bool(client.list_artifacts(run.info.run_id, "model"))
            assert has_model == (record.trained_trial is None)
            assert ("cost/evaluate_s" in run.data.metrics) == (record.trained_trial is not None)
        assert trials.loc["n0__mean", "param/evaluation.remove_by"] == "mean"

    def test_each_arm_is_compared_with_its_own_model(self, ran: Ran) -> None:
        header = fetch_study(ran.settings.tracking_uri, "tiny").header
        assert (header.kind, header.baseline) == ("evaluation", "n0__intact")
        assert header.evaluated_on == {"n0__there": "GM12878"}
        table = arm_table(fetch_trials(ran.settings.tracking_uri, "tiny"), header).set_index("arm")
        values = {arm: record.metrics["test/mse"] for arm, record in ran.records.items()}
        assert table.loc["n2__cut", "difference"] == pytest.approx(values["n2__cut"] - values["n2__intact"])
        assert table.loc["n2__intact", "difference"] == pytest.approx(values["n2__intact"] - values["n0__intact"])
        assert np.isnan(table.loc["n0__intact", "difference"])


def test_models_that_another_study_trained_are_used(
    ran: Ran, simulated_store: Path, tmp_path: Path, make_study: MakeStudy
) -> None:
    settings = dataclasses.replace(study_settings(simulated_store, tmp_path), backend=HERE)
    run_study(
        make_study(seeds=[2], changes=["model.n_states", "model.predict_with"], arms=OWN["models"], curve=None),
        settings,
        Told(),
    )
    told = Told()
    study = make_study(**OWN)
    outcome = run_study(study, settings, told)
    assert (outcome.n_found, outcome.n_finished) == (2, N_TRIALS)
    assert not {label for label in told.labels("started") if "intact" in label}
    found = study_records(study, settings)
    expected = {name: record.metrics for name, record in study_records(ran.study, ran.settings).items()}
    assert {name: record.metrics for name, record in found.items()} == expected
    trials = fetch_trials(settings.tracking_uri, "tiny").set_index("arm")
    assert trials.loc["n0__intact", "status"] == "FINISHED"


def test_a_model_that_cannot_be_trained_fails_its_evaluations_and_no_others(
    make_study: MakeStudy, settings: StudySettings
) -> None:
    wild = {"patch": {"optimizer.learning_rate": 1.0e30}, "reason": "cannot train"}
    study = make_study(
        **{
            **OWN,
            "models": {"wild": wild, "n0": OWN["models"]["n0"]},
            "changes": ["optimizer.learning_rate", "evaluation.signals"],
            "arms": {"away": {"patch": {"evaluation.signals": ["hic"]}, "reason": "away"}},
        }
    )
    outcome = run_study(study, dataclasses.replace(settings, backend=HERE), Told())
    assert (outcome.n_finished, outcome.status) == (2, "FAILED")
    assert set(outcome.failures) == {"wild__intact seed 2 fold_1", "wild__away seed 2 fold_1"}
    reason = outcome.failures["wild__away seed 2 fold_1"]
    assert reason.startswith("TrainingError: its model, trial ")
    assert "was not trained: TrainingError: the loss is" in reason
    trials = fetch_trials(settings.tracking_uri, "tiny").set_index("arm")
    assert trials["status"].to_dict() == {
        "wild__intact": "FAILED",
        "wild__away": "FAILED",
        "n0__intact": "FINISHED",
        "n0__away": "FINISHED",
    }


def test_an_evaluation_without_a_model_says_so(ran: Ran, make_study: MakeStudy, settings: StudySettings) -> None:
    (arm,) = [arm for arm in ran.study.arms if arm.name == "n0__mean"]
    study = dataclasses.replace(make_study(**OWN), arms=(arm,), baseline_arm=None)
    outcome = run_study(study, dataclasses.replace(settings, backend=HERE), Told())
    (reason,) = outcome.failures.values()
    assert "has not been trained; run the study that trains it" in reason


class TestGenes:
    @pytest.fixture
    def config(self) -> RunConfig:
        return patched(RunConfig(), {**TINY, "data.fold": "fold_1"}, "")

    @pytest.mark.parametrize("name", ["process", "stream"])
    def test_both_ways_of_loading_give_the_genes_of_the_evaluation(
        self, name: str, config: RunConfig, simulated_store: Path
    ) -> None:
        store = prism_ray.store.open(simulated_store)
        asked = config.model_copy(update={"evaluation": EvaluationConfig(window_bp=64, cell_type="GM12878")})
        reader = evaluated_genes(Loading(name), store, asked)  # type: ignore[arg-type]
        expected = store.load(64, config.data.signals, "GM12878").take([5, 0, 3])
        (found,) = reader.chunks(np.array([5, 0, 3]), 8)
        assert reader.genes.window_bp == 64
        for field in ("gene_id", "signals", "sequence", "scalars", "label"):
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))

    def test_evaluations_of_a_model_read_its_projection_once(self, config: RunConfig, simulated_store: Path) -> None:
        store = prism_ray.store.open(simulated_store)
        arrays = []
        for window_bp in (64, 128):
            asked = config.model_copy(update={"evaluation": EvaluationConfig(window_bp=window_bp)})
            assert read_run(asked) == config
            arrays.append(evaluated_genes(Loading("process"), store, asked).arrays.signals)  # type: ignore[attr-defined]
        assert np.shares_memory(*arrays)


class TestOrder:
    def test_in_turn_without_needs(self) -> None:
        given = GivenTrials(("a", "b"))
        assert [given.suggest("1"), given.suggest("2"), given.suggest("3")] == [
            {"trial": "a"},
            {"trial": "b"},
            Searcher.FINISHED,
        ]

    @pytest.mark.parametrize("error", [False, True])
    def test_what_waited_comes_next_however_its_need_ended(self, error: bool) -> None:
        given = GivenTrials(("x", "a", "y", "b"), {"x": "b", "y": "a"})
        assert [given.suggest("1"), given.suggest("2"), given.suggest("3")] == [{"trial": "a"}, {"trial": "b"}, None]
        given.on_trial_complete("2", {}, error)
        assert given.suggest("3") == {"trial": "x"}
        assert given.suggest("4") is None
        given.on_trial_complete("1", None, error)
        assert given.suggest("4") == {"trial": "y"}
        assert given.suggest("5") == Searcher.FINISHED

    def test_evaluations_come_before_the_next_model(self) -> None:
        given = GivenTrials(("a", "b", "a1", "a2"), {"a1": "a", "a2": "a"})
        given.suggest("1")
        given.on_trial_complete("1")
        assert [given.suggest(name) for name in "2345"] == [
            {"trial": "a1"},
            {"trial": "a2"},
            {"trial": "b"},
            Searcher.FINISHED,
        ]


@pytest.mark.parametrize("name", ["n2__no_tracks", "n2__shuffled", "n0__mean", "n2__cut", "n0__there"])
def test_an_evaluation_that_streams_reads_what_is_planned(name: str, ran: Ran) -> None:
    config, store = ran.records[name].config, prism_ray.store.open(ran.settings.store)
    trained = read_record(ran.settings.storage / "trials" / str(ran.records[name].trained_trial))
    assert trained is not None
    # Names, labels and scalars, which a process reads once.
    assert len(evaluated_genes(Loading("stream"), store, config).genes.gene_id)
    before = bytes_read()
    evaluate_trial(config, store, Loading("stream"), trained, Placement())
    assert bytes_read() - before == StreamReads(store, 1).trial_bytes(config)


@pytest.mark.parametrize("loading", ["cache", "stream"])
def test_workers_of_an_evaluation_are_given_no_steps(loading: LoadingAsked, ran: Ran) -> None:
    task = TrialTask(
        "s",
        "a",
        "0" * 16,
        RunConfig(),
        Path("store"),
        "d",
        Path("folder"),
        loading=Loading(loading),  # type: ignore[arg-type]
    )
    assert has_pipeline(task) == (loading == "stream")
    evaluation = task.config.model_copy(update={"evaluation": EvaluationConfig(window_bp=64)})
    assert not has_pipeline(dataclasses.replace(task, config=evaluation))


@pytest.mark.ray
def test_on_ray_it_gives_the_same(ran: Ran, make_study: MakeStudy, settings: StudySettings) -> None:
    kept = {name: OWN["arms"][name] for name in ("shuffled", "mean")}
    changes = ["evaluation.signals", "evaluation.remove_by"]
    study = make_study(**{**OWN, "models": {"n0": OWN["models"]["n0"]}, "arms": kept, "changes": changes})
    asked = dataclasses.replace(settings, backend=RayBackend(), loading="stream")
    planned, told = plan_study(study, asked.plan()).stream_bytes, Told()
    outcome = run_study(study, asked, told)
    assert (outcome.n_finished, outcome.failures) == (1 + len(kept), {})
    assert planned is not None
    reads = MlflowClient(asked.tracking_uri).get_run(outcome.parent_run_id).data.metrics
    assert reads["store/read_bytes"] == reads["store/planned_bytes"] == planned
    assert f"planned: {size_text(planned)}, by each trial that streams" in told.remarks[-1]
    for name, record in study_records(study, asked).items():
        expected = ran.records[name.split("-")[0]]
        assert record.trial_id == expected.trial_id
        assert record.metrics == pytest.approx(expected.metrics, rel=1e-5)


def test_two_workers_give_the_same(ran: Ran, tmp_path: Path) -> None:
    """How Ray Train starts workers is in test_backends.py: it is the same for trials of either kind."""
    model, expected = ran.records["n0__intact"], ran.records["n0__mean"]
    shutil.copytree(model.folder, tmp_path / model.trial_id)
    task = TrialTask(
        study="s",
        arm="a",
        trial_id=expected.trial_id,
        config=expected.config,
        store=ran.settings.store,
        data_digest=prism_ray.store.open(ran.settings.store).digest,
        folder=tmp_path / expected.trial_id,
        resources=TrialResources(n_workers=N_WORKERS),
        loading=Loading("stream"),
    )
    run_workers(evaluate, N_WORKERS, task, str(tmp_path / "meeting"))
    record = read_record(task.folder)
    assert record is not None
    assert record.cost["n_workers"] == N_WORKERS
    assert record.metrics == pytest.approx(expected.metrics, rel=1e-3)
    read = sum(int((tmp_path / f"read-{rank}").read_text()) for rank in range(N_WORKERS))
    store = prism_ray.store.open(task.store)
    assert (
        read == StreamReads(store, N_WORKERS).trial_bytes(task.config) > StreamReads(store, 1).trial_bytes(task.config)
    )
