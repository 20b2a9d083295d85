"""The space of a search: its domains checked against the settings that they are to be values of."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prism_ray.config import RunConfig, patched
from prism_ray.documents import Document, Place
from prism_ray.errors import ConfigError, FaultList, did_you_mean
from prism_ray.study.patches import apply_patch, known_setting, without_effect
from prism_ray.study.search_checks import build_finalists, build_pruner
from prism_ray.study.search_schema import DimensionEntry, SearchEntry, SmokeSearchEntry
from prism_ray.study.search_spec import Search
from prism_ray.study.space import Choice, Condition, Dimension, IntRange, Subset

_DEFAULT_STARTUP_TRIALS = 10
_MAX_CORNERS = 400
"""Combinations of extreme values that are tried at load; of a larger space a fixed sample."""


def build_search(
    document: Document,
    entry: SearchEntry,
    smoke: SmokeSearchEntry | None,
    baseline: RunConfig,
    faults: FaultList,
) -> Search:
    """The search with its faults added to `faults`; faulty dimensions are left out."""
    entries: dict[str, tuple[DimensionEntry, Place]] = {
        path: (dimension, ("search", "space", path)) for path, dimension in entry.space.items()
    }
    # Domains that were refused on their own are still searched: what names them is not wrong.
    written = list(document.data["search"]["space"])
    for path, dimension in (smoke.space or {}).items() if smoke is not None else ():
        place: Place = ("smoke", "search", "space", path)
        if path in entries:
            entries[path] = (dimension, place)
        elif path not in written:
            faults.add(document.where(place), "is not searched at full scale", did_you_mean(path, entries))
    found = FaultList()
    space = tuple(_dimensions(document, entries, written, found))
    built = build_finalists(document, entry, smoke, baseline, faults)
    if not found:
        _check_corners(document, space, baseline, found)
    if not found and built is not None:
        # What is trained again must be possible too, whatever wins.
        _check_corners(document, space, built[1], found)
    faults.extend(found.faults)
    n_trials, n_startup = _sizes(document, entry, smoke, faults)
    return Search(
        space=space,
        sampler=entry.sampler,
        n_trials=n_trials,
        n_startup_trials=n_startup,
        seed=entry.seed,
        pruner=build_pruner(document, entry, smoke, baseline, faults),
        finalists=built[0] if built is not None else None,
        warm_start=entry.warm_start,
    )


def _sizes(
    document: Document, entry: SearchEntry, smoke: SmokeSearchEntry | None, faults: FaultList
) -> tuple[int, int]:
    """n_trials and n_startup_trials."""
    n_trials = (smoke.n_trials if smoke is not None else None) or entry.n_trials
    n_startup = smoke.n_startup_trials if smoke is not None else None
    if n_startup is not None:
        where = document.where(("smoke", "search", "n_startup_trials"))
        if entry.sampler == "random":
            faults.add(where, "has no effect with sampler: random", "remove it")
        if n_startup > n_trials:
            faults.add(where, f"{n_startup} is above n_trials {n_trials}", "lower it")
    elif entry.n_startup_trials is not None:
        n_startup = min(entry.n_startup_trials, n_trials)
    # Whatever n_trials is: a search that is continued with more of them stays the same search.
    return n_trials, n_startup or _DEFAULT_STARTUP_TRIALS


def _dimensions(
    document: Document, entries: Mapping[str, tuple[DimensionEntry, Place]], written: Sequence[Any], faults: FaultList
) -> Iterator[Dimension]:
    """Dimensions whose setting exists and takes every value of the domain, and whose condition can hold."""
    earlier: dict[str, Dimension] = {}
    for path, (entry, place) in entries.items():
        where = document.where(place)
        if not known_setting(path, where, faults):
            continue
        dimension = Dimension(path, entry.domain(), _condition(document, entry, place, earlier, written, faults))
        _check_values(document, dimension, place, faults)
        earlier[path] = dimension
        yield dimension


def _condition(
    document: Document,
    entry: DimensionEntry,
    place: Place,
    earlier: Mapping[str, Dimension],
    written: Sequence[Any],
    faults: FaultList,
) -> Condition | None:
    if entry.when is None:
        return None
    ((path, bounds),) = entry.when.items()
    where = document.where((*place, "when", path))
    condition = Condition(path, bounds.at_least, bounds.at_most, bounds.one_of)
    if path not in earlier:
        if path not in written:
            faults.add(where, f"{path!r} is not searched, so the condition never changes", did_you_mean(path, earlier))
        elif written.index(path) >= written.index(place[-1]):
            faults.add(where, f"{path} comes later in the space", "move it above this setting")
        return None
    domain = earlier[path].domain
    if isinstance(domain, Subset):
        faults.add(where, f"{path} is a subset, which no condition can name", "use a condition on another setting")
        return None
    if isinstance(domain, Choice) and bounds.one_of is None and any(isinstance(v, str) for v in domain.options):
        faults.add(where, f"{path} is a choice of texts, which have no order", "use one_of")
        return None
    for option in bounds.one_of or ():
        if not domain.contains(option):
            faults.add(where, f"{option!r} is outside {domain.to_json()}", "name values that are searched")
    outcomes = {condition.holds({path: value}) for value in _probes(earlier[path], (condition,))}
    if outcomes == {True} or outcomes == {False}:
        never = outcomes == {False}
        faults.add(
            where, f"{'never' if never else 'always'} holds for {domain.to_json()}", "mend or remove the condition"
        )
    return condition


def _probes(dimension: Dimension, conditions: Sequence[Condition]) -> tuple[Any, ...]:
    """Corners of a domain, and the values in it on both sides of each bound that a condition sets."""
    values = list(dimension.domain.corners())
    for condition in conditions:
        if condition.path != dimension.path:
            continue
        candidates: list[Any] = list(condition.one_of or ())
        for bound in (condition.at_least, condition.at_most):
            if bound is not None:
                whole = isinstance(dimension.domain, IntRange)
                candidates += [math.floor(bound), math.ceil(bound), math.ceil(bound) - 1] if whole else [bound]
        values += [value for value in candidates if dimension.domain.contains(value) and value not in values]
    return tuple(values)


def _check_values(document: Document, dimension: Dimension, place: Place, faults: FaultList) -> None:
    """Add a fault for each corner of the domain that the setting itself refuses."""
    for value in dimension.domain.corners():
        try:
            patched(RunConfig(), {dimension.path: value}, "")
        except ConfigError as problem:
            for fault in problem.faults:
                setting = fault.where.removeprefix(".")
                # What contradicts another setting is checked with the baseline and the other dimensions.
                if setting == dimension.path or setting.startswith(f"{dimension.path}."):
                    faults.add(document.where(place), fault.problem, fault.fix)


def _check_corners(document: Document, space: Sequence[Dimension], baseline: RunConfig, faults: FaultList) -> None:
    """Add a fault for each way in which extreme values of several settings contradict each other."""
    where = document.where(("search", "space"))
    said: set[str] = set()
    for values in _corner_values(space):
        found = FaultList()
        config = apply_patch(baseline, values, lambda _: where, found)
        problems = [fault.problem for fault in found.faults]
        if config is not None and (problem := without_effect(config)) is not None:
            problems.append(problem)
        for problem in problems:
            if problem not in said:
                said.add(problem)
                chosen = ", ".join(f"{path} {value!r}" for path, value in values.items())
                faults.add(where, f"with {chosen}: {problem}", "narrow a domain, or give it a condition (`when`)")


def _corner_values(space: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
    conditions = [dimension.when for dimension in space if dimension.when is not None]
    probes = {dimension.path: _probes(dimension, conditions) for dimension in space}
    if math.prod(len(values) for values in probes.values()) <= _MAX_CORNERS:
        yield from _all_corners(space, probes, {})
        return
    draw = random.Random(0)
    for _ in range(_MAX_CORNERS):
        values: dict[str, Any] = {}
        for dimension in space:
            if dimension.is_varied(values):
                values[dimension.path] = draw.choice(probes[dimension.path])
        yield values


def _all_corners(
    space: Sequence[Dimension], probes: Mapping[str, tuple[Any, ...]], values: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    if not space:
        yield values
        return
    dimension, *rest = space
    if not dimension.is_varied(values):
        yield from _all_corners(rest, probes, values)
        return
    for value in probes[dimension.path]:
        yield from _all_corners(rest, probes, {**values, dimension.path: value})
