"""What must fit together in a search beside its space: two objectives, the pruner, the finalists."""

from __future__ import annotations

from prism_ray.config import RunConfig
from prism_ray.documents import Document, Place
from prism_ray.errors import FaultList
from prism_ray.metrics import COSTS, METRICS, direction_of
from prism_ray.study.halving import SuccessiveHalving
from prism_ray.study.patches import apply_patch, in_document, known_metric, without_effect
from prism_ray.study.schema import StudyEntry
from prism_ray.study.search_schema import FinalistsEntry, PrunerEntry, SearchEntry, SmokeSearchEntry
from prism_ray.study.search_spec import Finalists

_STEPS = "training.n_steps"


def second_objective_faults(document: Document, entry: StudyEntry, broken: frozenset[str], faults: FaultList) -> None:
    """Add faults of the second objective: not computed, the first one again, the wrong direction, or with a pruner."""
    second = entry.second_objective
    if second is None or "second_objective" in broken:
        return
    place = document.where(("second_objective",))
    if entry.kind != "search" and "kind" not in broken:
        faults.add(place, f"has no effect in a study of kind {entry.kind}", "remove it")
        return
    metric = second.metric
    where = document.where(("second_objective", "metric"))
    if metric.startswith("test/"):
        faults.add(
            where,
            f"{metric!r} would choose on the test fold",
            f"use val/{metric.removeprefix('test/')}, or a cost: {', '.join(COSTS)}",
        )
    elif known_metric(metric, where, (*(f"val/{name}" for name in METRICS), *COSTS), faults):
        better = direction_of(metric)
        if second.direction != better:
            faults.add(
                document.where(("second_objective", "direction")), f"{second.direction!r} {metric}", f"use {better}"
            )
        if "objective" not in broken and metric == entry.objective.metric:
            faults.add(where, f"{metric} is the objective already", "weigh it against another metric, or a cost")
    if entry.search is not None and "search" not in broken:
        _refuse_pruner(document, entry, faults)


def _refuse_pruner(document: Document, entry: StudyEntry, faults: FaultList) -> None:
    assert entry.search is not None
    small = entry.smoke.search if entry.smoke is not None else None
    for pruner, place in (
        (entry.search.pruner, ("search", "pruner")),
        (small.pruner if small is not None else None, ("smoke", "search", "pruner")),
    ):
        if pruner is not None and pruner.kind == "asha":
            faults.add(
                document.where(place),
                "cannot judge a trial by two objectives",
                "use kind: none, or leave second_objective out",
            )


def finalists_smoke_faults(document: Document, entry: StudyEntry, broken: frozenset[str], faults: FaultList) -> None:
    """Add a fault for a smoke scale whose finalists would train at full scale."""
    if entry.smoke is None or entry.search is None or broken & {"smoke", "search", "kind"}:
        return
    finalists, small = entry.search.finalists, entry.smoke.search
    if small is not None and small.finalists is not None and finalists is None:
        faults.add(
            document.where(("smoke", "search", "finalists")), "there are none at full scale", "add search.finalists"
        )
    if finalists is None or (small is not None and small.finalists is not None):
        return
    for path in sorted(set(finalists.patch) & set(entry.smoke.patch)):
        faults.add(
            document.where(("search", "finalists", "patch", path)),
            "undoes the smoke scale's value",
            "give the finalists of the smoke scale in smoke.search.finalists",
        )


def build_pruner(
    document: Document, entry: SearchEntry, smoke: SmokeSearchEntry | None, baseline: RunConfig, faults: FaultList
) -> SuccessiveHalving | None:
    """The rule of the scale's pruner, or None; faults where it would judge no trial or unequal ones."""
    small = smoke.pruner if smoke is not None else None
    pruner: PrunerEntry = small or entry.pruner
    where = document.where(("smoke", "search", "pruner") if small is not None else ("search", "pruner"))
    if pruner.kind == "none":
        return None
    rule = SuccessiveHalving(pruner.reduction, pruner.min_fraction)
    if _STEPS in entry.space:
        faults.add(
            where,
            f"cannot compare trials of different lengths, and {_STEPS} is searched",
            f"take {_STEPS} out of the space, or use kind: none",
        )
    elif not rule.rungs(baseline.training.n_steps):
        n_steps = baseline.training.n_steps
        faults.add(
            where, f"judges no trial of {n_steps} steps before its end", "use a lower min_fraction or more steps"
        )
    return rule


def build_finalists(
    document: Document,
    entry: SearchEntry,
    smoke: SmokeSearchEntry | None,
    baseline: RunConfig,
    faults: FaultList,
) -> tuple[Finalists, RunConfig] | None:
    """The scale's finalists and the baseline as it is trained beside them; None without any, or with faults."""
    small = smoke.finalists if smoke is not None else None
    finalists: FinalistsEntry | None = small or entry.finalists
    if finalists is None:
        return None
    place: Place = ("smoke", "search", "finalists") if small is not None else ("search", "finalists")
    n_trials = (smoke.n_trials if smoke is not None else None) or entry.n_trials
    if finalists.k > n_trials:
        faults.add(document.where((*place, "k")), f"{finalists.k} of {n_trials} proposals", "lower k")
    searched = [path for path in finalists.patch if path in entry.space]
    for path in searched:
        faults.add(
            document.where((*place, "patch", path)),
            "is what the search varies",
            "remove it: a finalist has the value that was found",
        )
    patch = {path: value for path, value in finalists.patch.items() if path not in searched}
    trained = apply_patch(baseline, patch, in_document(document, (*place, "patch")), faults)
    if trained is None or searched:
        return None
    if (problem := without_effect(trained)) is not None:
        faults.add(document.where(place), f"the baseline, which finalists are compared with: {problem}")
    return Finalists(finalists.k, dict(finalists.patch), finalists.seeds), trained
