"""Studies and trials read back from MLflow as one table with a fixed schema."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from mlflow.entities import Experiment, Run, ViewType
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from prism_ray.errors import Fault, FaultList, TrackingError, did_you_mean
from prism_ray.tracking.addresses import absolute, database_file, redact
from prism_ray.tracking.client import connect, naming_the_store
from prism_ray.tracking.headers import OUTCOME_TAG, SYSTEM_PREFIX, StudyHeader
from prism_ray.tracking.mlflow_tracker import OPENED_TAG, ROLE_TAG, header_of
from prism_ray.tracking.parameters import decode_column

RUNS_A_PAGE = 1000

TRIAL_COLUMNS = {
    "run_id": "string",
    "parent_run_id": "string",
    "study": "string",
    "arm": "string",
    "seed": "Int64",
    "fold": "string",
    "cell_type": "string",
    "status": "string",
    "outcome": "string",
    "trial_id": "string",
    "fingerprint": "string",
    "data_digest": "string",
    "results_version": "Int64",
    "trained_trial": "string",
    "git_commit": "string",
    "device": "string",
    "start_time": "datetime64[ms, UTC]",
    "duration_s": "Float64",
}
"""Columns of every table of trials, with their dtype. `status` is MLflow's: RUNNING, FINISHED, FAILED, KILLED or
SCHEDULED; `outcome` is `pruned` where a search stopped the trial, and empty elsewhere; `trained_trial` names the trial
whose model an evaluation used, and is empty for a trial that trained its own; `device` is the
kind of processor that it ran on, empty where the run does not say; `duration_s` runs from the first
start to the end, time between interruptions included. After them come one float64 column a metric with its last value
(`test/mse`), those of the machine (`system/...`) left out, and one column a setting (`param/model.n_states`)."""

_TAGS = (
    *("study", "arm", "seed", "fold", "cell_type", "trial_id", "fingerprint", "data_digest", "results_version"),
    "trained_trial",
    "device",
)


@dataclass(frozen=True)
class StudyRun:
    """A launch of a study as its parent run tells it.

    Attributes:
        header: what the study is.
        run_id: of the parent run.
        experiment_id: of the study's experiment.
        status: of the parent run.
        opened: when it was last opened, ISO time.
        n_others: other launches in the experiment, of another study file, data or results version.
        tags: all tags of the run.
    """

    header: StudyHeader
    run_id: str
    experiment_id: str
    status: str
    opened: str
    n_others: int
    tags: dict[str, str]


def fetch_study(tracking_uri: str, study: str) -> StudyRun:
    """The launch of a study that was opened last, or the one that is asked for.

    Args:
        tracking_uri: address of the store.
        study: its name, or `NAME@RUN` for the launch whose parent run's id starts with RUN.

    Raises:
        TrackingError: the store cannot be reached, or has no such study or launch.
    """
    uri = absolute(tracking_uri)
    with naming_the_store(uri):
        return _launch(_reading_client(uri), uri, study)


def fetch_trials(tracking_uri: str, study: str, *, parent_run_id: str | None = None) -> pd.DataFrame:
    """Trials of a launch of a study, one row a run, in the order of their start; see `TRIAL_COLUMNS`.

    Args:
        tracking_uri: address of the store.
        study: its name, or `NAME@RUN` as for `fetch_study`.
        parent_run_id: run of the launch; None for the one that `study` names.

    Raises:
        TrackingError: the store cannot be reached, or has no such study.
    """
    uri = absolute(tracking_uri)
    with naming_the_store(uri):
        client = _reading_client(uri)
        launch = _launch(client, uri, study)
        parent = parent_run_id or launch.run_id
        wanted = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'"
        return trials_table(_all_runs(client, launch.experiment_id, wanted))


def trials_table(runs: list[Run]) -> pd.DataFrame:
    """Table of runs with the schema of `TRIAL_COLUMNS`."""
    rows = []
    for run in runs:
        tags, info = run.data.tags, run.info
        row = {name: tags.get(f"prism.{name}") for name in _TAGS}
        row["outcome"] = tags.get(OUTCOME_TAG)
        row |= {"run_id": info.run_id, "parent_run_id": tags.get(MLFLOW_PARENT_RUN_ID), "status": info.status}
        row |= {
            "git_commit": tags.get("prism.git_commit"),
            "start_time": pd.Timestamp(info.start_time, unit="ms", tz="UTC"),
        }
        row["duration_s"] = (info.end_time - info.start_time) / 1000 if info.end_time else None
        for name in ("seed", "results_version"):
            row[name] = None if row[name] is None else int(row[name])
        rows.append(row)
    columns = {name: pd.Series([row[name] for row in rows], dtype=dtype) for name, dtype in TRIAL_COLUMNS.items()}
    for name in sorted({name for run in runs for name in run.data.metrics if not name.startswith(SYSTEM_PREFIX)}):
        columns[name] = pd.Series([run.data.metrics.get(name, float("nan")) for run in runs], dtype="float64")
    for name in sorted({name for run in runs for name in run.data.params}):
        columns[f"param/{name}"] = decode_column(run.data.params.get(name) for run in runs)
    return pd.DataFrame(columns)


def _reading_client(uri: str) -> MlflowClient:
    """Client of a store that exists: reading must not make an empty one."""
    file = database_file(uri)
    if file is not None and not file.exists():
        fault = Fault(f"tracking store {redact(uri)}", "does not exist", "run a study first, or give --tracking-uri")
        raise TrackingError(str(fault), [fault])
    return connect(uri)


def _launch(client: MlflowClient, uri: str, asked: str) -> StudyRun:
    study, _, run = asked.partition("@")
    experiment = client.get_experiment_by_name(study)
    if experiment is not None:
        _refuse_other_experiment(experiment, uri)
    if experiment is None:
        known = [item.name for item in _experiments(client) if "prism.study" in item.tags]
        fix = did_you_mean(study, known) if known else "it holds no study yet; run one first"
        fault = Fault(f"tracking store {redact(uri)}", f"has no study {study!r}", fix)
        raise TrackingError(str(fault), [fault])
    launches = _all_runs(client, experiment.experiment_id, f"tags.`{ROLE_TAG}` = 'study'")
    if not launches:
        fault = Fault(f"tracking store {redact(uri)}", f"study {study!r} was never launched", "run it first")
        raise TrackingError(str(fault), [fault])
    candidates = [launch for launch in launches if launch.info.run_id.startswith(run)]
    if not candidates:
        runs = ", ".join(sorted(launch.info.run_id[:8] for launch in launches))
        fault = Fault(f"tracking store {redact(uri)}", f"study {study!r} has no launch {run!r}", f"it has {runs}")
        raise TrackingError(str(fault), [fault])
    last = max(candidates, key=lambda run: (run.data.tags.get(OPENED_TAG, ""), run.info.start_time))
    return StudyRun(
        header=header_of(last.data.tags),
        run_id=last.info.run_id,
        experiment_id=experiment.experiment_id,
        status=last.info.status,
        opened=last.data.tags.get(OPENED_TAG, ""),
        n_others=len(launches) - 1,
        tags=dict(last.data.tags),
    )


def _refuse_other_experiment(experiment: Experiment, uri: str) -> None:
    """Refuse an experiment that is no study, or is no more."""
    faults = FaultList()
    where, what = f"tracking store {redact(uri)}", f"experiment {experiment.name!r}"
    if experiment.lifecycle_stage != "active":
        faults.add(where, f"{what} was deleted", "restore it in the MLflow UI")
    elif "prism.study" not in experiment.tags:
        faults.add(where, f"{what} was not made by prism-ray", "name a study of this store, or another store")
    faults.raise_if_any(TrackingError)


def _experiments(client: MlflowClient) -> list[Experiment]:
    found: list[Experiment] = []
    token = None
    while True:
        page = client.search_experiments(view_type=ViewType.ACTIVE_ONLY, max_results=RUNS_A_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _all_runs(client: MlflowClient, experiment_id: str, wanted: str) -> list[Run]:
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            wanted,
            max_results=RUNS_A_PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        found += page
        token = page.token
        if not token:
            return found
