from __future__ import annotations

import math
import multiprocessing
import pickle
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from prism_ray.errors import TrackingError
from prism_ray.tracking import MlflowTracker, default_tracking_uri, fetch_study, fetch_trials, prepare
from prism_ray.tracking.client import connect, retry_locked
from prism_ray.tracking.fetch import TRIAL_COLUMNS
from tests.tracking_support import STUDY, fresh_store, track_study, trial_header


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return fresh_store(tmp_path)


@pytest.fixture
def tracker(uri: str) -> MlflowTracker:
    return MlflowTracker(uri)


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return connect(uri)


def test_prepare_makes_a_store_and_may_be_repeated(tmp_path: Path) -> None:
    uri = default_tracking_uri(tmp_path / "new" / "workspace")
    prepare(uri)
    prepare(uri)
    assert (tmp_path / "new" / "workspace" / "mlflow.db").exists()


def test_a_store_whose_making_was_cut_off_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = default_tracking_uri(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("mlflow.store.db.utils._upgrade_db", raising(OSError("the disk is gone")))
        with pytest.raises(TrackingError, match="the disk is gone"):
            prepare(uri)
    assert not (tmp_path / "mlflow.db").exists()
    prepare(uri)
    assert connect(uri).search_experiments()
    assert [path.name for path in tmp_path.glob(".mlflow.db.*")] == [".mlflow.db.lock"]


def raising(problem: Exception) -> Callable[[object], None]:
    def call(_: object) -> None:
        raise problem

    return call


def test_a_study_opened_again_is_the_same_run(tracker: MlflowTracker, client: MlflowClient, tmp_path: Path) -> None:
    local = tmp_path / "other name.yaml"
    local.write_text("question: ...\n")
    parent = tracker.open_study(STUDY, {"study.yaml": local, "plan/plan.txt": "4 trials"})
    tracker.close_study(parent, "FAILED", {"arm/n0/test_mse_mean": 0.25})
    assert client.get_run(parent).info.status == "FAILED"
    assert tracker.open_study(STUDY, {}) == parent
    run = client.get_run(parent)
    assert run.info.status == "RUNNING"
    assert run.data.metrics == {"arm/n0/test_mse_mean": 0.25}
    assert run.data.tags["prism.git_commit"] == "c" * 40
    assert STUDY.question in run.data.tags["mlflow.note.content"]
    experiment = client.get_experiment_by_name(STUDY.name)
    assert experiment.tags["mlflow.note.content"] == STUDY.question
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == "test/mse"
    assert [file.path for file in client.list_artifacts(parent)] == ["plan", "study.yaml"]
    assert (
        tmp_path / "mlartifacts" / STUDY.name / parent / "artifacts" / "plan" / "plan.txt"
    ).read_text() == "4 trials"


@pytest.mark.parametrize("change", [{"study_digest": "e" * 64}, {"data_digest": "e" * 64}, {"results_version": 2}])
def test_another_study_file_data_or_version_is_another_launch(uri: str, tracker: MlflowTracker, change: dict) -> None:
    first = tracker.open_study(STUDY, {})
    second = tracker.open_study(replace(STUDY, **change), {})
    assert first != second
    launch = fetch_study(uri, STUDY.name)
    assert (launch.run_id, launch.n_others) == (second, 1)
    tracker.open_study(STUDY, {})
    assert fetch_study(uri, STUDY.name).run_id == first


def test_a_long_header_comes_back(uri: str, tracker: MlflowTracker) -> None:
    arms = tuple(f"h3k27ac+dnase+hic+arm_{index}" for index in range(600))
    header = replace(STUDY, arms=arms, question="Ω?" * 500)
    tracker.open_study(header, {})
    assert fetch_study(uri, STUDY.name).header == header


def test_a_trial_says_everything_once(tracker: MlflowTracker, client: MlflowClient, tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    model.write_text("weights")
    parent = tracker.open_study(STUDY, {})
    log = tracker.open_trial(parent, trial_header())
    log.log({"train/loss": 1.0, "val/mse": 0.5}, 10)
    log.log({"val/mse": math.nan}, 20)
    log.log_files({"model/weights.bin": model})
    log.set_tags({"prism.host": "here"})
    log.finish("FINISHED")
    run = client.get_run(log.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.params["data.signals"] == "h3k27ac+dnase"
    assert run.data.params["optimizer.learning_rate"] == "0.0005"
    expected = {"prism.arm": "n2", "prism.seed": "2", "prism.fold": "fold_1", "prism.cell_type": "K562"}
    expected |= {"prism.study": STUDY.name, "prism.results_version": "1", "prism.git_commit": "c" * 40}
    expected |= {"prism.fingerprint": "f" * 64, "prism.data_digest": "b" * 64, "prism.host": "here"}
    assert expected.items() <= run.data.tags.items()
    assert [(m.step, m.value) for m in client.get_metric_history(log.run_id, "train/loss")] == [(10, 1.0)]
    history = client.get_metric_history(log.run_id, "val/mse")
    assert [m.step for m in history] == [10, 20]
    assert math.isnan(history[1].value)
    assert [file.path for file in client.list_artifacts(log.run_id, "model")] == ["model/weights.bin"]
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("K562", "b" * 36)


def test_a_resumed_trial_goes_on_in_its_run(tracker: MlflowTracker, client: MlflowClient) -> None:
    parent = tracker.open_study(STUDY, {})
    first = tracker.open_trial(parent, trial_header())
    for step in (10, 20):
        first.log({"val/mse": 1.0 / step}, step)
    # The process dies here; the next one repeats what came after its checkpoint at step 10.
    second = tracker.open_trial(parent, trial_header())
    for step in (20, 30):
        second.log({"val/mse": 1.0 / step}, step)
    second.finish("FINISHED")
    assert second.run_id == first.run_id
    history = client.get_metric_history(first.run_id, "val/mse")
    assert [(metric.step, metric.value) for metric in history] == [(10, 0.1), (20, 0.05), (30, 1 / 30)]
    again = tracker.open_trial(parent, trial_header())
    assert client.get_run(again.run_id).info.status == "RUNNING"
    again.finish("KILLED")
    assert client.get_run(first.run_id).info.status == "KILLED"


def test_trials_of_two_launches_are_apart(tracker: MlflowTracker) -> None:
    one = tracker.open_study(STUDY, {})
    two = tracker.open_study(replace(STUDY, study_digest="e" * 64), {})
    assert tracker.open_trial(one, trial_header()).run_id != tracker.open_trial(two, trial_header()).run_id


def test_parameters_are_written_once_and_differences_said(
    tracker: MlflowTracker, client: MlflowClient, caplog: pytest.LogCaptureFixture
) -> None:
    parent = tracker.open_study(STUDY, {})
    tracker.open_trial(parent, trial_header())
    other = replace(trial_header(), parameters={"model.n_states": 7, "model.new_field": "x"})
    log = tracker.open_trial(parent, other)
    run = client.get_run(log.run_id)
    assert run.data.params["model.n_states"] == "2"
    assert run.data.params["model.new_field"] == "x"
    assert run.data.tags["prism.parameters_differ"] == "model.n_states"
    assert "keeps other values of model.n_states" in caplog.text


def test_more_parameters_than_a_batch_holds(tracker: MlflowTracker, client: MlflowClient) -> None:
    parameters = {f"section.field_{index}": index for index in range(250)}
    log = tracker.open_trial(tracker.open_study(STUDY, {}), replace(trial_header(), parameters=parameters))
    assert len(client.get_run(log.run_id).data.params) == 250


def test_what_mlflow_refuses_stops_nothing(
    tracker: MlflowTracker, client: MlflowClient, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    log = tracker.open_trial(tracker.open_study(STUDY, {}), trial_header(), journal_path=tmp_path / "journal.jsonl")
    log.log({"val/bad#name": 1.0}, 1)
    log.log_files({"gone.txt": tmp_path / "gone.txt"})
    log.log({"val/mse": 1.0}, 2)
    log.finish("FINISHED")
    run = client.get_run(log.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"val/mse": 1.0}
    assert "the tracker refused 1 records" in caplog.text
    assert "gone.txt is no longer there" in caplog.text


def test_an_experiment_of_someone_else_is_left_alone(tracker: MlflowTracker, client: MlflowClient) -> None:
    client.create_experiment(STUDY.name)
    with pytest.raises(TrackingError, match=r"experiment 'confounder_count': was not made by prism-ray; rename it"):
        tracker.open_study(STUDY, {})


def test_a_deleted_experiment_is_said(tracker: MlflowTracker, client: MlflowClient, uri: str) -> None:
    tracker.open_study(STUDY, {})
    client.delete_experiment(client.get_experiment_by_name(STUDY.name).experiment_id)
    with pytest.raises(TrackingError, match="was deleted; restore it"):
        tracker.open_study(STUDY, {})
    with pytest.raises(TrackingError, match="experiment 'confounder_count' was deleted; restore it in the MLflow UI"):
        fetch_study(uri, STUDY.name)


def test_trials_left_running_end_as_killed_with_their_study(uri: str, tracker: MlflowTracker) -> None:
    parent = tracker.open_study(STUDY, {})
    tracker.open_trial(parent, trial_header("n0")).finish("FINISHED")
    tracker.open_trial(parent, trial_header("n2"))
    other = tracker.open_study(replace(STUDY, study_digest="d" * 64), {})
    tracker.open_trial(other, trial_header("n2"))
    tracker.close_study(parent, "KILLED", {})
    status = fetch_trials(uri, STUDY.name, parent_run_id=parent).set_index("arm")["status"]
    assert status.to_dict() == {"n0": "FINISHED", "n2": "KILLED"}
    assert fetch_trials(uri, STUDY.name, parent_run_id=other)["status"].item() == "RUNNING"
    # An interrupted trial goes on in the same run.
    again = tracker.open_trial(parent, trial_header("n2"))
    assert again.run_id in set(fetch_trials(uri, STUDY.name, parent_run_id=parent)["run_id"])
    assert set(fetch_trials(uri, STUDY.name, parent_run_id=parent)["status"]) == {"FINISHED", "RUNNING"}


def test_closing_an_unknown_run_is_refused(tracker: MlflowTracker) -> None:
    with pytest.raises(TrackingError, match="refused"):
        tracker.close_study("0" * 32, "FINISHED", {})


def test_a_tracker_can_be_sent_to_a_worker(tracker: MlflowTracker, uri: str) -> None:
    assert pickle.loads(pickle.dumps(tracker)).uri == uri


def test_artifacts_go_where_asked(uri: str, tmp_path: Path) -> None:
    tracker = MlflowTracker(uri, artifact_root=tmp_path / "elsewhere")
    parent = tracker.open_study(STUDY, {"a.txt": "text"})
    assert (tmp_path / "elsewhere" / STUDY.name / parent / "artifacts" / "a.txt").read_text() == "text"


def test_table_of_trials_has_its_schema(uri: str) -> None:
    runs = [
        (trial_header("n0", 2), {"test/mse": 0.25, "best/mse": 0.2}, "FINISHED"),
        (trial_header("n2", 2), {}, "FAILED"),
        (trial_header("n2", 22), {"test/mse": 0.5}, "RUNNING"),
    ]
    parent = track_study(uri, STUDY, runs, status="RUNNING")
    trials = fetch_trials(uri, STUDY.name)
    dtypes = trials.dtypes.astype(str).to_dict()
    assert {name: dtypes[name] for name in TRIAL_COLUMNS} == TRIAL_COLUMNS
    assert trials["arm"].tolist() == ["n0", "n2", "n2"]
    assert trials["seed"].tolist() == [2, 2, 22]
    assert trials["status"].tolist() == ["FINISHED", "FAILED", "RUNNING"]
    assert trials["parent_run_id"].unique().tolist() == [parent]
    assert trials["results_version"].unique().tolist() == [1]
    assert trials["git_commit"].unique().tolist() == ["c" * 40]
    assert trials["duration_s"].isna().tolist() == [False, False, True]
    assert dtypes["test/mse"] == "float64"
    assert trials["test/mse"].tolist()[::2] == [0.25, 0.5]
    assert math.isnan(trials["test/mse"][1])
    assert dtypes["param/model.n_states"] == "Int64"
    assert dtypes["param/optimizer.learning_rate"] == "Float64"
    assert dtypes["param/data.sequence"] == "boolean"
    assert trials["param/data.scalars"].unique().tolist() == ["none"]


def test_a_study_without_trials_has_an_empty_table_of_the_same_schema(uri: str) -> None:
    track_study(uri, STUDY, [])
    trials = fetch_trials(uri, STUDY.name)
    assert len(trials) == 0
    assert list(trials.columns) == list(TRIAL_COLUMNS)


def test_more_trials_than_a_page(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prism_ray.tracking.fetch.RUNS_A_PAGE", 2)
    track_study(uri, STUDY, [(trial_header("n0", seed), {}, "FINISHED") for seed in range(5)])
    assert fetch_trials(uri, STUDY.name)["seed"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(TrackingError, match="use one of confounder_count"):
        fetch_trials(uri, "x")


def test_an_unknown_study_names_the_known_ones(uri: str) -> None:
    track_study(uri, STUDY, [])
    with pytest.raises(TrackingError, match=r"has no study 'confounder_cuont'; .*Did you mean 'confounder_count'\?"):
        fetch_trials(uri, "confounder_cuont")


def test_reading_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="does not exist; run a study first"):
        fetch_trials(default_tracking_uri(tmp_path), "x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, whatever its name says" * 10)
    with pytest.raises(TrackingError, match=r"tracking store sqlite:.*mlflow\.db: refused \("):
        fetch_trials(default_tracking_uri(tmp_path), "x")


def test_an_absent_server_is_named_in_seconds_without_its_password() -> None:
    started = time.monotonic()
    with pytest.raises(TrackingError, match=r"http://\*\*\*@127\.0\.0\.1:9: cannot be reached") as error:
        fetch_trials("http://user:secret@127.0.0.1:9", "x")
    assert "secret" not in str(error.value)
    assert time.monotonic() - started < 60, "MLflow's own attempts take minutes"


def test_a_store_whose_driver_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymysql", None)
    with pytest.raises(TrackingError, match=r"mysql\+pymysql://\*\*\*@/db: its driver is not installed \(pymysql\)"):
        prepare("mysql+pymysql://me:secret@/db")


def test_a_locked_database_is_tried_again_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("prism_ray.tracking.client.time.sleep", waits.append)
    answers = [MlflowException("(sqlite3.OperationalError) database is locked")] * 2

    def call() -> str:
        if answers:
            raise answers.pop()
        return "written"

    assert retry_locked(call) == "written"
    assert len(waits) == 2
    calls = []

    def always_locked() -> None:
        calls.append(1)
        raise MlflowException("database is locked")

    with pytest.raises(MlflowException, match="locked"):
        retry_locked(always_locked)
    assert len(calls) == 4

    def refused() -> None:
        calls.append(1)
        raise MlflowException("something else")

    with pytest.raises(MlflowException, match="something else"):
        retry_locked(refused)
    assert len(calls) == 5


def _write_trial(uri: str, parent: str, seed: int, new: str, together: Barrier) -> None:
    together.wait(60)
    prepare(new)
    log = MlflowTracker(uri).open_trial(parent, trial_header("n0", seed))
    for step in range(20):
        log.log({"val/mse": seed + step / 100, "train/loss": 1.0}, step)
    log.finish("FINISHED")


def test_several_processes_write_to_one_file(uri: str, tracker: MlflowTracker, tmp_path: Path) -> None:
    """And make another one at the same time, which neither of them finds half made."""
    parent = tracker.open_study(STUDY, {})
    context = multiprocessing.get_context("spawn")
    new, together = default_tracking_uri(tmp_path / "new"), context.Barrier(2)
    writers = [context.Process(target=_write_trial, args=(uri, parent, seed, new, together)) for seed in (2, 22)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
        writer.close()
    assert connect(new).search_experiments()
    trials = fetch_trials(uri, STUDY.name)
    assert sorted(trials["seed"]) == [2, 22]
    assert set(trials["status"]) == {"FINISHED"}
    connection = sqlite3.connect(tmp_path / "mlflow.db")
    try:
        assert connection.execute("select count(*) from metrics").fetchone() == (2 * 20 * 2,)
    finally:
        connection.close()
