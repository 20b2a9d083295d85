"""`prism-ray study`: which studies there are, and what one of them asks."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from prism_ray.cli.launching import add_study, asked_study


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `study` with its own subcommands to the command's parser."""
    parser = subparsers.add_parser("study", help="which studies there are, and what one asks")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="every study that can be run by name, by its question")
    listing.add_argument("--json", action="store_true", help="print one JSON document")
    listing.set_defaults(command=run_list)
    showing = actions.add_parser("show", help="question, claim, arms or space, seeds, folds and budget of a study")
    add_study(showing)
    showing.add_argument("--json", action="store_true", help="print one JSON document")
    showing.set_defaults(command=run_show)


def run_list(args: argparse.Namespace) -> int:
    """Print the studies; returns the exit code."""
    from prism_ray.study.describe import list_studies

    studies = list_studies()
    if args.json:
        print(json.dumps([study.to_json() for study in studies], indent=2))
        return 0
    rows = [
        (study.question, study.name, study.kind or "-", f"{study.n_trials:,}", f"{study.n_smoke_trials}")
        for study in studies
    ]
    print_table(("question", "study", "kind", "trials", "smoke"), rows, numbers=(3, 4))
    return 0


def run_show(args: argparse.Namespace) -> int:
    """Print what a study says; returns the exit code."""
    from prism_ray.study.describe import describe

    about = describe(asked_study(args))
    if args.json:
        print(json.dumps(about, indent=2))
        return 0
    print_heading(about["question"])
    for name, value in _facts(about).items():
        print(f"{name:10} {value}")
    if about["arms"]:
        print()
        rows = [
            (arm["name"] + (" (baseline)" if arm["name"] == about["baseline_arm"] else ""), _patch(arm), arm["reason"])
            for arm in about["arms"]
        ]
        print_table(("arm", "changes", "why"), rows)
    if about["search"]:
        print()
        rows = [(path, _domain(domain), _when(domain)) for path, domain in about["search"]["space"].items()]
        print_table(("searched setting", "domain", "only where"), rows)
    return 0


def print_heading(text: str) -> None:
    """Print a line, in bold on a terminal."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.text import Text

        Console().print(Text(text, style="bold"))
    else:
        print(text)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> None:
    """Print a table: wrapped to the terminal's width where there is one, else a row a line.

    Args:
        numbers: columns that are set to the right.
    """
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0))
        for index, heading in enumerate(headings):
            table.add_column(heading, justify="right" if index in numbers else "left")
        for row in rows:
            # Text, not markup: brackets are no style.
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    widths = [max(len(row[index]) for row in (headings, *rows)) for index in range(len(headings))]
    for row in (headings, *rows):
        cells = [
            cell.rjust(width) if index in numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _facts(about: Mapping[str, Any]) -> dict[str, str]:
    facts = {
        "study": f"{about['name']} ({about['kind']}), {about['path']}",
        "claim": about["claim"],
        "source": about["source"],
    }
    if about["overrides"]:
        facts["replaced"] = _settings(about["overrides"])
    facts |= {
        "baseline": _settings(about["baseline"]) or "the defaults",
        "seeds": ", ".join(map(str, about["seeds"])),
        "folds": ", ".join(about["folds"]),
        "cells": ", ".join(about["cell_types"]),
        "chosen by": f"{about['objective']['metric']}, {about['objective']['direction']}",
        "reported": about["report_metric"] + (f" along {about['curve']}" if about["curve"] else ""),
        "trials": f"{about['n_trials']:,}",
    }
    if about["budget"]:
        facts["budget"] = _settings(about["budget"])
    if about["search"]:
        facts["search"] = _settings({name: value for name, value in about["search"].items() if name != "space"})
    return facts


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    """A value as a study file has it: a seed is not 22,222."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{_settings(value)}}}"
    if isinstance(value, float):
        return f"{value:g}"
    return "-" if value is None else str(value)


def _patch(arm: Mapping[str, Any]) -> str:
    return _settings(arm["patch"]) or "nothing"


def _domain(domain: Mapping[str, Any]) -> str:
    return _settings({name: value for name, value in domain.items() if name != "when"})


def _when(domain: Mapping[str, Any]) -> str:
    return _settings(domain.get("when", {}))
