"""Stores, headers and tracked studies for the tests of tracking, report and analysis."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prism_ray.tracking import MlflowTracker, StudyHeader, TrialHeader, default_tracking_uri, prepare

STUDY = StudyHeader(
    name="confounder_count",
    question="How many background states should Prism average over?",
    claim="Two are enough.",
    source="arXiv 2602.21550",
    kind="ablation",
    baseline="n0",
    arms=("n0", "n2"),
    metric="test/mse",
    direction="minimize",
    curve="model.n_states",
    seeds=(2, 22),
    folds=("fold_1",),
    n_trials=4,
    cell_types=("K562",),
    study_digest="a" * 64,
    data_digest="b" * 64,
    results_version=1,
    command="prism-ray run confounder_count --store STORE",
    tags={"prism.git_commit": "c" * 40, "prism.git_dirty": "false"},
)
PARAMETERS: Mapping[str, Any] = {
    "model.n_states": 2,
    "optimizer.learning_rate": 5e-4,
    "data.sequence": True,
    "data.signals": ("h3k27ac", "dnase"),
    "data.scalars": (),
    "model.average": "hidden",
}


@functools.cache
def _empty_database() -> Path:
    """An MLflow database with its tables: making them takes seconds, copying them does not."""
    folder = Path(tempfile.mkdtemp(prefix="prism-ray-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    prepare(default_tracking_uri(folder))
    return folder / "mlflow.db"


def fresh_store(folder: Path) -> str:
    """Address of an empty store in a folder."""
    shutil.copyfile(_empty_database(), folder / "mlflow.db")
    return default_tracking_uri(folder)


def trial_header(arm: str = "n2", seed: int = 2, *, study: StudyHeader = STUDY, **changes: Any) -> TrialHeader:
    """Header of a trial with an id of its own."""
    header = TrialHeader(
        study=study.name,
        arm=arm,
        seed=seed,
        fold=study.folds[0],
        cell_type=study.cell_types[0],
        trial_id="",
        fingerprint="f" * 64,
        data_digest=study.data_digest,
        parameters={**PARAMETERS, "model.n_states": int(arm.lstrip("n")) if arm[1:].isdigit() else 0, "seed": seed},
    )
    header = replace(header, **changes)
    identity = f"{header.arm}-{header.seed}-{header.fold}-{header.cell_type}"
    return replace(header, trial_id=header.trial_id or identity)


def track_study(
    uri: str, study: StudyHeader, runs: Sequence[tuple[TrialHeader, Mapping[str, float], str]], status: str = "FINISHED"
) -> str:
    """Track a whole study: each run with its last metrics and its status, RUNNING to leave it open; the parent run."""
    tracker = MlflowTracker(uri)
    parent = tracker.open_study(study, {"study.yaml": "question: ...\n"})
    for header, metrics, end in runs:
        log = tracker.open_trial(parent, header)
        if metrics:
            log.log(metrics, 100)
        if end != "RUNNING":
            log.finish(end)  # type: ignore[arg-type]
    if status != "RUNNING":
        tracker.close_study(parent, status, {})  # type: ignore[arg-type]
    return parent
