"""Tables as text: for a terminal, for a log, and as Markdown. Also the sentences that go with them."""

from __future__ import annotations

import math
from collections.abc import Hashable
from numbers import Integral
from typing import Any

import pandas as pd

from prism_ray.report.tables import TRIAL_PLACE
from prism_ray.tracking.headers import StudyHeader

NOTHING = "-"
"""Shown where a number is not defined, for example a standard deviation of one run."""

ARM_HEADINGS = ("arm", "finished", "failed", "missing", "mean ± std", "95 % interval")
PAIRED_HEADINGS = ("pairs", "difference", "95 % interval of it", "effect size", "p (Holm)")
COST_HEADING = "training"
CHOSEN_HEADING = "one-standard-error rule"
CHOSEN = "chosen"

GENE_HEADINGS = ("arm", "runs", "genes", "difference", "95 % over genes", "95 % over runs and genes")


def number(value: Any) -> str:
    """A number with four decimals, with three digits where these would not show it, `-` where it is not defined."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if isinstance(value, str | bool):
        return str(value)
    if isinstance(value, Integral):
        return str(int(value))
    real = float(value)
    if real == 0 or 1e-3 <= abs(real) < 1e5:
        return f"{real:.4f}"
    return f"{real:.3g}"


def interval(low: float, high: float) -> str:
    """`[low, high]`, or `-` where there is none."""
    return NOTHING if math.isnan(low) or math.isnan(high) else f"[{number(low)}, {number(high)}]"


def signed(value: float) -> str:
    """A difference with its sign."""
    text = number(value)
    return f"+{text}" if text != NOTHING and value > 0 else text


def mean_std(mean: float, std: float) -> str:
    """`mean ± std`, or the mean alone where one run has no spread."""
    return number(mean) if math.isnan(std) else f"{number(mean)} ± {number(std)}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it, `-` where it is not known."""
    if math.isnan(seconds):
        return NOTHING
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def probability(value: float) -> str:
    """A p value with three decimals, `< 0.001` below."""
    if math.isnan(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _p_phrase(value: float) -> str:
    text = probability(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def table_cells(table: pd.DataFrame, header: StudyHeader) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of a study's table, as people read it."""
    if header.kind == "search":
        return [str(name) for name in table.columns], [[number(value) for value in row] for row in _rows(table)]
    several = len(header.cell_types) > 1
    paired = header.baseline is not None
    # Nothing is trained in an evaluation; and a study that is not ordered has nothing to choose.
    costs = bool((table["train_s"] > 0).any())
    chooses = bool(table["chosen"].any())
    headings = [*(("cell type",) if several else ()), *ARM_HEADINGS, *(PAIRED_HEADINGS if paired else ())]
    headings += [*((COST_HEADING,) if costs else ()), *((CHOSEN_HEADING,) if chooses else ())]
    rows = []
    for row in table.to_dict("records"):
        failed = str(row["n_failed"]) + (f" (+{row['n_running']} running)" if row["n_running"] else "")
        cells = [row["cell_type"]] if several else []
        cells += [row["arm"], f"{row['n_finished']} of {row['n_planned']}", failed, str(row["n_missing"])]
        cells += [mean_std(row["mean"], row["std"]), interval(row["ci_low"], row["ci_high"])]
        if paired and row["arm"] == header.baseline:
            cells += ["baseline", "", "", "", ""]
        elif paired:
            cells += [str(row["n_pairs"]), signed(row["difference"])]
            cells += [interval(row["difference_low"], row["difference_high"]), _size(row["effect_size"])]
            cells.append(probability(row["p_holm"]))
        cells += ["none" if row["train_s"] == 0 else duration(row["train_s"])] if costs else []
        cells += [CHOSEN if row["chosen"] else ""] if chooses else []
        rows.append(cells)
    return headings, rows


def _size(value: float) -> str:
    if math.isnan(value):
        return NOTHING
    return f"{value:+.2f}" if abs(value) < 100 else f"{value:+.3g}"


def gene_cells(genes: pd.DataFrame, header: StudyHeader) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of `gene_table`, as people read it; no row where it has none."""
    several = len(header.cell_types) > 1
    headings = [*(("cell type",) if several else ()), *GENE_HEADINGS]
    rows = []
    for row in genes.to_dict("records"):
        cells = [row["cell_type"]] if several else []
        cells += [row["arm"], str(row["n_runs"]), str(row["n_genes"]), signed(row["difference"])]
        cells += [interval(row["genes_low"], row["genes_high"]), interval(row["both_low"], row["both_high"])]
        rows.append(cells)
    return headings, rows


def table_text(table: pd.DataFrame, header: StudyHeader) -> str:
    """The table in aligned columns, for a log."""
    return "\n".join(table_lines(*table_cells(table, header)))


def table_lines(headings: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table in aligned columns."""
    widths = [max(len(line[column]) for line in (headings, *rows)) for column in range(len(headings))]
    lines = [headings, ["-" * width for width in widths], *rows]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def table_markdown(headings: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def headline(table: pd.DataFrame, header: StudyHeader) -> str:
    """What the table says first, in one or two sentences, with its uncertainty."""
    word = "lowest" if header.direction == "minimize" else "highest"
    if header.kind == "search":
        if not len(table):
            return "No trial has finished with a value yet."
        ranking = str(table.columns[len(TRIAL_PLACE)])
        first = table.iloc[0]
        return f"Of the trials so far, {first['trial_id']} has the {word} {ranking}: {number(float(first[ranking]))}."
    sentences = []
    for cell_type in header.cell_types:
        rows = table[table["cell_type"] == cell_type].to_dict("records")
        part = [row for row in rows if not math.isnan(row["mean"])]
        where = f"{cell_type}: " if len(header.cell_types) > 1 else ""
        if not part:
            sentences.append(f"{where}no trial has finished with a value of {header.metric} yet.")
            continue
        if header.kind == "evaluation":
            sentences.append(_change_sentence(part, header, where))
            continue
        choose = min if header.direction == "minimize" else max
        best = choose(part, key=lambda row: row["mean"])
        sentences.append(_arm_sentence(best, header, where, word))
    text = " ".join(sentences)
    return text[0].upper() + text[1:]


def _change_sentence(rows: list[dict[Hashable, Any]], header: StudyHeader, where: str) -> str:
    """The change of input that moves its own model most: other models, and other cell types' labels, do not compare."""
    changed = [row for row in rows if row["arm"] in header.references and not math.isnan(row["difference"])]
    if not changed:
        return f"{where}no model has been evaluated on changed input yet."
    most = max(changed, key=lambda row: abs(row["difference"]))
    text = f"{where}largest change of {header.metric}: {most['arm']}, {signed(most['difference'])}"
    reference = header.references[most["arm"]]
    if math.isnan(most["p_holm"]):
        return f"{text} from {reference}; too few pairs for an interval."
    shown = interval(most["difference_low"], most["difference_high"])
    return f"{text} {shown} from {reference}, {_p_phrase(most['p_holm'])} after Holm."


def _arm_sentence(best: dict[Hashable, Any], header: StudyHeader, where: str, word: str) -> str:
    text = f"{where}{word} mean {header.metric}: {best['arm']}, {number(best['mean'])} over {best['n_finished']} runs"
    if header.baseline is None:
        return f"{text}."
    reference = header.reference(best["arm"])
    if reference is None:
        return f"{text}; it is the baseline."
    if math.isnan(best["p_holm"]):
        return f"{text}; too few pairs with {reference} for an interval."
    shown = interval(best["difference_low"], best["difference_high"])
    return (
        f"{text}; difference from {reference} {signed(best['difference'])} {shown}, "
        f"{_p_phrase(best['p_holm'])} after Holm. With {best['n_pairs']} pairs a true difference of "
        f"{number(best['detectable'])} would be found in four of five such studies."
    )


def counts_sentence(counts: dict[str, int]) -> str:
    """How many trials the numbers rest on, and how many are not there."""
    text = f"{counts['finished']} of {counts['planned']} planned trials finished"
    return f"{text}; {counts['failed']} failed, {counts['running']} running, {counts['missing']} not started."


def _rows(table: pd.DataFrame) -> list[list[Any]]:
    return [[row[name] for name in table.columns] for row in table.to_dict("records")]
