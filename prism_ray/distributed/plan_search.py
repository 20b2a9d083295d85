"""The plan of a search: its proposals cost something between the smallest and the largest, and so do its finalists."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prism_ray.config import RunConfig
from prism_ray.distributed.launch_note import TrialNote
from prism_ray.distributed.plan_costs import PlanCosts, total
from prism_ray.distributed.plan_facts import Plan, PlanSettings
from prism_ray.distributed.workspace_trials import finished_among, noted_trials, pruned_among
from prism_ray.store import Store
from prism_ray.study.designs import PROPOSAL_ARM
from prism_ray.study.extremes import finalist_extremes, proposal_extremes, search_runs
from prism_ray.study.finalists import BASELINE_ARM, FINALIST_ARM, finalist_trials, finalists_are_proposals
from prism_ray.study.spec import Study


def plan_search(study: Study, store: Store, settings: PlanSettings, costs: PlanCosts) -> Plan:
    """What is left of a search, by what its last launch noted; how long, between two bounds.

    A proposal that was pruned has ended. Which settings become finalists is not known before the proposals have, so
    that there may be fewer of them than are planned. A finalist that is its own proposal (equal budgets, the search's
    seed) is not trained again: it costs nothing, and is finished once the proposals are.
    """
    search = study.search
    assert search is not None
    noted = noted_trials(settings.storage).get(study.name, ())
    n_proposed = min(_ended(settings.storage, noted, PROPOSAL_ARM), search.n_trials)
    proposals, finals = proposal_extremes(study), finalist_extremes(study)
    rows = [
        costs.row(name, config, 0, 0)
        for name, config in zip(("smallest proposal", "largest proposal"), proposals, strict=True)
    ]
    n_left = search.n_trials - n_proposed
    least, most = ([(n_left, config)] for config in proposals)
    n_finals = n_finals_done = 0
    if search.finalists is not None:
        baseline, smallest, largest = finals
        n_seeds = len(search.finalists.seeds)
        n_finals = search.finalists.n_trials
        baselines = [trial.trial_id(store.digest) for trial in finalist_trials(study, ())]
        n_baseline = len(finished_among(settings.storage, baselines))
        n_chosen = min(n_finals - n_seeds, _ended(settings.storage, noted, FINALIST_ARM))
        n_own = search.finalists.k if finalists_are_proposals(study) else 0
        n_finals_done = n_baseline + (n_chosen if n_left else max(n_chosen, n_own))
        rows.append(costs.row(BASELINE_ARM, baseline, n_seeds, n_seeds - n_baseline))
        rows += [
            costs.row(f"{name} finalist", one, 0, 0) for name, one in (("smallest", smallest), ("largest", largest))
        ]
        for parts, config in ((least, smallest), (most, largest)):
            parts.append((n_seeds - n_baseline, baseline))
            parts.append((n_finals - n_seeds - max(n_chosen, n_own), config))
    return costs.plan(
        [*search_runs(study), *proposals, *finals],
        most,
        n_trials=search.n_trials + n_finals,
        n_finished=n_proposed + n_finals_done,
        n_linked=0,
        n_evaluations=0,
        n_models_first=0,
        rows=tuple(rows),
        seconds=_seconds(costs, most),
        seconds_least=_seconds(costs, least),
        longest_s=max((costs.trial_s(config) or 0.0 for n, config in most if n), default=0.0),
    )


def _ended(storage: Path, noted: Iterable[TrialNote], arm: str) -> int:
    """Trials of the arms of that beginning that are finished, or that the search has stopped."""
    identities = {note.trial_id for note in noted if note.label.startswith(arm)}
    return len(finished_among(storage, identities) | pruned_among(storage, identities))


def _seconds(costs: PlanCosts, runs: Iterable[tuple[int, RunConfig]]) -> float | None:
    """Sum of numbers of trials times their seconds; None where those of a trial that is left are not known."""
    known = [(n, costs.trial_s(config)) for n, config in runs if n]
    return total(None if seconds is None else n * seconds for n, seconds in known)
