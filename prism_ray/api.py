"""Studies from Python: what the commands of `prism-ray` do, a function each.

    from prism_ray import api

A module of its own and not names of `prism_ray` itself, since `prism_ray.store` and `prism_ray.report` are rooms of
the package. Importing it loads Ray, PyTorch and MLflow, which takes seconds. All raise a `PrismRayError` with every
fault of what they were given, and its text says what to do.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prism_ray.distributed.in_process import InProcessBackend
from prism_ray.distributed.launch import StudyOutcome
from prism_ray.distributed.launch_checks import Check
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.packing import pack as packing_of
from prism_ray.distributed.plan import plan_study
from prism_ray.distributed.plan_facts import Plan
from prism_ray.distributed.progress import Progress
from prism_ray.distributed.ray_backend import RayBackend
from prism_ray.distributed.resources import TrialResources
from prism_ray.distributed.study_check import CheckSettings, check_study
from prism_ray.distributed.study_control import Cancelled, cancel_study, resumed_launch, retried_launch
from prism_ray.distributed.study_run import run_study
from prism_ray.distributed.study_status import StudyStatus, study_status
from prism_ray.distributed.workspace import workspace_fault
from prism_ray.errors import InputError
from prism_ray.report.build import ReportResult, write_report
from prism_ray.report.files import FORMATS
from prism_ray.store import StorePlace, place_of
from prism_ray.study.load import find_study
from prism_ray.study.load import load_study as load_study_file
from prism_ray.study.spec import Study
from prism_ray.tracking import resolve_tracking_uri

__all__ = [
    "InProcessBackend",
    "RayBackend",
    "Silent",
    "TrialResources",
    "cancel",
    "check",
    "load_study",
    "pack",
    "plan",
    "report",
    "resume",
    "retry",
    "run",
    "settings",
    "status",
]

Place = str | os.PathLike[str]
RESULTS = "results"
"""Workspace where none is given, in the working folder, as for the commands."""


class Silent:
    """A progress that says nothing; a class with some of its methods says what they are told."""

    def announce(self, networks: Sequence[str]) -> None: ...
    def begin(self, n_trials: int, n_found: int) -> None: ...
    def started(self, label: str) -> None: ...
    def finished(self, label: str, metrics: Mapping[str, Any]) -> None: ...
    def pruned(self, label: str, how: str) -> None: ...
    def remark(self, text: str) -> None: ...
    def failed(self, label: str, reason: str) -> None: ...
    def interrupted(self, label: str, reason: str) -> None: ...


def load_study(name_or_path: Place, *, smoke: bool = False, overrides: Mapping[str, Any] | None = None) -> Study:
    """The study of a file, or of a name under search_spaces/.

    Args:
        smoke: at its small scale.
        overrides: settings replaced in its baseline, by dotted path, as by `--set`; what runs is another experiment.
    """
    return load_study_file(find_study(Path(name_or_path)), smoke=smoke, overrides=overrides)


def settings(
    store: Place | StorePlace, storage: Place = RESULTS, *, tracking_uri: str | None = None, **how: Any
) -> StudySettings:
    """Where and how a study runs: none of it changes a number.

    Args:
        store: feature store: a folder, s3://... or gs://...
        storage: workspace for trials, checkpoints and reports, seen by every node.
        tracking_uri: MLflow store; None for `MLFLOW_TRACKING_URI`, else an SQLite file in the workspace.
        how: more of `StudySettings`: `resources`, `max_concurrent`, `address`, `loading`, `backend`, ...
    """
    fault = workspace_fault(str(storage))
    if fault is not None:
        raise InputError(str(fault), [fault])
    folder = Path(storage).absolute()
    return StudySettings(
        store=place_of(store).absolute(), storage=folder, tracking_uri=resolve_tracking_uri(tracking_uri, folder), **how
    )


def plan(study: Study, where: StudySettings) -> Plan:
    """What `run` would do; nothing is started and nothing written."""
    return plan_study(study, where.plan())


def check(study: Study, where: StudySettings, *, deep: bool = False) -> list[Check]:
    """Everything that can fail before the first trial, looked at; what failed is not `ok` and has its `faults`.

    Steps of the largest and the smallest trial are done for it, and kept for `plan` and `pack`.

    Args:
        deep: hash every byte of the store, too.
    """
    return list(check_study(study, CheckSettings(where, deep)))


def pack(study: Study, where: StudySettings) -> StudySettings:
    """Settings with the part of a GPU that `check` measured the largest trial to need (`--gpus-per-worker auto`)."""
    return replace(where, resources=packing_of(study, where.storage, where.resources).each)


def run(study: Study, where: StudySettings, progress: Progress | None = None) -> StudyOutcome:
    """Run what is missing of a study; what is finished is not repeated."""
    return run_study(study, where, progress or Silent())


def status(name: str, storage: Place = RESULTS) -> StudyStatus:
    """How far a study is, by its folders alone: from any process, while it runs and after."""
    return study_status(Path(storage).absolute(), name)


def resume(
    name: str,
    storage: Place = RESULTS,
    progress: Progress | None = None,
    *,
    tracking_uri: str | None = None,
    **changes: Any,
) -> StudyOutcome:
    """Go on with the last launch of a study, from the workspace's own copy of its file.

    Args:
        tracking_uri: MLflow store instead of the launch's.
        changes: settings of `StudySettings` or `TrialResources` that replace those of the launch; of these the
            backend is not kept, so that another one than Ray is given again.
    """
    resumed = resumed_launch(Path(storage).absolute(), name, tracking_uri, **changes)
    return run(resumed.study, resumed.settings, progress)


def retry(
    name: str,
    storage: Place = RESULTS,
    progress: Progress | None = None,
    *,
    tracking_uri: str | None = None,
    **changes: Any,
) -> StudyOutcome:
    """As `resume`, with the failures of its trials forgotten, so that they are run again."""
    resumed, _ = retried_launch(Path(storage).absolute(), name, tracking_uri, **changes)
    return run(resumed.study, resumed.settings, progress)


def cancel(name: str, storage: Place = RESULTS, *, wait_s: float = 120.0, tracking_uri: str | None = None) -> Cancelled:
    """End the launch of a study that runs in another process: its trials keep checkpoints, its runs are closed.

    Args:
        wait_s: longest wait for its processes to end.
    """
    return cancel_study(Path(storage).absolute(), name, wait_s=wait_s, tracking_uri=tracking_uri)


def report(
    name: str,
    storage: Place = RESULTS,
    *,
    tracking_uri: str | None = None,
    out: Place | None = None,
    formats: Collection[str] = FORMATS,
    mixed: bool = False,
) -> ReportResult:
    """Write the report of a study, into `reports/NAME` of the workspace where none is given; see `write_report`."""
    folder = Path(storage).absolute()
    where = Path(out) if out is not None else folder / "reports" / name.partition("@")[0]
    return write_report(resolve_tracking_uri(tracking_uri, folder), name, where, formats=formats, mixed=mixed)
