"""Arms of an ablation: made by its design, checked against what the study says that it changes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prism_ray.config import RunConfig
from prism_ray.documents import Document, Place
from prism_ray.errors import FaultList, did_you_mean
from prism_ray.study.designs import (
    BASE_ARM,
    FULL_ARM,
    ArmPlan,
    add_one,
    factorial,
    leave_one_out,
    step_by_step,
    subsets,
)
from prism_ray.study.patches import apply_patch, known_setting, without_effect
from prism_ray.study.schema import StudyEntry
from prism_ray.study.spec import Arm

ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
"""Arms name metrics and folders, in which nothing else is safe."""


@dataclass(frozen=True)
class _PlacedArm:
    """An arm of the design with the place of its patch in the file, and that of each setting in it.

    The settings of an arm on a path are those of its own patch and those of the arms before it.
    """

    plan: ArmPlan
    place: Place
    settings: Mapping[str, Place]

    def own(self) -> list[str]:
        """Settings that the arm's own patch gives."""
        return [setting for setting, place in self.settings.items() if place[:-1] == self.place]


def plan_arms(entry: StudyEntry) -> tuple[ArmPlan, ...]:
    """Arms of a study file by its design, before their settings are checked."""
    design = entry.design
    parts = [ArmPlan(name, arm.patch, arm.reason) for name, arm in entry.arms.items()]
    if design.kind == "leave_one_out":
        return leave_one_out(parts)
    if design.kind == "add_one":
        return add_one(parts)
    if design.kind == "path":
        return step_by_step(parts)
    if design.kind == "factorial":
        return factorial(design.factors or {})
    if design.kind == "subsets":
        return subsets(design.field or "", design.of or (), design.min_size or 0)
    return tuple(parts)


def varied_settings(entry: StudyEntry) -> tuple[str, ...]:
    """Settings that the study varies: what its arms mean to change, or what it searches."""
    if entry.search is not None:
        return tuple(entry.search.space)
    if entry.design.kind == "factorial":
        return tuple(entry.design.factors or {})
    if entry.design.kind == "subsets":
        return (entry.design.field or "",)
    return entry.changes or ()


def baseline_arm(entry: StudyEntry) -> str | None:
    """Name of the arm that others are compared with; None where the file does not say."""
    made = {"leave_one_out": FULL_ARM, "add_one": BASE_ARM, "path": BASE_ARM}.get(entry.design.kind)
    return made if made is not None else entry.baseline_arm


def build_arms(
    document: Document,
    entry: StudyEntry,
    baseline: RunConfig | None,
    kept: Sequence[str] | None,
    faults: FaultList,
) -> tuple[Arm, ...]:
    """Arms with their settings; those with a fault are left out, and their faults added to `faults`.

    Args:
        baseline: settings that the arms change; None where these have faults: arms are then checked on the defaults, so
            that their own faults are said in the same go, and not against each other.
        kept: names of the arms that are kept, or None for all.
    """
    placed = _placed(entry)
    if kept is not None:
        placed = [arm for arm in placed if arm.plan.name in kept]
    arms = []
    for arm in placed:
        config = _config(document, entry, baseline or RunConfig(), arm, faults)
        if config is not None:
            arms.append(Arm(arm.plan.name, dict(arm.plan.patch), arm.plan.reason, config))
    if baseline is not None:
        check_different(document, arms, {arm.plan.name: arm.place for arm in placed}, faults)
    return tuple(arms)


def _placed(entry: StudyEntry) -> list[_PlacedArm]:
    placed: list[_PlacedArm] = []
    for plan in plan_arms(entry):
        place = _patch_place(entry, plan)
        settings = {setting: (*place, setting) for setting in plan.patch}
        if entry.design.kind == "path" and placed:
            given = entry.arms[plan.name].patch
            settings = {**placed[-1].settings, **{setting: settings[setting] for setting in given}}
        placed.append(_PlacedArm(plan, place, settings))
    return placed


def _patch_place(entry: StudyEntry, plan: ArmPlan) -> Place:
    for part in entry.arms:
        if plan.name in (part, f"without_{part}", f"with_{part}"):
            return ("arms", part, "patch")
    return ("design",)


