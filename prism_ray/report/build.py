"""A study's report: read the runs, make table and figures, write the files, put the answer on the parent run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from prism_ray.errors import Fault, InputError
from prism_ray.report.answer import markdown_of, page_of
from prism_ray.report.files import FORMATS, REPORT_NAME, write_files
from prism_ray.report.gather import Gathered, gather
from prism_ray.report.tables import summary_metrics
from prism_ray.report.text import table_text
from prism_ray.tracking import MlflowTracker, StudyHeader

ARTIFACT_FOLDER = "report"


@dataclass(frozen=True)
class ReportResult:
    """What a report says and where it is.

    Attributes:
        header: of the study.
        table: an arm a row, or a best trial a row; see `study_table`.
        text: answer, counts, notes and table for a log.
        answer: the first sentence.
        counts: how many trials it rests on, in words.
        notes: what a reader must know before believing it.
        html: the page, which is there where it was asked for.
        files: every file written, the page first.
    """

    header: StudyHeader
    table: pd.DataFrame
    text: str
    answer: str
    counts: str
    notes: tuple[str, ...]
    html: Path
    files: tuple[Path, ...]


def write_report(
    tracking_uri: str, study: str, out: Path, *, formats: Collection[str] = FORMATS, mixed: bool = False
) -> ReportResult:
    """Write the report of a study into a folder, and keep it with the study's parent run.

    The folder gets `results.json` and `figures/` and, by format, `report.html`; `report.md`; `table.csv`, `trials.csv`
    and those of the tables `finalists`, `verdicts`, `genes` and `published_...` that have a row; `table.tex`. Files of
    these names are replaced. The parent run gets them as artifacts, the Markdown as its note, and summary metrics.

    Args:
        tracking_uri: address of the MLflow store.
        study: its name, or `NAME@RUN` for an earlier launch.
        out: folder to write into.
        formats: which of `FORMATS` to write.
        mixed: report trials of several data digests or results versions together.

    Raises:
        TrackingError: the store cannot be reached or has no such study.
        InputError: `out` is a file, or the trials are of several data digests or results versions.
    """
    if out.exists() and not out.is_dir():
        fault = Fault(str(out), "is a file", "give a folder with --out")
        raise InputError(str(fault), [fault])
    gathered = gather(tracking_uri, study, mixed=mixed)
    page = page_of(gathered)
    markdown = markdown_of(page)
    files = write_files(gathered, page, markdown, out, formats)
    MlflowTracker(tracking_uri).publish(
        gathered.launch.run_id,
        files={f"{ARTIFACT_FOLDER}/{file.relative_to(out).as_posix()}": file for file in files},
        answer=page.answer,
        note=markdown,
        metrics=_summary(gathered),
    )
    header, notes = gathered.header, tuple(page.notes)
    texts = [table_text(gathered.finalists, gathered.compared), ""] if gathered.compared is not None else []
    texts.append(table_text(gathered.table, header))
    text = "\n".join([header.question, "", page.answer, page.counts, *notes, "", *texts])
    return ReportResult(header, gathered.table, text, page.answer, page.counts, notes, out / REPORT_NAME, tuple(files))


def _summary(gathered: Gathered) -> dict[str, float]:
    """Numbers for the parent run."""
    metrics = summary_metrics(gathered.table, gathered.header)
    if gathered.compared is not None:
        metrics |= summary_metrics(gathered.finalists, gathered.compared)
    return metrics
