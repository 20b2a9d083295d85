"""Arms of an evaluation study: trained models, each as trained and with every change of its input.

An arm MODEL__intact is the run that trains the model; MODEL__ARM evaluates it and is compared with MODEL__intact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prism_ray.config import RunConfig
from prism_ray.documents import Document, Place, read_document
from prism_ray.errors import ConfigError, FaultList
from prism_ray.study.arms import check_different
from prism_ray.study.patches import EVALUATION, OVERRIDES, apply_patch, in_document, known_evaluation, without_effect
from prism_ray.study.schema import STAND_INS, ArmEntry, ModelsOfStudyEntry, SmokeEntry, StudyEntry
from prism_ray.study.spec import Arm, Study

INTACT = "intact"
"""Arm that gives a model the input that it was trained with."""
BETWEEN = "__"
"""Stands between the model and the change of its input in the name of an arm."""

LoadStudy = Callable[..., Study]
FindStudy = Callable[[str | Path], Path]


@dataclass(frozen=True)
class BaseStudy:
    """The study whose models are evaluated, at both scales.

    Attributes:
        full: at full scale.
        small: scaled down; None where it has no such scale.
    """

    full: Study
    small: Study | None

    def at(self, *, is_small: bool) -> Study:
        """The study at one scale; at full scale where it has one only."""
        return self.small if is_small and self.small is not None else self.full


@dataclass(frozen=True)
class _Model:
    """A model to evaluate, with the place in the file that names it."""

    name: str
    patch: Mapping[str, Any]
    reason: str
    config: RunConfig
    place: Place


def arm_of(model: str, arm: str = INTACT) -> str:
    """Name of the study's arm that gives a model the input of an arm of the file."""
    return f"{model}{BETWEEN}{arm}"


def base_study(
    document: Document,
    faults: FaultList,
    load: LoadStudy,
    find: FindStudy,
    *,
    smoke: bool,
    overrides: Mapping[str, Any],
) -> BaseStudy | None:
    """The study that `models` names, looked for beside the file first; None where it names none, or has faults.

    Args:
        load: reads a study file.
        find: finds a study by its name.
        smoke: whether the launch is of the small scale: `overrides` belong to one of them.
        overrides: settings replaced for the launch.
    """
    if not _names_a_study(document):
        return None
    name: str = document.data["models"]["study"]
    beside = document.path.parent / f"{name}.yaml"
    try:
        path = find(beside if beside.is_file() else name)
        kind = read_document(path, ConfigError).data.get("kind")
        if kind != "ablation":
            faults.add(
                document.where(("models", "study")),
                f"{name} is a study of kind {kind}",
                "name one of kind ablation, whose arms are trained on their own",
            )
            return None
        full = load(path, smoke=False, overrides={} if smoke else overrides)
        has_small = "smoke" in read_document(path, ConfigError).data
        small = load(path, smoke=True, overrides=overrides if smoke else {}) if has_small else None
    except ConfigError as problem:
        for fault in problem.faults:
            where = (
                fault.where
                if fault.where.startswith(f"{OVERRIDES}.")
                else f"{document.where(('models', 'study'))}: {fault.where}"
            )
            faults.add(where, fault.problem, fault.fix)
        return None
    return BaseStudy(full, small)


def _names_a_study(document: Document) -> bool:
    models = document.data.get("models")
    name = models.get("study") if isinstance(models, Mapping) else None
    return document.data.get("kind") == "evaluation" and isinstance(name, str)


def completed(document: Document, base: BaseStudy | None) -> dict[str, Any]:
    """The file's fields with those that it does not give taken from the study whose models it evaluates.

    Where that study has faults, stand-ins are in their place: they are not missing in this file.
    """
    if base is None:
        return {**(STAND_INS if _names_a_study(document) else {}), **document.data}
    full, small = base.full, base.small
    taken: dict[str, Any] = {
        **_repetitions(full),
        "objective": {"metric": full.objective.metric, "direction": full.objective.direction},
        "report_metric": full.report_metric,
        "baseline_arm": full.baseline_arm,
    }
    models = document.data["models"].get("arms")
    if isinstance(models, Sequence) and full.baseline_arm not in models:
        del taken["baseline_arm"]
    own = document.data.get("smoke", {})
    if small is not None and isinstance(own, Mapping):
        kept = {"models": [arm.name for arm in small.arms if models is None or arm.name in models]}
        return {**taken, **document.data, "smoke": {**_repetitions(small), **kept, **own}}
    return {**taken, **document.data}


def _repetitions(study: Study) -> dict[str, Any]:
    return {"seeds": list(study.seeds), "folds": list(study.folds), "cell_types": list(study.cell_types)}


