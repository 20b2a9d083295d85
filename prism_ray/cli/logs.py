"""`prism-ray logs NAME --address ...`: what a submitted study has printed."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from prism_ray.cli.options import add_launched

if TYPE_CHECKING:
    from prism_ray.distributed.submission_cluster import JobCluster, StudyJob


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `logs` to the command's parser."""
    parser = subparsers.add_parser(
        "logs",
        help="what a submitted study prints",
        description="Print what the latest job of a study has printed. With --follow until it ends, and with its exit "
        "code.",
    )
    add_launched(parser, submitted=True)
    parser.add_argument("--follow", action="store_true", help="go on until the job ends, and end as the study does")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print the log; 0, or with --follow the exit code of the study."""
    cluster, job = found_job(args)
    if args.follow:
        return follow(cluster, job)
    print(cluster.logs(job.id), end="")
    print(job_line(job), file=sys.stderr)
    return 0


def found_job(args: argparse.Namespace) -> tuple[JobCluster, StudyJob]:
    """The cluster and the job of a study that the flags name."""
    from prism_ray.distributed.submission_address import check_addresses
    from prism_ray.distributed.submission_cluster import JobCluster, find_job

    check_addresses(args.address, insecure=args.insecure)
    cluster = JobCluster(args.address)
    return cluster, find_job(cluster, args.name, None if args.storage is None else str(args.storage.absolute()))


def follow(cluster: JobCluster, job: StudyJob) -> int:
    """Print what a job prints, to its end; the exit code of its study."""
    ended = cluster.follow(job.id, lambda text: print(text, end="", flush=True))
    print(job_line(ended), file=sys.stderr)
    return ended.exit_code


def job_line(job: StudyJob) -> str:
    """A job's state in a line; of one that Ray lost, in Ray's words."""
    text = f"job {job.id}: {job.status}"
    if job.driver_code is not None:
        return f"{text}, exit code {job.driver_code}"
    return f"{text}, {job.message.splitlines()[0]}" if job.has_ended and job.message else text
