"""What MLflow's UI shows of a study's experiment before any run is opened: its description, metric and views."""

from __future__ import annotations

import hashlib

from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import (
    MLFLOW_EXPERIMENT_PRIMARY_METRIC_GREATER_IS_BETTER,
    MLFLOW_EXPERIMENT_PRIMARY_METRIC_NAME,
    MLFLOW_RUN_NOTE,
)

from prism_ray.tracking.client import retry_locked
from prism_ray.tracking.headers import StudyHeader
from prism_ray.tracking.views import ARMS_VIEW, SEEDS_VIEW, run_link, view_link, view_tags

_NOTE_DIGEST_TAG = "prism.note_sha256"
"""Of the description that was written last by us: another one is somebody's own."""
_KIND_TAG = "mlflow.experimentKind"
_LONGEST_NOTE_BYTES = 4900
"""MLflow keeps 5,000 of an experiment's tag."""


def experiment_tags(header: StudyHeader) -> dict[str, str]:
    """Tags of a study's experiment but for its description."""
    return {
        "prism.study": header.name,
        _KIND_TAG: "custom_model_development",
        MLFLOW_EXPERIMENT_PRIMARY_METRIC_NAME: header.metric,
        MLFLOW_EXPERIMENT_PRIMARY_METRIC_GREATER_IS_BETTER: str(header.direction == "maximize"),
        **view_tags(header),
    }


def note_tags(note: str) -> dict[str, str]:
    """Tags that hold an experiment's description, cut to what MLflow keeps."""
    text = note.encode()
    if len(text) > _LONGEST_NOTE_BYTES:
        note = text[:_LONGEST_NOTE_BYTES].decode(errors="ignore") + "\n\n(cut; see the run)"
    return {MLFLOW_RUN_NOTE: note, _NOTE_DIGEST_TAG: _digest(note)}


def describe_experiment(client: MlflowClient, parent_run_id: str, answer: str, note: str) -> None:
    """Let an experiment's description begin with the answer; one that somebody else wrote stays.

    Args:
        parent_run_id: run that the answer is of.
        answer: the one line that the UI shows of a description.
        note: Markdown that follows.
    """
    experiment = client.get_experiment(client.get_run(parent_run_id).info.experiment_id)
    written = experiment.tags.get(MLFLOW_RUN_NOTE, "")
    if written and experiment.tags.get(_NOTE_DIGEST_TAG) != _digest(written):
        return
    number = experiment.experiment_id
    links = (
        ("arms", view_link(number, ARMS_VIEW)),
        ("arms and seeds", view_link(number, SEEDS_VIEW)),
        ("report and files", run_link(number, parent_run_id, "artifacts")),
    )
    line = "Compare: " + ", ".join(f"[{name}]({link})" for name, link in links)
    for name, value in note_tags("\n\n".join((answer, line, note))).items():
        retry_locked(lambda name=name, value=value: client.set_experiment_tag(number, name, value))  # type: ignore[misc]


def _digest(note: str) -> str:
    return hashlib.sha256(note.encode()).hexdigest()
