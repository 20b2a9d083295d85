"""Studies and trials in MLflow: an experiment a study, a parent run a launch, a nested run a trial."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

from mlflow.entities import Metric, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_PARENT_RUN_ID,
    MLFLOW_RUN_NOTE,
)

from prism_ray.errors import Fault, TrackingError
from prism_ray.tracking.addresses import ARTIFACTS_NAME, absolute, database_file, redact
from prism_ray.tracking.client import connect, naming_the_store, prepare, retry_locked
from prism_ray.tracking.courier import process_courier
from prism_ray.tracking.experiment import describe_experiment, experiment_tags, note_tags
from prism_ray.tracking.headers import CLAIMS_CHANGED_TAG, Status, StudyHeader, TrialHeader
from prism_ray.tracking.mlflow_trial import METRICS_A_BATCH, MlflowTrialLog, dataset_input, send_file

HEADER_TAG = "prism.header"
HEADER_PART_LENGTH = 4000
"""Characters of a header a tag; MLflow keeps 8,000, PostgreSQL counts bytes."""
OPENED_TAG = "prism.opened"
ROLE_TAG = "prism.role"
_LONGEST_NOTE = 7900
_MOST_RUNNING = 10_000
"""Trials of a study that may run at the same time; far above what a cluster holds."""


class MlflowTracker:
    """Tracker on an MLflow store. Holds no connection when pickled, so it can be sent to a worker.

    Args:
        uri: `sqlite:////absolute/file` or address of a server.
        artifact_root: folder or URI for the artifacts of new experiments; None for `mlartifacts` beside a SQLite
            file, and for what a server decides.
        background: deliver what trials log from a thread of the process, see `Courier`.

    Raises:
        TrackingError: the address is of a kind that cannot be used.
    """

    def __init__(self, uri: str, artifact_root: Path | str | None = None, *, background: bool = False) -> None:
        self.uri = absolute(uri)
        self._background = background
        file = database_file(self.uri)
        if artifact_root is None and file is not None:
            artifact_root = file.parent / ARTIFACTS_NAME
        if isinstance(artifact_root, Path):
            artifact_root = artifact_root.expanduser().resolve().as_uri()
        self._artifact_root = artifact_root

    def open_study(self, header: StudyHeader, files: Mapping[str, Path | str]) -> str:
        """Parent run of a study; see `Tracker.open_study`.

        Raises:
            TrackingError: the store is away, or an experiment of this name is not ours or was deleted.
        """
        prepare(self.uri)
        with naming_the_store(self.uri):
            client = connect(self.uri)
            experiment_id = self._experiment(client, header)
            opened = {OPENED_TAG: datetime.now(timezone.utc).isoformat()}
            run = _find_parent(client, experiment_id, header)
            if run is None:
                tags = {**_study_tags(header), **opened, MLFLOW_RUN_NOTE: _first_note(header)}
                name = f"{header.name}-{header.study_digest[:8]}"
                run_id = str(client.create_run(experiment_id, run_name=name, tags=tags).info.run_id)
                data = [dataset_input(cell, header.data_digest, header.folds) for cell in header.cell_types]
                client.log_inputs(run_id, data)
            else:
                run_id = str(run.info.run_id)
                tags = {**_study_tags(header), **opened}
                if header_of(run.data.tags).expectations != header.expectations:
                    tags[CLAIMS_CHANGED_TAG] = "true"
                client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
                client.update_run(run_id, status="RUNNING")
            _send_files(client, run_id, files)
            return run_id

    def open_trial(
        self, parent_run_id: str, header: TrialHeader, *, journal_path: Path | None = None
    ) -> MlflowTrialLog:
        """Nested run of a trial; see `Tracker.open_trial`."""
        courier = process_courier() if self._background else None
        return MlflowTrialLog(self.uri, parent_run_id, header, journal_path, courier)

    def close_study(self, parent_run_id: str, status: Status, metrics: Mapping[str, float]) -> None:
        """End the parent run, and as killed the trials that still count as running: nothing runs any more.

        Raises:
            TrackingError: the store is away or does not know the run.
        """
        with naming_the_store(self.uri):
            client = connect(self.uri)
            _send_metrics(client, parent_run_id, metrics)
            for run_id in _running_trials(client, parent_run_id):
                retry_locked(lambda run_id=run_id: client.set_terminated(run_id, "KILLED"))  # type: ignore[misc]
            retry_locked(lambda: client.set_terminated(parent_run_id, status))

    def publish(
        self,
        parent_run_id: str,
        *,
        files: Mapping[str, Path | str],
        answer: str | None = None,
        note: str | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Put an answer on the parent run: files, the Markdown that the UI shows on it, and summary metrics.

        The experiment's description begins with the answer, as it is what the UI shows first; one that somebody wrote
        there is left alone.

        Args:
            parent_run_id: run of the study.
            files: local files, or texts, by their path among its artifacts.
            answer: one line.
            note: Markdown.
            metrics: by name.

        Raises:
            TrackingError: the store is away or does not know the run.
        """
        with naming_the_store(self.uri):
            client = connect(self.uri)
            _send_files(client, parent_run_id, files)
            if note is not None:
                cut = note if len(note) <= _LONGEST_NOTE else note[:_LONGEST_NOTE] + "\n\n(cut; see the report)"
                retry_locked(lambda: client.set_tag(parent_run_id, MLFLOW_RUN_NOTE, cut))
            _send_metrics(client, parent_run_id, metrics or {})
            if answer is not None:
                describe_experiment(client, parent_run_id, answer, note or "")

    def _experiment(self, client: MlflowClient, header: StudyHeader) -> str:
        """Experiment of a study, made where there is none."""
        experiment = client.get_experiment_by_name(header.name)
        if experiment is None:
            root = self._artifact_root
            location = f"{str(root).rstrip('/')}/{header.name}" if root is not None else None
            tags = {**experiment_tags(header), **note_tags(header.question)}
            try:
                return str(client.create_experiment(header.name, artifact_location=location, tags=tags))
            except MlflowException as problem:
                # Another driver may have made it since we looked.
                if problem.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = client.get_experiment_by_name(header.name)
        where = f"tracking store {redact(self.uri)}: experiment {header.name!r}"
        if experiment is None or experiment.lifecycle_stage != "active":
            self._refuse(where, "was deleted", "restore it in the MLflow UI, or remove it for good with `mlflow gc`")
        if "prism.study" not in experiment.tags:
            self._refuse(where, "was not made by prism-ray", "rename it, rename the study, or use another store")
        for name, value in experiment_tags(header).items():
            if experiment.tags.get(name) != value:
                client.set_experiment_tag(experiment.experiment_id, name, value)
        return str(experiment.experiment_id)

    @staticmethod
    def _refuse(where: str, problem: str, fix: str) -> None:
        fault = Fault(where, problem, fix)
        raise TrackingError(str(fault), [fault])


