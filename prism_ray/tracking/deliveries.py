"""Journals that trials left behind: waited for while a process may still deliver them, then delivered from here."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prism_ray.errors import TrackingError
from prism_ray.tracking.addresses import with_credentials
from prism_ray.tracking.client import prepare
from prism_ray.tracking.journal import journal_place, replay
from prism_ray.tracking.mlflow_tracker import MlflowTracker

_POLL_S = 0.05


@dataclass(frozen=True)
class Delivered:
    """What became of some journals.

    Attributes:
        n_delivered: of them delivered and removed.
        left: why each of the others was not.
    """

    n_delivered: int = 0
    left: Mapping[Path, str] = field(default_factory=dict)


def journals_of(journals: Iterable[Path], parent_run_id: str) -> list[Path]:
    """Those of the journals that are for trials under a study's run."""
    return [path for path in journals if _parent_of(path) == parent_run_id]


def wait_for_deliveries(journals: Iterable[Path], timeout_s: float) -> list[Path]:
    """Wait until journals are gone, which their trials' processes deliver; those that are still there in the end."""
    left = [path for path in journals if path.exists()]
    end = time.monotonic() + timeout_s
    while left and time.monotonic() < end:
        time.sleep(_POLL_S)
        left = [path for path in left if path.exists()]
    return left


def deliver_journals(journals: Iterable[Path], tracking_uri: str | None = None) -> Delivered:
    """Deliver journals from this process, each to the store that it names.

    A store that is away is asked once, however many journals are for it.

    Args:
        journals: that were found; one that is gone by now was delivered by its trial's own process.
        tracking_uri: store to use instead; None for the one a journal names, with credentials of the environment.
    """
    n_delivered = 0
    left: dict[Path, str] = {}
    problems: dict[str, str] = {}
    for path in journals:
        try:
            uri = with_credentials(journal_place(path)[0], tracking_uri)
            if uri not in problems:
                problems[uri] = _problem_of(uri)
            if problems[uri]:
                left[path] = problems[uri]
            elif replay(path, MlflowTracker(uri)):
                n_delivered += 1
            else:
                left[path] = "the store does not take it: is it the one that the trial was tracked in?"
        except TrackingError as problem:
            if path.exists():
                left[path] = str(problem)
            else:
                n_delivered += 1  # meanwhile, by the process that wrote it
    return Delivered(n_delivered, left)


def _parent_of(path: Path) -> str | None:
    """Run of the study that a journal is for; None where it was delivered meanwhile, or is no journal."""
    try:
        return journal_place(path)[1]
    except TrackingError:
        return None


def _problem_of(uri: str) -> str:
    """Why a store cannot be used; empty where it can."""
    try:
        prepare(uri)
    except TrackingError as problem:
        return str(problem)
    return ""
