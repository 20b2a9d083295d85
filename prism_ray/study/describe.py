"""What a study is, as a list of studies and a page on one of them show it: plain values, no printing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prism_ray.errors import ConfigError
from prism_ray.study.load import load_study, study_folders
from prism_ray.study.search_spec import Search
from prism_ray.study.spec import Study


@dataclass(frozen=True)
class ListedStudy:
    """One study of a list.

    Attributes:
        name: by which commands find it.
        path: its file.
        question: what it asks; of a file with faults what is wrong with it.
        kind: of the study; empty for a file with faults.
        n_trials: at full scale.
        n_smoke_trials: at its small scale; 0 where it has none.
    """

    name: str
    path: Path
    question: str
    kind: str
    n_trials: int
    n_smoke_trials: int

    def to_json(self) -> dict[str, Any]:
        """The study as JSON types."""
        return {**vars(self), "path": str(self.path)}


def list_studies() -> tuple[ListedStudy, ...]:
    """Studies that can be asked for by name, by their question: first folder of `study_folders` first."""
    files: dict[str, Path] = {}
    for folder in study_folders():
        for file in folder.glob("*.yaml"):
            files.setdefault(file.stem, file)
    listed = [_listed(name, file) for name, file in files.items()]
    return tuple(sorted(listed, key=lambda study: (not study.kind, study.question.lower())))


def _listed(name: str, file: Path) -> ListedStudy:
    try:
        study = load_study(file)
    except ConfigError as problem:
        # One file that is wrong hides no other.
        return ListedStudy(name, file, f"cannot be used: {problem.faults[0]}", "", 0, 0)
    try:
        n_smoke_trials = load_study(file, smoke=True).n_trials
    except ConfigError:
        n_smoke_trials = 0
    return ListedStudy(name, file, study.question, study.kind, study.n_trials, n_smoke_trials)


def describe(study: Study) -> dict[str, Any]:
    """Everything that a study says, as JSON types: what it asks, what it varies, how often, within which budget."""
    return {
        "name": study.name,
        "path": str(study.path),
        "kind": study.kind,
        "question": study.question,
        "claim": study.claim,
        "source": study.source,
        "overrides": dict(study.overrides),
        "n_trials": study.n_trials,
        "baseline": _differences(study),
        "baseline_arm": study.baseline_arm,
        "changes": list(study.changes),
        "arms": [{"name": arm.name, "patch": dict(arm.patch), "reason": arm.reason} for arm in study.arms],
        "search": None if study.search is None else _search(study.search),
        "seeds": list(study.seeds),
        "folds": list(study.folds),
        "cell_types": list(study.cell_types),
        "objective": vars(study.objective),
        **({"second_objective": vars(study.second_objective)} if study.second_objective is not None else {}),
        "report_metric": study.report_metric,
        "curve": study.curve,
        "budget": {name: value for name, value in vars(study.budget).items() if value is not None},
        "digest": study.digest(),
    }


def _differences(study: Study) -> dict[str, Any]:
    """Settings of the baseline that are not the defaults."""
    default = type(study.baseline)().flat()
    owned = ("seed", "data.fold", "data.cell_type")
    return {
        path: value for path, value in study.baseline.flat().items() if value != default[path] and path not in owned
    }


def _search(search: Search) -> dict[str, Any]:
    others = {name: value for name, value in vars(search).items() if name != "space" and value is not None}
    for name in {"pruner", "finalists"} & set(others):
        others[name] = asdict(others[name])
    return {**others, "space": {dimension.path: dimension.to_json() for dimension in search.space}}
