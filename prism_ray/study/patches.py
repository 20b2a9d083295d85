"""Patches on a run's settings, with each fault at its line in the study file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from prism_ray.config import RunConfig, patched
from prism_ray.documents import Document, Place
from prism_ray.errors import ConfigError, FaultList, did_you_mean
from prism_ray.study.spec import STUDY_OWNED

Where = Callable[[str], str]
"""Text of the place of a setting, given by its dotted path."""
Known = Callable[[str, str, FaultList], bool]

EVALUATION = "evaluation."
"""What the settings of an evaluation begin with: only the arms of a study of kind `evaluation` may change them."""

_ALL = tuple(RunConfig().flat())
_SETTINGS = tuple(path for path in _ALL if not path.startswith(EVALUATION))
_OF_EVALUATIONS = tuple(path for path in _ALL if path.startswith(EVALUATION))

OVERRIDES = "overrides"
"""Place of the settings that a launch replaces, in messages."""


def in_document(document: Document, place: Place) -> Where:
    """Places inside the mapping of dotted paths that the document has at `place`."""

    def where(path: str) -> str:
        # A fault inside a value, for example of the second signal, is at the line of its setting.
        return document.where((*place, path))

    return where


def known_setting(path: str, where: str, faults: FaultList) -> bool:
    """Whether a study may vary the setting of that dotted path; a fault at `where` if not."""
    if path in STUDY_OWNED:
        faults.add(where, f"{path} is set for every trial", f"give its values in `{STUDY_OWNED[path]}`")
        return False
    if path in _OF_EVALUATIONS:
        fix = "use it in the arms of a study of kind evaluation"
        faults.add(where, f"{path} changes what a model that is trained already is given", fix)
        return False
    if path not in _SETTINGS:
        section = [name for name in _SETTINGS if name.startswith(f"{path.split('.', maxsplit=1)[0]}.")]
        faults.add(where, f"{path!r} is not a setting", did_you_mean(path, section or _SETTINGS))
        return False
    return True


def known_metric(metric: str, where: str, known: Collection[str], faults: FaultList) -> bool:
    """Whether the metric is one of those; a fault at `where` if not."""
    if metric not in known:
        faults.add(where, f"{metric!r} is not a metric", did_you_mean(metric, known))
    return metric in known


def known_evaluation(path: str, where: str, faults: FaultList) -> bool:
    """Whether an arm of an evaluation study may change the setting of that dotted path; a fault at `where` if not."""
    if path in _OF_EVALUATIONS:
        return True
    if path in _ALL:
        faults.add(
            where,
            f"{path} is a setting of the model's training",
            f"change it in `models`; arms change {', '.join(_OF_EVALUATIONS)}",
        )
    else:
        faults.add(where, f"{path!r} is not a setting of an evaluation", did_you_mean(path, _OF_EVALUATIONS))
    return False


def apply_patch(
    config: RunConfig, patch: Mapping[str, Any], where: Where, faults: FaultList, known: Known = known_setting
) -> RunConfig | None:
    """`config` with settings replaced by dotted path, or None with the faults added to `faults`.

    Args:
        known: says whether a setting may be replaced, and adds a fault if not.
    """
    usable = [path for path in patch if known(path, where(path), faults)]
    try:
        changed = patched(config, {path: patch[path] for path in usable}, "")
    except ConfigError as problem:
        for fault in problem.faults:
            faults.add(where(fault.where.removeprefix(".")), fault.problem, fault.fix)
        return None
    return changed if len(usable) == len(patch) else None


def without_effect(config: RunConfig) -> str | None:
    """What is wrong with settings that contradict each other although each is valid, or None."""
    if config.model.n_states >= 1 and not config.data.signals:
        n_states = config.model.n_states
        return f"model.n_states {n_states} has no effect without signals: background states weigh signals alone"
    return None
