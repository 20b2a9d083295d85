"""Settings that a launch replaces for itself: `--set path=value`, read as a study file would be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prism_ray.documents import read_value
from prism_ray.errors import ConfigError, Fault, FaultList
from prism_ray.study.load import find_study, load_study
from prism_ray.study.patches import OVERRIDES
from prism_ray.study.schema import StudyEntry
from prism_ray.study.spec import STUDY_OWNED, Study

_FLAG = "--set"


def load_overridden(name_or_path: str, assignments: Sequence[str], *, smoke: bool = False) -> Study:
    """The study of a name or path, with settings replaced in its baseline.

    Args:
        assignments: `path=value` each; the value is a YAML scalar or list.
        smoke: at its small scale.

    Raises:
        ConfigError: with every fault of the study's file and of the assignments.
    """
    faults = FaultList()
    overrides = _parsed(assignments, faults)
    study = None
    try:
        study = load_study(find_study(name_or_path), smoke=smoke, overrides=overrides)
    except ConfigError as problem:
        faults.extend(_as_flag(fault) for fault in problem.faults)
    faults.raise_if_any(ConfigError)
    assert study is not None
    return study


def _parsed(assignments: Sequence[str], faults: FaultList) -> dict[str, Any]:
    overrides: dict[str, Any] = {}
    for text in assignments:
        path, equals, written = text.partition("=")
        path = path.strip()
        if not equals or not path:
            faults.add(f"{_FLAG} {text}", "is no assignment", f"write {_FLAG} model.n_states=4")
        elif path in overrides:
            faults.add(f"{_FLAG} {path}", "is given twice", "keep one of the two")
        else:
            try:
                overrides[path] = read_value(written)
            except ValueError as problem:
                faults.add(f"{_FLAG} {path}", f"{written!r} {problem}", "give a number, a word, true, false or [a, b]")
    return overrides


def _as_flag(fault: Fault) -> Fault:
    """The fault at the flag that made it."""
    if not fault.where.startswith(f"{OVERRIDES}."):
        return fault
    path = fault.where.removeprefix(f"{OVERRIDES}.")
    field = STUDY_OWNED.get(path, path.partition(".")[0])
    if field in StudyEntry.model_fields:
        fix = f"change `{field}` in a copy of its file: trials that are finished are found, not run again"
        return Fault(f"{_FLAG} {path}", "is no setting of the baseline but of the study", fix)
    return Fault(f"{_FLAG} {path}", fault.problem, fault.fix)
