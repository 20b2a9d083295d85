"""Designs: from the few lines of a study file to its arms, and from a study to its trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from prism_ray.errors import ConfigError
from prism_ray.study.space import Subset
from prism_ray.study.spec import Study, Trial

FULL_ARM = "full"
"""Arm of a leave-one-out design that leaves nothing out."""

BASE_ARM = "base"
"""Arm of an add-one design that adds nothing, and of a path that has not left its start."""

PROPOSAL_ARM = "proposal"
"""How the arm of a search's proposal begins; the fingerprint of its settings follows."""

WARM_ARM = "known"
"""How the arm of a trial begins that a search was told of before it began."""


@dataclass(frozen=True)
class ArmPlan:
    """An arm before its settings are checked: name, patch on the baseline, reason."""

    name: str
    patch: Mapping[str, Any]
    reason: str


def leave_one_out(parts: Iterable[ArmPlan]) -> tuple[ArmPlan, ...]:
    """The whole, and the whole without each part: n + 1 arms of n parts. A part's patch takes it away."""
    whole = ArmPlan(FULL_ARM, {}, "nothing left out")
    return (whole, *(ArmPlan(f"without_{part.name}", part.patch, part.reason) for part in parts))


def add_one(parts: Iterable[ArmPlan]) -> tuple[ArmPlan, ...]:
    """The base, and the base with each part: n + 1 arms of n parts. A part's patch adds it."""
    base = ArmPlan(BASE_ARM, {}, "nothing added")
    return (base, *(ArmPlan(f"with_{part.name}", part.patch, part.reason) for part in parts))


def step_by_step(parts: Iterable[ArmPlan]) -> tuple[ArmPlan, ...]:
    """The base, then one change after the other on top of those before: n + 1 arms of n parts, the last with all."""
    arms = [ArmPlan(BASE_ARM, {}, "nothing changed yet")]
    for part in parts:
        arms.append(ArmPlan(part.name, {**arms[-1].patch, **part.patch}, part.reason))
    return tuple(arms)


def factorial(factors: Mapping[str, Sequence[Any]]) -> tuple[ArmPlan, ...]:
    """Every combination of the levels of all factors (dotted path -> levels); the last factor changes fastest."""
    labels = _short_labels(factors)
    arms = []
    for levels in product(*factors.values()):
        patch = dict(zip(factors, levels, strict=True))
        name = "__".join(f"{labels[path]}-{_level_name(level)}" for path, level in patch.items())
        arms.append(ArmPlan(name, patch, "one combination of the factorial design"))
    return tuple(arms)


def subsets(setting: str, of: Sequence[str], min_size: int) -> tuple[ArmPlan, ...]:
    """Every subset of the names in `of` with at least `min_size` of them, small ones first."""
    domain_members = Subset(tuple(of), min_size).members()
    return tuple(ArmPlan(_level_name(members), {setting: members}, "one subset of all") for members in domain_members)


def _short_labels(paths: Iterable[str]) -> dict[str, str]:
    """The last word of each path, or all its words where the last ones are not unique."""
    all_paths = list(paths)
    last = [path.rsplit(".", maxsplit=1)[-1] for path in all_paths]
    if len(set(last)) == len(last):
        return dict(zip(all_paths, last, strict=True))
    return {path: path.replace(".", "-") for path in all_paths}


def _level_name(level: object) -> str:
    if isinstance(level, tuple):
        return "-".join(map(str, level)) or "none"
    return str(level).lower() if isinstance(level, bool) else str(level)


def expand(study: Study) -> tuple[Trial, ...]:
    """All trials of an ablation or evaluation, those of one seed together: pairs to be compared finish together.

    Raises:
        ConfigError: the study is a search, whose trials are proposed while it runs.
    """
    if study.search is not None:
        raise ConfigError(f"{study.path}: the search {study.name} has no fixed trials; they are proposed while it runs")
    return tuple(
        Trial(study.name, arm.name, study.with_place(arm.config, seed, fold, cell_type))
        for seed in study.seeds
        for fold in study.folds
        for cell_type in study.cell_types
        for arm in study.arms
        if arm.runs_on(cell_type)
    )


def proposed_trial(study: Study, values: Mapping[str, Any], kind: str = PROPOSAL_ARM) -> Trial:
    """The trial of a search's proposal; its arm is named by its settings, so the same proposal is the same arm.

    Args:
        values: as `Study.config_for` takes them.
        kind: how the arm's name begins, `PROPOSAL_ARM` or `WARM_ARM`.

    Raises:
        ConfigError: the values are not of the study's space.
    """
    config = study.config_for(values)
    return Trial(study.name, f"{kind}-{config.fingerprint()[:8]}", config)
