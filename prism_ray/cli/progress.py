"""Progress of a study on stderr: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_SHOWN = "test/mse"


class StudyProgress:
    """Says what happens to the trials of a study; use it as a context."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._started: dict[str, float] = {}
        self._n_trials = self._n_done = self._n_failed = 0
        self._best: float | None = None

    def __enter__(self) -> StudyProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def announce(self, networks: Sequence[str]) -> None:
        """Show what the networks are and cost."""
        for line in networks:
            self._console.print(f"network  {line}", markup=False)

    def begin(self, n_trials: int, n_found: int) -> None:
        """Show how much there is to do."""
        self._n_trials, self._n_done = n_trials, n_found
        kept = f", {n_found} of them finished before" if n_found else ""
        self._console.print(f"{n_trials} trials{kept}")
        self._task = self._bar.add_task("trials", total=n_trials, completed=n_found)

    def started(self, label: str) -> None:
        """Show what runs now."""
        again = " again" if label in self._started else ""
        self._started[label] = time.monotonic()
        if not self._console.is_terminal:
            self._console.print(f"         {label} started{again}", markup=False)

    def finished(self, label: str, metrics: Mapping[str, Any]) -> None:
        """Show what a trial came to and how many are left."""
        self._n_done += 1
        value = float(metrics.get(_SHOWN, "nan"))
        if not math.isnan(value):
            self._best = value if self._best is None else min(value, self._best)
        self._say(f"{label} finished in {self._seconds(label):.0f} s: {_SHOWN} {value:.4f}")

    def pruned(self, label: str, how: str) -> None:
        """Show that a search stopped a trial."""
        self._n_done += 1
        self._say(f"{label} pruned: {how}")

    def remark(self, text: str) -> None:
        """Show a line."""
        self._console.print(text, markup=False)

    def failed(self, label: str, reason: str) -> None:
        """Show that a trial failed, and why."""
        self._n_failed += 1
        self._say(f"{label} FAILED after {self._seconds(label):.0f} s: {reason}")

    def interrupted(self, label: str, reason: str) -> None:
        """Show that a trial ended before its end with nothing wrong, and why."""
        self._console.print(f"         {label} interrupted: {reason}", markup=False)

    def _seconds(self, label: str) -> float:
        now = time.monotonic()
        return now - self._started.get(label, now)

    def _say(self, text: str) -> None:
        n_over = self._n_done + self._n_failed
        self._console.print(f"[{n_over:3d}/{self._n_trials}] {text}", markup=False)
        if self._task is not None:
            running = "trials" if self._best is None else f"best {self._best:.4f}"
            failed = f", {self._n_failed} failed" if self._n_failed else ""
            self._bar.update(self._task, completed=n_over, description=running + failed)