def _config(
    document: Document, entry: StudyEntry, baseline: RunConfig, arm: _PlacedArm, faults: FaultList
) -> RunConfig | None:
    def where(setting: str) -> str:
        return document.where(arm.settings.get(setting, (*arm.place, setting)))

    name = arm.plan.name
    if not ARM_NAME.fullmatch(name):
        faults.add(
            document.where(arm.place[:2]), f"{name!r} is no usable name of an arm", "use letters, digits, _, - and ."
        )
    varied = varied_settings(entry)
    for setting in arm.own():
        if setting not in varied and known_setting(setting, where(setting), faults) and varied:
            faults.add(
                where(setting),
                f"arm {name} changes a setting that is not among `changes` ({', '.join(varied)})",
                "declare it there, or take it out of the arm: two changes at once answer no question",
            )
    declared: Mapping[str, Any] = {setting: value for setting, value in arm.plan.patch.items() if setting in varied}
    config = apply_patch(baseline, declared, where, faults)
    problem = without_effect(config) if config is not None else None
    if problem is not None:
        faults.add(document.where(arm.place), f"arm {name}: {problem}")
    return config


def check_different(document: Document, arms: Sequence[Arm], places: Mapping[str, Place], faults: FaultList) -> None:
    """Add a fault for each arm that is the same run as one before it; `places` has each arm's place by its name."""
    first: dict[str, str] = {}
    for arm in arms:
        same = first.setdefault(arm.config.fingerprint(), arm.name)
        if same != arm.name:
            faults.add(
                document.where(places[arm.name]),
                f"arm {arm.name} is the same run as arm {same}: what differs has no effect",
                "remove one, or change a setting that has an effect",
            )


def arm_faults(document: Document, entry: StudyEntry, broken: frozenset[str], faults: FaultList) -> None:
    """Add the faults of an ablation's arms as a whole: what makes them, what they declare, which is the baseline."""
    if not broken & {"design", "arms"}:
        made_by_design = entry.design.kind in ("factorial", "subsets")
        if made_by_design and entry.arms:
            faults.add(
                document.where(("arms",)),
                f"has no effect: a design of kind {entry.design.kind} makes the arms",
                "remove it",
            )
        if not made_by_design and len(plan_arms(entry)) < 2:
            faults.add(document.where(("arms",)), "gives nothing to compare", "give at least two arms, or one part")
    if not broken & {"design", "changes", "arms"}:
        _changes_faults(document, entry, faults)
    if not broken & {"design", "baseline_arm", "arms"}:
        _baseline_arm_faults(document, entry, faults)


def _changes_faults(document: Document, entry: StudyEntry, faults: FaultList) -> None:
    varied = varied_settings(entry)
    if not varied:
        faults.add(document.where(("changes",)), "is missing", "list the settings that arms mean to change")
        return
    if entry.changes is not None and set(entry.changes) != set(varied):
        faults.add(
            document.where(("changes",)),
            f"{', '.join(entry.changes)}: but the design changes {', '.join(varied)}",
            "leave `changes` out: the design says it",
        )
        return
    place: Place = ("changes",) if entry.changes is not None else ("design",)
    touched = {path for plan in plan_arms(entry) for path in plan.patch}
    for path in varied:
        if known_setting(path, document.where(place), faults) and path not in touched:
            faults.add(document.where(place), f"no arm changes {path}", "remove it, or add an arm that changes it")


def _baseline_arm_faults(document: Document, entry: StudyEntry, faults: FaultList) -> None:
    where = document.where(("baseline_arm",))
    name = baseline_arm(entry)
    names = [plan.name for plan in plan_arms(entry)]
    if name is None:
        faults.add(where, "is missing", f"name the arm that others are compared with; {did_you_mean('', names)}")
    elif name not in names:
        faults.add(where, f"{name!r} is not an arm", did_you_mean(name, names))
    elif entry.baseline_arm not in (None, name):
        faults.add(where, f"{entry.baseline_arm!r}, but a design of kind {entry.design.kind} compares with {name!r}")
