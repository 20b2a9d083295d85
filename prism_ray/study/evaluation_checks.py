"""What must fit together in the file of an evaluation study: its models, arms and what they declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prism_ray.documents import Document, Place
from prism_ray.errors import FaultList, did_you_mean
from prism_ray.study.arms import ARM_NAME
from prism_ray.study.evaluations import BETWEEN, INTACT, BaseStudy, model_names
from prism_ray.study.patches import EVALUATION, known_evaluation, known_setting
from prism_ray.study.schema import ModelsOfStudyEntry, StudyEntry


def evaluation_faults(
    document: Document, entry: StudyEntry, broken: frozenset[str], base: BaseStudy | None, faults: FaultList
) -> None:
    """Add the faults of an evaluation study as a whole: its models, what is declared, which model is the baseline."""
    if entry.models is None:
        if "models" not in broken:
            fix = "name a study, `{study: NAME}`, or give models: name -> patch and reason"
            faults.add(document.where(("models",)), "is missing", fix)
        return
    if isinstance(entry.models, ModelsOfStudyEntry) and base is None:
        return  # said already
    names = model_names(entry, base)
    _model_faults(document, entry, base, faults)
    if "arms" not in broken:
        _arm_faults(document, entry, names, faults)
    if not broken & {"changes", "arms", "models"}:
        _changes_faults(document, entry, base, faults)
    if "baseline_arm" not in broken:
        _baseline_faults(document, entry, names, faults)
    if "smoke" not in broken:
        _smoke_faults(document, entry, base, names, faults)


def _model_faults(document: Document, entry: StudyEntry, base: BaseStudy | None, faults: FaultList) -> None:
    if isinstance(entry.models, ModelsOfStudyEntry) and base is not None:
        known = [arm.name for arm in base.full.arms]
        for name in entry.models.arms or ():
            if name not in known:
                where = document.where(("models", "arms"))
                faults.add(where, f"{name!r} is not an arm of {entry.models.study}", did_you_mean(name, known))
        if entry.baseline:
            fix = "remove it; write models of your own to change their settings"
            faults.add(document.where(("baseline",)), f"has no effect: models are those of {entry.models.study}", fix)
        return
    for name in entry.models if isinstance(entry.models, dict) else ():
        _usable_name(document, ("models", name), "a model", faults)
    if not entry.models:
        faults.add(document.where(("models",)), "gives nothing to evaluate", "give at least one model")


def _usable_name(document: Document, place: Place, what: str, faults: FaultList) -> None:
    name = str(place[-1])
    if not ARM_NAME.fullmatch(name) or BETWEEN in name:
        fix = f"use letters, digits, _, - and ., without {BETWEEN}"
        faults.add(document.where(place), f"{name!r} is no usable name of {what}", fix)


def _arm_faults(document: Document, entry: StudyEntry, models: Sequence[str], faults: FaultList) -> None:
    if not entry.arms:
        faults.add(
            document.where(("arms",)), "gives nothing to compare", "give at least one change of the models' input"
        )
    for name, arm in entry.arms.items():
        place: Place = ("arms", name)
        _usable_name(document, place, "an arm", faults)
        if name == INTACT:
            faults.add(document.where(place), "is the arm that every model has as trained", "remove it, or rename it")
        if not arm.patch:
            fix = f"give a setting of an evaluation; the model as trained is the arm {INTACT}"
            faults.add(document.where((*place, "patch")), f"arm {name} changes nothing", fix)
        for model in arm.models or ():
            if model not in models:
                faults.add(document.where((*place, "models")), f"{model!r} is not a model", did_you_mean(model, models))


def _changes_faults(document: Document, entry: StudyEntry, base: BaseStudy | None, faults: FaultList) -> None:
    """What models and arms change is what they declare; of another study's arms that study says it."""
    where = document.where(("changes",))
    if entry.changes is None:
        faults.add(where, "is missing", "list the settings that models and arms mean to change")
        return
    patches: dict[Place, Mapping[str, Any]] = {("arms", name): arm.patch for name, arm in entry.arms.items()}
    if base is None and isinstance(entry.models, dict):
        patches |= {("models", name): model.patch for name, model in entry.models.items()}
    touched = {path for patch in patches.values() for path in patch}
    for path in entry.changes:
        known = known_evaluation if path.startswith(EVALUATION) or base is not None else known_setting
        if known(path, where, faults) and path not in touched:
            faults.add(where, f"nothing changes {path}", "remove it, or add what changes it")
    for place, patch in patches.items():
        for path in patch:
            if path in entry.changes:
                continue
            known = known_evaluation if place[0] == "arms" else known_setting
            # What is no setting at all is said where the patch is applied.
            if known(path, "", FaultList()):
                faults.add(
                    document.where((*place, "patch", path)),
                    f"{place[1]} changes a setting that is not among `changes` ({', '.join(entry.changes)})",
                    "declare it there, or take it out",
                )


def _baseline_faults(document: Document, entry: StudyEntry, models: Sequence[str], faults: FaultList) -> None:
    where, name = document.where(("baseline_arm",)), entry.baseline_arm
    if name is None:
        fix = f"name the model that others are compared with; {did_you_mean('', models)}"
        faults.add(where, "is missing", fix)
    elif models and name not in models:
        faults.add(where, f"{name!r} is not a model", did_you_mean(name, models))


def _smoke_faults(
    document: Document, entry: StudyEntry, base: BaseStudy | None, models: Sequence[str], faults: FaultList
) -> None:
    smoke = entry.smoke
    if smoke is None:
        return
    for field, asked, known in (("arms", smoke.arms, entry.arms), ("models", smoke.models, models)):
        for name in asked or ():
            if name not in known:
                what = f"{name!r} is not {'an arm' if field == 'arms' else 'a model'}"
                faults.add(document.where(("smoke", field)), what, did_you_mean(name, known))
    if smoke.models is not None and entry.baseline_arm in models and entry.baseline_arm not in smoke.models:
        where = document.where(("smoke", "models"))
        faults.add(
            where, f"leaves out the baseline's model {entry.baseline_arm}", "add it: the others are compared with it"
        )
    if base is not None:
        for path in (path for path in smoke.patch if path in base.full.changes):
            where = document.where(("smoke", "patch", path))
            faults.add(where, f"is what the study {base.full.name} varies", "choose fewer models in smoke.models")
