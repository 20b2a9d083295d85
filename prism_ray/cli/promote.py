"""`prism-ray promote NAME`: the best model of a study into MLflow's registry."""

from __future__ import annotations

import argparse
from pathlib import Path

from prism_ray.cli.options import add_storage, store_place


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `promote` to the command's parser."""
    parser = subparsers.add_parser(
        "promote",
        help="register the best model of a study",
        description="Register the model that is best on its validation genes, by the study's own metric, under the "
        "alias `candidate`, with --champion under `champion` too. It is packed with an example input and must give "
        "the test predictions that its run recorded.",
    )
    parser.add_argument("name", metavar="NAME", help="name of the study, or NAME@RUN for an earlier launch")
    parser.add_argument("--champion", action="store_true", help="make it the champion, in place of another version")
    parser.add_argument("--cell-type", help="choose among the trials of this one (needed where there are several)")
    parser.add_argument("--fold", help="choose among the trials of this one (needed where there are several)")
    parser.add_argument("--model-name", help="registered model (default: prism-NAME)")
    parser.add_argument(
        "--store",
        type=store_place,
        help="feature store of the study, to check the model on its genes in place of those that its run keeps",
    )
    add_storage(parser)
    parser.add_argument(
        "--tracking-uri", help="MLflow store (default: MLFLOW_TRACKING_URI, else the SQLite file in the storage folder)"
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Promote; 0 where the model is registered."""
    from prism_ray.distributed.promote import Wanted, promote
    from prism_ray.tracking import redact, resolve_tracking_uri

    storage = (args.storage or Path("results")).absolute()
    uri = resolve_tracking_uri(args.tracking_uri, storage)
    wanted = Wanted(args.name, args.cell_type, args.fold, args.model_name, champion=args.champion)
    done = promote(wanted, uri, storage=storage, store=args.store)
    placed = done.registration
    how = "registered" if placed.is_new else "was registered before"
    print(f"{placed.name} version {placed.version} {how}; aliases: {', '.join(placed.aliases)}")
    print(f"arm {done.arm}, seed {done.seed}: {done.metric} {done.value:.4f}, the best of {done.n_trials} trials")
    print(f"run       {done.run_id}")
    alias = "champion" if args.champion else "candidate"
    print(f"use it    prism-ray predict models:/{placed.name}@{alias} --tracking-uri {redact(uri)} ...")
    return 0
