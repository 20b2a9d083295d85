"""How long a launch still takes: what its trials cost by the plan, at the rate at which this launch has done such work.

A trial's cost is the seconds that a plan has for it where its step was measured, else its multiply-adds. Trainings and
evaluations have a rate each, seconds a unit of cost: a small evaluation is mostly the start of it. Where the study's
budget ends the launch before all are done, that is when it ends.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from prism_ray.distributed.study_status import TrialStatus


@dataclass(frozen=True)
class ToCome:
    """Trials of a search that are not known yet.

    Attributes:
        n_proposals: proposals that its budget leaves.
        n_finalists: finalists, and the baseline beside them, that are not chosen yet.
        finalist_steps: optimiser steps of each of these.
    """

    n_proposals: int = 0
    n_finalists: int = 0
    finalist_steps: int = 0


@dataclass(frozen=True)
class Caps:
    """What a study's budget leaves to a launch; None where there is no such cap.

    Attributes:
        wall_s: seconds until its `wall_hours` have passed.
        trial_s: seconds that trials may still run, summed over trials, until its `gpu_hours` are used.
    """

    wall_s: float | None = None
    trial_s: float | None = None


class TimeLeft(NamedTuple):
    """How long a launch still takes.

    Attributes:
        seconds: until it ends.
        cap: of the budget, that ends it before all trials are done; empty where none does.
    """

    seconds: float
    cap: str = ""


def time_left(
    trials: Sequence[TrialStatus], n_slots: int, to_come: ToCome | None = None, caps: Caps | None = None
) -> TimeLeft | None:
    """Time until all trials that run, wait or are to come are done; None before there is anything to go by.

    Those that wait start in their order, each where a trial ends first. Exact where times are proportional to costs.

    Args:
        trials: of the launch, in the order in which they are handed out.
        n_slots: trials at once; where more run, as many as run.
        to_come: proposals of a search are to take what those that have ended did on average, however they ended;
            finalists as long a step as the trials that are known.
        caps: what the budget leaves.
    """
    costs = _costs(trials)
    rates = {evaluates: _rate(trials, costs, evaluates) for evaluates in (False, True)}
    free, waiting = [], []
    for trial, cost in zip(trials, costs, strict=True):
        if trial.state in ("missing", "interrupted"):
            waiting.append(_times(cost * (1 - trial.from_part), rates[trial.evaluates]))
        elif trial.state == "running":
            free.append(_of_running(trial, cost, rates[trial.evaluates]))
    waiting += [_times(cost, rates[False]) for cost in _costs_to_come(trials, costs, to_come or ToCome())]
    n_slots = max(n_slots, len(free))
    if not n_slots or not (free or waiting):
        return None
    ends = _simulated(free + [0.0] * (n_slots - len(free)), waiting)
    return None if ends is None else _capped(ends, caps or Caps())


def _capped(ends: Sequence[float], caps: Caps) -> TimeLeft:
    """What comes first: all is done, or a cap is reached."""
    wall_s = math.inf if caps.wall_s is None else max(0.0, caps.wall_s)
    used_s = math.inf if caps.trial_s is None else _used_up(ends, caps.trial_s)
    # All that ends just then is done.
    return min(TimeLeft(max(ends)), TimeLeft(wall_s, "wall_hours"), TimeLeft(used_s, "gpu_hours"))


def _used_up(ends: Sequence[float], trial_s: float) -> float:
    """When slots that are busy until `ends` have run for `trial_s` together; never where they run for less."""
    at, left_s = 0.0, max(0.0, trial_s)
    for n_ended, end in enumerate(sorted(ends)):
        n_busy = len(ends) - n_ended
        if left_s <= n_busy * (end - at):
            return at + left_s / n_busy
        left_s -= n_busy * (end - at)
        at = end
    return math.inf


def _simulated(free: Sequence[float | None], waiting: Sequence[float | None]) -> list[float] | None:
    """Seconds until each slot has nothing to do any more, by when it is free for those that wait; None where one is
    unknown.
    """
    known = [seconds for seconds in free if seconds is not None]
    lengths = [seconds for seconds in waiting if seconds is not None]
    if len(known) < len(free) or len(lengths) < len(waiting):
        return None
    heapq.heapify(known)
    for seconds in lengths:
        heapq.heapreplace(known, known[0] + seconds)
    return known


def _costs(trials: Sequence[TrialStatus]) -> list[float]:
    """Cost of each trial, all in one unit: seconds, multiply-adds, or steps where a launch noted neither."""
    planned = [trial.planned_s for trial in trials if trial.planned_s is not None]
    if len(planned) == len(trials):
        return planned
    if all(trial.multiply_adds for trial in trials):
        return [float(trial.multiply_adds) for trial in trials]
    return [float(trial.n_steps) for trial in trials]


def _rate(trials: Sequence[TrialStatus], costs: Sequence[float], evaluates: bool) -> float | None:
    """Seconds a unit of cost, of trainings or of evaluations; None before there is anything to go by.

    As this launch has ended such trials; before it has, as those that run are on the way; before there is either, by
    trials of the other kind.
    """
    of_kind = [pair for pair in zip(trials, costs, strict=True) if pair[0].evaluates == evaluates]
    for pairs in (of_kind, list(zip(trials, costs, strict=True))):
        ended = [(trial.spent_s, trial.spent_part * cost) for trial, cost in pairs if trial.spent_part > 0]
        on_the_way = [
            (trial.for_s + trial.left_s, (1 - trial.from_part) * cost)
            for trial, cost in pairs
            if trial.state == "running" and trial.for_s is not None and trial.left_s is not None
        ]
        for found in (ended, on_the_way):
            work = sum(cost for _, cost in found)
            if work > 0:
                return sum(seconds for seconds, _ in found) / work
    return None


def _of_running(trial: TrialStatus, cost: float, rate: float | None) -> float | None:
    """Seconds that a running trial still takes: by its own pace, else what is expected of it less what it has had."""
    if trial.left_s is not None:
        return trial.left_s
    expected = _times(cost * (1 - trial.from_part), rate)
    return None if expected is None else max(0.0, expected - (trial.for_s or 0.0))


def _costs_to_come(trials: Sequence[TrialStatus], costs: Sequence[float], to_come: ToCome) -> list[float]:
    proposals = [(trial, cost) for trial, cost in zip(trials, costs, strict=True) if not trial.is_finalist]
    if not proposals:
        return []
    ended = [cost * trial.done_part for trial, cost in proposals if trial.state in ("done", "pruned")]
    each = ended or [cost for _, cost in proposals]
    step = sum(costs) / sum(trial.n_steps for trial in trials)
    return [sum(each) / len(each)] * to_come.n_proposals + [step * to_come.finalist_steps] * to_come.n_finalists


def _times(cost: float, rate: float | None) -> float | None:
    return None if rate is None else cost * rate