def _find_parent(client: MlflowClient, experiment_id: str, header: StudyHeader) -> Run | None:
    wanted = (
        f"tags.`{ROLE_TAG}` = 'study' and tags.`prism.study_digest` = '{header.study_digest}'"
        f" and tags.`prism.data_digest` = '{header.data_digest}'"
        f" and tags.`prism.results_version` = '{header.results_version}'"
    )
    runs = client.search_runs([experiment_id], wanted, max_results=1, order_by=["attributes.start_time ASC"])
    return runs[0] if runs else None


def _running_trials(client: MlflowClient, parent_run_id: str) -> list[str]:
    experiment_id = client.get_run(parent_run_id).info.experiment_id
    wanted = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_run_id}' and attributes.status = 'RUNNING'"
    return [str(run.info.run_id) for run in client.search_runs([experiment_id], wanted, max_results=_MOST_RUNNING)]


def _study_tags(header: StudyHeader) -> dict[str, str]:
    text = header.to_json()
    parts = [text[start : start + HEADER_PART_LENGTH] for start in range(0, len(text), HEADER_PART_LENGTH)]
    return {
        **header.tags,
        ROLE_TAG: "study",
        "prism.study": header.name,
        "prism.kind": header.kind,
        "prism.study_digest": header.study_digest,
        "prism.data_digest": header.data_digest,
        "prism.results_version": str(header.results_version),
        f"{HEADER_TAG}.parts": str(len(parts)),
        **{f"{HEADER_TAG}.{index}": part for index, part in enumerate(parts)},
    }


def header_of(tags: Mapping[str, str]) -> StudyHeader:
    """Header that a parent run's tags hold."""
    n_parts = int(tags[f"{HEADER_TAG}.parts"])
    return StudyHeader.from_json("".join(tags[f"{HEADER_TAG}.{index}"] for index in range(n_parts)))


def _first_note(header: StudyHeader) -> str:
    lines = [f"**{header.question}**", ""]
    if header.claim:
        lines += [f"Claim: {header.claim}" + (f" ({header.source})" if header.source else ""), ""]
    lines += [f"{header.n_trials} trials; the table appears here with `prism-ray report {header.name}`.", ""]
    lines += ["Repeat:", "", "```", header.command, "```"]
    return "\n".join(lines)


def _send_files(client: MlflowClient, run_id: str, files: Mapping[str, Path | str]) -> None:
    for artifact_path, content in files.items():
        if isinstance(content, Path):
            send_file(client, run_id, artifact_path, content)
            continue
        with tempfile.TemporaryDirectory() as scratch:
            local = Path(scratch) / PurePosixPath(artifact_path).name
            local.write_text(content, encoding="utf-8")
            send_file(client, run_id, artifact_path, local)


def _send_metrics(client: MlflowClient, run_id: str, metrics: Mapping[str, float]) -> None:
    now_ms = time.time_ns() // 1_000_000
    batch = [Metric(name, float(value), now_ms, 0) for name, value in metrics.items()]
    for start in range(0, len(batch), METRICS_A_BATCH):
        part = batch[start : start + METRICS_A_BATCH]
        retry_locked(lambda part=part: client.log_batch(run_id, metrics=part))  # type: ignore[misc]
