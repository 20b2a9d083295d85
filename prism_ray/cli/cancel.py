"""`prism-ray cancel NAME`: end the launch of a study, with nothing left behind."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prism_ray.cli.options import add_launched

if TYPE_CHECKING:
    from prism_ray.distributed.study_status import StudyStatus

_WAIT_S = 300.0
_LOOK_S = 0.5


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `cancel` to the command's parser."""
    parser = subparsers.add_parser(
        "cancel",
        help="end a study's launch; it can be resumed",
        description="Have the running trials of a study save and end, wait until they and their driver have, and close "
        "what a killed driver left open. Nothing else on the cluster is touched; `prism-ray resume` goes on.",
    )
    add_launched(parser)
    parser.add_argument(
        "--tracking-uri", help="MLflow store (default: the launch's, credentials from MLFLOW_TRACKING_URI)"
    )
    parser.add_argument(
        "--wait", type=float, default=_WAIT_S, metavar="SECONDS", help=f"longest wait (default {_WAIT_S:.0f})"
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Cancel; 0 where nothing lives any more, 1 where something does or its runs could not be closed."""
    if args.address is not None:
        return _cancel_job(args)
    from prism_ray.distributed.study_control import cancel_study

    told = _Told()
    cancelled = cancel_study(
        (args.storage or Path("results")).absolute(),
        args.name,
        wait_s=args.wait,
        tracking_uri=args.tracking_uri,
        tell=told.tell,
    )
    counts = cancelled.status.counts
    if cancelled.living:
        print(f"{args.name}: still living after {args.wait:.0f} s: {'; '.join(cancelled.living)}")
        print("they were asked to end and will at their next step; run this again to wait on")
        return 1
    how = "is cancelled" if cancelled.was_running else "is not running"
    if cancelled.was_left:
        how = "lost its driver; what that left is closed"
    print(f"{args.name} {how}: {counts['done']} of {cancelled.status.n_trials} trials are done")
    if cancelled.problem:
        print(f"its runs in MLflow could not be closed: {cancelled.problem}")
        return 1
    if counts["done"] + counts["pruned"] < cancelled.status.n_trials:
        print(f"go on with: prism-ray resume {args.name}")
    return 0


def _cancel_job(args: argparse.Namespace) -> int:
    """Have the job of a study stop, as by Ctrl-C at its command, and wait for it."""
    from prism_ray.cli.logs import found_job, job_line

    cluster, job = found_job(args)
    if job.has_ended:
        print(f"{args.name} is not running: {job_line(job)}")
        return 0
    cluster.stop(job.id)
    print("waiting for its running trials to save and end", file=sys.stderr)
    end = time.monotonic() + args.wait
    while not (job := cluster.job(job.id)).has_ended and time.monotonic() < end:
        time.sleep(_LOOK_S)
    print(job_line(job))
    if not job.has_ended:
        print(f"it still lives after {args.wait:.0f} s, and will end at its next step; run this again to wait on")
        return 1
    print(f"{args.name} is cancelled; the same `prism-ray submit` goes on")
    return 0


class _Told:
    """Says what is waited for whenever that changes."""

    def __init__(self) -> None:
        self._last = ""

    def tell(self, status: StudyStatus) -> None:
        driver = "the driver and " if status.driver is not None else ""
        text = f"waiting for {driver}{status.counts['running']} running trials to save and end"
        if text != self._last:
            print(text, file=sys.stderr)
            self._last = text
