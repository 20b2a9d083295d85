"""`prism-ray check`: everything of a study that can fail, before its first trial."""

from __future__ import annotations

import argparse
import sys

from prism_ray.cli.launching import add_launch, add_study, asked_study, launch_settings, say_study

DONE, FAILED = 0, 2


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `check` to the command's parser."""
    parser = subparsers.add_parser(
        "check",
        help="everything of a study that can fail, before its first trial",
        description="Look at files, signals, folds, batches, cluster, storage and tracker, and do real steps of the "
        "largest and the smallest trial, whose time and memory are kept for `plan`. Exit code 2 where one fails.",
    )
    add_study(parser)
    add_launch(parser)
    parser.add_argument("--deep", action="store_true", help="hash every byte of the store, too")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print each check as it is done; 2 where one failed."""
    settings = launch_settings(args)
    study = asked_study(args)
    say_study(study)
    print(
        f"{'ok':6} study file: {study.path}, {study.n_trials:,} trials", flush=True
    )  # before what takes seconds to load
    from prism_ray.distributed.packing import AUTO
    from prism_ray.distributed.study_check import CheckSettings, check_study

    n_failed = 0
    for check in check_study(study, CheckSettings(settings, args.deep, pack=args.gpus_per_worker == AUTO)):
        if check.ok:
            print(f"{'ok':6} {check.name}: {check.detail}", flush=True)
            continue
        n_failed += 1
        for fault in check.faults:
            print(f"FAILED {check.name}: {fault}", flush=True)
    if n_failed:
        print(f"prism-ray check: {n_failed} of the checks failed", file=sys.stderr)
    return FAILED if n_failed else DONE
