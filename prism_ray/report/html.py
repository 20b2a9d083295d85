"""The report as one page: figures inside, nothing from the network, readable on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from prism_ray.report.figures import StudyFigure
from prism_ray.report.style import inline_svg
from prism_ray.tracking.headers import StudyHeader

_CSS = """
:root { color-scheme: light dark;
  --text: #24272c; --quiet: #5b6168; --page: #ffffff; --line: #d5d9de; --mark: #f3f5f8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --quiet: #a2a9b1; --page: #16181c; --line: #373c43; --mark: #20242a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 3rem; max-width: 60rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; }
.study, figcaption, dt { color: var(--quiet); }
.answer, .note { background: var(--mark); padding: .7rem .9rem; border-radius: .4rem; max-width: 46rem; }
.note { border-left: .25rem solid #d9622b; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .35rem .6rem .35rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; vertical-align: bottom; }
figure { margin: .5rem 0 0; }
figure svg { display: block; max-width: 44rem; height: auto; }
figcaption { font-size: .9rem; max-width: 46rem; margin-top: .3rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .9rem; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: var(--mark); padding: .6rem .8rem; border-radius: .4rem; overflow-x: auto; }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; } dt { margin-top: .4rem; } }
"""

_FACTS = {
    "study_digest": "Study digest",
    "data_digest": "Data digest",
    "results_version": "Results version",
    "seeds": "Seeds",
    "folds": "Folds",
    "cell_types": "Cell types",
    "git_commits": "Source commits of the trials",
    "tracking_uri": "Tracking store",
    "parent_run_id": "Parent run",
    "python": "Python of the report",
    "versions": "Packages of the report",
}


@dataclass(frozen=True)
class Page:
    """What a report shows.

    Attributes:
        header: of the study.
        answer: the first sentence.
        counts: how many trials it rests on.
        notes: what a reader must know before believing it.
        headings, rows: the table as text.
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
        f"<h2>{'Arms' if header.kind == 'ablation' else 'Best trials'}</h2>",
        _table(page.headings, page.rows),
        f'<p class="study">{escape(reading_aid(header))}</p>',
    ]
    for figure in page.figures:
        parts += [f"<h2>{escape(figure.title)}</h2>", _figure(figure)]
    for cell_type, table in page.comparisons.items():
        parts += [
            f"<h2>Beside published numbers, {escape(cell_type)}</h2>",
            _table([str(name) for name in table.columns], table.to_numpy().tolist()),
        ]
    parts += ["<h2>Repeat it</h2>", f"<pre>{escape(header.command)}</pre>"]
    parts += ["<h2>What it rests on</h2>", _facts(page.facts), f'<p class="study">Written {escape(page.created)}.</p>']
    title = f"{escape(header.name)}: {escape(header.question)}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )


def reading_aid(header: StudyHeader) -> str:
    """How to read the study's table."""
    better = "Lower" if header.direction == "minimize" else "Higher"
    if header.kind == "search":
        return f"{better} is better. The best of many trials is flattered by chance: retrain it before claiming it."
    text = f"{better} is better. Mean, std (n - 1) and 95 % t interval of {header.metric} over the finished trials."
    if header.baseline is None:
        return text
    return (
        f"{text} Differences are paired by seed and fold against {header.baseline}; p is the paired t test's, "
        f"corrected by Holm over the arms."
    )


def _claim(header: StudyHeader) -> str:
    if not header.claim:
        return ""
    source = f" ({escape(header.source)})" if header.source else ""
    return f"<p>Claim: {escape(header.claim)}{source}</p>"


def _table(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in headings)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _figure(figure: StudyFigure) -> str:
    svg = inline_svg(figure.figure, figure.name, figure.title)
    return f"<figure>{svg}<figcaption>{escape(figure.caption)}</figcaption></figure>"


def _facts(facts: dict[str, Any]) -> str:
    lines = []
    for name, word in _FACTS.items():
        value = facts[name]
        if isinstance(value, dict):
            value = [f"{key} {item}" for key, item in value.items()]
        shown = ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)
        lines.append(f"<dt>{escape(word)}</dt><dd>{escape(shown or 'not recorded')}</dd>")
    return f"<dl>{''.join(lines)}</dl>"
