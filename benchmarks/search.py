"""How much less a search computes than the full grid: our searcher and our pruner, replayed on tabulated runs.

    python benchmarks/search.py              the table: random, TPE, TPE + ASHA over 20 seeds; about five minutes
    python benchmarks/search.py --seeds 3    fewer seeds
    python benchmarks/search.py --landscape tuning     the landscape on which settings may be tried out
    python benchmarks/search.py --json       the same as one JSON document

Nothing is trained: search_grid.json holds the validation curve of every setting of a grid that was trained in full
(benchmarks/search_grid.py says how). The proposals are those of `StudySearcher` on a journal of its own, the verdicts
those of `SuccessiveHalving`; a clock of several slots decides in which order trials report, a step being a tick.

What counts is the compute in optimiser steps, over all trials and until the first one *ends* within 1 % of the grid's
lowest validation MSE, as a part of the steps of the full grid. A search that never gets there counts as 1.
"""

from __future__ import annotations

import argparse
import heapq
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.search_grid import FIXED, TABLE
from prism_ray.config import RunConfig, patched
from prism_ray.distributed.searcher import CURVE_KEY, FAILURE_KEY, PRUNED_KEY, StudySearcher
from prism_ray.study.halving import SuccessiveHalving
from prism_ray.study.search_spec import Objective, Search
from prism_ray.study.space import Choice, Dimension, Domain, Subset
from prism_ray.study.spec import Study

GOAL = 0.25
N_SLOTS = 4
WITHIN = 0.01
METRIC = "val/mse"


@dataclass(frozen=True)
class Landscape:
    """Tabulated runs.

    Attributes:
        n_steps: steps of a whole run.
        steps: finished steps at each validation; the last is the end.
        curves: lowest validation MSE so far at each of them, by the values of the searched settings; empty where the
            loss was no number.
        dimensions: the searched settings with the grid's levels.
        place: cell type and fold.
    """

    n_steps: int
    steps: tuple[int, ...]
    curves: dict[tuple[Any, ...], tuple[float, ...]]
    dimensions: tuple[Dimension, ...]
    place: dict[str, str]

    @property
    def target(self) -> float:
        """Value within which a search has found what the grid would have."""
        return min(curve[-1] for curve in self.curves.values() if curve) * (1 + WITHIN)

    @property
    def grid_steps(self) -> int:
        """Steps of the full grid."""
        return len(self.curves) * self.n_steps

    def curve(self, values: dict[str, Any]) -> tuple[float, ...]:
        """The curve of a proposal, given by its encoded values."""
        decoded = [dimension.domain.decode(values[dimension.path]) for dimension in self.dimensions]
        return self.curves[tuple(decoded)]


def read_landscape(name: str) -> Landscape:
    """A landscape of search_grid.json."""
    content = json.loads(TABLE.read_text())
    levels = {path: [_level(level) for level in one] for path, one in content["levels"].items()}
    found = content["landscapes"][name]
    settings = product(*levels.values())
    return Landscape(
        content["fixed"]["training.n_steps"],
        tuple(found["steps"]),
        dict(zip(settings, map(tuple, found["curves"]), strict=True)),
        tuple(Dimension(path, _domain(one)) for path, one in levels.items()),
        found["place"],
    )


def _level(level: Any) -> Any:
    return tuple(level) if isinstance(level, list) else level


def _domain(levels: list[Any]) -> Domain:
    if isinstance(levels[0], tuple):
        return Subset(max(levels, key=len), 1)
    return Choice(tuple(levels))


def study_of(landscape: Landscape, sampler: Literal["tpe", "random"], seed: int, n_startup: int) -> Study:
    """A search of the landscape's grid."""
    search = Search(landscape.dimensions, sampler, len(landscape.curves), n_startup, seed)
    return Study(
        name="replay",
        path=Path("replay.yaml"),
        question="?",
        claim="?",
        source="?",
        kind="search",
        baseline=patched(RunConfig(), FIXED, "grid"),
        arms=(),
        baseline_arm=None,
        changes=(),
        curve=None,
        seeds=(2,),
        folds=(landscape.place["data.fold"],),
        cell_types=(landscape.place["data.cell_type"],),
        objective=Objective(METRIC, "minimize"),
        report_metric="test/mse",
        search=search,
    )


