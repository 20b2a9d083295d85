"""Flags that several subcommands share: where and on how much a trial runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prism_ray.distributed.resources import TrialResources


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says in which workspace a study was run."""
    parser.add_argument("--storage", type=Path, help="folder that the study was run with (default ./results)")


def add_resources(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what each trial takes and which cluster it runs on."""
    parser.add_argument("--workers", type=int, default=1, help="processes that share each batch of a trial (default 1)")
    parser.add_argument("--cpus-per-worker", type=int, default=1, help="CPUs a worker (default 1)")
    parser.add_argument(
        "--gpus-per-worker", type=float, default=0.0, help="GPUs a worker, fractions allowed (default 0)"
    )
    parser.add_argument(
        "--checkpoint-every", type=int, default=0, metavar="STEPS", help="checkpoints besides those at validations"
    )
    parser.add_argument(
        "--micro-batch",
        type=int,
        default=0,
        metavar="GENES",
        help="genes a worker computes at a time, of its share of a batch; the batch, and so the result, stays the same "
        "(default: all of it, halved where memory is short)",
    )
    parser.add_argument(
        "--checkpoint-activations",
        action="store_true",
        help="compute hidden states twice instead of keeping them: long windows in less memory "
        "(default: where nothing else fits)",
    )
    parser.add_argument(
        "--loading",
        choices=("auto", "cache", "stream"),
        default="auto",
        help="how trials get their genes: decoded once a node, or read ahead while they train (default: by their size)",
    )
    parser.add_argument("--address", help="Ray cluster to join (default: RAY_ADDRESS, else a local one)")


def trial_resources(args: argparse.Namespace) -> TrialResources:
    """What each trial takes, by the flags."""
    from prism_ray.distributed.resources import TrialResources

    return TrialResources(
        n_workers=args.workers,
        cpus_per_worker=args.cpus_per_worker,
        gpus_per_worker=args.gpus_per_worker,
        checkpoint_every_steps=args.checkpoint_every,
        micro_batch=args.micro_batch,
        checkpoint_activations=args.checkpoint_activations,
    )
