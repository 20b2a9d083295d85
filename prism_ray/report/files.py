"""Files of a report, by format."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from prism_ray.errors import FaultList, InputError, did_you_mean
from prism_ray.report.gather import Gathered
from prism_ray.report.html import Page, reading_aid, render
from prism_ray.report.latex import table_latex
from prism_ray.report.results import results_of
from prism_ray.report.style import save_figure

FORMATS = ("html", "md", "csv", "tex")
"""What a report can be written as; `results.json` and the figures are always there."""
REPORT_NAME = "report.html"
RESULTS_NAME = "results.json"


def formats_of(text: str) -> tuple[str, ...]:
    """Formats named in a text, separated by commas, each once.

    Raises:
        InputError: one that there is not, or none.
    """
    faults = FaultList()
    found = [name.strip() for name in text.split(",")]
    for name in found:
        if name not in FORMATS:
            faults.add("--format", f"{name!r} is no format of a report", did_you_mean(name, FORMATS))
    faults.raise_if_any(InputError)
    return tuple(dict.fromkeys(found))


def write_files(gathered: Gathered, page: Page, markdown: str, out: Path, formats: Collection[str]) -> list[Path]:
    """Write a report into a folder; the files written, the page first where it is among them.

    Args:
        gathered: what is reported.
        page: what it shows.
        markdown: the same as Markdown.
        out: made where it is not there; files of other formats in it are left as they are.
        formats: of `FORMATS`.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = []
    if "html" in formats:
        files.append(_write(out / REPORT_NAME, render(page)))
    if "md" in formats:
        files.append(_write(out / "report.md", markdown))
    if "csv" in formats:
        files += _write_tables(gathered, page, out)
    if "tex" in formats:
        files.append(_write(out / "table.tex", _latex(page)))
    files.append(_write(out / RESULTS_NAME, json.dumps(results_of(gathered, page), indent=1)))
    for figure in gathered.figures:
        files += save_figure(figure.figure, figure.info, out / "figures", figure.name, ("png", "pdf"))
    return files


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _write_tables(gathered: Gathered, page: Page, out: Path) -> list[Path]:
    """Every table that has a row."""
    tables = {
        "table": gathered.table,
        "trials": gathered.trials,
        "finalists": gathered.finalists,
        "verdicts": gathered.verdicts,
        "genes": gathered.genes,
        **{f"published_{cell_type}": table for cell_type, table in page.comparisons.items()},
    }
    files = []
    for name, table in tables.items():
        if len(table) or name in ("table", "trials"):
            files.append(out / f"{name}.csv")
            table.to_csv(files[-1], index=False)
    return files


def _latex(page: Page) -> str:
    """The study's table, and published numbers beside ours, for a paper."""
    label = f"tab:{page.header.name.replace('_', '-')}"
    parts = [table_latex(page.headings, page.rows, f"{page.header.question} {reading_aid(page.header)}", label)]
    for cell_type, table in page.comparisons.items():
        caption = f"{page.header.question} Beside published numbers, {cell_type}."
        name = f"{label}-published-{''.join(letter for letter in cell_type if letter.isalnum())}"
        parts.append(table_latex([str(name) for name in table.columns], table.to_numpy().tolist(), caption, name))
    return "\n".join(parts)
