"""Flags that several subcommands share: where and on how much a trial runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prism_ray.distributed.resources import TrialResources


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
    parser.add_argument("--address", help="Ray cluster to join (default: RAY_ADDRESS, else a local one)")


def trial_resources(args: argparse.Namespace) -> TrialResources:
    """What each trial takes, by the flags."""
    from prism_ray.distributed.resources import TrialResources

    return TrialResources(
        n_workers=args.workers,
        cpus_per_worker=args.cpus_per_worker,
        gpus_per_worker=args.gpus_per_worker,
        checkpoint_every_steps=args.checkpoint_every,
    )
