"""Notes a launch in the study's folder when it begins, and the trials that become known while it runs."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prism_ray.distributed.launch_note import LaunchNote, TrialNote, write_launch
from prism_ray.distributed.plan_costs import PlanCosts
from prism_ray.distributed.trial import TaskSource, TrialTask, task_label
from prism_ray.study.extremes import finalist_extremes
from prism_ray.study.identity import RESULTS_VERSION
from prism_ray.study.spec import Study
from prism_ray.tracking import redact

if TYPE_CHECKING:
    from prism_ray.distributed.launch_settings import StudySettings


class NotedTasks:
    """A source of tasks that tells of each that it gives; for the driver alone, which asks it for every trial."""

    def __init__(self, source: TaskSource, costs: PlanCosts, tell: Callable[[TrialNote], None]) -> None:
        self._source = source
        self._costs = costs
        self._tell = tell

    def task(self, proposal: Mapping[str, Any]) -> TrialTask:
        """The trial that the proposal stands for."""
        task = self._source.task(proposal)
        self._tell(trial_note(task, self._costs))
        return task


def trial_note(task: TrialTask, costs: PlanCosts) -> TrialNote:
    """What people are told of a trial, and what it costs."""
    config = task.config
    return TrialNote(
        trial_id=task.trial_id,
        label=task_label(task),
        n_steps=config.training.n_steps,
        evaluates=config.is_evaluation,
        multiply_adds=costs.trial_multiply_adds(config),
        planned_s=costs.trial_s(config),
    )


def note_launch(
    study: Study,
    settings: StudySettings,
    *,
    costs: PlanCosts,
    data_digest: str,
    launch_id: str,
    parent_run_id: str,
    tasks: Iterable[TrialTask],
    n_trials: int,
    n_found: int,
    n_finalists: int,
    ends_by: float | None,
) -> None:
    """Write `launch.json` for a launch that begins, with the trials that are known now."""
    finalists = finalist_extremes(study) if n_finalists else ()
    note = LaunchNote(
        study=study.name,
        kind=study.kind,
        study_file=str((settings.study_file or Path(study.path)).absolute()),
        study_text=Path(study.path).read_text(encoding="utf-8"),
        smoke=study.is_smoke,
        overrides=dict(study.overrides),
        metric=study.objective.metric,
        direction=study.objective.direction,
        report_metric=study.report_metric,
        store=str(settings.store),
        data_digest=data_digest,
        results_version=RESULTS_VERSION,
        tracking_uri=redact(settings.tracking_uri),
        parent_run_id=parent_run_id,
        resources=asdict(settings.resources),
        loading=settings.loading,
        max_concurrent=settings.max_concurrent,
        address=settings.address,
        search_database=None if settings.search_database is None else redact(settings.search_database),
        n_trials=n_trials,
        n_found=n_found,
        host=platform.node(),
        pid=os.getpid(),
        started=time.time(),
        command=settings.command,
        trials=tuple(trial_note(task, costs) for task in tasks),
        n_finalists=n_finalists,
        finalist_steps=max((config.training.n_steps for config in finalists), default=0),
        launch_id=launch_id,
        ends_by=ends_by,
        gpu_hours=study.budget.gpu_hours,
    )
    write_launch(settings.storage, note)
