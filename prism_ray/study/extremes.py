"""The smallest and the largest run of a study: between them lies what any of its trials costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prism_ray.config import RunConfig, patched
from prism_ray.errors import ConfigError
from prism_ray.study.spec import Study
from prism_ray.workload import step_multiply_adds


def extreme_configs(study: Study) -> tuple[RunConfig, RunConfig]:
    """Settings of the trials with the fewest and with the most multiply-adds a step; equal where all have the same.

    Of a search its proposals, its finalists and the baseline beside them.
    """
    if study.search is not None:
        configs = [*proposal_extremes(study), *finalist_extremes(study)]
        return min(configs, key=step_multiply_adds), max(configs, key=step_multiply_adds)
    configs = [study.with_place(arm.config, study.seeds[0], study.folds[0], study.cell_types[0]) for arm in study.arms]
    return min(configs, key=step_multiply_adds), max(configs, key=step_multiply_adds)


def proposal_extremes(study: Study) -> tuple[RunConfig, RunConfig]:
    """Settings of a search's cheapest and dearest proposal.

    Each setting is set to the end of its domain that costs least or most, in turn, which finds the extremes because
    every setting makes a step dearer or cheaper whatever the others are.
    """
    return _proposal(study, min), _proposal(study, max)


def search_runs(study: Study) -> tuple[RunConfig, ...]:
    """Runs that between them read all that any proposal of a search reads, and the largest proposal."""
    return (*map(study.config_at, study.search_extremes()), proposal_extremes(study)[1])


def finalist_extremes(study: Study) -> tuple[RunConfig, ...]:
    """Settings of a search's baseline, cheapest and dearest finalist as they are trained again; none without any."""
    assert study.search is not None
    finalists = study.search.finalists
    if finalists is None:
        return ()
    where = f"{study.path}: search.finalists.patch"
    configs = (study.config_at(study.baseline), *proposal_extremes(study))
    return tuple(patched(config, finalists.patch, where) for config in configs)


def _proposal(study: Study, choose: Callable[..., RunConfig]) -> RunConfig:
    assert study.search is not None
    values: dict[str, Any] = {}
    for dimension in study.search.space:
        values[dimension.path] = dimension.domain.corners()[0]
    values = _consistent(study, values)
    best = study.config_for(values)
    for dimension in study.search.space:
        candidates = [best]
        found: dict[int, dict[str, Any]] = {id(best): values}
        for corner in dimension.domain.corners():
            changed = _consistent(study, {**values, dimension.path: corner})
            try:
                config = study.config_for(changed)
            except ConfigError:
                continue  # two settings that exclude each other: the proposal fails, and costs nothing
            candidates.append(config)
            found[id(config)] = changed
        best = choose(candidates, key=step_multiply_adds)
        values = found[id(best)]
    return best


def _consistent(study: Study, values: dict[str, Any]) -> dict[str, Any]:
    """Values of just those dimensions that are varied, given the others; what becomes varied takes its first corner."""
    assert study.search is not None
    kept: dict[str, Any] = {}
    for dimension in study.search.space:
        if dimension.is_varied(kept):
            kept[dimension.path] = values.get(dimension.path, dimension.domain.corners()[0])
    return kept
