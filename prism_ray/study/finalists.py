"""From a search's proposals to what is compared: the best few, trained again beside the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prism_ray.config import RunConfig, patched
from prism_ray.study.search_spec import Objective
from prism_ray.study.spec import Study, Trial

BASELINE_ARM = "baseline"
"""Arm of a search's baseline, which its finalists are compared with."""

FINALIST_ARM = "finalist"
"""How the arm of a finalist begins; the fingerprint of its proposal follows."""


@dataclass(frozen=True)
class Outcome:
    """What a proposal that trained to its end came to.

    Attributes:
        values: value of each varied setting by dotted path, as the domains have them or encoded.
        scores: its value of each objective of the study.
    """

    values: Mapping[str, Any]
    scores: tuple[float, ...]


def finalist_arm(config: RunConfig) -> str:
    """Arm of the finalist that a proposal of these settings becomes; the digits are those of `proposal-...`."""
    return f"{FINALIST_ARM}-{config.fingerprint()[:8]}"


def pareto_front(outcomes: Sequence[Outcome], objectives: Sequence[Objective]) -> list[Outcome]:
    """The outcomes that no other one beats in one objective without losing in another; of equal scores the first.

    In the order of the first objective, best first. With one objective it is the best outcome alone.
    """
    costs = {id(outcome): _costs(outcome, objectives) for outcome in outcomes}
    front: list[Outcome] = []
    for outcome in sorted(outcomes, key=lambda outcome: costs[id(outcome)]):
        mine = costs[id(outcome)]
        # Sorted, so that only who is there already can be as good in everything.
        if not any(all(a <= b for a, b in zip(costs[id(kept)], mine, strict=True)) for kept in front):
            front.append(outcome)
    return front


def choose_finalists(study: Study, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The proposals of a search that are trained again, best of the first objective first.

    One objective: the k best. Two: of the Pareto front both ends and, between them, those at equal distances in the
    order of the first objective, k in all; the whole front where it has no more. Settings equal to the baseline's are
    left out, since the baseline is trained beside them anyway. There may be fewer than k.
    """
    assert study.search is not None
    assert study.search.finalists is not None
    k = study.search.finalists.k
    baseline = study.config_at(study.baseline).fingerprint()
    different: dict[str, Outcome] = {}
    for outcome in outcomes:
        different.setdefault(study.config_for(outcome.values).fingerprint(), outcome)
    different.pop(baseline, None)
    candidates = list(different.values())
    if len(study.objectives) == 1:
        return sorted(candidates, key=lambda outcome: _costs(outcome, study.objectives))[:k]
    return _spread(pareto_front(candidates, study.objectives), k)


def finalist_trials(study: Study, chosen: Sequence[Outcome]) -> tuple[Trial, ...]:
    """Trials of the baseline and of each chosen proposal over the finalists' seeds, those of one seed together."""
    assert study.search is not None
    finalists = study.search.finalists
    assert finalists is not None
    arms = {BASELINE_ARM: study.config_at(study.baseline)}
    for outcome in chosen:
        config = study.config_for(outcome.values)
        arms[finalist_arm(config)] = config
    where = f"{study.path}: search.finalists.patch"
    retrained = {name: patched(config, finalists.patch, where) for name, config in arms.items()}
    return tuple(
        Trial(study.name, name, config.model_copy(update={"seed": seed}))
        for seed in finalists.seeds
        for name, config in retrained.items()
    )


def finalists_are_proposals(study: Study) -> bool:
    """Whether a finalist's trial of the search's own seed is that of its proposal, which is not trained again."""
    assert study.search is not None
    finalists = study.search.finalists
    assert finalists is not None
    config = study.config_at(study.baseline)
    searched = {dimension.path for dimension in study.search.space}
    same = patched(config, finalists.patch, f"{study.path}: search.finalists.patch") == config
    return same and not searched & set(finalists.patch) and study.seeds[0] in finalists.seeds


def _costs(outcome: Outcome, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Scores of which less is better."""
    pairs = zip(outcome.scores, objectives, strict=True)
    return tuple(score if objective.direction == "minimize" else -score for score, objective in pairs)


def _spread(front: Sequence[Outcome], k: int) -> list[Outcome]:
    if len(front) <= k:
        return list(front)
    if k == 1:
        return [front[0]]
    return [front[round(number * (len(front) - 1) / (k - 1))] for number in range(k)]
