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
    parser.add_argument("--max-concurrent", type=int, help="trials at once (default: as many as fit)")
    add_resources(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Run the study, print its table and where to compare; 1 where trials failed."""
    from prism_ray.cli.launching import launch, workspace

    storage = workspace(args.storage, args.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"))
    from prism_ray.distributed.launch import StudySettings
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
        command=f"prism-ray {shlex.join(sys.argv[1:])}",
    )
    return launch(study, settings)
