"""Why a trial failed: `failure.json` in its folder, and whether trying it again could end otherwise."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from pathlib import Path

from prism_ray.distributed.workspace import write_whole
from prism_ray.errors import PrismRayError, TrainingError

FAILURE_NAME = "failure.json"
TRACEBACK_NAME = "traceback.txt"


class ProcessDiedError(TrainingError):
    """A trial whose process died as often as it may in one launch."""


@dataclass(frozen=True)
class Failure:
    """Why a trial failed.

    Attributes:
        trial_id: of the trial.
        kind: name of the exception.
        reason: its text, or for a bug the last line of its traceback.
        repeats: whether it would end the same way again. Such a trial is run again only when somebody asks for it.
    """

    trial_id: str
    kind: str
    reason: str
    repeats: bool

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


def would_repeat(problem: BaseException) -> bool:
    """Whether a trial that ended with this exception would end so again.

    A loss that is no number does, and so does a bug. A full disk, a damaged file, a node without its GPU or a process
    that was killed, a worker among them, may be mended by the next launch, which tries again.
    """
    if isinstance(problem, TrainingError):
        return not isinstance(problem, ProcessDiedError)
    from ray.exceptions import RayError  # who only reads why trials failed needs none of Ray

    return not isinstance(problem, PrismRayError | OSError | MemoryError | RayError)


def note_failure(folder: Path, trial_id: str, problem: Exception) -> Failure:
    """Leave the reason of a failure in the trial's folder; of a bug the whole traceback beside it.

    On a full disk the note is lost as well: whoever started the trial is told the reason anyway.
    """
    repeats = would_repeat(problem)
    reason = str(problem)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if repeats and not isinstance(problem, PrismRayError):
            (folder / TRACEBACK_NAME).write_text("".join(traceback.format_exception(problem)))
            reason = (
                f"{reason or 'no message'} ({_place(problem)}; the whole traceback is in {folder / TRACEBACK_NAME})"
            )
        failure = Failure(trial_id, type(problem).__name__, reason, repeats)
        write_whole(folder / FAILURE_NAME, json.dumps(vars(failure), indent=1), durable=False)
    except OSError:
        return Failure(trial_id, type(problem).__name__, reason, repeats)
    return failure


def read_failure(folder: Path) -> Failure | None:
    """The trial's last failure; None where it has not failed, or is to be tried again."""
    try:
        content = json.loads((folder / FAILURE_NAME).read_text())
    except FileNotFoundError:
        return None
    # Notes of earlier versions do not say.
    return Failure(**{"repeats": content["kind"] == "TrainingError", **content})


def forget_failure(folder: Path) -> bool:
    """Remove the reason of a failure, so that the trial is run again; whether there was one."""
    (folder / TRACEBACK_NAME).unlink(missing_ok=True)
    try:
        (folder / FAILURE_NAME).unlink()
    except FileNotFoundError:
        return False
    return True


def _place(problem: Exception) -> str:
    frame = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
