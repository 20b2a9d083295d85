"""What a sweep costs beyond its training: many small trials on Ray Tune, tracked in MLflow, as a user runs them.

    python benchmarks/sweep.py            about two minutes on two cores
    python benchmarks/sweep.py --json     the same as one JSON document
    python benchmarks/sweep.py --folder F keep genome, store and workspace in F, and use the store again

A simulated genome of 400 genes and its store; two arms (n = 0 and n = 2) with 16 seeds each, at the scale of
`search_spaces/smoke.yaml`; one CPU a trial, as many at once as there are CPUs (*slots*); an MLflow store in SQLite with
its own tables made before. `run_study` is called as `prism-ray run` calls it. What is measured, all by one clock:

*Pure training* of a trial is the call of `train`: network built, optimiser steps, validations, their checkpoints, and
the test of the best model. Seconds in optimiser steps alone stand beside it.

*Overhead* is the slots' time against pure training after the first trial: for each process that ran trials, the time
from its first record until the last record of the sweep, summed over processes, divided by the pure training of all
trials but each process's first. 1.00 would be a sweep in which every slot trains without a pause until all end at once.
What the slots wait for each other at the end is in it, and is shown alone too. Goal: at most 1.05.

*Trial start* is the time from the previous record of the same process until the first optimiser step of the next
trial: the end of the one trial, Ray Tune's bookkeeping, data, network. Goal: at most 0.5 s, for each trial but a
process's first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.sweep_probe import EVENTS_VARIABLE, RECORD, STEP, TRAIN, TRIAL  # noqa: E402

SEEDS = tuple(range(1, 17))
OVERHEAD_GOAL, START_GOAL_S = 1.05, 0.5


class Silent:
    """A progress that says nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


@dataclass(frozen=True)
class Watched:
    """One trial as its process saw it; seconds of one clock.

    Attributes:
        train: begin and end of `train`.
        first_step: when its first optimiser step began.
        steps_s: seconds in optimiser steps.
        recorded: when its record was written.
        parts: seconds by part, of the thread that trains; `deliver to MLflow` of any.
    """

    train: tuple[float, float]
    first_step: float
    steps_s: float
    recorded: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class Sweep:
    """What a sweep came to; seconds."""

    n_trials: int
    slots: int
    wall_s: float
    training_s: float
    steps_s: float
    overhead: float
    overhead_without_tail: float
    tail_s: float
    starts_s: list[float]
    first_start_s: float
    after_last_record_s: float
    parts_s: dict[str, float]
    """Median a trial after the first of its process."""


def trials_of(file: Path) -> list[Watched]:
    """Trials of one process, in order."""
    events = [json.loads(line) for line in file.read_text().splitlines()]
    found = []
    ends = sorted((event["end"], event["start"]) for event in events if event["part"] == TRIAL)
    for end, start in ends:
        inside = [event for event in events if start <= event["start"] <= end]
        trained = [event for event in inside if event["part"] == TRAIN]
        steps = [event for event in inside if event["part"] == STEP]
        recorded = [event for event in inside if event["part"] == RECORD]
        parts: dict[str, float] = {}
        for event in inside:
            parts[event["part"]] = parts.get(event["part"], 0.0) + event["end"] - event["start"]
        found.append(
            Watched(
                train=(trained[0]["start"], trained[0]["end"]),
                first_step=min(event["start"] for event in steps),
                steps_s=sum(event["end"] - event["start"] for event in steps),
                recorded=recorded[0]["end"],
                parts=parts,
            )
        )
    return found


def summary(processes: Sequence[Sequence[Watched]], started: float, ended: float) -> Sweep:
    """Figures of a sweep from its processes' trials."""
    trials = [trial for process in processes for trial in process]
    later = [trial for process in processes for trial in process[1:]]
    last = max(trial.recorded for trial in trials)
    slot_s = sum(last - process[0].recorded for process in processes)
    tail_s = sum(last - process[-1].recorded for process in processes)
    trained_s = sum(end - begin for begin, end in (trial.train for trial in later))
    names = {name for trial in later for name in trial.parts}
    return Sweep(
        n_trials=len(trials),
        slots=len(processes),
        wall_s=ended - started,
        training_s=sum(trial.train[1] - trial.train[0] for trial in trials),
        steps_s=sum(trial.steps_s for trial in trials),
        overhead=slot_s / trained_s,
        overhead_without_tail=(slot_s - tail_s) / trained_s,
        tail_s=tail_s,
        starts_s=sorted(
            after.first_step - before.recorded for process in processes for before, after in pairwise(process)
        ),
        first_start_s=min(trial.first_step for trial in trials) - started,
        after_last_record_s=ended - last,
        parts_s={name: median([trial.parts.get(name, 0.0) for trial in later]) for name in sorted(names)},
    )


