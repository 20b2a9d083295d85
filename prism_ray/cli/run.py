"""`prism-ray run`: the trials of a study, then its report."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from prism_ray.cli.launching import add_launch, add_study, asked_study, launch_settings, packed_resources


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `run` to the command's parser."""
    parser = subparsers.add_parser(
        "run",
        help="run a study",
        description="Run the trials of a study that are not finished yet, then write its report. "
        "The same command again does what is missing and repeats nothing.",
    )
    add_study(parser)
    add_launch(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Run the study, print its table and where to compare; 1 where trials failed."""
    from prism_ray.cli.running import launch

    settings, study = launch_settings(args), asked_study(args)
    resources, packing = packed_resources(args, study, settings.storage)
    if packing is not None:
        print(packing, file=sys.stderr)
    return launch(study, replace(settings, resources=resources))
