"""`prism-ray train`: one run, by Ray Train."""

from __future__ import annotations

import argparse
from pathlib import Path

from prism_ray.cli.options import add_cluster, add_resources, local_path, store_place, trial_resources


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train` to the command's parser."""
    parser = subparsers.add_parser(
        "train",
        help="train one model",
        description="Train, validate and test one model on Ray Train workers. "
        "The same command again goes on from the last checkpoint, or prints the result of a finished run.",
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file with the run's settings (RunConfig)")
    parser.add_argument("--store", type=store_place, required=True, help="feature store to train on")
    parser.add_argument(
        "--out", type=local_path, required=True, help="folder of the run: checkpoints, model, predictions"
    )
    add_resources(parser, packs=False)
    add_cluster(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Train and print the metrics of the best model."""
    from prism_ray.distributed.single import RunSettings, train_config

    settings = RunSettings(
        store=args.store,
        out=args.out,
        resources=trial_resources(args),
        address=args.address,
        loading=args.loading,
    )
    record = train_config(args.config, settings)
    for name, value in record.metrics.items():
        print(f"{name:16} {value:.6g}")
    print(f"{'parameters':16} {record.n_parameters:,}")
    print(f"model            {record.folder / 'model'}")
    return 0
