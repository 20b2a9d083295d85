"""Progress of a study on stderr: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from prism_ray.cli.words import left_text

if TYPE_CHECKING:
    from prism_ray.distributed.time_left import TimeLeft

_LOOK_S = 5.0
"""Least time between two looks at the study's folders, for the time that is left."""
_LOOK_PART = 20
"""A look that takes long is made less often: at most one part in so many of the time is spent on looking."""


@dataclass(frozen=True)
class Shown:
    """What of a trial is shown.

    Attributes:
        metric: what the study chooses by, on validation genes.
        direction: whether less or more of it is better.
        report_metric: what its report compares.
        left: looks up how long the launch still takes, None where nothing is known of it.
    """

    metric: str
    direction: str
    report_metric: str
    left: Callable[[], TimeLeft | None] = lambda: None


class StudyProgress:
    """Says what happens to the trials of a study; use it as a context."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _LeftColumn(self._left_text),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._started: dict[str, float] = {}
        self._running: dict[str, None] = {}
        self._n_trials = self._n_done = self._n_failed = 0
        self._best: tuple[float, str] | None = None
        self._left: TimeLeft | None = None
        self._looked = self._look_again = -math.inf

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
        self._n_trials, self._n_done, self._n_failed = n_trials, n_found, 0
        kept = f", {n_found} of them ended before" if n_found else ""
        self._console.print(f"{n_trials} trials{kept}")
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task("trials", total=n_trials, completed=n_found)

    def started(self, label: str) -> None:
        """Show what runs now."""
        again = " again" if label in self._started else ""
        self._started[label] = time.monotonic()
        self._running[label] = None
        if not self._console.is_terminal:
            self._console.print(f"         {label} started{again}", markup=False)
        self._update()

    def finished(self, label: str, metrics: Mapping[str, Any]) -> None:
        """Show what a trial came to and how many are left."""
        took = self._end(label)
        self._n_done += 1
        shown = self._shown
        value = float(metrics.get(shown.metric, "nan"))
        sign = 1.0 if shown.direction == "minimize" else -1.0
        if math.isfinite(value) and (self._best is None or sign * value < sign * self._best[0]):
            self._best = value, label
        values = ", ".join(
            f"{name} {float(metrics.get(name, 'nan')):.4f}"
            for name in dict.fromkeys((shown.metric, shown.report_metric))
        )
        self._say(f"{label} finished in {took:.0f} s: {values}")

    def pruned(self, label: str, how: str) -> None:
        """Show that a search stopped a trial."""
        took = self._end(label)
        self._n_done += 1
        self._say(f"{label} pruned after {took:.0f} s: {how}")

    def remark(self, text: str) -> None:
        """Show a line."""
        self._console.print(text, markup=False)

    def failed(self, label: str, reason: str) -> None:
        """Show that a trial failed, and why."""
        took = self._end(label)
        self._n_failed += 1
        self._say(f"{label} FAILED after {took:.0f} s: {reason}")

    def interrupted(self, label: str, reason: str) -> None:
        """Show that a trial ended before its end with nothing wrong, and why."""
        self._end(label)
        self._console.print(f"         {label} interrupted: {reason}", markup=False)

    def _end(self, label: str) -> float:
        """Seconds since the trial was started."""
        self._running.pop(label, None)
        now = time.monotonic()
        return now - self._started.get(label, now)

    def _say(self, text: str) -> None:
        n_over = self._n_done + self._n_failed
        self._console.print(f"[{n_over:3d}/{self._n_trials}] {text}", markup=False)
        if not self._console.is_terminal:
            line = ", ".join(part for part in (self._counts(), self._left_text()) if part)
            self._console.print(f"         {line}", markup=False)
        self._update()

    def _counts(self) -> str:
        """Counts and the best so far."""
        parts = [f"{self._n_done} done", f"{len(self._running)} running"]
        if self._n_failed:
            parts.append(f"{self._n_failed} failed")
        if self._best is not None:
            parts.append(f"best {self._shown.metric} {self._best[0]:.4f} ({self._best[1]})")
        return ", ".join(parts)

    def _update(self) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=self._n_done + self._n_failed, description=self._counts())

    def _left_text(self) -> str:
        """How long the rest takes, in words; looked at anew now and then, and counted down in between."""
        if self._n_done + self._n_failed >= self._n_trials:
            return ""
        began = time.monotonic()
        if began >= self._look_again:
            self._left = self._shown.left()
            self._looked = time.monotonic()
            self._look_again = self._looked + max(_LOOK_S, _LOOK_PART * (self._looked - began))
        if self._left is None:
            return ""
        since_s = time.monotonic() - self._looked
        return left_text(self._left._replace(seconds=self._left.seconds - since_s), " left")


class _LeftColumn(ProgressColumn):
    def __init__(self, text: Callable[[], str]) -> None:
        super().__init__()
        self._text = text

    def render(self, task: Task) -> Text:
        return Text(self._text())
