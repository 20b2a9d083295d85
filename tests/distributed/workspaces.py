"""Workspaces made by hand: launches and trials in every state, without training any."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from prism_ray.config import RunConfig
from prism_ray.distributed.attempts import Attempt, Ending
from prism_ray.distributed.launch_note import LaunchNote, TrialNote, write_launch
from prism_ray.distributed.lease import Holder
from prism_ray.distributed.progress_note import ProgressNote
from prism_ray.distributed.workspace import trial_folder
from prism_ray.study.identity import RESULTS_VERSION
from prism_ray.training.record import RECORD_SCHEMA, RESULT_NAME

NOTE = LaunchNote(
    study="tiny",
    kind="ablation",
    study_file="/somewhere/tiny.yaml",
    study_text="question: Does it run?\n",
    smoke=False,
    overrides={},
    metric="val/mse",
    direction="minimize",
    report_metric="test/mse",
    store="/somewhere/store",
    data_digest="d" * 64,
    results_version=1,
    tracking_uri="sqlite:////somewhere/mlflow.db",
    parent_run_id="p" * 32,
    resources={"n_workers": 1, "cpus_per_worker": 1, "gpus_per_worker": 0.0},
    loading="auto",
    max_concurrent=None,
    address=None,
    search_database=None,
    n_trials=0,
    n_found=0,
    host="here",
    pid=1,
    started=1000.0,
    command="prism-ray run tiny",
    launch_id="this launch",
)


def launch(storage: Path, n_known: int, **changes: Any) -> LaunchNote:
    """A launch of trials `t0`, `t1`, ... of 100 steps each."""
    trials = tuple(TrialNote(f"t{number}", f"n0 seed {number} fold_1", 100) for number in range(n_known))
    note = replace(NOTE, **{"n_trials": n_known, "trials": trials, **changes})
    write_launch(storage, note)
    return note


def done(storage: Path, number: int, value: float, *, test: float = 0.5, train_s: float = 60.0) -> None:
    """A finished trial with a validation and a test value."""
    metrics = {"val/mse": value, "test/mse": test}
    write(storage, number, "result.json", {"metrics": metrics, "cost": {"train_s": train_s, "n_workers": 1}})


def attempted(storage: Path, number: int, *steps: int, how: Ending = "finished", **changes: Any) -> None:
    """An attempt of a trial in this launch that ended: a second a step, from the first to the last of `steps`."""
    began = datetime.fromtimestamp(1000.0, timezone.utc)
    attempt = Attempt(
        study="tiny",
        launch=NOTE.launch_id,
        host="here",
        node="",
        pid=1,
        gpus=0.0,
        started=began.isoformat(),
        first_step=steps[0],
        ended=(began + timedelta(seconds=steps[-1] - steps[0])).isoformat(),
        how=how,
        last_step=steps[-1],
    )
    write(storage, number, "attempts.json", [asdict(replace(attempt, **changes))])


def recorded(storage: Path, identity: str, digest: str, config: RunConfig, train_s: float) -> None:
    """The whole record of a finished trial on one CPU worker."""
    content = {
        "schema": RECORD_SCHEMA,
        "trial_id": identity,
        "fingerprint": config.fingerprint(),
        "data_digest": digest,
        "results_version": RESULTS_VERSION,
        "config": config.model_dump(mode="json"),
        "metrics": {"val/mse": 0.5, "test/mse": 0.5, "best_step": 1},
        "n_parameters": 1,
        "cost": {"train_s": train_s, "n_workers": 1, "device": "cpu", "host": "here"},
        "versions": {},
        "finished": "2026-11-27T00:00:00+00:00",
        "trained_trial": None,
    }
    folder = trial_folder(storage, identity)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT_NAME).write_text(json.dumps(content))


def progress(storage: Path, number: int, **changes: Any) -> None:
    """How far a trial is: 50 of 100 steps, begun 100 s before time 1100, ten steps of it in another process."""
    note = ProgressNote(
        step=50,
        n_steps=100,
        first_step=10,
        first_at=1000.0,
        validation={"val/mse": 0.4},
        validated_step=40,
        started=1000.0,
        updated=1080.0,
        host="here",
        pid=1,
    )
    write(storage, number, "progress.json", asdict(replace(note, **changes)))


def held(path: Path, **changes: Any) -> None:
    """A lease of this process, which lives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**asdict(Holder.this_process("a test")), **changes}))


def write(storage: Path, number: int, name: str, content: Mapping[str, Any] | Sequence[Any]) -> Path:
    """A JSON file in a trial's folder."""
    folder = trial_folder(storage, f"t{number}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    return folder / name


def stale(path: Path) -> None:
    """Make a file as old as a dead holder's."""
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
