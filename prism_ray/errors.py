"""What can be wrong with input, and how it is said.

Every fault of an input is collected first and reported together: a user mends a catalog once, not
once a fault. `cli` turns a `PrismRayError` into its text on stderr and exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where it is, what was given, and what to do about it.

    Attributes:
        where: file and place in it, for example `catalog.yaml:12: cell_types.K562.label.column`.
        problem: what was given there and why it cannot be used.
        fix: what is allowed, or what to do; may be empty where the problem says it all.
    """

    where: str
    problem: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}"
        return f"{text}; {self.fix}" if self.fix else text


class PrismRayError(Exception):
    """A fault that the user can mend. Carries every fault found, in the order found."""

    def __init__(self, message: str, faults: Iterable[Fault] = ()) -> None:
        self.faults = tuple(faults)
        super().__init__(message)


class InputError(PrismRayError, ValueError):
    """Input files, tables or settings that cannot be used."""


class ConfigError(InputError):
    """A run's settings, or a study file, that cannot be used."""


class CatalogError(InputError):
    """A catalog, or a raw file that it names, that cannot be used."""


class StoreError(InputError):
    """A feature store that cannot be read, or cannot be written where asked."""


class CheckpointError(InputError):
    """A model folder or a checkpoint that cannot be used."""


class BusyError(InputError):
    """Something that another process works on, so that this one must not."""


class TrackingError(PrismRayError):
    """A tracking store that cannot be reached, or does not hold what was asked for."""


class SearchDatabaseError(PrismRayError):
    """A searcher's database that is locked or away for too long."""


class MissingDependencyError(PrismRayError, ImportError):
    """An optional package is needed for what was asked, and is not installed."""


class TrainingError(PrismRayError, RuntimeError):
    """A run that cannot go on, for example because its loss is not a number."""


class WorkerLostError(PrismRayError, RuntimeError):
    """A worker of the run is gone, as when its process was killed: the others cannot go on without it."""


class FaultList:
    """Collects faults while checks go on, then raises them all in one error."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, where: str, problem: str, fix: str = "") -> None:
        self._faults.append(Fault(where, problem, fix))

    def extend(self, faults: Iterable[Fault]) -> None:
        self._faults.extend(faults)

    def __bool__(self) -> bool:
        return bool(self._faults)

    def __len__(self) -> int:
        return len(self._faults)

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(self._faults)

    def raise_if_any(self, error: type[PrismRayError]) -> None:
        """Raise `error` with all faults, one a line; do nothing where there are none."""
        if not self._faults:
            return
        lines = [str(fault) for fault in self._faults]
        if len(lines) > 1:
            lines.insert(0, f"{len(lines)} faults:")
        raise error("\n  ".join(lines), self._faults)


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Text that names what is allowed and the nearest candidate to `word`, for a fault's `fix`."""
    options = sorted(candidates)
    if not options:
        return "none is allowed here"
    near = difflib.get_close_matches(word.lower(), [option.lower() for option in options], n=1, cutoff=0.6)
    listed = ", ".join(options[:12]) + (f", ... ({len(options)} in all)" if len(options) > 12 else "")
    text = f"use one of {listed}"
    if near:
        match = next(option for option in options if option.lower() == near[0])
        text += f". Did you mean {match!r}?"
    return text
