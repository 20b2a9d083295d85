"""What a report says in words: its answer, its counts, what must be known before believing it, the page, the note."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

import pandas as pd

from prism_ray.report.finalists import finalists_header, finalists_sentence, search_counts_sentence, search_notes
from prism_ray.report.gather import Gathered
from prism_ray.report.html import VERDICT_AID, Page, cost_aid, gene_aid, reading_aid, table_title
from prism_ray.report.provenance import mixture_notes
from prism_ray.report.published import COMPARED_METRICS, published_for
from prism_ray.report.tables import arm_table, count_trials
from prism_ray.report.text import counts_sentence, gene_cells, headline, mean_std, table_cells, table_markdown
from prism_ray.report.verdicts import verdict_cells, verdict_sentence
from prism_ray.tracking import CLAIMS_CHANGED_TAG, StudyHeader


def page_of(gathered: Gathered) -> Page:
    """What the report shows."""
    header, compared = gathered.header, gathered.compared
    headings, rows = table_cells(gathered.table, header)
    counts = count_trials(gathered.own, header)
    return Page(
        header=header,
        answer=" ".join(filter(None, (verdict_sentence(gathered.verdicts, header), _headline(gathered)))),
        verdicts=verdict_cells(gathered.verdicts, header),
        counts=_counts(counts, gathered.finalists, header),
        notes=_notes(gathered, counts),
        headings=headings,
        rows=rows,
        finalists=table_cells(gathered.finalists, compared) if compared is not None else ((), ()),
        genes=gene_cells(gathered.genes, header),
        figures=gathered.figures,
        comparisons=comparisons(gathered.trials, header),
        facts=gathered.facts,
        created=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def comparisons(trials: pd.DataFrame, header: StudyHeader) -> dict[str, pd.DataFrame]:
    """Our arms above the published rows, by cell type; only where these are of the same data, fold and kind."""
    found = {}
    for cell_type in header.cell_types:
        published = published_for(header, cell_type)
        if len(published):
            found[cell_type] = pd.concat([_our_rows(trials, header, cell_type), published], ignore_index=True)
    return found


def markdown_of(page: Page) -> str:
    """The report as Markdown, for a file and as the note of the study's run."""
    header = page.header
    lines = [f"**{header.question}**", "", page.answer, "", page.counts, ""]
    for note in page.notes:
        lines += [f"> {note}", ""]
    if page.verdicts[1]:
        lines += [_table(*page.verdicts), "", VERDICT_AID, ""]
    compared = finalists_header(header)
    if compared is not None:
        lines += [_table(*page.finalists), "", reading_aid(compared), "", f"**{table_title(header)}**", ""]
    lines += [_table(page.headings, page.rows), "", reading_aid(header), ""]
    if cost_aid(page.headings):
        lines += [cost_aid(page.headings), ""]
    if page.genes[1]:
        lines += [_table(*page.genes), "", gene_aid(header), ""]
    for cell_type, beside in page.comparisons.items():
        cells = beside.to_numpy().tolist()
        lines += [f"**Beside published numbers, {cell_type}**", "", _table(list(beside.columns), cells), ""]
    if header.claim:
        lines += [f"Claim: {header.claim}" + (f" ({header.source})" if header.source else ""), ""]
    lines += ["Repeat:", "", "```", header.command, f"prism-ray report {header.name}", "```", ""]
    return "\n".join(lines)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table_markdown(list(headings), [list(row) for row in rows])


def _notes(gathered: Gathered, counts: dict[str, int]) -> list[str]:
    """What a reader must know before believing the numbers."""
    header, launch = gathered.header, gathered.launch
    notes = [*search_notes(gathered.own, header), *mixture_notes(gathered.facts)]
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
    return notes


def _headline(gathered: Gathered) -> str:
    """The first sentence: of a search about its finalists, where it has any."""
    if gathered.compared is None:
        return headline(gathered.table, gathered.header)
    return headline(gathered.finalists, gathered.compared)


def _counts(counts: dict[str, int], finalists: pd.DataFrame, header: StudyHeader) -> str:
    if header.kind != "search":
        return counts_sentence(counts)
    return " ".join([search_counts_sentence(counts), *([finalists_sentence(finalists)] if len(finalists) else [])])


def _our_rows(trials: pd.DataFrame, header: StudyHeader, cell_type: str) -> pd.DataFrame:
    arms = header.arms_on(cell_type)
    ours = pd.DataFrame({"model": [f"this study: {arm}" for arm in arms]})
    of_cell_type = trials[trials["cell_type"] == cell_type]
    for metric in COMPARED_METRICS:
        rows = arm_table(of_cell_type, _with_metric(header, f"test/{metric}", cell_type)).to_dict("records")
        ours[metric] = [mean_std(row["mean"], row["std"]) for row in rows]
    ours["source"] = f"this study, {', '.join(header.folds)}"
    return ours


def _with_metric(header: StudyHeader, metric: str, cell_type: str) -> StudyHeader:
    return StudyHeader(**{**vars(header), "metric": metric, "cell_types": (cell_type,)})
