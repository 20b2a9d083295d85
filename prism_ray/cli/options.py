"""Flags that several subcommands share: where and on how much a trial runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prism_ray.distributed.resources import TrialResources
    from prism_ray.store import StorePlace


def store_place(text: str) -> StorePlace:
    """The place of a store that is read: a folder, or below an address."""
    from prism_ray.store import place_of

    return place_of(text)


def workspace_path(text: str) -> Path:
    """The folder of a workspace."""
    from prism_ray.distributed.workspace import workspace_fault

    fault = workspace_fault(text)
    if fault is not None:
        raise argparse.ArgumentTypeError(f"{fault.where.removeprefix('--storage ')} {fault.problem}; {fault.fix}")
    return Path(text)


def local_path(text: str) -> Path:
    """A file or folder that is written."""
    from prism_ray.features.urls import is_remote, shown

    if is_remote(text):
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is an address, and only folders are written; make it in a folder, and copy that"
        )
    return Path(text)


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says in which workspace a study was run."""
    parser.add_argument("--storage", type=workspace_path, help="folder that the study was run with (default ./results)")


def gpus_asked(text: str) -> float | str:
    """A number of GPUs, or `auto` for a part of one by measured memory."""
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor auto") from None


def add_resources(parser: argparse.ArgumentParser, *, packs: bool = True) -> None:
    """Add the flags that say what each trial takes.

    Args:
        packs: whether several trials may share a GPU by what `prism-ray check` measured.
    """
    parser.add_argument("--workers", type=int, default=1, help="processes that share each batch of a trial (default 1)")
    parser.add_argument("--cpus-per-worker", type=int, default=1, help="CPUs a worker (default 1)")
    parser.add_argument(
        "--gpus-per-worker",
        type=gpus_asked if packs else float,
        default=0.0,
        metavar="N|auto" if packs else "N",
        help="GPUs a worker, fractions allowed"
        + ("; auto: as many trials a GPU as fit by the memory that `check` measured" if packs else "")
        + " (default 0)",
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


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says which cluster this process joins."""
    parser.add_argument("--address", help="Ray cluster to join (default: RAY_ADDRESS, else a local one)")


def add_dashboard(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Add the flags that say to which cluster a study is, or was, submitted."""
    parser.add_argument(
        "--address",
        required=required,
        metavar="http://HEAD:8265",
        help="dashboard of the cluster" if required else "dashboard of the cluster that the study was submitted to",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="send secrets by plain http:// to a public address, too"
    )


def add_launched(parser: argparse.ArgumentParser, *, submitted: bool = False) -> None:
    """Add which study is meant that was run, and where: on this machine's storage, or submitted to a cluster.

    Args:
        submitted: whether it must have been submitted.
    """
    parser.add_argument("name", metavar="NAME", help="name of the study")
    add_dashboard(parser, required=submitted)
    add_storage(parser)


def trial_resources(args: argparse.Namespace) -> TrialResources:
    """What each trial takes, by the flags; all of a GPU where the part is to be measured.

    Raises:
        InputError: what cannot be, with all reasons.
    """
    from prism_ray.distributed.packing import AUTO, whole_gpus
    from prism_ray.distributed.resources import TrialResources

    is_auto = args.gpus_per_worker == AUTO
    asked = TrialResources(
        n_workers=args.workers,
        cpus_per_worker=args.cpus_per_worker,
        gpus_per_worker=0.0 if is_auto else args.gpus_per_worker,
        checkpoint_every_steps=args.checkpoint_every,
        micro_batch=args.micro_batch,
        checkpoint_activations=args.checkpoint_activations,
    )
    return whole_gpus(asked) if is_auto else asked