def make_study(folder: Path) -> Any:
    """The smoke study with 16 seeds, as a file and as it is read."""
    from prism_ray.study.load import load_study

    text = (ROOT / "search_spaces" / "smoke.yaml").read_text()
    text = text.replace("seeds: [2, 22]", f"seeds: {list(SEEDS)}").replace(
        "max_trials: 4", f"max_trials: {2 * len(SEEDS)}"
    )
    path = folder / "sweep.yaml"
    path.write_text(text)
    study = load_study(path)
    assert study.seeds == SEEDS
    return study


def make_store(folder: Path) -> Path:
    """Store of a simulated genome, made once a folder."""
    from prism_ray.distributed.build import build_store
    from prism_ray.features.simulate import SimulationConfig, simulate

    if not (folder / "store").exists():
        simulate(folder / "genome", SimulationConfig(genes=400, seed=7))
        build_store(folder / "genome" / "catalog.yaml", folder / "store")
    return folder / "store"


def run_sweep(folder: Path, store: Path) -> Sweep:
    """Run the study in a new workspace below `folder`."""
    import ray

    from prism_ray.distributed.launch_settings import StudySettings
    from prism_ray.distributed.resources import TrialResources
    from prism_ray.distributed.runtime import WORKER_ENVIRONMENT
    from prism_ray.distributed.study_run import run_study
    from prism_ray.tracking import prepare, resolve_tracking_uri

    workspace = Path(tempfile.mkdtemp(prefix="sweep-", dir=folder))
    uri = resolve_tracking_uri(None, workspace)
    prepare(uri)
    events = workspace / "events"
    events.mkdir()
    settings = StudySettings(store=store, storage=workspace, tracking_uri=uri, resources=TrialResources())
    study = make_study(workspace)
    started = time.time()
    variables = {**WORKER_ENVIRONMENT, EVENTS_VARIABLE: str(events), "PYTHONPATH": str(ROOT)}
    ray.init(
        address="local",
        num_cpus=len(os.sched_getaffinity(0)),
        object_store_memory=300 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="warning",
        runtime_env={"env_vars": variables, "worker_process_setup_hook": "benchmarks.sweep_probe.install"},
    )
    try:
        outcome = run_study(study, settings, Silent())
        ended = time.time()
    finally:
        ray.shutdown()
    assert outcome.n_finished == outcome.n_trials == 2 * len(SEEDS), outcome.failures
    processes = [trials for file in sorted(events.glob("*.jsonl")) if (trials := trials_of(file))]
    return summary(processes, started, ended)


def show(sweep: Sweep) -> None:
    """Print the figures for people."""
    worst, middle = sweep.starts_s[-1], median(sweep.starts_s)
    print(f"{sweep.n_trials} trials, {sweep.slots} slots, {sweep.wall_s:.1f} s from start to end")
    print(f"pure training {sweep.training_s:.1f} s, of it optimiser steps {sweep.steps_s:.1f} s")
    print(
        f"overhead      {sweep.overhead:.3f} (goal {OVERHEAD_GOAL}); without the last trial's wait "
        f"{sweep.overhead_without_tail:.3f}"
    )
    print(f"trial start   median {middle:.3f} s, longest {worst:.3f} s (goal {START_GOAL_S} s)")
    print(
        f"first step    {sweep.first_start_s:.1f} s after the start; end {sweep.after_last_record_s:.1f} s after the "
        "last record"
    )
    print("\nmedian a trial after the first of its process, ms")
    for name, seconds in sorted(sweep.parts_s.items(), key=lambda item: -item[1]):
        print(f"  {name:24s} {1000 * seconds:8.1f}")


def main() -> None:
    """Run the benchmark and print what it found."""
    parser = argparse.ArgumentParser(description="What a sweep costs beyond its training.")
    parser.add_argument("--folder", type=Path, help="keep genome, store and workspaces here")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    args = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        sweep = run_sweep(folder.absolute(), make_store(folder.absolute()))
    if args.json:
        print(json.dumps({"machine": platform.processor() or platform.machine(), **asdict(sweep)}, indent=1))
    else:
        show(sweep)


if __name__ == "__main__":
    main()
