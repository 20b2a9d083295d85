"""What a trial could not deliver to its tracker, as JSON lines beside the trial's files.

The first line says whose run it is; each other line is one operation, in order. Delivering twice does no harm:
a metric keeps the time it was measured at, and the same value at the same step and time is one value.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prism_ray.errors import Fault, TrackingError
from prism_ray.tracking.headers import TrialHeader

if TYPE_CHECKING:
    from prism_ray.tracking.mlflow_tracker import MlflowTracker

JOURNAL_VERSION = 1
JOURNAL_NAME = "undelivered.jsonl"
"""Name of the file in a trial's folder."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Operation:
    """One thing to tell a tracker.

    Attributes:
        kind: `metrics`: {name: [value, step, time in ms]}; `tags`: {name: text}; `file`: {path among the artifacts:
            local path}; `finish`: {"status": status, "end_time": time in ms}.
        content: as the kind says; JSON types only.
    """

    kind: Literal["metrics", "tags", "file", "finish"]
    content: dict[str, Any]


class Journal:
    """The file of one trial.

    Args:
        path: of the file; None keeps nothing.
        shown_uri: address of the tracking store, without its credentials.
        parent_run_id: run of the study.
        header: what the run says of the trial.
    """

    def __init__(self, path: Path | None, shown_uri: str, parent_run_id: str, header: TrialHeader) -> None:
        self._path = path
        self._first_line = {
            "journal": JOURNAL_VERSION,
            "tracking_uri": shown_uri,
            "parent_run_id": parent_run_id,
            "header": {**asdict(header), "parameters": dict(header.parameters), "tags": dict(header.tags)},
        }

    def add(self, operations: Iterable[Operation]) -> None:
        """Append operations that were not delivered."""
        if self._path is None:
            return
        lines = [] if self._path.exists() else [self._first_line]
        lines += [asdict(operation) for operation in operations]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line, default=str) + "\n" for line in lines)

    def clear(self) -> None:
        """Remove the file: everything in it was delivered."""
        if self._path is None or not self._path.exists():
            return
        try:
            self._path.unlink()
        except OSError as problem:
            _log.warning("%s: everything in it was delivered, but it cannot be removed (%s)", self._path, problem)

    def read(self) -> list[Operation]:
        """Operations that an earlier process left behind; a file that is no journal is moved aside, not lost."""
        if self._path is None or not self._path.exists():
            return []
        try:
            return _read(self._path)[1]
        except TrackingError as problem:
            aside = self._path.with_name(f"{self._path.name}.unreadable")
            _log.warning("%s; moved to %s", problem, aside)
            self._path.replace(aside)
            return []


def replay(path: Path, tracker: MlflowTracker) -> bool:
    """Deliver a journal that a trial left behind, and remove it; False where the tracker is still away.

    Raises:
        TrackingError: the file is not a journal.
    """
    first, operations = _read(path)
    header = TrialHeader(**first["header"])
    log = tracker.open_trial(first["parent_run_id"], header, journal_path=path)
    ends = [operation for operation in operations if operation.kind == "finish"]
    return log.end(ends[-1]) if ends else log.deliver()


def journal_place(path: Path) -> tuple[str, str]:
    """Where a journal is to be delivered: address of the store, without its credentials, and run of the study.

    Raises:
        TrackingError: the file is not a journal, or is no longer there.
    """
    first, _ = _read(path)
    return str(first["tracking_uri"]), str(first["parent_run_id"])


def _read(path: Path) -> tuple[dict[str, Any], list[Operation]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        first = json.loads(lines[0])
        if first["journal"] != JOURNAL_VERSION:
            raise ValueError(f"version {first['journal']}, this program reads {JOURNAL_VERSION}")
        for name in ("tracking_uri", "parent_run_id", "header"):
            if name not in first:
                raise ValueError(f"its first line has no {name}")
        operations = []
        for number, line in enumerate(lines[1:], start=2):
            try:
                operations.append(Operation(**json.loads(line)))
            except json.JSONDecodeError:
                if number < len(lines):
                    raise
                # The process died while it wrote this line.
                _log.warning("%s:%d: the last line is cut off and is left out", path, number)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as problem:
        fault = Fault(
            str(path), f"is not a journal of a trial ({problem})", "give the file that a trial's warning named"
        )
        raise TrackingError(str(fault), [fault]) from problem
    return first, operations
