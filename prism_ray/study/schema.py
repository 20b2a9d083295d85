"""What a study file may say: the fields of `search_spaces/*.yaml`, each checked on its own.

How the fields must fit each other, and the settings that they name, is checked in `load.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from prism_ray.config import Name, Real
from prism_ray.documents import Document, Place, StrictModel, faults_of, lists_to_tuples
from prism_ray.errors import FaultList
from prism_ray.study.entry_values import Patch, Seed, Values, once_each
from prism_ray.study.expectations import ExpectEntry
from prism_ray.study.search_schema import SearchEntry, SmokeSearchEntry


class ArmEntry(StrictModel):
    """One arm, or one part of a leave-one-out or add-one design."""

    patch: Patch = Field(default_factory=dict)
    """What it changes of the baseline: dotted path -> value."""
    reason: Name
    """Why it is in the study, one line."""
    models: tuple[Name, ...] | None = None
    """evaluation: the models that it is an arm of; all where not given."""

    @field_validator("models")
    @classmethod
    def _unique(cls, values: Values) -> Values:
        return once_each(values)


class ModelEntry(StrictModel):
    """One model that an evaluation study gives other input."""

    patch: Patch = Field(default_factory=dict)
    """What it changes of the baseline: dotted path -> value."""
    reason: Name
    """Why it is in the study, one line."""


class ModelsOfStudyEntry(StrictModel):
    """The models of another study: those that its arms train."""

    study: Name
    """Name of the study, of kind ablation."""
    arms: tuple[Name, ...] | None = None
    """Its arms; all where not given."""

    @field_validator("arms")
    @classmethod
    def _unique(cls, values: Values) -> Values:
        return once_each(values)


def _kind_of_models(value: object) -> str:
    is_reference = isinstance(value, ModelsOfStudyEntry) or (
        isinstance(value, Mapping) and not isinstance(value.get("study", {}), Mapping)
    )
    return "models[study]" if is_reference else "models[own]"


Models = Annotated[
    Annotated[ModelsOfStudyEntry, Tag("models[study]")] | Annotated[dict[Name, ModelEntry], Tag("models[own]")],
    Discriminator(_kind_of_models),
]


class DesignEntry(StrictModel):
    """How arms are made."""

    kind: Literal["list", "leave_one_out", "add_one", "path", "factorial", "subsets"] = "list"
    """`list`: `arms` as they stand; `leave_one_out`, `add_one`: `arms` are parts to take away or to add; `path`: parts
    to add one after the other, each on top of those before; `factorial`: every combination of `factors`;
    `subsets`: every subset of `of`."""
    factors: dict[str, tuple[Any, ...]] | None = None
    """factorial: dotted path -> its levels."""
    field: Name | None = None
    """subsets: dotted path of the setting that holds names."""
    of: tuple[Name, ...] | None = None
    """subsets: the names."""
    min_size: int | None = Field(default=None, ge=0)
    """subsets: fewest names; 0 where not given."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> DesignEntry:
        needed = {"factorial": ("factors",), "subsets": ("field", "of")}.get(self.kind, ())
        allowed = {*needed, *(("min_size",) if self.kind == "subsets" else ())}
        given = self.model_fields_set - {"kind"}
        problems = [f"{name} is missing" for name in needed if getattr(self, name) is None]
        problems += [f"{name} has no effect" for name in sorted(given - allowed)]
        if self.factors is not None and self.kind == "factorial":
            problems += [f"factor {path} has fewer than two levels" for path, v in self.factors.items() if len(v) < 2]
            if len(self.factors) < 2:
                problems.append("factors are fewer than two")
        if self.kind == "subsets" and self.of is not None:
            if len(set(self.of)) < len(self.of):
                problems.append("of gives a name twice")
            if (self.min_size or 0) >= len(self.of):
                problems.append(f"min_size {self.min_size or 0} leaves fewer than two subsets of {len(self.of)} names")
        if problems:
            raise ValueError(f"a design of kind {self.kind}: {'; '.join(problems)}")
        return self


class ObjectiveEntry(StrictModel):
    """What is better."""

    metric: Name
    """Validation metric, `val/...`, or as a second objective a cost, `cost/...`; the test fold never chooses."""
    direction: Literal["minimize", "maximize"]
    """Its better direction."""


class BudgetEntry(StrictModel):
    """Limits of the study."""

    max_trials: int | None = Field(default=None, ge=1)
    """Most trials; more are refused at load."""
    gpu_hours: Real | None = Field(default=None, gt=0)
    """GPU-hours that trials may hold GPUs, over all launches. At this cap, as at the next two, no trial is started any
    more, running ones save and end, and the study goes on once the cap is raised."""
    wall_hours: Real | None = Field(default=None, gt=0)
    """Hours that one launch may take; the next launch has as many again."""
    max_failures: int | None = Field(default=None, ge=1)
    """Failed trials at which a launch ends; those of earlier launches count until they are retried."""


