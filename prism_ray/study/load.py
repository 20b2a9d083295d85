"""Study files: found by name, read, checked as a whole, made into a `Study`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prism_ray
from prism_ray.config import RunConfig
from prism_ray.documents import Document, read_document
from prism_ray.errors import ConfigError, FaultList, did_you_mean
from prism_ray.study import checks
from prism_ray.study.arms import arm_faults, baseline_arm, build_arms, plan_arms, varied_settings
from prism_ray.study.evaluation_checks import evaluation_faults
from prism_ray.study.evaluations import (
    BaseStudy,
    arm_of,
    base_study,
    build_evaluation_arms,
    completed,
    evaluation_references,
)
from prism_ray.study.expectations import Expectation, build_expectations
from prism_ray.study.patches import OVERRIDES, apply_patch, in_document
from prism_ray.study.schema import SmokeEntry, StudyEntry, read_entry
from prism_ray.study.search_checks import finalists_smoke_faults, second_objective_faults
from prism_ray.study.search_space import build_search
from prism_ray.study.search_spec import Objective
from prism_ray.study.spec import Arm, Budget, Study

_OVERRIDE_DIGITS = 6
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_PACKAGED = Path(prism_ray.__file__).parent / "search_spaces"
_IN_CLONE = Path(prism_ray.__file__).parent.parent / "search_spaces"


def study_folders() -> tuple[Path, ...]:
    """Folders in which a study is looked up by name, first match first: working folder, package, clone."""
    return (Path("search_spaces"), _PACKAGED, _IN_CLONE)


def find_study(name_or_path: str | Path) -> Path:
    """File of a study: the path itself, or the file of that name in one of `study_folders`.

    Raises:
        ConfigError: there is no such file; the message names the studies that there are.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    known: set[str] = set()
    if path.parent == Path():
        for folder in study_folders():
            for candidate in (folder / path.name, folder / f"{path.name}.yaml"):
                if candidate.is_file():
                    return candidate
            known |= {file.stem for file in folder.glob("*.yaml")}
    faults = FaultList()
    fix = did_you_mean(path.stem, known) if known else "give the path of a study file"
    faults.add(str(name_or_path), "is neither a file nor the name of a study", fix)
    faults.raise_if_any(ConfigError)
    raise AssertionError("unreachable")


def load_study(path: str | Path, *, smoke: bool = False, overrides: Mapping[str, Any] | None = None) -> Study:
    """The study of a file.

    Args:
        path: file of the study; see `find_study` for names.
        smoke: scaled down to minutes as its `smoke` section says.
        overrides: settings replaced in the baseline for this launch, by dotted path; none that the study varies.

    Raises:
        ConfigError: with every fault of the file, at both scales, and of the overrides, each with its place.
    """
    document = read_document(Path(path), ConfigError)
    faults = FaultList()
    base = base_study(document, faults, load_study, find_study, smoke=smoke, overrides=overrides or {})
    entry, broken = read_entry(document, faults, completed(document, base))
    draft = _Draft(document, entry, broken, overrides or {}, faults, base)
    _check_whole(draft, smoke)
    full = _build(draft, None, {} if smoke else draft.overrides)
    small = _build(draft, entry.smoke, draft.overrides if smoke else {}) if entry.smoke is not None else None
    _once(faults).raise_if_any(ConfigError)
    study = small if smoke else full
    assert study is not None
    return study


@dataclass(frozen=True)
class _Draft:
    """A study file on its way to a study."""

    document: Document
    entry: StudyEntry
    broken: frozenset[str]
    overrides: Mapping[str, Any]
    faults: FaultList
    base: BaseStudy | None


def _check_whole(draft: _Draft, smoke: bool) -> None:
    document, entry, broken, faults = draft.document, draft.entry, draft.broken, draft.faults
    if not _NAME.fullmatch(document.path.stem):
        faults.add(
            str(document.path),
            f"a study is named by its file, and {document.path.stem!r} is no usable name",
            "use lower-case letters, digits, _ and -",
        )
    if smoke and entry.smoke is None and "smoke" not in broken:
        faults.add(str(document.path), "has no smoke scale", "add a `smoke` section, or run it at full scale")
    checks.kind_faults(document, entry, broken, faults)
    checks.metric_faults(document, entry, broken, faults)
    second_objective_faults(document, entry, broken, faults)
    finalists_smoke_faults(document, entry, broken, faults)
    checks.curve_faults(document, entry, broken, faults)
    checks.varied_elsewhere(document, entry, draft.overrides, faults)
    checks.smoke_faults(document, entry, broken, faults)
    if entry.kind == "ablation" and "kind" not in broken:
        arm_faults(document, entry, broken, faults)
    if entry.kind == "evaluation" and "kind" not in broken:
        evaluation_faults(document, entry, broken, draft.base, faults)


