"""Two studies, or two launches of one, beside each other: arms of the same name, paired run by run.

For a study repeated on other data, with other code or by another group: do its arms come out the same?
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from prism_ray.errors import FaultList, InputError, did_you_mean
from prism_ray.report.text import interval, number, probability, signed, table_lines, table_markdown
from prism_ray.report.values import arm_pairs, latest, with_value
from prism_ray.statistics import holm, paired_differences, paired_effect, summarize
from prism_ray.tracking import StudyRun, fetch_study, fetch_trials

AGAINST_COLUMNS = [
    "cell_type",
    "arm",
    "n",
    "mean",
    "n_other",
    "mean_other",
    "n_pairs",
    "difference",
    "low",
    "high",
    "p",
]
AGAINST_HEADINGS = (
    "cell type",
    "arm",
    "runs",
    "mean",
    "other runs",
    "other mean",
    "pairs",
    "difference",
    "95 % interval",
)


@dataclass(frozen=True)
class Comparison:
    """Two launches beside each other.

    Attributes:
        ours, other: the launches.
        table: an arm a row, see `against_table`.
        notes: in what else they differ.
        text: all of it for a terminal.
        markdown: the same for a note.
    """

    ours: StudyRun
    other: StudyRun
    table: pd.DataFrame
    notes: tuple[str, ...]
    text: str
    markdown: str


def compare_studies(tracking_uri: str, study: str, other: str, *, mixed: bool = False) -> Comparison:
    """Compare two studies of a tracking store.

    Args:
        study, other: names, or `NAME@RUN` for a launch that is not the last: `RUN` is the start of its parent run's id.
        mixed: compare although the data or the results version differ.

    Raises:
        TrackingError: the store cannot be reached or has no such study or launch.
        InputError: the two are the same launch, compare different metrics, have no arm in common, or differ in data or
            results version without `mixed`.
    """
    ours, theirs = fetch_study(tracking_uri, study), fetch_study(tracking_uri, other)
    notes = _differences(ours, theirs)
    _refuse(ours, theirs, notes, mixed)
    tables = [fetch_trials(tracking_uri, launch.header.name, parent_run_id=launch.run_id) for launch in (ours, theirs)]
    table = against_table(ours, tables[0], theirs, tables[1])
    headings, rows = _cells(table)
    title = f"{_title(ours)} against {_title(theirs)}, {ours.header.metric}"
    aid = (
        "Differences are the first minus the second, paired by cell type, seed and fold; p is the paired t test's, "
        "corrected by Holm over all rows."
    )
    text = "\n".join([title, *notes, "", *table_lines(headings, rows), "", aid])
    markdown = "\n\n".join([f"**{title}**", *(f"> {note}" for note in notes), table_markdown(headings, rows), aid])
    return Comparison(ours, theirs, table, notes, text, markdown + "\n")


def write_comparison(comparison: Comparison, out: Path) -> list[Path]:
    """Write `against.md` and `against.csv` into a folder; the files written."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "against.md", out / "against.csv"]
    files[0].write_text(comparison.markdown, encoding="utf-8")
    comparison.table.to_csv(files[1], index=False)
    return files


def against_table(ours: StudyRun, trials: pd.DataFrame, other: StudyRun, other_trials: pd.DataFrame) -> pd.DataFrame:
    """Arms that both have, one row a cell type and arm that at least one has runs of.

    Columns: cell_type, arm; n, mean of the first's runs, n_other, mean_other of the second's; n_pairs (of the same seed
    and fold), difference (first minus second) with its t interval low, high, and p after Holm; nan where not defined.
    """
    metric = ours.header.metric
    values = [latest(with_value(table, metric)) for table in (trials, other_trials)]
    rows, effects = [], []
    for cell_type in [name for name in ours.header.cell_types if name in other.header.cell_types]:
        for arm in [name for name in ours.header.arms if name in other.header.arms]:
            mine, theirs = (arm_pairs(table, cell_type, arm, metric) for table in values)
            if not (mine or theirs):
                continue
            effect = paired_effect(paired_differences(mine, theirs))
            own, others = summarize(list(mine.values())), summarize(list(theirs.values()))
            difference = effect.difference
            spread = [difference.n, difference.mean, difference.low, difference.high]
            rows.append([cell_type, arm, own.n, own.mean, others.n, others.mean, *spread])
            effects.append(effect.p)
    corrected = holm(effects)
    return pd.DataFrame([[*row, p] for row, p in zip(rows, corrected, strict=True)], columns=AGAINST_COLUMNS)


def _title(launch: StudyRun) -> str:
    return f"{launch.header.name}@{launch.run_id[:8]}"


def _differences(ours: StudyRun, other: StudyRun) -> tuple[str, ...]:
    """Sentences about what the launches do not share."""
    facts = [
        ("data", ours.header.data_digest[:12], other.header.data_digest[:12]),
        ("results version", ours.header.results_version, other.header.results_version),
        ("source commit", ours.tags.get("prism.git_commit", "-")[:12], other.tags.get("prism.git_commit", "-")[:12]),
        ("study", ours.header.study_digest[:12], other.header.study_digest[:12]),
    ]
    return tuple(f"They differ in {name}: {mine} and {theirs}." for name, mine, theirs in facts if mine != theirs)


def _refuse(ours: StudyRun, other: StudyRun, notes: tuple[str, ...], mixed: bool) -> None:
    faults = FaultList()
    if ours.run_id == other.run_id:
        faults.add(_title(ours), "would be compared with itself", "name another study, or another launch as NAME@RUN")
    if ours.header.metric != other.header.metric:
        fix = "compare studies with the same report_metric"
        faults.add(_title(other), f"reports {other.header.metric}, and {_title(ours)} {ours.header.metric}", fix)
    if not set(ours.header.arms) & set(other.header.arms):
        names = ", ".join(other.header.arms) or "none"
        faults.add(
            _title(other),
            f"has no arm of {_title(ours)}",
            f"its arms are {names}; {did_you_mean('', ours.header.arms)}",
        )
    for note in notes:
        if not mixed and note.startswith(("They differ in data", "They differ in results version")):
            faults.add(_title(other), note, "give --mixed to compare them all the same")
    faults.raise_if_any(InputError)


def _cells(table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    rows = []
    for row in table.to_dict("records"):
        cells = [row["cell_type"], row["arm"], str(row["n"]), number(row["mean"]), str(row["n_other"])]
        cells += [number(row["mean_other"]), str(row["n_pairs"]), signed(row["difference"])]
        rows.append([*cells, interval(row["low"], row["high"]), probability(row["p"])])
    return [*AGAINST_HEADINGS, "p (Holm)"], rows
