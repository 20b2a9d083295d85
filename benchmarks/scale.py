"""What a driver does with up to 10,000 trials on up to 1,000 nodes, simulated: the engine's parts, a clock of our own.

    python benchmarks/scale.py            about a minute
    python benchmarks/scale.py --json     the same as one JSON document

The study of `benchmarks/plan.py` (20 arms, seeds, 5 folds) is planned, expanded into tasks, noted and handed out by
the engine's own `plan_study`, `TaskMaker`, `note_launch` and `TrialQueue`, through a backend that trains nothing: a
trial takes a slot for a drawn time (lognormal, sigma 0.3) of a simulated clock. There the driver is one process:
each suggestion and each end takes the real time that the queue's call took here, and 9 ms of Ray Tune's own a trial
(measured with Ray 2.60, docs/scale.md). One slot a node.

*Makespan* is held against the bound that no schedule beats: the longest trial, or all trials shared by the slots.
*Tracker calls* are those of a real trial into a real MLflow store (SQLite), counted at the store's own methods.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

import prism_ray.store  # noqa: E402
from benchmarks.plan import make_workspace  # noqa: E402
from benchmarks.sweep import Silent  # noqa: E402
from prism_ray.distributed.backend import Backend, Work  # noqa: E402
from prism_ray.distributed.launch import TaskMaker  # noqa: E402
from prism_ray.distributed.launch_note import MoreTrials  # noqa: E402
from prism_ray.distributed.launch_noting import NotedTasks, note_launch  # noqa: E402
from prism_ray.distributed.launch_settings import StudySettings  # noqa: E402
from prism_ray.distributed.plan import plan_study, study_costs  # noqa: E402
from prism_ray.distributed.resources import TrialResources  # noqa: E402
from prism_ray.distributed.scale import driver_load, tracker_calls  # noqa: E402
from prism_ray.distributed.searcher import FAILURE_KEY  # noqa: E402
from prism_ray.distributed.study_ablation import FixedTasks  # noqa: E402
from prism_ray.distributed.trial import TrialTask  # noqa: E402
from prism_ray.distributed.trial_queue import GivenTrials, TrialQueue  # noqa: E402
from prism_ray.study.designs import expand  # noqa: E402
from prism_ray.study.spec import Study  # noqa: E402
from prism_ray.tracking import MlflowTracker  # noqa: E402
from tests.tracking_support import STUDY, fresh_store, trial_header  # noqa: E402

TUNE_S = 0.009
CASES = ((10, 1_000, 600.0), (100, 10_000, 600.0), (1_000, 10_000, 600.0), (1_000, 10_000, 60.0), (1_000, 10_000, 10.0))
"""Nodes, trials, median seconds of a trial."""


class TimedBackend(Backend):
    """Runs no trial: it lets the time of one pass on a clock of its own, many at once.

    Attributes:
        clock_s: of the driver.
        queue_s: real seconds in the queue's calls.

    Args:
        trial_s: seconds of each trial, in the order in which they start.
    """

    def __init__(self, trial_s: np.ndarray) -> None:
        self._trial_s = trial_s
        self.clock_s = self.queue_s = 0.0

    def run(self, work: Work) -> None:
        """Hand out trials to free slots until there are no more."""
        running: list[tuple[float, str]] = []
        n_started, is_over = 0, False
        while not is_over or running:
            while not is_over and len(running) < work.n_concurrent:
                name = f"{n_started:08d}"
                found = self._timed(functools.partial(work.queue.suggest, name))
                is_over = not isinstance(found, dict)
                if not is_over:
                    work.source.task(found)
                    self.clock_s += TUNE_S
                    heapq.heappush(running, (self.clock_s + float(self._trial_s[n_started]), name))
                    n_started += 1
            if running:
                end, name = heapq.heappop(running)
                self.clock_s = max(self.clock_s, end)
                done = {work.objective: 0.5, FAILURE_KEY: ""}
                self._timed(functools.partial(work.queue.on_trial_complete, name, done))

    def _timed(self, call: Any) -> Any:
        started = time.perf_counter()
        answer = call()
        took = time.perf_counter() - started
        self.queue_s += took
        self.clock_s += took
        return answer


@dataclass(frozen=True)
class Case:
    """One simulated launch; seconds, bytes.

    Attributes:
        nodes, trials, trial_s: what is simulated; median seconds of a trial.
        plan_s, begin_s: real time of the plan, and of making and noting all tasks.
        queue_ms: real milliseconds of the queue a trial.
        memory_mib: what the driver's memory grew by.
        makespan_s, bound_s: on the simulated clock, and what no schedule beats.
        load: part of the time that the model says the driver is busy.
        tracker_calls: calls a second by the model.
    """

    nodes: int
    trials: int
    trial_s: float
    plan_s: float
    begin_s: float
    queue_ms: float
    memory_mib: float
    makespan_s: float
    bound_s: float
    load: float
    tracker_calls: float


def simulate(folder: Path, study: Study, nodes: int, n_trials: int, trial_s: float) -> Case:
    """One launch of some of the study's trials."""
    settings = StudySettings(folder / "store", folder / "results", "sqlite:////nowhere.db", command="benchmark")
    before, started = resident_mib(), time.perf_counter()
    asked = replace(settings, max_concurrent=nodes).plan()
    plan_study(study, asked)
    planned = time.perf_counter()
    store = prism_ray.store.open(settings.store)
    costs = study_costs(study, store, asked)
    maker = TaskMaker(settings, store.digest, "p" * 32, {})
    tasks: dict[str, TrialTask] = {task.trial_id: task for task in map(maker.make, expand(study)[:n_trials])}
    note_launch(
        study,
        settings,
        costs=costs,
        data_digest=maker.data_digest,
        launch_id=maker.launch,
        parent_run_id="p" * 32,
        tasks=tasks.values(),
        n_trials=n_trials,
        n_found=0,
        n_finalists=0,
    )
    source = FixedTasks(tasks)
    noted = NotedTasks(source, costs, MoreTrials(settings.storage, study.name).add)
    queue = TrialQueue(GivenTrials(tuple(tasks)), noted, Silent())
    begun = time.perf_counter()
    drawn = np.random.default_rng(7).lognormal(np.log(trial_s), 0.3, n_trials)
    backend = TimedBackend(drawn)
    backend.run(Work(source, TrialResources(), queue, nodes, folder / "scratch"))
    return Case(
        nodes,
        n_trials,
        trial_s,
        plan_s=planned - started,
        begin_s=begun - planned,
        queue_ms=1000 * backend.queue_s / n_trials,
        memory_mib=resident_mib() - before,
        makespan_s=backend.clock_s,
        bound_s=max(float(drawn.sum()) / nodes, float(drawn.max())),
        load=driver_load(nodes, trial_s),
        tracker_calls=tracker_calls(nodes, trial_s),
    )


