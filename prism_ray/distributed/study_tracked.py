"""A launch of a study that was checked: find what is missing, run that, track all.

What is particular to a kind of study is in a file of its own (`study_ablation.py`, `study_search.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

from prism_ray.distributed.closing import close_run
from prism_ray.distributed.launch import Launch, StudyOutcome, TaskMaker
from prism_ray.distributed.launch_settings import StudySettings
from prism_ray.distributed.loading_choice import LoadingName
from prism_ray.distributed.plan import plan_study, study_costs
from prism_ray.distributed.plan_facts import Plan, PlanSettings
from prism_ray.distributed.progress import Progress
from prism_ray.distributed.stop_request import signals_stop
from prism_ray.distributed.study_ablation import run_ablation
from prism_ray.distributed.study_search import run_search
from prism_ray.metrics import direction_of
from prism_ray.store import Store
from prism_ray.study.finalists import BASELINE_ARM
from prism_ray.study.identity import RESULTS_VERSION
from prism_ray.study.spec import Study
from prism_ray.tracking import (
    Expected,
    MlflowTracker,
    Status,
    StudyHeader,
    default_artifact_root,
    source_diff,
    source_tags,
)

RUN_KIND: Mapping[str, Callable[[Launch], StudyOutcome]] = {
    "ablation": run_ablation,
    "evaluation": run_ablation,
    "search": run_search,
}
"""What runs a checked and tracked launch, by the study's kind."""


def run_tracked(study: Study, settings: StudySettings, progress: Progress, store: Store) -> StudyOutcome:
    """Run what is missing of a study whose launch was checked; see `run_study`."""
    artifacts = default_artifact_root(settings.tracking_uri, settings.storage)
    tracker = MlflowTracker(settings.tracking_uri, artifacts, background=True)
    tags = {**source_tags(settings.source_folder), **override_tags(study)}
    header = study_header(study, store.digest, settings.command, tags)
    asked = settings.plan()
    costs = study_costs(study, store, asked)
    plan = plan_study(study, asked, costs)
    diff = source_diff(settings.source_folder)
    changes = {"source.diff": diff} if diff else {}
    parent = tracker.open_study(
        header, {"study.yaml": study.path, "plan.json": json.dumps(plan.document(), indent=1), **changes}
    )
    maker = TaskMaker(settings, store.digest, parent, tags)
    reasons: list[str] = []
    launch = Launch(
        study=study,
        settings=settings,
        store=store,
        tracker=tracker,
        progress=progress,
        maker=maker,
        header=header,
        costs=costs,
        planned_bytes=cache(lambda loading: _planned_bytes(study, asked, plan, loading)),
        untold=reasons.append,
    )
    status: Status = "KILLED"
    try:
        with signals_stop(launch.folder):
            outcome = RUN_KIND[study.kind](launch)
        status = outcome.status
    finally:
        problem = close_run(launch.folder, tracker, parent, status)
    # What was away for a while and is back has been told all by the end of the launch, or will be by the next.
    return replace(outcome, untold=problem or next(iter(reasons), ""))


def _planned_bytes(study: Study, asked: PlanSettings, plan: Plan, loading: LoadingName) -> int:
    """Compressed bytes of the store that a launch reads by its plan, once it is known how trials get their genes."""
    if loading != "stream":
        return plan.read_bytes
    streamed = plan if asked.loading == "stream" else plan_study(study, replace(asked, loading="stream"))
    assert streamed.stream_bytes is not None
    return streamed.stream_bytes


def override_tags(study: Study) -> dict[str, str]:
    """Tag of every run of a launch that replaces settings of its study, as JSON."""
    return {"prism.overrides": json.dumps(study.overrides, sort_keys=True)} if study.overrides else {}


def study_header(study: Study, data_digest: str, command: str, tags: Mapping[str, str]) -> StudyHeader:
    """What the run of a study says about it."""
    direction = direction_of(study.report_metric)
    assert direction is not None, "a study's metrics are checked when it is read"
    search, second = study.search, study.second_objective
    finalists = search.finalists if search is not None else None
    return StudyHeader(
        name=study.name,
        question=study.question,
        claim=study.claim,
        source=study.source,
        kind=study.kind,
        baseline=study.baseline_arm if finalists is None else BASELINE_ARM,
        arms=tuple(arm.name for arm in study.arms),
        # A tracker's last `val/...` is the last step's; the chosen model's validation metrics have names of their own.
        metric=study.report_metric.replace("val/", "best/"),
        direction=direction,
        curve=study.curve,
        expectations=tuple(Expected(one.arm, one.than, one.to_be, one.margin) for one in study.expectations),
        seeds=study.seeds,
        folds=study.folds,
        n_trials=study.n_trials,
        cell_types=study.cell_types,
        study_digest=study.digest(),
        data_digest=data_digest,
        results_version=RESULTS_VERSION,
        command=command,
        references={arm.name: arm.reference for arm in study.arms if arm.reference is not None},
        evaluated_on={arm.name: cell for arm in study.arms if (cell := arm.config.evaluation.cell_type)},
        tags=dict(tags),
        second_metric=second.metric.replace("val/", "best/") if second is not None else None,
        second_direction=second.direction if second is not None else None,
        n_proposals=search.n_trials if search is not None else None,
        finalist_seeds=finalists.seeds if finalists is not None else (),
        objective=study.objective.metric.replace("val/", "best/"),
        objective_direction=study.objective.direction,
    )
