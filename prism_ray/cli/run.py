"""`prism-ray run`: the trials of a study, then its report."""

from __future__ import annotations

import argparse

from prism_ray.cli.launching import add_launch, add_study, asked_study, launch_settings


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

    settings = launch_settings(args)
    return launch(asked_study(args), settings)
