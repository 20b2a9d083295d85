"""What must fit together in a study file beside its arms and its space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prism_ray.config import RunConfig
from prism_ray.documents import Document
from prism_ray.errors import FaultList, did_you_mean
from prism_ray.metrics import METRICS
from prism_ray.study.arms import baseline_arm, plan_arms, varied_settings
from prism_ray.study.patches import OVERRIDES, known_metric, known_setting
from prism_ray.study.schema import StudyEntry
from prism_ray.study.spec import Study

_NOT_OF_KIND = {
    "ablation": ("models", "search"),
    "evaluation": ("design", "curve", "search"),
    "search": ("arms", "changes", "baseline_arm", "design", "expect", "models"),
}
"""Fields that a study of a kind does not read."""


def kind_faults(document: Document, entry: StudyEntry, broken: frozenset[str], faults: FaultList) -> None:
    """Add faults for fields that the study's kind lacks or that have no effect in it."""
    if "kind" in broken:
        return
    if entry.kind == "search" and entry.search is None and "search" not in broken:
        faults.add(document.where(("search",)), "is missing", "a study of kind search says its space and n_trials")
    for name in _NOT_OF_KIND[entry.kind]:
        if name in entry.model_fields_set:
            fix = "remove it, or use kind: search" if name == "search" else "remove it"
            faults.add(document.where((name,)), f"has no effect in a study of kind {entry.kind}", fix)
    if entry.kind == "evaluation":
        return
    for name, arm in entry.arms.items():
        if arm.models is not None:
            place = ("arms", name, "models")
            faults.add(document.where(place), f"has no effect in a study of kind {entry.kind}", "remove it")
    if entry.smoke is not None and entry.smoke.models is not None:
        faults.add(document.where(("smoke", "models")), f"has no effect in a study of kind {entry.kind}", "remove it")


def metric_faults(document: Document, entry: StudyEntry, broken: frozenset[str], faults: FaultList) -> None:
    """Add faults for metrics that are not computed, or that choose on the test fold or in the wrong direction."""
    if "report_metric" not in broken:
        known = [f"{split}/{name}" for split in ("test", "val") for name in METRICS]
        known_metric(entry.report_metric, document.where(("report_metric",)), known, faults)
    if "objective" in broken:
        return
    metric = entry.objective.metric
    if metric.startswith("test/"):
        faults.add(
            document.where(("objective", "metric")),
            f"{metric!r} would choose on the test fold",
            f"use val/{metric.removeprefix('test/')}: the test fold is looked at once, at the end",
        )
    elif known_metric(metric, document.where(("objective", "metric")), [f"val/{name}" for name in METRICS], faults):
        better = METRICS[metric.removeprefix("val/")].direction
        if entry.objective.direction != better:
            faults.add(
                document.where(("objective", "direction")), f"{entry.objective.direction!r} {metric}", f"use {better}"
            )


def curve_faults(document: Document, entry: StudyEntry, broken: frozenset[str], faults: FaultList) -> None:
    """Add a fault for an x axis that is no number or that the study does not vary."""
    path = entry.curve
    if path is None or "curve" in broken or entry.kind == "evaluation":
        return
    where = document.where(("curve",))
    if not known_setting(path, where, faults):
        return
    if not _is_number(RunConfig().flat()[path]):
        faults.add(where, f"{path} is no number, so it cannot be an axis", "use a numeric setting, or remove it")
        return
    if broken & {"arms", "changes", "design", "search", "kind"}:
        return
    if path not in varied_settings(entry):
        faults.add(where, f"{path} is not varied", did_you_mean(path, varied_settings(entry)))


def varied_elsewhere(document: Document, entry: StudyEntry, overrides: Mapping[str, Any], faults: FaultList) -> None:
    """Add faults for settings that the smoke scale or an override replaces although the study varies them."""
    varied = varied_settings(entry)
    # A search's baseline is trained only beside finalists, and there it has to be as small as they are.
    trains_baseline = entry.search is not None and entry.search.finalists is not None
    for path in entry.smoke.patch if entry.smoke is not None else ():
        if path in varied and not trains_baseline:
            faults.add(
                document.where(("smoke", "patch", path)),
                "is what the study varies",
                "choose fewer arms in smoke.arms, or other domains in smoke.search.space",
            )
    for path in overrides:
        if path in varied:
            faults.add(
                f"{OVERRIDES}.{path}", f"is what the study {document.path.stem} varies", "write a study of your own"
            )


def smoke_faults(document: Document, entry: StudyEntry, broken: frozenset[str], faults: FaultList) -> None:
    """Add faults of the smoke scale's arms and search against those of the full scale."""
    smoke = entry.smoke
    if smoke is None or broken & {"kind", "design", "arms", "search"}:
        return
    if smoke.search is not None and entry.search is None:
        faults.add(document.where(("smoke", "search")), f"has no effect in a study of kind {entry.kind}", "remove it")
    if smoke.arms is None or entry.kind == "evaluation":
        return
    where = document.where(("smoke", "arms"))
    names = [plan.name for plan in plan_arms(entry)]
    for name in smoke.arms:
        if name not in names:
            faults.add(where, f"{name!r} is not an arm", did_you_mean(name, names))
    reference = baseline_arm(entry)
    if reference in names and reference not in smoke.arms:
        faults.add(where, f"leaves out the baseline arm {reference}", "add it: the others are compared with it")
    if len(smoke.arms) < 2:
        faults.add(where, "leaves nothing to compare", "keep at least two arms")


def size_faults(document: Document, study: Study, faults: FaultList) -> None:
    """Add faults for a study over its budget, and for a search that is asked to repeat each proposal."""
    scale = ("smoke",) if study.is_smoke else ()
    if study.search is not None:
        for name, values in (("seeds", study.seeds), ("folds", study.folds), ("cell_types", study.cell_types)):
            if len(values) > 1:
                faults.add(
                    document.where((*scale, name)),
                    f"{len(values)} of them, but a search trains each proposal once",
                    "give one; what wins is repeated over the seeds of search.finalists",
                )
    limit = study.budget.max_trials
    if limit is not None and study.n_trials > limit:
        faults.add(document.where(("budget", "max_trials")), f"{limit}, but the study has {study.n_trials} trials")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
