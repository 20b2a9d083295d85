"""`prism-ray build`: raw genomics files to a feature store."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from prism_ray.cli.options import local_path

if TYPE_CHECKING:
    from prism_ray.distributed.build import BuildProgress


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `build` to the command's parser."""
    parser = subparsers.add_parser(
        "build",
        help="build a feature store from a catalog",
        description="Check a catalog and all its files, then write the feature store through Ray Data. "
        "The same command again goes on where an interrupted build stopped.",
    )
    parser.add_argument("catalog", type=Path, metavar="CATALOG", help="catalog.yaml of the data set")
    parser.add_argument(
        "--out", type=local_path, required=True, metavar="STORE", help="folder to make; refused if it exists"
    )
    parser.add_argument("--window-bp", type=int, help="length of the stored window (default: the catalog's)")
    parser.add_argument("--workers", type=int, help="partitions written at a time (default: as many as there are CPUs)")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Build the store, print its report and draw its quality page; returns the exit code."""
    import prism_ray.store
    from prism_ray.distributed.build import build_store
    from prism_ray.report.store_quality import QUALITY_NAME, write_store_report

    with _progress() as on_progress:
        report = build_store(args.catalog, args.out, args.window_bp, args.workers, on_progress)
    print(report.to_text())
    print(f"store: {args.out}", flush=True)
    # The store is whole by now: should drawing fail, `prism-ray store report` makes the page from it.
    page = write_store_report(prism_ray.store.open(args.out), args.out / QUALITY_NAME)
    print(f"quality report: {page}")
    return 0


@contextmanager
def _progress() -> Iterator[Callable[[BuildProgress], None]]:
    """A bar of genes on a terminal, plain lines in a log; both on stderr."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (
        TextColumn("genes"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("genes", total=None)

        def show(progress: BuildProgress) -> None:
            bar.update(task, completed=progress.n_genes_done, total=progress.n_genes)
            counts = f"[{progress.n_done:3d}/{progress.n_partitions}]"
            console.print(f"{counts} {progress.message}", markup=False)

        yield show
