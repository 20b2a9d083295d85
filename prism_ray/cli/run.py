"""`prism-ray run`: the trials of a study, then its report."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from prism_ray.cli.options import add_resources, trial_resources


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `run` to the command's parser."""
    parser = subparsers.add_parser(
        "run",
        help="run a study",
        description="Run the trials of a study that are not finished yet, then write its report. "
        "The same command again does what is missing and repeats nothing.",
    )
    parser.add_argument("study", metavar="STUDY", help="study file, or the name of one under search_spaces/")
    parser.add_argument("--store", type=Path, required=True, help="feature store to train on")
    parser.add_argument(
        "--storage",
        type=Path,
        help="folder for trials, checkpoints and reports, seen by every node (default ./results)",
    )
    parser.add_argument(
        "--tracking-uri", help="MLflow store (default: MLFLOW_TRACKING_URI, else an SQLite file in the storage folder)"
    )
    parser.add_argument("--smoke", action="store_true", help="the study's own small scale: minutes on a laptop")
    parser.add_argument(
        "--search-database",
        metavar="URL",
        help="PostgreSQL or SQLite database of a search's proposals (default: a journal file in the storage folder)",
    )
    parser.add_argument("--max-concurrent", type=int, help="trials at once (default: as many as fit)")
    add_resources(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Run the study, print its table and where to compare; 1 where trials failed."""
    storage = _storage(args.storage, args.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"))
    from prism_ray.cli.progress import StudyProgress
    from prism_ray.distributed.launch import StudySettings
    from prism_ray.distributed.study_run import run_study
    from prism_ray.report.build import write_report
    from prism_ray.study.load import find_study, load_study
    from prism_ray.tracking import resolve_tracking_uri

    study = load_study(find_study(args.study), smoke=args.smoke)
    settings = StudySettings(
        store=args.store.absolute(),
        storage=storage,
        tracking_uri=resolve_tracking_uri(args.tracking_uri, storage),
        resources=trial_resources(args),
        max_concurrent=args.max_concurrent,
        address=args.address,
        loading=args.loading,
        search_database=args.search_database,
        command=f"prism-ray {shlex.join(sys.argv[1:])}",
    )
    print(f"{study.name}: {study.question}", file=sys.stderr)
    with StudyProgress() as progress:
        outcome = run_study(study, settings, progress)
    print(f"{outcome.n_finished} of {outcome.n_trials} trials are finished ({outcome.n_found} before this launch)")
    if outcome.n_pruned:
        print(f"{outcome.n_pruned} more were stopped by the search, as worse than others")
    for label, reason in outcome.failures.items():
        print(f"FAILED {label}: {reason}")
    for label in outcome.left:
        print(f"left to do {label}")
    if outcome.n_finished:
        report = write_report(settings.tracking_uri, study.name, storage / "reports" / study.name)
        print(report.text)
        print(f"report    {report.html}")
    print(f"compare   {_ui_line(settings.tracking_uri)}")
    return {"FINISHED": 0, "FAILED": 1}.get(outcome.status, 130)


def _storage(given: Path | None, tracking_uri: str | None) -> Path:
    """Absolute folder of the workspace.

    Raises:
        InputError: it, or an SQLite file of the tracker, would be inside the working folder of a submitted job.
    """
    from prism_ray.distributed.jobs import in_job
    from prism_ray.errors import FaultList, InputError

    if in_job():
        faults = FaultList()
        lost = "a submitted job runs in a copy of the folder that Ray deletes"
        if given is None or not given.is_absolute():
            place = str(given) if given else "not given"
            faults.add("--storage", f"{place}: {lost}", "give an absolute path that every node sees")
        if (tracking_uri or "").startswith("sqlite:///") and not (tracking_uri or "").startswith("sqlite:////"):
            faults.add("--tracking-uri", f"{tracking_uri}: {lost}", "give sqlite:////ABSOLUTE/PATH or a server")
        faults.raise_if_any(InputError)
    return (given or Path("results")).absolute()


def _ui_line(tracking_uri: str) -> str:
    from prism_ray.tracking import redact

    if tracking_uri.startswith("http"):
        return f"open {redact(tracking_uri)}"
    return f"mlflow ui --backend-store-uri {redact(tracking_uri)}    then open http://127.0.0.1:5000"
