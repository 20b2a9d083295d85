"""How far a running trial is, as its process notes it in the trial's folder while it trains."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from prism_ray.distributed.workspace import read_object, write_whole

PROGRESS_NAME = "progress.json"
_PAUSE_S = 1.0


@dataclass(frozen=True)
class ProgressNote:
    """How far a trial is.

    Attributes:
        step, n_steps: finished optimiser steps, and those of the whole run.
        first_step, first_at: finished steps at the first report of this process, and when that was; from there its pace
            is counted.
        validation: metrics of the last validation of this process, `val/...`; empty before the first.
        validated_step: step of that validation; 0 before the first.
        started: when this process began with it, seconds since 1970.
        updated: when this was written.
        host, pid: the process.
    """

    step: int
    n_steps: int
    first_step: int
    first_at: float
    validation: Mapping[str, float]
    validated_step: int
    started: float
    updated: float
    host: str
    pid: int

    @property
    def left_s(self) -> float | None:
        """Seconds that its training still takes at the pace of this process; None before its second report."""
        n_done = self.step - self.first_step
        return None if n_done < 1 else (self.n_steps - self.step) * (self.updated - self.first_at) / n_done


class ProgressWriter:
    """Keeps `progress.json` of a trial up to date, at most once a second.

    It never stops a trial: what cannot be written is left out.

    Args:
        folder: of the trial.
        n_steps: optimiser steps of the whole run.
    """

    def __init__(self, folder: Path, n_steps: int) -> None:
        self._path = folder / PROGRESS_NAME
        now = time.time()
        self._note = ProgressNote(
            step=0,
            n_steps=n_steps,
            first_step=0,
            first_at=0.0,
            validation={},
            validated_step=0,
            started=now,
            updated=now,
            host=platform.node(),
            pid=os.getpid(),
        )
        self._written = -_PAUSE_S
        self._write()

    def reached(self, step: int) -> None:
        """Note that a step is done."""
        self._change(step=step)

    def validated(self, metrics: Mapping[str, float], step: int) -> None:
        """Note a validation."""
        self._change(step=step, validation=dict(metrics), validated_step=step)

    def end(self) -> None:
        """Remove the file: the trial has a record, or another process will begin anew."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return

    def _change(self, **changes: Any) -> None:
        now = time.time()
        if not self._note.first_at:
            changes |= {"first_step": changes["step"], "first_at": now}
        self._note = replace(self._note, updated=now, **changes)
        if time.monotonic() - self._written >= _PAUSE_S:
            self._write()

    def _write(self) -> None:
        try:
            write_whole(self._path, json.dumps(asdict(self._note)), durable=False)
        except OSError:
            return
        self._written = time.monotonic()


def read_progress(folder: Path) -> ProgressNote | None:
    """What the trial's process noted last; None where there is nothing."""
    content = read_object(folder / PROGRESS_NAME)
    if content is None or content.keys() != {item.name for item in fields(ProgressNote)}:
        return None
    return ProgressNote(**content)
