"""`prism-ray status NAME`: how far a study is, from its folders alone."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prism_ray.cli.options import add_launched
from prism_ray.cli.words import duration_text, left_text

if TYPE_CHECKING:
    from prism_ray.distributed.study_status import State, StudyStatus, TrialStatus

_SHOWN = ("running", "failed", "interrupted", "pruned")
"""States whose trials are listed; of the others there are many, and a number says all."""
_MOST_ROWS = 40


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `status` to the command's parser."""
    parser = subparsers.add_parser(
        "status",
        help="how far a study is",
        description="Say what is done, running, failed, interrupted and missing of a study, the best trial so far, the "
        "time left and the cost. Needs no cluster and no tracker; with --address it says what became of the job, too.",
    )
    add_launched(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document, with every trial")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print the status; 0 however far the study is."""
    from prism_ray.distributed.launch_note import was_launched
    from prism_ray.distributed.study_status import study_status

    storage = (args.storage or Path("results")).absolute()
    if args.address is not None:
        from prism_ray.cli.logs import found_job, job_line

        _, job = found_job(args)
        print(job_line(job), file=sys.stderr)
        storage = Path(job.storage)
        if not storage.is_dir():
            print(
                f"its workspace {storage} is not on this machine: `prism-ray logs` says how far it is", file=sys.stderr
            )
            return 0
        if not was_launched(storage, args.name) and not job.has_ended:
            print("its launch has not begun", file=sys.stderr)
            return 0
    status = study_status(storage, args.name)
    if args.json:
        print(json.dumps(status_document(status), indent=1))
    else:
        _print_for_people(status)
    return 0


def status_document(status: StudyStatus) -> dict[str, Any]:
    """The status as JSON types; numbers that are none become null."""
    left = status.left
    launch = {name: value for name, value in asdict(status.launch).items() if name not in ("study_text", "trials")}
    return {
        "study": status.launch.study,
        "counts": status.counts,
        "parts": status.parts,
        "n_trials": status.n_trials,
        "best": None if status.best is None else _trial_document(status.best),
        "left_s": None if left is None else left.seconds,
        "left_cap": None if left is None else left.cap or None,
        "worker_hours": status.worker_hours,
        "gpu_hours": status.gpu_hours,
        "driver": None if status.driver is None else asdict(status.driver),
        "stop": None if status.stop is None else asdict(status.stop),
        "launch": launch,
        "trials": [_trial_document(trial) for trial in status.trials],
    }


def _trial_document(trial: TrialStatus) -> dict[str, Any]:
    metrics = {name: value if math.isfinite(value) else None for name, value in trial.metrics.items()}
    return {**asdict(trial), "metrics": metrics}


def summary_lines(status: StudyStatus) -> list[str]:
    """Counts, best, time left, cost and driver, a line each."""
    launch = status.launch
    lines = [f"{launch.study}: {status.n_trials} trials: {_counts(status.counts) or 'none'}"]
    for part, counts in status.parts.items():
        n_trials = sum(counts.values())
        to_come = part == "finalists" and counts["missing"] == n_trials
        said = "at most, once all proposals have ended" if to_come else _counts(counts)
        lines.append(f"         {n_trials} {part}: {said}")
    best = status.best
    if best is not None:
        names = dict.fromkeys((launch.metric, launch.report_metric))
        values = ", ".join(f"{name} {best.metrics.get(name, math.nan):.4f}" for name in names)
        lines.append(f"best     {best.label}: {values}")
    if status.left is not None:
        lines.append(f"left     {left_text(status.left)}")
    gpus = f", {status.gpu_hours:.2f} GPU-hours in all its attempts" if status.gpu_hours else ""
    lines.append(f"cost     {status.worker_hours:.2f} hours of workers in finished trials{gpus}")
    lines.append(f"driver   {status.driver or 'none lives'}")
    if status.stop is not None:
        lines.append(f"stop     asked for: {status.stop.reason}")
    if status.driver is None and status.counts["done"] + status.counts["pruned"] < status.n_trials:
        how = (
            f"prism-ray retry {launch.study} --failed"
            if status.counts["failed"]
            else f"prism-ray resume {launch.study}"
        )
        lines.append(f"go on    {how}")
    return lines


def _counts(counts: Mapping[State, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in counts.items() if number)


def trial_cells(status: StudyStatus, trial: TrialStatus) -> tuple[str, ...]:
    """Row of a trial in the table."""
    metric = status.launch.metric
    value = trial.metrics.get(metric)
    return (
        trial.label,
        trial.state,
        f"{trial.step}/{trial.n_steps}" if trial.step else f"-/{trial.n_steps}",
        "" if value is None else f"{value:.4f}",
        "" if trial.for_s is None else duration_text(trial.for_s),
        "" if trial.left_s is None else duration_text(trial.left_s),
        trial.where or trial.reason,
    )


def _print_for_people(status: StudyStatus) -> None:
    for line in summary_lines(status):
        print(line)
    listed = [trial for state in _SHOWN for trial in status.trials if trial.state == state]
    if not listed:
        return
    headings = ("trial", "state", "step", f"last {status.launch.metric}", "for", "left", "where, or why")
    rows = [trial_cells(status, trial) for trial in listed[:_MOST_ROWS]]
    print()
    _print_table(headings, rows)
    if len(listed) > _MOST_ROWS:
        print(f"... and {len(listed) - _MOST_ROWS} more; --json has them all")


def _print_table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    # In a log or a pipe a row is a line, however long.
    Console(width=None if sys.stdout.isatty() else 10_000, highlight=False).print(table)
