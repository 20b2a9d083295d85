"""The `prism-ray` command: parses and prints; every subcommand is one library call.

Flags say where and how a command runs, never what is computed: that is in catalogs, studies and configs.
Exit codes: 0 done, 1 some trials failed, 2 wrong input, 130 interrupted (and resumable).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import prism_ray
from prism_ray.cli import build, report, run, simulate, store, train
from prism_ray.errors import PrismRayError, TrainingError

DONE, SOME_FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
_COMMANDS = (simulate, build, store, train, run, report)


def make_parser() -> argparse.ArgumentParser:
    """Parser of all subcommands."""
    parser = argparse.ArgumentParser(
        prog="prism-ray", description="Hyperparameter and ablation studies of Prism, the gene-expression model, on Ray."
    )
    parser.add_argument("--version", action="version", version=f"prism-ray {prism_ray.__version__}")
    subparsers = parser.add_subparsers(dest="command_name", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    args = make_parser().parse_args(argv)
    try:
        code: int = args.command(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        _say(args, "interrupted; the same command goes on where it stopped")
        return INTERRUPTED
    except TrainingError as problem:
        _say(args, str(problem))
        return SOME_FAILED
    except PrismRayError as problem:
        _say(args, str(problem))
        return WRONG_INPUT
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, and Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as problem:
        # A full disk, a folder without permission: the system's word and the file are the whole story.
        _say(args, f"{problem.filename or 'file system'}: {problem.strerror or problem}")
        return WRONG_INPUT
    return code


def _say(args: argparse.Namespace, message: str) -> None:
    print(f"prism-ray {args.command_name}: {message}", file=sys.stderr)
