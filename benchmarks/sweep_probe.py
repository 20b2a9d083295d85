"""Watches trials from inside their processes: when each part of a trial began and ended.

Ray runs `install` in every worker before its first task. The parts are functions of the package, wrapped in place, so
that what is measured is the product as it is and nothing in it knows of a benchmark.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVENTS_VARIABLE = "PRISM_RAY_SWEEP_EVENTS"
"""Folder into which each process writes a file of events, one JSON object a line."""

TRIAL, TRAIN, STEP, RECORD = "trial", "train", "step", "record"
PARTS = {
    TRIAL: "prism_ray.distributed.trial_process:run_trial",
    "open the store": "prism_ray.store:open",
    "genes from the cache": "prism_ray.distributed.trial:gene_source",
    "open the run": "prism_ray.tracking.mlflow_tracker:MlflowTracker.open_trial",
    "log a metric": "prism_ray.tracking.mlflow_trial:MlflowTrialLog.log",
    "hand files over": "prism_ray.tracking.mlflow_trial:MlflowTrialLog.log_files",
    "end the run": "prism_ray.tracking.mlflow_trial:MlflowTrialLog.finish",
    "deliver to MLflow": "prism_ray.tracking.mlflow_trial:MlflowTrialLog.deliver",
    TRAIN: "prism_ray.distributed.trial:train",
    "build the network": "prism_ray.training.loop:_start",
    STEP: "prism_ray.training.loop:_train_step",
    "validate": "prism_ray.training.loop:_validate",
    "checkpoint": "prism_ray.training.loop:_save",
    "test": "prism_ray.training.loop:_finish",
    RECORD: "prism_ray.distributed.trial:write_record",
}
"""What is watched, as module:attribute."""


class _Events:
    def __init__(self, folder: Path) -> None:
        self._file = (folder / f"{os.getpid()}.jsonl").open("a", buffering=1)
        self._lock = threading.Lock()

    def add(self, part: str, start: float, end: float) -> None:
        line = {"part": part, "start": start, "end": end, "thread": threading.get_ident()}
        with self._lock:
            self._file.write(json.dumps(line) + "\n")


def install() -> None:
    """Wrap the parts in this process."""
    events = _Events(Path(os.environ[EVENTS_VARIABLE]))
    for part, place in PARTS.items():
        module_name, path = place.split(":")
        owner: Any = importlib.import_module(module_name)
        *parents, name = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, _watched(getattr(owner, name), part, events))


def _watched(function: Callable[..., Any], part: str, events: _Events) -> Callable[..., Any]:
    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        start = time.time()
        try:
            return function(*args, **kwargs)
        finally:
            events.add(part, start, time.time())

    return watched
