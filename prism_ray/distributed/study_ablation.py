"""A launch of a study of kind `ablation` or `evaluation`: its trials are known from the start; what is missing is run.

An evaluation waits for the trial that trains its model, where that one is missing too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from prism_ray.distributed.evaluation import read_run
from prism_ray.distributed.launch import Launch, StudyOutcome
from prism_ray.distributed.trial import TrialTask, publish_record
from prism_ray.distributed.trial_queue import GivenTrials
from prism_ray.study.designs import expand
from prism_ray.tracking import fetch_trials
from prism_ray.training.record import read_record


@dataclass(frozen=True)
class FixedTasks:
    """Trials that are known from the start: a proposal names one of them.

    Attributes:
        tasks: by trial id.
    """

    tasks: Mapping[str, TrialTask]

    def task(self, proposal: Mapping[str, Any]) -> TrialTask:
        """The trial that the proposal names."""
        return self.tasks[proposal["trial"]]


def run_ablation(launch: Launch) -> StudyOutcome:
    """Run what is missing of an ablation, or of an evaluation study."""
    study = launch.study
    tasks = {task.trial_id: task for task in map(launch.maker.make, expand(study))}
    found = {trial_id for trial_id, task in tasks.items() if read_record(task.folder) is not None}
    track_found(launch, [tasks[trial_id] for trial_id in tasks if trial_id in found])
    missing = tuple(trial_id for trial_id in tasks if trial_id not in found)
    launch.progress.begin(len(tasks), len(found))
    if missing:
        launch.run(
            GivenTrials(missing, _models_to_wait_for({name: tasks[name] for name in missing})),
            lambda maker: FixedTasks({name: replace(tasks[name], loading=maker.loading) for name in missing}),
            [
                read_run(study.with_place(arm.config, study.seeds[0], fold, cell_type))
                for arm, cell_type, fold in product(study.arms, study.cell_types, study.folds)
            ],
        )
    return launch.outcome(tasks.values(), len(found))


def _models_to_wait_for(missing: Mapping[str, TrialTask]) -> dict[str, str]:
    """Trial -> the trial that trains its model, for the evaluations among trials that are run."""
    models = {name: task.trained_trial for name, task in missing.items()}
    return {name: model for name, model in models.items() if model is not None and model in missing}


def track_found(launch: Launch, tasks: list[TrialTask]) -> None:
    """Put trials that were finished for another study, or under another tracker, under this study's run."""
    if not tasks:
        return
    trials = fetch_trials(launch.settings.tracking_uri, launch.study.name, parent_run_id=launch.maker.parent_run_id)
    tracked = set(trials.loc[trials["status"] == "FINISHED", "trial_id"])
    for task in tasks:
        record = read_record(task.folder)
        if record is not None and task.trial_id not in tracked:
            publish_record(task, record, launch.tracker)
