"""Trials of a search that are stopped early: each judges itself at a rung, by what the others left there.

    <rungs folder>/<steps>/<trial id>.json    value of a trial at a rung, written once
    <trial folder>/pruned.json                the trial was stopped by a search; its checkpoint stays beside it

The files are on the workspace's shared storage, so any process on any node may judge its own trial: no trial waits for
a driver, one of several workers ends with the others as at any other end, and a search that is resumed finds its rungs
as they were. Whoever reads a rung a moment too early sees fewer trials there, and goes on rather than stops.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prism_ray.distributed.workspace import write_whole
from prism_ray.errors import CheckpointError, Fault
from prism_ray.study.halving import SuccessiveHalving
from prism_ray.study.search_spec import Objective

PRUNED_NAME = "pruned.json"


@dataclass(frozen=True)
class Pruned:
    """How a trial was stopped.

    Attributes:
        search: name of the search that stopped it, in the searcher's database.
        step: finished steps.
        n_steps: steps of the whole trial.
        metric: what it was judged by.
        value: lowest, or highest, value that it had reached.
        curve: (steps, value so far) of each rung at which it was judged.
    """

    search: str
    step: int
    n_steps: int
    metric: str
    value: float
    curve: tuple[tuple[int, float], ...]

    def __str__(self) -> str:
        return f"stopped after {self.step} of {self.n_steps} steps with {self.metric} {self.value:.4g}"


@dataclass(frozen=True)
class Pruning:
    """What a trial of a search needs to judge itself; plain data that any process can use.

    Attributes:
        search: name of the search in the searcher's database.
        rule: when a trial is stopped.
        objective: what it is judged by.
        rungs: folder of the search's rungs.
    """

    search: str
    rule: SuccessiveHalving
    objective: Objective
    rungs: Path

    def judge(self, trial_id: str, history: Iterable[Mapping[str, float]], n_steps: int) -> Pruned | None:
        """How a trial is stopped at its last validation, or None where it goes on.

        Args:
            history: every metric that it reported so far.
            n_steps: steps of the whole trial.
        """
        step, value = self.standings(history)[-1]
        if not self._stops(trial_id, value, step, n_steps):
            return None
        return Pruned(self.search, step, n_steps, self.objective.metric, value, self._curve(trial_id, n_steps))

    def enter(self, trial_id: str, history: Iterable[Mapping[str, float]], n_steps: int) -> None:
        """Note at which value a run that was trained to its end, for whatever study, passed each rung."""
        for step, value in self.standings(history):
            rung = self.rule.rung_at(step, n_steps)
            if rung is not None and math.isfinite(value) and not self._file(rung, trial_id).exists():
                write_whole(self._file(rung, trial_id), json.dumps({"value": value, "step": step}), durable=False)

    def standings(self, history: Iterable[Mapping[str, float]]) -> list[tuple[int, float]]:
        """(finished steps, best value so far) at each validation of a run's history."""
        best = min if self.objective.direction == "minimize" else max
        found: list[tuple[int, float]] = []
        for entry in history:
            value = entry.get(self.objective.metric)
            if value is not None:
                reached = [found[-1][1]] if found else []
                found.append((int(entry["step"]), best([*reached, value])))
        return found

    def pruned(self, trial_folder: Path) -> Pruned | None:
        """How this search stopped the trial of that folder; None where it did not.

        Raises:
            CheckpointError: the file that says so is damaged.
        """
        pruned = read_pruned(trial_folder)
        return pruned if pruned is not None and pruned.search == self.search else None

    def _stops(self, trial_id: str, value: float, step: int, n_steps: int) -> bool:
        """Whether a trial that has come to `value` after `step` steps is to be stopped; notes that it was there.

        It is judged once at each rung, and again where it comes to the same step a second time: a process that died
        right after it was judged has its trial judged again.
        """
        rung = self.rule.rung_at(step, n_steps)
        if rung is None or not math.isfinite(value):
            return False
        mine = self._file(rung, trial_id)
        if mine.exists() and int(json.loads(mine.read_text())["step"]) != step:
            return False
        # Written before the others are read: of two that come at the same time at least one sees the other.
        write_whole(mine, json.dumps({"value": value, "step": step}), durable=False)
        return self.rule.stops(value, self._values(rung, trial_id), self.objective.direction)

    def _curve(self, trial_id: str, n_steps: int) -> tuple[tuple[int, float], ...]:
        """(steps, value) at each rung that a trial was judged at."""
        files = [self._file(rung, trial_id) for rung in self.rule.rungs(n_steps)]
        entries = [json.loads(file.read_text()) for file in files if file.exists()]
        return tuple((int(entry["step"]), float(entry["value"])) for entry in entries)

    def _file(self, rung: int, trial_id: str) -> Path:
        return self.rungs / f"{rung:09d}" / f"{trial_id}.json"

    def _values(self, rung: int, but: str) -> list[float]:
        folder = self._file(rung, but).parent
        return [float(json.loads(file.read_text())["value"]) for file in folder.glob("*.json") if file.stem != but]


def write_pruned(folder: Path, pruned: Pruned) -> None:
    """Say in a trial's folder that it was stopped."""
    write_whole(folder / PRUNED_NAME, json.dumps(asdict(pruned)), durable=False)


def read_pruned(folder: Path) -> Pruned | None:
    """How the trial of a folder was stopped last by a search; None where it never was.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / PRUNED_NAME
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        content["curve"] = tuple((int(step), float(value)) for step, value in content["curve"])
        return Pruned(**content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as problem:
        fault = Fault(str(path), f"cannot be read ({problem})", "delete it: the search then judges the trial again")
        raise CheckpointError(str(fault), [fault]) from None
