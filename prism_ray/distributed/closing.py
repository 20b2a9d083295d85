"""The end of a study's run in MLflow, also where the store is away then: it is noted, and made up for later.

`STORAGE/studies/<study>/unclosed.json` names the run and how it ended; `prism-ray sync` and the next launch remove it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from prism_ray.distributed.workspace import STUDIES_NAME, read_object, write_whole
from prism_ray.errors import TrackingError
from prism_ray.tracking import MlflowTracker, Status, redact, with_credentials

UNCLOSED_NAME = "unclosed.json"


@dataclass(frozen=True)
class Unclosed:
    """A run of a study that MLflow could not be told the end of.

    Attributes:
        parent_run_id: the run.
        status: how the launch ended.
        tracking_uri: MLflow store, without credentials.
    """

    parent_run_id: str
    status: Status
    tracking_uri: str


@contextmanager
def tracker_may_be_away(tell: Callable[[str], None]) -> Iterator[None]:
    """Inside, a store that is away ends the block and not the launch: trials are finished by their records alone.

    Args:
        tell: is told why the block ended.
    """
    try:
        yield
    except TrackingError as problem:
        tell(str(problem))


def close_run(folder: Path, tracker: MlflowTracker, parent_run_id: str, status: Status) -> str:
    """End the run of a study, or note in its folder that this is left to do; why it is left, or empty."""
    try:
        tracker.close_study(parent_run_id, status, {})
    except TrackingError as problem:
        note = Unclosed(parent_run_id, status, redact(tracker.uri))
        write_whole(folder / UNCLOSED_NAME, json.dumps(asdict(note), indent=1), durable=False)
        return str(problem)
    (folder / UNCLOSED_NAME).unlink(missing_ok=True)
    return ""


def close_left_runs(storage: Path, tracking_uri: str | None) -> tuple[int, dict[Path, str]]:
    """End the runs of a workspace's studies that could not be ended before: how many, and why others are left.

    Args:
        tracking_uri: store to use instead; None for the one that is noted, with credentials of the environment.
    """
    n_closed = 0
    left: dict[Path, str] = {}
    for path in sorted((storage / STUDIES_NAME).glob(f"*/{UNCLOSED_NAME}")):
        note = read_unclosed(path)
        if note is None:
            left[path] = "is damaged; the next launch of the study ends its run"
            continue
        try:
            tracker = MlflowTracker(with_credentials(note.tracking_uri, tracking_uri))
        except TrackingError as refused:
            left[path] = str(refused)
            continue
        problem = close_run(path.parent, tracker, note.parent_run_id, note.status)
        if problem:
            left[path] = problem
        else:
            n_closed += 1
    return n_closed, left


def read_unclosed(path: Path) -> Unclosed | None:
    """The note in a file; None where it is damaged."""
    content = read_object(path)
    try:
        note = Unclosed(**content or {})
    except TypeError:
        return None
    return note if note.status in get_args(Status) else None