class SmokeEntry(StrictModel):
    """The study scaled down to minutes on simulated data; what is not given stays. Empty: it is that small already."""

    patch: Patch = Field(default_factory=dict)
    """Settings replaced in the baseline; none that the study varies."""
    seeds: tuple[Seed, ...] | None = None
    folds: tuple[Name, ...] | None = None
    cell_types: tuple[Name, ...] | None = None
    arms: tuple[Name, ...] | None = None
    """Arms that are kept; all where not given."""
    models: tuple[Name, ...] | None = None
    """evaluation: models that are kept; all where not given."""
    search: SmokeSearchEntry | None = None

    @field_validator("seeds", "folds", "cell_types", "arms", "models")
    @classmethod
    def _unique(cls, values: Values) -> Values:
        return once_each(values)


class StudyEntry(StrictModel):
    """A whole study file."""

    question: Name
    """What is asked, in a sentence."""
    claim: Name
    """What the source says."""
    source: Name
    """Paper and section, or issue."""
    kind: Literal["ablation", "evaluation", "search"]
    """`ablation` compares arms, `evaluation` gives trained models other input, `search` looks for the best settings."""
    baseline: Patch = Field(default_factory=dict)
    """Patch on the defaults: dotted path -> value."""
    baseline_arm: Name | None = None
    """ablation: the arm that others are compared with; `full` or `base` where the design makes it.
    evaluation: the model whose intact arm the other models' are compared with."""
    changes: tuple[Name, ...] | None = None
    """Settings that arms, and models of an evaluation's own, mean to change; none changes another."""
    models: Models | None = None
    """evaluation: arms of another study, or models of its own: name -> patch and reason."""
    arms: dict[str, ArmEntry] = Field(default_factory=dict)
    """name -> patch and reason; of an evaluation on each of its models."""
    design: DesignEntry = DesignEntry()
    """ablation: how arms are made."""
    curve: Name | None = None
    """Numeric setting on the report's x axis."""
    expect: tuple[ExpectEntry, ...] = ()
    """Claims about arms, which the report judges by their runs."""
    seeds: tuple[Seed, ...]
    """Training seeds; the published ones are 2, 22, 222, 2222, 22222."""
    folds: tuple[Name, ...]
    """Leave-chromosome-out folds."""
    cell_types: tuple[Name, ...]
    """Cell types."""
    objective: ObjectiveEntry
    """What is better on validation."""
    second_objective: ObjectiveEntry | None = None
    """search: what is weighed against it, another validation metric or `cost/...`; no scale says which counts more."""
    report_metric: Name
    """Metric of the report, `test/...` or `val/...`."""
    budget: BudgetEntry = BudgetEntry()
    """Limits."""
    search: SearchEntry | None = None
    """search: how settings are proposed."""
    smoke: SmokeEntry | None = None
    """The study scaled down to minutes."""

    @field_validator("seeds", "folds", "cell_types", "changes")
    @classmethod
    def _unique(cls, values: Values) -> Values:
        return once_each(values)


STAND_INS: Mapping[str, Any] = {
    "question": "-",
    "claim": "-",
    "source": "-",
    "kind": "ablation",
    "seeds": (0,),
    "folds": ("-",),
    "cell_types": ("-",),
    "objective": {"metric": "val/mse", "direction": "minimize"},
    "report_metric": "test/mse",
}
"""Valid values of the required fields, with which the rest of a faulty file can be checked."""


def read_entry(document: Document, faults: FaultList, content: Mapping[str, Any]) -> tuple[StudyEntry, frozenset[str]]:
    """The file's fields, with each faulty one replaced by a stand-in, and the names of the faulty ones.

    A file's faults are said together, so a faulty field must not hide what is wrong elsewhere.

    Args:
        content: the document's fields, with those that it takes from another study.
    """
    data: Any = lists_to_tuples(dict(content))
    try:
        return StudyEntry.model_validate(data), frozenset()
    except ValidationError as problem:
        faults.extend(faults_of(problem, StudyEntry, document.where))
        places = [detail["loc"] for detail in problem.errors()]
    broken = frozenset(str(place[0]) for place in places)
    stand_ins = {name: STAND_INS[name] for name in broken & set(STAND_INS)}
    for place in places:
        data = _without(data, _smallest_part(place))
    try:
        return StudyEntry.model_validate({**stand_ins, **data}), broken
    except ValidationError:
        # What is left of a faulty part cannot stand alone, for example a space whose only domain is faulty.
        for name in broken:
            data = _without(data, (name,))
        return StudyEntry.model_validate({**stand_ins, **data}), broken


def _smallest_part(place: Place) -> Place:
    """The part to leave out for a fault at `place`: one arm, one dimension, or a whole field."""
    if place[0] == "arms" and len(place) > 1:
        return place[:2]
    if place[:2] == ("models", "models[own]") and len(place) > 2:
        return "models", place[2]
    if place[:2] == ("search", "space") and len(place) > 2:
        return place[:3]
    return place[:1]


def _without(data: Any, place: Place) -> Any:
    """`data` without what is at `place`; with it gone already, as it is."""
    key, *rest = place
    if not isinstance(data, dict) or key not in data:
        return data
    if not rest:
        return {name: value for name, value in data.items() if name != key}
    return {**data, key: _without(data[key], tuple(rest))}
