"""What the report of a study says, as one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from prism_ray.report.figure import StudyFigure
from prism_ray.report.finalists import finalists_header
from prism_ray.report.page import definitions_html, document, figure_html, table_html
from prism_ray.report.text import CHOSEN_HEADING, COST_HEADING
from prism_ray.tracking.headers import StudyHeader

_FACTS = {
    "study_digest": "Study digest",
    "data_digest": "Data digest",
    "results_version": "Results version",
    "seeds": "Seeds",
    "folds": "Folds",
    "cell_types": "Cell types",
    "git_commits": "Source commits of the trials",
    "hardware": "Hardware of the trials",
    "tracking_uri": "Tracking store",
    "parent_run_id": "Parent run",
    "python": "Python of the report",
    "versions": "Packages of the report",
}


VERDICT_AID = (
    "Claims were declared in the study file. Supported and contradicted: the corrected p of the paired t test is under "
    "5 %; equivalent: the difference is shown to lie within the declared margin; inconclusive: neither, and a true "
    "difference as large as the last column would have been found in four of five such studies."
)


@dataclass(frozen=True)
class Page:
    """What a report shows.

    Attributes:
        header: of the study.
        answer: the first sentence.
        counts: how many trials it rests on.
        notes: what a reader must know before believing it.
        headings, rows: the table as text.
        verdicts: headings and rows of the study's claims; no row where it claims nothing.
        finalists: headings and rows of a search's finalists beside its baseline; no row where there are none.
        genes: headings and rows of the arms' differences over genes; no row where there are no predictions.
        figures: in the order of the page.
        comparisons: tables of published numbers beside ours, by cell type.
        facts: as `provenance` returns them.
        created: when the report was written, as text.
    """

    header: StudyHeader
    answer: str
    counts: str
    notes: Sequence[str]
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    verdicts: tuple[Sequence[str], Sequence[Sequence[str]]]
    finalists: tuple[Sequence[str], Sequence[Sequence[str]]]
    genes: tuple[Sequence[str], Sequence[Sequence[str]]]
    figures: Sequence[StudyFigure]
    comparisons: dict[str, pd.DataFrame]
    facts: dict[str, Any]
    created: str


def render(page: Page) -> str:
    """The whole page as text."""
    header = page.header
    parts = [
        f'<p class="study">Study {escape(header.name)}, {escape(header.kind)}</p>',
        f"<h1>{escape(header.question)}</h1>",
        _claim(header),
        f'<p class="answer">{escape(page.answer)}</p>',
        f"<p>{escape(page.counts)}</p>",
        *(f'<p class="note">{escape(note)}</p>' for note in page.notes),
        *_verdicts(page),
        *_finalists(page),
        f"<h2>{table_title(header)}</h2>",
        table_html(page.headings, page.rows),
        f'<p class="study">{escape(" ".join(filter(None, (reading_aid(header), cost_aid(page.headings)))))}</p>',
    ]
    if page.genes[1]:
        parts += ["<h2>Would it hold on other genes?</h2>", table_html(*page.genes)]
        parts.append(f'<p class="study">{escape(gene_aid(header))}</p>')
    for figure in page.figures:
        parts += [
            f"<h2>{escape(figure.title)}</h2>",
            figure_html(figure.figure, figure.name, figure.title, figure.caption),
        ]
    for cell_type, table in page.comparisons.items():
        parts += [
            f"<h2>Beside published numbers, {escape(cell_type)}</h2>",
            table_html([str(name) for name in table.columns], table.to_numpy().tolist()),
        ]
    parts += ["<h2>Repeat it</h2>", f"<pre>{escape(header.command)}</pre>"]
    parts += ["<h2>What it rests on</h2>", _facts(page.facts), f'<p class="study">Written {escape(page.created)}.</p>']
    return document(f"{header.name}: {header.question}", parts)


def table_title(header: StudyHeader) -> str:
    """What the study's table shows, in two words."""
    if header.kind != "search":
        return "Arms"
    return "Best trials" if header.second_metric is None else "Pareto front"


def _finalists(page: Page) -> list[str]:
    compared = finalists_header(page.header)
    if compared is None or not page.finalists[1]:
        return []
    aid = f'<p class="study">{escape(reading_aid(compared))}</p>'
    return ["<h2>Finalists</h2>", table_html(*page.finalists), aid]


def _verdicts(page: Page) -> list[str]:
    headings, rows = page.verdicts
    if not rows:
        return []
    return ["<h2>Claims</h2>", table_html(headings, rows), f'<p class="study">{escape(VERDICT_AID)}</p>']


def reading_aid(header: StudyHeader) -> str:
    """How to read the study's table."""
    better = "Lower" if header.direction == "minimize" else "Higher"
    if header.kind == "search":
        return f"{better} is better. The best of many trials is flattered by chance: retrain it before claiming it."
    text = f"{better} is better. Mean, std (n - 1) and 95 % t interval of {header.metric} over the finished trials."
    if header.baseline is None:
        return text
    return (
        f"{text} Differences are paired by seed and fold against {header.compared_with}; effect size is the difference "
        f"in standard deviations of the differences (Hedges' g); p is the paired t test's, corrected by Holm over the "
        f"arms."
    )


def cost_aid(headings: Sequence[str]) -> str:
    """How to read the columns of cost and choice, as far as the table has them."""
    parts = []
    if COST_HEADING in headings:
        parts.append("Training: mean time in training steps of a run, on the machine that trained it.")
    if CHOSEN_HEADING in headings:
        parts.append(
            "Chosen: the simplest arm within one standard error of the best by validation, which the test genes do not "
            "enter."
        )
    return " ".join(parts)


def gene_aid(header: StudyHeader) -> str:
    """How to read the table of differences over genes."""
    return (
        f"Difference in {header.metric} from {header.compared_with}, mean over the runs of the same seeds. The first "
        f"interval is over other test genes for these runs (BCa bootstrap), the second over other runs and other genes "
        f"together; the paired t interval above is over other runs for these genes."
    )


def _claim(header: StudyHeader) -> str:
    if not header.claim:
        return ""
    source = f" ({escape(header.source)})" if header.source else ""
    return f"<p>Claim: {escape(header.claim)}{source}</p>"


def _facts(facts: dict[str, Any]) -> str:
    pairs = []
    for name, word in _FACTS.items():
        value = facts[name]
        if isinstance(value, dict):
            value = [f"{key} {item}" for key, item in value.items()]
        shown = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
        pairs.append((word, shown or "not recorded"))
    return definitions_html(pairs)