def build_evaluation_arms(
    document: Document,
    entry: StudyEntry,
    baseline: RunConfig | None,
    base: Study | None,
    smoke: SmokeEntry | None,
    faults: FaultList,
) -> tuple[Arm, ...]:
    """Arms of the study at one scale, model by model; those with a fault are left out, and their faults added.

    Args:
        baseline: settings that models of the file's own change; None where these have faults.
        base: study whose arms are the models; None for models of the file's own.
        smoke: the small scale; None at full scale.
    """
    models = (
        _models_of(document, entry, base, smoke, faults)
        if base
        else _own_models(document, entry, baseline or RunConfig(), faults)
    )
    if smoke is not None and smoke.models is not None:
        models = [model for model in models if model.name in smoke.models]
    kept = {name: arm for name, arm in entry.arms.items() if smoke is None or smoke.arms is None or name in smoke.arms}
    cell_types = (smoke.cell_types if smoke is not None else None) or entry.cell_types
    arms: list[Arm] = []
    places: dict[str, Place] = {}
    for model in models:
        made = [Arm(arm_of(model.name), model.patch, model.reason, model.config)]
        places[made[0].name] = model.place
        for name, arm in kept.items():
            config = _changed(document, model, name, arm, cell_types, faults)
            if config is not None:
                patch = {**model.patch, **arm.patch}
                made.append(Arm(arm_of(model.name, name), patch, arm.reason, config, reference=made[0].name))
                places[made[-1].name] = ("arms", name)
        arms += made
    if baseline is not None:
        check_different(document, arms, places, faults)
    return tuple(arms)


def evaluation_references(entry: StudyEntry, base: BaseStudy | None) -> dict[str, str]:
    """Arms of the study at full scale, each with the arm that it is compared with; that of the baseline is itself."""
    references: dict[str, str] = {}
    for model in model_names(entry, base):
        references[arm_of(model)] = arm_of(entry.baseline_arm or model)
        for name, arm in entry.arms.items():
            if arm.models is None or model in arm.models:
                references[arm_of(model, name)] = arm_of(model)
    return references


def model_names(entry: StudyEntry, base: BaseStudy | None) -> list[str]:
    """Names of the models at full scale."""
    if isinstance(entry.models, ModelsOfStudyEntry):
        known = [arm.name for arm in base.full.arms] if base is not None else []
        return [name for name in known if entry.models.arms is None or name in entry.models.arms]
    return list(entry.models or {})


def _models_of(
    document: Document, entry: StudyEntry, base: Study, smoke: SmokeEntry | None, faults: FaultList
) -> list[_Model]:
    """Arms of another study as models, with what the file's small scale replaces."""
    asked = entry.models.arms if isinstance(entry.models, ModelsOfStudyEntry) else None
    patch = smoke.patch if smoke is not None else {}
    models = []
    for arm in base.arms:
        if asked is None or arm.name in asked:
            config = apply_patch(arm.config, patch, in_document(document, ("smoke", "patch")), faults)
            models.append(_Model(arm.name, arm.patch, arm.reason, config or arm.config, ("models",)))
    return models


def _own_models(document: Document, entry: StudyEntry, baseline: RunConfig, faults: FaultList) -> list[_Model]:
    models = []
    for name, model in (entry.models if isinstance(entry.models, dict) else {}).items():
        place: Place = ("models", name, "patch")
        config = apply_patch(baseline, model.patch, in_document(document, place), faults)
        problem = without_effect(config) if config is not None else None
        if problem is not None:
            faults.add(document.where(place), f"model {name}: {problem}")
        if config is not None:
            models.append(_Model(name, model.patch, model.reason, config, place))
    return models


def _changed(
    document: Document, model: _Model, name: str, arm: ArmEntry, cell_types: Sequence[str], faults: FaultList
) -> RunConfig | None:
    """Settings of a model with an arm's change of its input; None where it is no arm of this model, or has a fault."""
    if arm.models is not None and model.name not in arm.models:
        return None
    where = in_document(document, ("arms", name, "patch"))
    # A model's own cell type is set for each trial: what is asked for differs from at least one of them.
    data = model.config.data
    others = [cell_type for cell_type in cell_types if cell_type != arm.patch.get(f"{EVALUATION}cell_type")]
    if not others:
        fix = "add another one to `cell_types`"
        faults.add(where(f"{EVALUATION}cell_type"), "is the only cell type that the study's models are trained on", fix)
        return None
    elsewhere = model.config.model_copy(update={"data": data.model_copy(update={"cell_type": others[0]})})
    found = FaultList()
    config = apply_patch(elsewhere, arm.patch, where, found, known_evaluation)
    for fault in found.faults:
        of_section = fault.where == where(EVALUATION.removesuffix("."))
        faults.add(fault.where, f"model {model.name}: {fault.problem}" if of_section else fault.problem, fault.fix)
    if config is None:
        return None
    return config.model_copy(update={"data": data})
