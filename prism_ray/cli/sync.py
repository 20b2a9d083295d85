"""`prism-ray sync`: deliver to MLflow what trials had to keep because it was away."""

from __future__ import annotations

import argparse
from pathlib import Path

from prism_ray.cli.options import add_storage


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `sync` to the command's parser."""
    parser = subparsers.add_parser(
        "sync",
        help="deliver what a tracker that was away has missed",
        description="Deliver the journals that trials of a workspace kept while their MLflow store was away, each to "
        "the store that it names, and end the runs of studies that could not be ended then. Twice does no harm.",
    )
    add_storage(parser)
    parser.add_argument(
        "--tracking-uri", help="MLflow store (default: each journal's, credentials from MLFLOW_TRACKING_URI)"
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Deliver; 0 where nothing is left, 1 where something is."""
    from prism_ray.distributed.closing import close_left_runs
    from prism_ray.distributed.workspace import trial_journals
    from prism_ray.tracking import deliver_journals

    storage = (args.storage or Path("results")).absolute()
    journals = trial_journals(storage)
    delivered = deliver_journals(journals, args.tracking_uri)
    print(f"{delivered.n_delivered} of {len(journals)} journals are delivered")
    n_closed, unclosed = close_left_runs(storage, args.tracking_uri)
    if n_closed:
        print(f"{n_closed} runs of studies are ended")
    left = {**delivered.left, **unclosed}
    for path, reason in left.items():
        print(f"LEFT {path}: {reason}")
    return 1 if left else 0
