"""What a study's claims came to, by the rule that was declared before its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from prism_ray.report.text import interval, number, probability, signed
from prism_ray.report.values import arm_pairs, latest, with_value
from prism_ray.statistics import Verdict, holm, judge, paired_differences, paired_effect
from prism_ray.tracking.headers import Expected, StudyHeader

VERDICT_COLUMNS = [
    "cell_type",
    "arm",
    "than",
    "to_be",
    "margin",
    "verdict",
    "n_pairs",
    "difference",
    "low",
    "high",
    "p",
    "p_equivalent",
    "detectable",
    "n_needed",
]
VERDICT_HEADINGS = ("claim", "verdict", "pairs", "difference", "95 % interval", "p (Holm)", "would have been seen")
_WORST_FIRST: tuple[Verdict, ...] = ("contradicted", "inconclusive", "equivalent", "supported")


def verdict_table(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """Verdict on each claim of a study, one row a cell type and claim; see `VERDICT_COLUMNS`.

    Differences are paired by seed and fold. Holm's correction runs over all claims of the study, cell types included.
    detectable is the smallest true difference found with 80 % power, n_needed the pairs that would settle it (nan
    where none would); margin is nan where none was declared.
    """
    values = latest(with_value(trials, header.metric))
    places = [(cell_type, expected) for cell_type in header.cell_types for expected in header.expectations]
    differences = []
    for cell_type, expected in places:
        arms = [arm_pairs(values, cell_type, arm, header.metric) for arm in (expected.arm, expected.than)]
        differences.append(paired_differences(*arms))
    corrected = holm([paired_effect(sample).p for sample in differences])
    rows = []
    for (cell_type, expected), sample, p in zip(places, differences, corrected, strict=True):
        found = judge(sample, expected.to_be, header.direction, margin=expected.margin, p_corrected=p)
        claim = [cell_type, expected.arm, expected.than, expected.to_be, expected.margin, found.verdict]
        effect = [found.n_pairs, found.difference, found.low, found.high, found.p, found.p_equivalent]
        rows.append([*claim, *effect, found.detectable, found.n_needed])
    table = pd.DataFrame(rows, columns=VERDICT_COLUMNS)
    return table.astype({"margin": "float64", "n_needed": "float64"})


def study_verdict(table: pd.DataFrame) -> Verdict | None:
    """One word for the whole study: the weakest of its claims' verdicts; None where it claims nothing."""
    found = set(table["verdict"])
    return next((verdict for verdict in _WORST_FIRST if verdict in found), None)


def claim_text(expected: Expected | Mapping[str, Any]) -> str:
    """A claim in words."""
    parts = vars(expected) if isinstance(expected, Expected) else expected
    margin = parts["margin"]
    within = "" if margin is None or math.isnan(margin) else f" (margin {margin:g})"
    if parts["to_be"] == "same":
        return f"{parts['arm']} does as {parts['than']}{within}"
    return f"{parts['arm']} is {parts['to_be']} than {parts['than']}{within}"


def verdict_cells(table: pd.DataFrame, header: StudyHeader) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of `verdict_table`, as people read it."""
    several = len(header.cell_types) > 1
    headings = [*(("cell type",) if several else ()), *VERDICT_HEADINGS]
    rows = []
    for row in table.to_dict("records"):
        cells = [row["cell_type"]] if several else []
        cells += [claim_text({str(name): value for name, value in row.items()}), row["verdict"], str(row["n_pairs"])]
        cells += [signed(row["difference"]), interval(row["low"], row["high"]), probability(row["p"])]
        rows.append([*cells, number(row["detectable"])])
    return headings, rows


def verdict_sentence(table: pd.DataFrame, header: StudyHeader) -> str:
    """The study's answer to its question, with what would settle what is open."""
    overall = study_verdict(table)
    if overall is None:
        return ""
    counts = table["verdict"].value_counts()
    words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in reversed(_WORST_FIRST) if verdict in counts)
    text = f"Verdict: {overall}. Of {len(table)} declared claim{'s' if len(table) > 1 else ''}: {words}."
    still_open = table[(table["verdict"] == "inconclusive") & table["n_needed"].notna()]
    if len(still_open):
        text += f" About {int(still_open['n_needed'].max())} pairs of runs would settle what is open."
    elif overall == "inconclusive":
        text += " Too few runs to say how many would settle it."
    return text
