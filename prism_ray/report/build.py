"""A study's report: read the runs, make table and figures, write the files, put the answer on the parent run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from prism_ray.errors import Fault, InputError
from prism_ray.report.figures import StudyFigure, gene_figures, study_figures
from prism_ray.report.finalists import (
    finalists_header,
    finalists_sentence,
    own_trials,
    search_counts_sentence,
    search_notes,
)
from prism_ray.report.genes import finished_runs, gene_table, wants_predictions
from prism_ray.report.html import VERDICT_AID, Page, gene_aid, reading_aid, render, table_title
from prism_ray.report.latex import table_latex
from prism_ray.report.provenance import mixture_notes, provenance
from prism_ray.report.published import published_for
from prism_ray.report.style import save_figure
from prism_ray.report.tables import arm_table, count_trials, study_table, summary_metrics
from prism_ray.report.text import (
    counts_sentence,
    gene_cells,
    headline,
    number,
    table_cells,
    table_markdown,
    table_text,
)
from prism_ray.report.verdicts import verdict_cells, verdict_sentence, verdict_table
from prism_ray.tracking import (
    CLAIMS_CHANGED_TAG,
    MlflowTracker,
    StudyHeader,
    StudyRun,
    fetch_predictions,
    fetch_study,
    fetch_trials,
)

REPORT_NAME = "report.html"
COMPARED_METRICS = ("mse", "mae", "pearson_r")
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
        html: the page.
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


class _Tables(NamedTuple):
    """What a report is made of: the study's table, a search's finalists, differences over genes, claims judged."""

    table: pd.DataFrame
    finalists: pd.DataFrame
    genes: pd.DataFrame
    verdicts: pd.DataFrame


def write_report(tracking_uri: str, study: str, out: Path) -> ReportResult:
    """Write the report of a study into a folder, and keep it with the study's parent run.

    The folder gets `report.html`, `report.md`, `table.csv`, `table.tex`, `trials.csv`, `results.json` and `figures/`;
    files of these names are replaced. The parent run gets them as artifacts, the Markdown as its note, and summary
    metrics.

    Args:
        tracking_uri: address of the MLflow store.
        study: its name.
        out: folder to write into.

    Raises:
        TrackingError: the store cannot be reached or has no such study.
        InputError: `out` is a file.
    """
    if out.exists() and not out.is_dir():
        fault = Fault(str(out), "is a file", "give a folder with --out")
        raise InputError(str(fault), [fault])
    launch = fetch_study(tracking_uri, study)
    trials = _settled(fetch_trials(tracking_uri, study, parent_run_id=launch.run_id), launch)
    header = launch.header
    own = own_trials(trials, header)
    table = study_table(own, header)
    compared = finalists_header(header)
    finalists = arm_table(trials, compared) if compared is not None else pd.DataFrame()
    figures = study_figures(own, table, header)
    genes = pd.DataFrame()
    # Of a search it is the finalists that are compared.
    answering, answers = (header, table) if compared is None else (compared, finalists)
    if wants_predictions(answering):
        runs = finished_runs(trials, answering)
        predictions = fetch_predictions(tracking_uri, runs["run_id"])
        genes = gene_table(runs, predictions, answering)
        figures += gene_figures(runs, answers, predictions, answering)
    verdicts = verdict_table(trials, header)
    tables = _Tables(table, finalists, genes, verdicts)
    page = _page(trials, tables, figures, launch, tracking_uri)
    markdown = _markdown(page)
    out.mkdir(parents=True, exist_ok=True)
    html = out / REPORT_NAME
    html.write_text(render(page), encoding="utf-8")
    files = [html, *_write_data(page, markdown, trials, tables, out)]
    for figure in figures:
        files += save_figure(figure.figure, figure.info, out / "figures", figure.name, ("png",))
    MlflowTracker(tracking_uri).publish(
        launch.run_id,
        files={f"{ARTIFACT_FOLDER}/{file.relative_to(out).as_posix()}": file for file in files},
        answer=page.answer,
        note=markdown,
        metrics=summary_metrics(table, header) | (summary_metrics(finalists, compared) if compared is not None else {}),
    )
    notes = tuple(page.notes)
    texts = [table_text(finalists, compared), ""] if compared is not None else []
    texts.append(table_text(table, header))
    text = "\n".join([header.question, "", page.answer, page.counts, *notes, "", *texts])
    return ReportResult(header, table, text, page.answer, page.counts, notes, html, tuple(files))


def _settled(trials: pd.DataFrame, launch: StudyRun) -> pd.DataFrame:
    """The trials, those left running by a process that died marked as killed where the study itself has ended."""
    if launch.status == "RUNNING":
        return trials
    return trials.assign(status=trials["status"].replace({"RUNNING": "KILLED", "SCHEDULED": "KILLED"}))


def _page(
    trials: pd.DataFrame,
    tables: _Tables,
    figures: list[StudyFigure],
    launch: StudyRun,
    tracking_uri: str,
) -> Page:
    table, finalists, genes, verdicts = tables
    header = launch.header
    compared = finalists_header(header)
    own = own_trials(trials, header)
    facts = provenance(trials, header, tracking_uri=tracking_uri, parent_run_id=launch.run_id)
    counts = count_trials(own, header)
    notes = [*search_notes(own, header), *mixture_notes(facts)]
    if not counts["finished"]:
        notes.append(f"No trial has finished with a value of {header.metric}: there is nothing to compare yet.")
    elif counts["finished"] + counts["pruned"] < counts["planned"]:
        notes.append("The study is not complete: every number here may move.")
    if launch.n_others:
        notes.append(
            f"{launch.n_others} other launches of this name (another study file, data or results) are not shown."
        )
    if launch.tags.get(CLAIMS_CHANGED_TAG) == "true":
        notes.append("Claims were changed after the first launch: they were not all declared before their runs.")
    if launch.tags.get("prism.git_dirty") == "true":
        notes.append("The source had uncommitted changes: the commit alone does not repeat this study.")
    headings, rows = table_cells(table, header)
    return Page(
        header=header,
        answer=" ".join(filter(None, (verdict_sentence(verdicts, header), _headline(tables, header)))),
        verdicts=verdict_cells(verdicts, header),
        counts=_counts(counts, finalists, header),
        notes=notes,
        headings=headings,
        rows=rows,
        finalists=table_cells(finalists, compared) if compared is not None else ((), ()),
        genes=gene_cells(genes, header),
        figures=figures,
        comparisons=_comparisons(trials, header),
        facts=facts,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _headline(tables: _Tables, header: StudyHeader) -> str:
    """The first sentence: of a search about its finalists, where it has any."""
    compared = finalists_header(header)
    return headline(tables.table, header) if compared is None else headline(tables.finalists, compared)


def _counts(counts: dict[str, int], finalists: pd.DataFrame, header: StudyHeader) -> str:
    if header.kind != "search":
        return counts_sentence(counts)
    return " ".join([search_counts_sentence(counts), *([finalists_sentence(finalists)] if len(finalists) else [])])


def _comparisons(trials: pd.DataFrame, header: StudyHeader) -> dict[str, pd.DataFrame]:
    """Our arms above the published rows, by cell type; only where these are of the same data and fold."""
    found = {}
    for cell_type in header.cell_types:
        published = published_for(header, cell_type)
        if len(published) and header.kind == "ablation":
            found[cell_type] = pd.concat([_our_rows(trials, header, cell_type), published], ignore_index=True)
    return found


def _our_rows(trials: pd.DataFrame, header: StudyHeader, cell_type: str) -> pd.DataFrame:
    ours = pd.DataFrame({"model": [f"this study: {arm}" for arm in header.arms]})
    of_cell_type = trials[trials["cell_type"] == cell_type]
    for metric in COMPARED_METRICS:
        one_metric = _with_metric(header, f"test/{metric}", cell_type)
        rows = arm_table(of_cell_type, one_metric).to_dict("records")
        ours[metric] = [
            f"{number(row['mean'])} ± {number(row['std'])}" if np.isfinite(row["std"]) else number(row["mean"])
            for row in rows
        ]
    ours["source"] = f"this study, {', '.join(header.folds)}"
    return ours


def _with_metric(header: StudyHeader, metric: str, cell_type: str) -> StudyHeader:
    return StudyHeader(**{**vars(header), "metric": metric, "cell_types": (cell_type,)})


def _markdown(page: Page) -> str:
    header = page.header
    lines = [f"**{header.question}**", "", page.answer, "", page.counts, ""]
    for note in page.notes:
        lines += [f"> {note}", ""]
    if page.verdicts[1]:
        lines += [table_markdown(list(page.verdicts[0]), [list(row) for row in page.verdicts[1]]), "", VERDICT_AID, ""]
    compared = finalists_header(header)
    if compared is not None:
        lines += [table_markdown(list(page.finalists[0]), [list(row) for row in page.finalists[1]]), ""]
        lines += [reading_aid(compared), "", f"**{table_title(header)}**", ""]
    lines += [table_markdown(list(page.headings), [list(row) for row in page.rows]), "", reading_aid(header), ""]
    if page.genes[1]:
        lines += [table_markdown(list(page.genes[0]), [list(row) for row in page.genes[1]]), "", gene_aid(header), ""]
    if header.claim:
        lines += [f"Claim: {header.claim}" + (f" ({header.source})" if header.source else ""), ""]
    lines += ["Repeat:", "", "```", header.command, f"prism-ray report {header.name}", "```", ""]
    return "\n".join(lines)


def _write_data(
    page: Page,
    markdown: str,
    trials: pd.DataFrame,
    tables: _Tables,
    out: Path,
) -> list[Path]:
    table, finalists, genes, verdicts = tables
    files = [out / name for name in ("report.md", "table.csv", "trials.csv", "results.json", "table.tex")]
    files[0].write_text(markdown, encoding="utf-8")
    table.to_csv(files[1], index=False)
    trials.to_csv(files[2], index=False)
    results = {
        "results_schema": 1,
        "answer": page.answer,
        "counts": page.counts,
        "notes": list(page.notes),
        "table": json.loads(table.to_json(orient="records", double_precision=15)),
        "finalists": json.loads(finalists.to_json(orient="records", double_precision=15)),
        "verdicts": json.loads(verdicts.to_json(orient="records", double_precision=15)),
        "genes": json.loads(genes.to_json(orient="records", double_precision=15)),
        "provenance": page.facts,
    }
    files[3].write_text(json.dumps(results, indent=1), encoding="utf-8")
    caption = f"{page.header.question} {reading_aid(page.header)}"
    latex = table_latex(page.headings, page.rows, caption, f"tab:{page.header.name.replace('_', '-')}")
    files[4].write_text(latex, encoding="utf-8")
    return files
