"""What a launch of a study would do: trials, hours, bytes, memory, packing. Starts nothing and writes nothing.

Neither Ray nor PyTorch nor MLflow is loaded: a plan is asked for often, from machines that train nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import prism_ray.store
from prism_ray.config import RunConfig
from prism_ray.distributed.plan_costs import PlanCosts, total
from prism_ray.distributed.plan_facts import Plan, PlanSettings
from prism_ray.distributed.plan_search import plan_search
from prism_ray.distributed.workspace_trials import finished_among, noted_trials
from prism_ray.store import Store
from prism_ray.study.designs import expand
from prism_ray.study.extremes import finalist_extremes, proposal_extremes
from prism_ray.study.identity import trial_id
from prism_ray.study.spec import Study, Trial
from prism_ray.study.store_check import check_against_store


def plan_study(study: Study, settings: PlanSettings, costs: PlanCosts | None = None) -> Plan:
    """The plan of a study on a store, given what its workspace has.

    Args:
        costs: its `study_costs` with the same settings, where they are known already.

    Raises:
        StoreError: the store cannot be read.
        ConfigError: the store lacks what the study reads.
        InputError: what the workspace keeps is damaged.
    """
    store = prism_ray.store.open(settings.store)
    check_against_store(study, store)
    costs = costs or study_costs(study, store, settings)
    if study.search is not None:
        return plan_search(study, store, settings, costs)
    trials = {trial.trial_id(store.digest): trial for trial in expand(study)}
    finished = finished_among(settings.storage, trials)
    noted = noted_trials(settings.storage)
    here = {trial.trial_id for trial in noted.pop(study.name, ())}
    elsewhere = {trial.trial_id for trials_of_one in noted.values() for trial in trials_of_one}
    left = {identity: trial for identity, trial in trials.items() if identity not in finished}
    first = _models_first(left, trials, store, settings.storage)
    seconds = {identity: costs.trial_s(config) for identity, config in {**_configs(left), **first}.items()}
    by_arm = Counter(trial.arm for trial in trials.values()), Counter(trial.arm for trial in left.values())
    rows = tuple(
        costs.row(arm.name, study.with_place(arm.config, study.seeds[0], fold, cell_type), by_arm[0][arm.name], n_left)
        for arm in study.arms
        for fold, cell_type, n_left in [_place(study, arm.name, left, by_arm[1])]
    )
    seconds_left = total(seconds.values())
    configs = [trial.config for trial in left.values()] + list(first.values())
    return costs.plan(
        configs,
        [(1, config) for config in configs],
        n_trials=len(trials),
        n_finished=len(finished),
        n_linked=len((finished & elsewhere) - here),
        n_evaluations=sum(trial.config.is_evaluation for trial in left.values()),
        n_models_first=len(first),
        rows=rows,
        seconds=seconds_left,
        seconds_least=seconds_left,
        longest_s=max((value for value in seconds.values() if value is not None), default=0.0),
    )


def study_costs(study: Study, store: Store, settings: PlanSettings) -> PlanCosts:
    """What the trials of a study cost, by all that its workspace knows.

    Raises:
        InputError, CheckpointError: what the workspace keeps is damaged.
    """
    if study.search is not None:
        return PlanCosts(study, store, settings, [*proposal_extremes(study), *finalist_extremes(study)])
    return PlanCosts(study, store, settings, [trial.config for trial in expand(study)])


def _configs(trials: Mapping[str, Trial]) -> dict[str, RunConfig]:
    return {identity: trial.config for identity, trial in trials.items()}


def _place(study: Study, arm: str, left: Mapping[str, Trial], n_left: Mapping[str, int]) -> tuple[str, str, int]:
    """Fold and cell type for which an arm is shown, and how many trials of it are left."""
    trial = next((trial for trial in left.values() if trial.arm == arm), None)
    if trial is None:
        return study.folds[0], study.cell_types[0], 0
    return trial.fold, trial.cell_type, n_left[arm]


def _models_first(
    left: Mapping[str, Trial], trials: Mapping[str, Trial], store: Store, storage: Path
) -> dict[str, RunConfig]:
    """Runs that train the models of evaluations and that neither the study nor the workspace has, by identity."""
    needed = {
        trial_id(config, store.digest): config
        for config in (trial.config.trained() for trial in left.values() if trial.config.is_evaluation)
    }
    there = finished_among(storage, needed)
    return {identity: config for identity, config in needed.items() if identity not in {*there, *trials}}
