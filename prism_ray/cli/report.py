"""`prism-ray report NAME`: the answer of a study, in the terminal and as one page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prism_ray.cli.options import add_storage

if TYPE_CHECKING:
    from prism_ray.report.build import ReportResult


def add_parser(subparsers: Any) -> None:
    """Add the subcommand `report` to a parser's subcommands."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "report",
        help="table, figures and one page that answer a study",
        description="Compare the arms of a study, or the best trials of a search: prints the table, writes a page "
        "that works offline, and keeps both with the study's run in MLflow.",
    )
    parser.add_argument("name", metavar="NAME", help="name of the study, or NAME@RUN for an earlier launch")
    add_storage(parser)
    parser.add_argument(
        "--tracking-uri", help="MLflow store (default: MLFLOW_TRACKING_URI, else the SQLite file in the storage folder)"
    )
    parser.add_argument("--out", type=Path, help="folder to write into (default: reports/NAME in the storage folder)")
    parser.add_argument(
        "--against", metavar="OTHER", help="another study, or a launch of this one as NAME@RUN: compare their arms"
    )
    parser.add_argument(
        "--mixed",
        action="store_true",
        help="report together, or compare --against, trials of several data digests or results versions",
    )
    parser.add_argument(
        "--format",
        default="html,md,csv,tex",
        metavar="LIST",
        help="what to write beside results.json and the figures (default html,md,csv,tex)",
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Write the report and print its table; 0 where it was written."""
    from prism_ray.report.build import write_report
    from prism_ray.report.files import formats_of
    from prism_ray.tracking import resolve_tracking_uri

    formats = formats_of(args.format)
    storage = (args.storage or Path("results")).absolute()
    uri = resolve_tracking_uri(args.tracking_uri, storage)
    out = args.out or _report_folder(storage, args.name.partition("@")[0])
    if args.against is not None:
        return _compare(uri, args, out)
    result = write_report(uri, args.name, out, formats=formats, mixed=args.mixed)
    if sys.stdout.isatty():
        _print_for_people(result)
    else:
        print(result.text)
        print(f"\nreport: {result.files[0]}")
    return 0


def _report_folder(storage: Path, study: str) -> Path:
    """Where the report of a study lies in a workspace.

    Raises:
        InputError: the name leads out of it.
    """
    from prism_ray.distributed.workspace import study_folder

    return storage / "reports" / study_folder(storage, study).name


def _compare(uri: str, args: argparse.Namespace, out: Path) -> int:
    from prism_ray.report.against import compare_studies, write_comparison

    comparison = compare_studies(uri, args.name, args.against, mixed=args.mixed)
    print(comparison.text)
    for file in write_comparison(comparison, out):
        print(f"written: {file}")
    return 0


def _print_for_people(result: ReportResult) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from prism_ray.report.text import table_cells

    console = Console()
    headings, rows = table_cells(result.table, result.header)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right")
    for row in rows:
        # Text, not markup: an interval's brackets are no style.
        table.add_row(*(Text(cell) for cell in row))
    console.print(Text(result.header.question, style="bold"))
    console.print(Text(result.answer))
    console.print(Text(result.counts))
    for note in result.notes:
        console.print(Text(note, style="yellow"))
    console.print()
    console.print(table)
    console.print()
    console.print(Text(f"report: {result.files[0]}"))
