"""What a launch tells its user about its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Progress(Protocol):
    """Is told what happens to the trials; runs in the driver."""

    def announce(self, networks: Sequence[str]) -> None:
        """What the study's networks are and cost, a line each; before anything is started."""

    def begin(self, n_trials: int, n_found: int) -> None:
        """A launch begins: trials of the study, and how many of them were finished before."""

    def started(self, label: str) -> None:
        """A trial was handed out, or handed out again."""

    def finished(self, label: str, metrics: Mapping[str, Any]) -> None:
        """A trial has a record; `metrics` are of its best model."""

    def pruned(self, label: str, how: str) -> None:
        """A trial was stopped by its search; its outcome is known, and it is not trained on."""

    def remark(self, text: str) -> None:
        """Something about the launch as a whole that its user should know, a line."""

    def failed(self, label: str, reason: str) -> None:
        """A trial failed and is not tried again in this launch."""

    def interrupted(self, label: str, reason: str) -> None:
        """A trial was told to end before its end and has kept its checkpoint; it goes on in the next launch."""