def _build(draft: _Draft, smoke: SmokeEntry | None, overrides: Mapping[str, Any]) -> Study | None:
    """The study at one scale, or None where its settings have faults, which are added to the draft's."""
    document, entry, faults = draft.document, draft.entry, draft.faults
    baseline = _baseline(draft, smoke, overrides)
    is_search = entry.kind == "search" and entry.search is not None
    arms = () if is_search or "kind" in draft.broken else _arms(draft, baseline, smoke)
    search = None
    if is_search and entry.search is not None:
        search = build_search(
            document, entry.search, smoke.search if smoke is not None else None, baseline or RunConfig(), faults
        )
    second = entry.second_objective
    is_scaled = smoke is not None and bool(smoke.model_fields_set)
    study = Study(
        name=_name(document.path.stem, is_scaled, overrides),
        path=document.path,
        question=entry.question,
        claim=entry.claim,
        source=entry.source,
        kind=entry.kind,
        baseline=baseline or RunConfig(),
        arms=arms,
        baseline_arm=None if is_search else _baseline_arm(entry),
        changes=() if is_search else (*(draft.base.full.changes if draft.base else ()), *varied_settings(entry)),
        curve=entry.curve,
        seeds=(smoke.seeds if smoke is not None else None) or entry.seeds,
        folds=(smoke.folds if smoke is not None else None) or entry.folds,
        cell_types=(smoke.cell_types if smoke is not None else None) or entry.cell_types,
        objective=Objective(entry.objective.metric, entry.objective.direction),
        report_metric=entry.report_metric,
        budget=Budget(**entry.budget.model_dump()),
        search=search,
        second_objective=Objective(second.metric, second.direction) if is_search and second is not None else None,
        expectations=_expectations(draft, None if smoke is None else [arm.name for arm in arms]),
        overrides=dict(overrides),
        is_smoke=is_scaled,
    )
    checks.size_faults(document, study, faults)
    return study


def _name(stem: str, is_scaled: bool, overrides: Mapping[str, Any]) -> str:
    """Name of a study's experiment: other settings are another experiment, so that nothing of theirs is mixed."""
    name = f"{stem}-smoke" if is_scaled else stem
    if not overrides:
        return name
    text = json.dumps(overrides, sort_keys=True, default=str)  # a date, say, is no setting: its study is refused
    return f"{name}-set-{hashlib.sha256(text.encode()).hexdigest()[:_OVERRIDE_DIGITS]}"


def _expectations(draft: _Draft, kept: Sequence[str] | None) -> tuple[Expectation, ...]:
    """Claims about the arms that this scale keeps."""
    entry = draft.entry
    if entry.kind == "search" or draft.broken & {"kind", "arms", "design", "baseline_arm"}:
        return ()
    if entry.kind == "evaluation":
        references = evaluation_references(entry, draft.base)
    else:
        references = {plan.name: baseline_arm(entry) or plan.name for plan in plan_arms(entry)}
    claims = build_expectations(draft.document, entry.expect, references, draft.faults)
    return tuple(one for one in claims if kept is None or {one.arm, one.than} <= set(kept))


def _arms(draft: _Draft, baseline: RunConfig | None, smoke: SmokeEntry | None) -> tuple[Arm, ...]:
    document, entry = draft.document, draft.entry
    if entry.kind == "evaluation":
        base = None if draft.base is None else draft.base.at(is_small=smoke is not None)
        return build_evaluation_arms(document, entry, baseline, base, smoke, draft.faults)
    return build_arms(document, entry, baseline, smoke.arms if smoke is not None else None, draft.faults)


def _baseline_arm(entry: StudyEntry) -> str | None:
    if entry.kind == "evaluation":
        return None if entry.baseline_arm is None else arm_of(entry.baseline_arm)
    return baseline_arm(entry)


def _baseline(draft: _Draft, smoke: SmokeEntry | None, overrides: Mapping[str, Any]) -> RunConfig | None:
    """The settings that arms and proposals change; None where those of the file have a fault.

    A patch with a fault is left out, so that arms are not told of what it would have changed.
    """
    document, entry, faults = draft.document, draft.entry, draft.faults
    if draft.base is not None:
        return draft.base.at(is_small=smoke is not None).baseline
    config = apply_patch(RunConfig(), entry.baseline, in_document(document, ("baseline",)), faults)
    if smoke is not None:
        scaled = apply_patch(config or RunConfig(), smoke.patch, in_document(document, ("smoke", "patch")), faults)
        config = scaled or config
    if overrides:
        changed = apply_patch(config or RunConfig(), overrides, lambda path: f"{OVERRIDES}.{path}", faults)
        config = changed or config
    return config


def _once(faults: FaultList) -> FaultList:
    """Each fault once: both scales of a study share most of its file."""
    unique = FaultList()
    unique.extend(dict.fromkeys(faults.faults))
    return unique
