"""`prism-ray resume NAME` and `prism-ray retry NAME --failed`: go on with the last launch of a study."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from prism_ray.cli.options import add_cluster, add_resources, add_storage, store_place

_SETTINGS = {"loading", "address", "max_concurrent", "search_database"}
_RESOURCES = {
    "workers": "n_workers",
    "cpus_per_worker": "cpus_per_worker",
    "gpus_per_worker": "gpus_per_worker",
    "checkpoint_every": "checkpoint_every_steps",
    "micro_batch": "micro_batch",
    "checkpoint_activations": "checkpoint_activations",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `resume` and `retry` to the command's parser."""
    kept = "Flags that are not given are those of the launch."
    resume = subparsers.add_parser(
        "resume",
        help="go on with a study that ended before its time",
        description=f"Run the last launch of a study again, from its own copy of the study's file: it does what is "
        f"missing and repeats nothing. {kept}",
    )
    _add_flags(resume)
    resume.set_defaults(command=run_resume)
    retry = subparsers.add_parser(
        "retry",
        help="run the failed trials of a study again",
        description=f"Forget why the trials of a study failed and go on with its last launch. {kept}",
    )
    retry.add_argument("--failed", action="store_true", required=True, help="the trials that failed; none that is done")
    _add_flags(retry)
    retry.set_defaults(command=run_retry)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the study, as `prism-ray status` has it")
    parser.add_argument("--store", type=store_place, help="feature store, where it lies elsewhere now")
    add_storage(parser)
    parser.add_argument(
        "--tracking-uri", help="MLflow store (default: the launch's, credentials from MLFLOW_TRACKING_URI)"
    )
    parser.add_argument("--max-concurrent", type=int, help="trials at once")
    parser.add_argument("--search-database", metavar="URL", help="searcher's database, where it has credentials")
    add_resources(parser)
    add_cluster(parser)
    parser.set_defaults(**dict.fromkeys((*_RESOURCES, "loading"), None))


def run_resume(args: argparse.Namespace) -> int:
    """Go on with the last launch; the exit code of `run`."""
    from prism_ray.cli.launching import workspace
    from prism_ray.cli.running import launch
    from prism_ray.distributed.study_control import resumed_launch

    storage = workspace(args.storage, args.tracking_uri)
    resumed = resumed_launch(storage, args.name, args.tracking_uri, **_changes(args))
    for note in resumed.notes:
        print(note, file=sys.stderr)
    return launch(resumed.study, resumed.settings)


def run_retry(args: argparse.Namespace) -> int:
    """Forget the failures and go on; the exit code of `run`."""
    from prism_ray.cli.launching import workspace
    from prism_ray.cli.running import launch
    from prism_ray.distributed.study_control import retried_launch

    storage = workspace(args.storage, args.tracking_uri)
    resumed, n_forgotten = retried_launch(storage, args.name, args.tracking_uri, **_changes(args))
    for note in resumed.notes:
        print(note, file=sys.stderr)
    print(f"{n_forgotten} failed trials are run again", file=sys.stderr)
    return launch(resumed.study, resumed.settings)


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that flags replace."""
    from prism_ray.cli.launching import command_line

    given = {name: getattr(args, name) for name in (*_RESOURCES, *_SETTINGS) if getattr(args, name) is not None}
    changes = {_RESOURCES.get(name, name): value for name, value in given.items()}
    if args.store is not None:
        changes["store"] = args.store.absolute()
    return {**changes, "command": command_line()}
