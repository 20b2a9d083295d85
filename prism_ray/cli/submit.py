"""`prism-ray submit`: a study as a job of a cluster, checked and planned here first."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from prism_ray.cli.launching import (
    add_launch,
    add_study,
    asked_study,
    check_job_folders,
    launch_settings,
    say_study,
)
from prism_ray.cli.options import add_dashboard
from prism_ray.cli.plan import planned, print_plan
from prism_ray.sizes import size_text

if TYPE_CHECKING:
    from prism_ray.distributed.launch_settings import StudySettings
    from prism_ray.distributed.submission import Submission
    from prism_ray.distributed.submission_cluster import ClusterFacts, JobCluster
    from prism_ray.distributed.submission_package import Package
    from prism_ray.store import StorePlace
    from prism_ray.study.spec import Study

_PASSED_ON: dict[str, int | float | str | None] = {
    "--max-concurrent": None,
    "--workers": 1,
    "--cpus-per-worker": 1,
    "--gpus-per-worker": 0.0,
    "--checkpoint-every": 0,
    "--micro-batch": 0,
    "--loading": "auto",
}
"""Flags of `run` that are passed on, and their defaults, which are not; a test compares them."""
_FORBIDDEN = ("RAY_AUTH_TOKEN",)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `submit` to the command's parser."""
    parser = subparsers.add_parser(
        "submit",
        help="run a study as a job of a cluster",
        description="Check and plan a study here, show what it takes, and have a Ray cluster run it as a job, with the "
        "files of this folder (less .gitignore and .rayignore) and its git commit. The same command again joins the "
        "job that runs, or does what is missing.",
    )
    add_study(parser)
    add_dashboard(parser, required=True)
    add_launch(parser, joins=False)
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        dest="variables",
        metavar="NAME",
        help="give this variable of your environment to the job, a password for example; repeat it",
    )
    parser.add_argument("--follow", action="store_true", help="print what the job prints, and end as the study does")
    parser.add_argument("--yes", action="store_true", help="do not ask before submitting")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Submit the study; 0 once it is submitted, with --follow the exit code of the study."""
    args.tracking_uri = args.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    _check_flags(args)
    from prism_ray.distributed.submission import join_or_submit
    from prism_ray.distributed.submission_cluster import JobCluster, check_cluster
    from prism_ray.distributed.submission_package import find_package

    cluster = JobCluster(args.address)
    facts = cluster.facts()
    study = asked_study(args)
    say_study(study)
    settings = replace(launch_settings(args), address="auto")  # in its job a study finds its cluster by itself
    package = find_package(Path.cwd(), study.path)
    submission = _submission(args, study, settings)
    check_cluster(facts, cluster.address, settings.resources)
    _check_and_plan(args, study, settings, facts)
    _say_job(submission, package, cluster, facts)
    if not args.yes and not _agreed():
        print("nothing was submitted", file=sys.stderr)
        return 0
    submitted = join_or_submit(cluster, submission)
    job = submitted.job
    print(f"job        {job.id}: {'is there already, ' + job.status.lower() if submitted.is_joined else 'submitted'}")
    if job.entrypoint != submission.entrypoint:
        print(f"it was submitted with other flags, which are those that count: {job.entrypoint}")
    if args.follow:
        from prism_ray.cli.logs import follow

        return follow(cluster, job)
    print(f"follow     prism-ray logs {study.name} --address {args.address} --follow")
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    """Refuse what no job could run with, all of it together."""
    from prism_ray.distributed.submission_address import check_addresses
    from prism_ray.errors import FaultList, InputError

    faults = FaultList()
    try:
        check_job_folders(args.storage, args.tracking_uri)
    except InputError as problem:
        faults.extend(problem.faults)
    try:
        check_addresses(args.address, args.tracking_uri, insecure=args.insecure)
    except InputError as problem:
        faults.extend(problem.faults)
    if args.tracking_uri is None:
        faults.add("--tracking-uri", "is not given", "give an MLflow server that the cluster's nodes reach")
    for name in args.variables:
        if name in _FORBIDDEN:
            faults.add(f"--env {name}", "is the cluster's own token", "leave it out: nodes have it")
        elif name not in os.environ:
            faults.add(f"--env {name}", "is not set in this environment", f"export {name}, or leave it out")
    if not args.yes and not sys.stdin.isatty():
        faults.add("--yes", "is not given, and nobody can be asked here", "give it to submit without a question")
    faults.raise_if_any(InputError)


def _submission(args: argparse.Namespace, study: Study, settings: StudySettings) -> Submission:
    from prism_ray.distributed.submission import Submission

    flags = [_study_name(args.study, Path(study.path))]
    flags += ["--smoke"] if args.smoke else []
    flags += [word for assignment in args.assignments for word in ("--set", assignment)]
    flags += ["--store", str(settings.store), "--storage", str(settings.storage)]
    for flag, default in _PASSED_ON.items():
        value = getattr(args, flag.removeprefix("--").replace("-", "_"))
        if value != default:
            flags += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    flags += ["--checkpoint-activations"] if args.checkpoint_activations else []
    return Submission(
        study=study,
        flags=flags,
        storage=settings.storage,
        folder=Path.cwd(),
        tracking_uri=settings.tracking_uri,
        search_database=settings.search_database,
        given={name: os.environ[name] for name in args.variables},
    )


def _study_name(asked: str, file: Path) -> str:
    """How the job names the study: a path in its working folder, or a name that the cluster's installation knows.

    Raises:
        InputError: the file is in another folder, which is not sent.
    """
    from prism_ray.errors import FaultList, InputError

    if file.resolve().is_relative_to(Path.cwd().resolve()):
        return str(file.resolve().relative_to(Path.cwd().resolve()))
    faults = FaultList()
    if Path(asked).exists() or Path(asked).name != asked:
        faults.add(asked, f"is outside of {Path.cwd()}, the folder that is sent", "submit from a folder that has it")
    faults.raise_if_any(InputError)
    return asked


def _check_and_plan(args: argparse.Namespace, study: Study, settings: StudySettings, facts: ClusterFacts) -> None:
    """Refuse a study that cannot run, and print its plan; less of both where the store is not on this machine."""
    from prism_ray.distributed.launch_checks import check_launch
    from prism_ray.distributed.study_room import check_room

    if not _is_seen_here(settings.store):
        print(f"{study.name}: {study.n_trials:,} trials", flush=True)
        print(
            f"{settings.store} is not on this machine: the job looks at it, and hours cannot be said", file=sys.stderr
        )
        return
    store = check_launch(study, settings)
    plan = planned(args, study, settings.storage)
    check_room(study, settings, store, plan.n_left, facts.object_stores)
    print_plan(plan, settings.storage, settings.store)


def _is_seen_here(store: StorePlace) -> bool:
    """Whether this machine sees the store; one that has no access to a bucket does not.

    Raises:
        StoreError: the address is none of a store.
    """
    from prism_ray.errors import StoreError

    if not isinstance(store, Path):
        store.check()
    try:
        return store.exists()
    except StoreError as problem:
        print(problem, file=sys.stderr)
        return False


def _say_job(submission: Submission, package: Package, cluster: JobCluster, facts: ClusterFacts) -> None:
    from prism_ray.tracking.source_state import left_out_diff, source_tags

    largest = ", ".join(f"{name} {size_text(n_bytes)}" for name, n_bytes in package.largest.items())
    tags = source_tags(submission.folder)
    source = tags.get("prism.git_commit", "no git repository: runs will not say their commit")
    if tags.get("prism.git_dirty") == "true":
        left_out = left_out_diff(submission.folder)
        kept = f"the diff of {size_text(left_out)} is too long to be kept" if left_out else "with its diff"
        source += f", changed ({kept})"
    has = ", ".join(f"{facts.resources.get(name, 0):g} {name}s" for name in ("CPU", "GPU"))
    print()
    versions = f"Ray {facts.ray_version}, Python {facts.python_version}"
    print(f"cluster    {cluster.address}: {versions}, {facts.n_nodes} nodes, {has}")
    print(f"package    {len(package.files):,} files, {size_text(package.n_bytes)}; the largest: {largest}")
    print(f"source     {source}")
    print(f"command    {submission.entrypoint}", flush=True)


def _agreed() -> bool:
    print("submit it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
