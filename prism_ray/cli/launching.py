"""Flags of the commands that have to do with a study before and while it runs, and what they make of them."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from prism_ray.cli.options import add_cluster, add_resources, store_place, trial_resources, workspace_path

if TYPE_CHECKING:
    from prism_ray.distributed.launch_settings import StudySettings
    from prism_ray.distributed.packing import Packing
    from prism_ray.distributed.resources import TrialResources
    from prism_ray.study.spec import Study


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add which study is meant, at which scale, with which settings replaced."""
    parser.add_argument("study", metavar="STUDY", help="study file, or the name of one under search_spaces/")
    parser.add_argument("--smoke", action="store_true", help="the study's own small scale: minutes on a laptop")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="assignments",
        metavar="PATH=VALUE",
        help="replace a setting of the baseline that the study does not vary; repeat it. What is run is then another "
        "experiment, named STUDY-set-...",
    )


def add_launch(parser: argparse.ArgumentParser, *, joins: bool = True) -> None:
    """Add where a study runs, on what, and where it is tracked.

    Args:
        joins: whether this process may join a cluster.
    """
    parser.add_argument(
        "--store", type=store_place, required=True, help="feature store to train on: a folder, s3://... or gs://..."
    )
    parser.add_argument(
        "--storage",
        type=workspace_path,
        help="folder for trials, checkpoints and reports, seen by every node (default ./results)",
    )
    parser.add_argument(
        "--tracking-uri", help="MLflow store (default: MLFLOW_TRACKING_URI, else an SQLite file in the storage folder)"
    )
    parser.add_argument(
        "--search-database",
        metavar="URL",
        help="PostgreSQL or SQLite database of a search's proposals (default: PRISM_RAY_SEARCH_DATABASE, else a "
        "journal file in the storage folder)",
    )
    parser.add_argument("--max-concurrent", type=int, help="trials at once (default: as many as fit)")
    add_resources(parser)
    if joins:
        add_cluster(parser)


def asked_study(args: argparse.Namespace) -> Study:
    """The study that the flags name."""
    from prism_ray.study.overrides import load_overridden

    return load_overridden(args.study, args.assignments, smoke=args.smoke)


def packed_resources(args: argparse.Namespace, study: Study, storage: Path) -> tuple[TrialResources, Packing | None]:
    """What each trial of a study takes, and with `--gpus-per-worker auto` why that part of a GPU.

    Raises:
        InputError: nothing was measured that would say the part, or what cannot be.
    """
    resources = trial_resources(args)
    from prism_ray.distributed.packing import AUTO, pack

    if args.gpus_per_worker != AUTO:
        return resources, None
    packing = pack(study, storage, resources)
    return packing.each, packing


def launch_settings(args: argparse.Namespace) -> StudySettings:
    """Where and how a study runs, by the flags; a trial has all of a GPU where its part is to be measured.

    Raises:
        InputError: what cannot be, with all reasons.
    """
    storage = workspace_folder(args)
    from prism_ray.distributed.jobs import DATABASE_VARIABLE
    from prism_ray.distributed.launch_settings import StudySettings
    from prism_ray.tracking import resolve_tracking_uri

    return StudySettings(
        store=args.store.absolute(),
        storage=storage,
        tracking_uri=resolve_tracking_uri(args.tracking_uri, storage),
        resources=trial_resources(args),
        max_concurrent=args.max_concurrent,
        address=args.address,
        loading=args.loading,
        search_database=args.search_database or os.environ.get(DATABASE_VARIABLE),
        command=command_line(),
    )


def command_line() -> str:
    """How this process was called, without credentials: it is kept with the study, in its folder and in MLflow."""
    from prism_ray.tracking import redact

    return redact(f"prism-ray {shlex.join(sys.argv[1:])}")


def say_study(study: Study) -> None:
    """Say on stderr what is asked, and what this launch replaces."""
    print(f"{study.name}: {study.question}", file=sys.stderr)
    if study.overrides:
        print(
            f"replaced: {study.overrides_text}; results are kept apart from {study.path.stem}'s, as {study.name}",
            file=sys.stderr,
        )


def workspace_folder(args: argparse.Namespace) -> Path:
    """Absolute folder of the workspace that the flags name; see `workspace`."""
    return workspace(args.storage, args.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"))


def workspace(given: Path | None, tracking_uri: str | None) -> Path:
    """Absolute folder of the workspace.

    Raises:
        InputError: in a submitted job, as `check_job_folders`, or submitted with other versions.
    """
    from prism_ray.distributed.jobs import check_submitter, in_job

    if in_job():
        check_submitter()
        check_job_folders(given, tracking_uri)
    return (given or Path("results")).absolute()


def check_job_folders(given: Path | None, tracking_uri: str | None) -> None:
    """Refuse what a submitted job would lose at its end.

    Raises:
        InputError: the workspace, or an SQLite file of the tracker, would be inside the job's working folder.
    """
    from prism_ray.errors import FaultList, InputError

    faults = FaultList()
    lost = "a submitted job runs in a copy of the folder that Ray deletes"
    if given is None or not given.is_absolute():
        place = str(given) if given else "not given"
        faults.add("--storage", f"{place}: {lost}", "give an absolute path that every node sees")
    if (tracking_uri or "").startswith("sqlite:///") and not (tracking_uri or "").startswith("sqlite:////"):
        faults.add("--tracking-uri", f"{tracking_uri}: {lost}", "give sqlite:////ABSOLUTE/PATH or a server")
    faults.raise_if_any(InputError)