def resident_mib() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def calls_of_a_trial(folder: Path) -> dict[str, int]:
    """Calls to an MLflow store from a trial's first word to its last, and of each further report while it trains."""
    tracker = MlflowTracker(fresh_store(folder))
    parent = tracker.open_study(STUDY, {})
    artifact = folder / "model.safetensors"
    artifact.write_bytes(b"x")
    with counted() as calls:
        log = tracker.open_trial(parent, trial_header())
        log.finish("FINISHED")
        begin_and_end = calls["n"]
        log = tracker.open_trial(parent, trial_header(seed=22))
        log.log({"val/mse": 0.5, "train/mse": 0.4}, 10)
        log.finish("FINISHED")
        return {"begin_and_end": begin_and_end, "report": calls["n"] - 2 * begin_and_end}


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Count the outermost calls of public methods of MLflow's SQL store for the time of the block."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    calls, depth = {"n": 0}, {"n": 0}
    methods = {name: method for name, method in vars(SqlAlchemyStore).items() if callable(method) and name[0] != "_"}

    def counting(method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls["n"] += depth["n"] == 0
            depth["n"] += 1
            try:
                return method(*args, **kwargs)
            finally:
                depth["n"] -= 1

        return call

    for name, method in methods.items():
        setattr(SqlAlchemyStore, name, counting(method))
    try:
        yield calls
    finally:
        for name, method in methods.items():
            setattr(SqlAlchemyStore, name, method)


def main(argv: list[str] | None = None) -> int:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = make_workspace(folder)
        cases = [simulate(folder, study, *case) for case in CASES]
        calls = calls_of_a_trial(folder)
    if asked.json:
        found = {"cases": [asdict(case) for case in cases], "calls": calls}
        print(json.dumps({**found, "machine": platform.platform(), "cpus": os.cpu_count()}, indent=2))
        return 0
    print("nodes  trials  trial s  plan s  begin s  queue ms  MiB more  makespan s  /bound  driver  tracker calls/s")
    for one in cases:
        print(
            f"{one.nodes:5,}  {one.trials:6,}  {one.trial_s:7g}  {one.plan_s:6.2f}  {one.begin_s:7.2f}"
            f"  {one.queue_ms:8.3f}"
            f"  {one.memory_mib:8.0f}  {one.makespan_s:10,.0f}  {one.makespan_s / one.bound_s:6.3f}  {one.load:6.1%}"
            f"  {one.tracker_calls:15,.0f}"
        )
    print(f"a trial's calls to its MLflow store: {calls['begin_and_end']} at begin and end, {calls['report']} a report")
    return 0


if __name__ == "__main__":
    sys.exit(main())
