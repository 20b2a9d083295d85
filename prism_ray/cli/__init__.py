"""The `prism-ray` command: parses and prints; every subcommand is one library call.

Flags say where and how a command runs, never what is computed: that is in catalogs, studies and configs.
Exit codes: 0 done, 1 some trials failed, 2 wrong input, 130 interrupted (and resumable).
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import sys
from collections.abc import Sequence

import prism_ray
from prism_ray.cli import (
    build,
    cancel,
    catalog,
    check,
    doctor,
    import_checkpoint,
    logs,
    plan,
    predict,
    promote,
    report,
    resume,
    run,
    simulate,
    status,
    store,
    study,
    submit,
    sync,
    train,
    ui,
)
from prism_ray.errors import PrismRayError, TrainingError

DONE, SOME_FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
_GARBAGE_THRESHOLDS = (20_000, 10, 10)
"""Of Python's collector of cyclic garbage, which at its own (700) takes a fifth of the time that a command's loading
takes: it goes through all that is loaded, of which nothing is garbage."""
_COMMANDS = (
    simulate,
    catalog,
    build,
    store,
    train,
    predict,
    study,
    check,
    plan,
    run,
    submit,
    logs,
    status,
    resume,
    cancel,
    sync,
    report,
    promote,
    ui,
    import_checkpoint,
    doctor,
)


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
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    try:
        args = make_parser().parse_args(argv)
    except SystemExit:
        _hand_over_output()  # help and version were printed, too
        raise
    except BrokenPipeError:  # of `--help | head` on Python 3.10; argparse minds it no more since
        _hand_over_output()
        return DONE
    code = _run(args)
    problem = _hand_over_output()
    if problem is not None and not isinstance(problem, BrokenPipeError):
        _say(args, f"standard output: {problem.strerror}")
        return WRONG_INPUT
    return code


def _run(args: argparse.Namespace) -> int:
    """Exit code of a command, whose faults are said on stderr."""
    try:
        code: int = args.command(args)
    except KeyboardInterrupt:
        _say(args, "interrupted; the same command goes on where it stopped")
        return INTERRUPTED
    except TrainingError as problem:
        _say(args, str(problem))
        return SOME_FAILED
    except PrismRayError as problem:
        _say(args, str(problem))
        return WRONG_INPUT
    except OSError as problem:
        if isinstance(problem, BrokenPipeError) and _reader_is_gone():
            return DONE  # `| head` has seen enough
        # A full disk, a folder without permission: the system's word and the place are the whole story. A write that
        # fails does not know its file's name, but it is below the folder that the command writes.
        folder = getattr(args, "out", None) or getattr(args, "storage", None)
        _say(args, f"{problem.filename or folder or 'a file or standard output'}: {problem.strerror or problem}")
        return WRONG_INPUT
    return code


def _hand_over_output() -> OSError | None:
    """Write out what was printed; what cannot be written is dropped, so that Python does not complain at exit."""
    try:
        sys.stdout.flush()
    except OSError as problem:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return problem
    return None


def _reader_is_gone() -> bool:
    """True where nobody reads standard output any more: a pipe that breaks elsewhere is a fault."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _say(args: argparse.Namespace, message: str) -> None:
    print(f"prism-ray {args.command_name}: {message}", file=sys.stderr)