@dataclass
class _Clock:
    """Trials that run in slots: which reports next, and what all have computed."""

    landscape: Landscape
    rule: SuccessiveHalving | None
    rungs: dict[int, list[float]] = field(default_factory=dict)
    judged: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    waiting: list[tuple[int, int, str]] = field(default_factory=list)
    curves: dict[str, tuple[float, ...]] = field(default_factory=dict)
    started: dict[str, int] = field(default_factory=dict)
    spent: int = 0

    def start(self, name: str, curve: tuple[float, ...], now: int) -> None:
        """Give a slot to a trial; one whose loss was no number is over at once."""
        self.curves[name], self.started[name], self.judged[name] = curve, now, []
        heapq.heappush(self.waiting, (now + self.landscape.steps[0], 0, name))

    def next_report(self) -> tuple[int, str, dict[str, Any] | None]:
        """The time of the next validation, its trial, and the trial's result where it ends with it."""
        now, number, name = heapq.heappop(self.waiting)
        curve, steps = self.curves[name], self.landscape.steps
        if not curve:
            self.spent += steps[0]
            return now, name, {FAILURE_KEY: "the loss is no number"}
        if number == len(steps) - 1:
            self.spent += steps[-1]
            return now, name, {METRIC: curve[-1], FAILURE_KEY: ""}
        if self._stops(name, steps[number], curve[number]):
            self.spent += steps[number]
            return now, name, {CURVE_KEY: self.judged[name], PRUNED_KEY: "stopped", FAILURE_KEY: ""}
        heapq.heappush(self.waiting, (now + steps[number + 1] - steps[number], number + 1, name))
        return now, name, None

    def spent_until(self, now: int) -> int:
        """Steps of all trials, those that still run included."""
        return self.spent + sum(now - self.started[name] for _, _, name in self.waiting)

    def _stops(self, name: str, step: int, value: float) -> bool:
        rung = self.rule.rung_at(step, self.landscape.n_steps) if self.rule is not None else None
        if self.rule is None or rung is None or any(rung <= before for before, _ in self.judged[name]):
            return False
        others = self.rungs.setdefault(rung, [])
        stops = self.rule.stops(value, others, "minimize")
        others.append(value)
        self.judged[name].append((step, value))
        return stops


def replay(landscape: Landscape, study: Study, rule: SuccessiveHalving | None, folder: Path) -> float:
    """Part of the grid's steps until a trial ends within 1 % of its best; 1 where none does."""
    searcher = StudySearcher(study, folder / f"{study.search.seed if study.search else 0}.journal", "replay")
    clock = _Clock(landscape, rule)
    names = (f"t{number}" for number in range(10 * len(landscape.curves)))
    for _ in range(N_SLOTS):
        _hand_out(searcher, clock, names, 0)
    while clock.waiting:
        now, name, result = clock.next_report()
        if result is None:
            continue
        searcher.on_trial_complete(name, result)
        if result.get(METRIC, float("inf")) <= landscape.target:
            return clock.spent_until(now) / landscape.grid_steps
        _hand_out(searcher, clock, names, now)
    return 1.0


def _hand_out(searcher: StudySearcher, clock: _Clock, names: Iterator[str], now: int) -> None:
    name = next(names)
    proposal = searcher.suggest(name)
    if isinstance(proposal, dict):
        clock.start(name, clock.landscape.curve(proposal["values"]), now)


METHODS: dict[str, tuple[Literal["tpe", "random"], bool]] = {
    "random": ("random", False),
    "random + ASHA": ("random", True),
    "TPE": ("tpe", False),
    "TPE + ASHA": ("tpe", True),
}


def measure(args: argparse.Namespace) -> dict[str, list[float]]:
    """Parts of the grid's steps by method, one a seed."""
    landscape = read_landscape(args.landscape)
    rule = SuccessiveHalving(args.reduction, args.min_fraction)
    found: dict[str, list[float]] = {}
    for name in args.methods:
        sampler, prunes = METHODS[name]
        for seed in range(args.seeds):
            study = study_of(landscape, sampler, seed, args.startup)
            with tempfile.TemporaryDirectory() as folder:
                part = replay(landscape, study, rule if prunes else None, Path(folder))
            found.setdefault(name, []).append(part)
            print(f"{name} seed {seed}: {part:.3f}", file=sys.stderr, flush=True)
    return found


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 where all seeds of TPE + ASHA were replayed and their median misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--landscape", choices=("judged", "tuning"), default="judged")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--reduction", type=int, default=3)
    parser.add_argument("--min-fraction", type=float, default=0.1)
    parser.add_argument("--startup", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    found = measure(args)
    if args.json:
        print(json.dumps({"landscape": args.landscape, "goal": GOAL, "parts": found}, indent=1))
    else:
        print("| method | median | quartiles | lowest | highest | seeds |")
        print("|---|---|---|---|---|---|")
        for name, parts in found.items():
            low, middle, high = statistics.quantiles(parts, n=4) if len(parts) > 1 else (parts[0],) * 3
            shown = f"{middle:.3f} | {low:.3f} to {high:.3f} | {min(parts):.3f} | {max(parts):.3f} | {len(parts)}"
            print(f"| {name} | {shown} |")
    ours = found.get("TPE + ASHA", [])
    return int(args.landscape == "judged" and bool(ours) and statistics.median(ours) > GOAL)


if __name__ == "__main__":
    sys.exit(main())
