"""A launch of a study of kind `ablation` or `evaluation`: its trials are known from the start; what is missing is run.

An evaluation waits for the trial that trains its model, where that one is missing too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prism_ray.distributed.launch import Launch, StudyOutcome
from prism_ray.distributed.projections import read_run
from prism_ray.distributed.trial import TrialTask, failed_for_good
from prism_ray.distributed.trial_queue import GivenTrials
from prism_ray.study.designs import expand
from prism_ray.study.spec import Trial
from prism_ray.training.record import read_record
from prism_ray.workload import step_multiply_adds


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
    return run_fixed(launch, expand(launch.study))


def run_fixed(launch: Launch, trials: Iterable[Trial], earlier: Sequence[TrialTask] = ()) -> StudyOutcome:
    """Run those of some trials that have no record; those that have one are put under the study's run.

    Args:
        trials: to be run.
        earlier: other trials of the study, which have ended.
    """
    tasks = {task.trial_id: task for task in largest_first(map(launch.maker.make, trials))}
    found = {trial_id for trial_id, task in tasks.items() if read_record(task.folder) is not None}
    launch.track_finished(tasks[trial_id] for trial_id in tasks if trial_id in found)
    left = [task for name, task in tasks.items() if name not in found and not failed_for_good(task)]
    missing = tuple(task.trial_id for task in left)
    launch.begin(tasks.values(), len(tasks), len(found), earlier=earlier)
    failed: dict[str, str] = {}
    if missing:
        failed = launch.run(
            GivenTrials(missing, _models_to_wait_for({name: tasks[name] for name in missing})),
            lambda maker: FixedTasks({name: replace(tasks[name], loading=maker.loading) for name in missing}),
            [read_run(tasks[name].config) for name in missing],
            known=(*earlier, *tasks.values()),
            n_left=len(missing),
        )
        launch.track_finished(tasks.values())
    return launch.outcome(tuple(tasks.values()), len(found), failed)


def largest_first(tasks: Iterable[TrialTask]) -> list[TrialTask]:
    """The tasks in the order in which they are handed out.

    Those of one seed, fold and cell type stay together, in their order, so that pairs to be compared finish together.
    Among them the largest comes first: whoever runs the last ones is waited for, and then these are the smallest.
    """
    blocks: dict[tuple[int, str, str], list[TrialTask]] = {}
    for task in tasks:
        data = task.config.data
        blocks.setdefault((task.config.seed, data.fold, data.cell_type), []).append(task)
    return [task for block in blocks.values() for task in sorted(block, key=_multiply_adds, reverse=True)]


def _multiply_adds(task: TrialTask) -> int:
    """Of the whole training; none of an evaluation."""
    config = task.config
    return 0 if config.is_evaluation else config.training.n_steps * step_multiply_adds(config)


def _models_to_wait_for(missing: Mapping[str, TrialTask]) -> dict[str, str]:
    """Trial -> the trial that trains its model, for the evaluations among trials that are run."""
    models = {name: task.trained_trial for name, task in missing.items()}
    return {name: model for name, model in models.items() if model is not None and model in missing}
