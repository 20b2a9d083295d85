"""What a report rests on: the trials of a launch, the tables made of them, and the figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from prism_ray.errors import FaultList, InputError
from prism_ray.report.figure import StudyFigure
from prism_ray.report.figures import study_figures
from prism_ray.report.finalists import finalists_header, own_trials
from prism_ray.report.gene_figures import gene_figures, states_figure
from prism_ray.report.genes import finished_runs, gene_table, wants_predictions
from prism_ray.report.provenance import MIXTURES, provenance
from prism_ray.report.states import state_runs
from prism_ray.report.tables import arm_table, study_table
from prism_ray.report.verdicts import verdict_table
from prism_ray.tracking import (
    StudyHeader,
    StudyRun,
    fetch_predictions,
    fetch_state_weights,
    fetch_study,
    fetch_trials,
)

_REFUSED_MIXTURES = ("data_digests", "results_versions")


@dataclass(frozen=True)
class Gathered:
    """A launch of a study with all that a report says of it.

    Attributes:
        launch: the study's run.
        trials: every trial; see `fetch_trials`.
        own: trials that the study's table is made of: of a search all but its finalists and its baseline.
        table: an arm a row, or a best trial a row; see `study_table`.
        compared: header of a search's finalists as a study of their own; None where there are none.
        finalists: their table; empty where there are none.
        genes: differences over genes; empty where there are no predictions.
        verdicts: claims judged; empty where none is made.
        figures: in the order of the page.
        facts: as `provenance` returns them.
    """

    launch: StudyRun
    trials: pd.DataFrame
    own: pd.DataFrame
    table: pd.DataFrame
    compared: StudyHeader | None
    finalists: pd.DataFrame
    genes: pd.DataFrame
    verdicts: pd.DataFrame
    figures: tuple[StudyFigure, ...]
    facts: dict[str, Any]

    @property
    def header(self) -> StudyHeader:
        """Of the study."""
        return self.launch.header


def gather(tracking_uri: str, study: str, *, mixed: bool = False) -> Gathered:
    """Read a launch from its tracking store and make its tables and figures.

    Args:
        tracking_uri: address of the MLflow store.
        study: its name, or `NAME@RUN` for an earlier launch.
        mixed: report trials of several data digests or results versions together.

    Raises:
        TrackingError: the store cannot be reached or has no such study.
        InputError: the trials are of several data digests or results versions, and `mixed` was not asked for.
    """
    launch = fetch_study(tracking_uri, study)
    trials = _settled(fetch_trials(tracking_uri, study, parent_run_id=launch.run_id), launch)
    header = launch.header
    facts = provenance(trials, header, tracking_uri=tracking_uri, parent_run_id=launch.run_id)
    if not mixed:
        refuse_mixtures(facts, header)
    own = own_trials(trials, header)
    table = study_table(own, header)
    compared = finalists_header(header)
    finalists = arm_table(trials, compared) if compared is not None else pd.DataFrame()
    figures = study_figures(own, table, header)
    # Of a search it is the finalists that are compared.
    answering, answers = (header, table) if compared is None else (compared, finalists)
    genes, more = _over_genes(tracking_uri, trials, answers, answering)
    return Gathered(
        launch=launch,
        trials=trials,
        own=own,
        table=table,
        compared=compared,
        finalists=finalists,
        genes=genes,
        verdicts=verdict_table(trials, header),
        figures=(*figures, *more),
        facts=facts,
    )


def refuse_mixtures(facts: dict[str, Any], header: StudyHeader) -> None:
    """Refuse trials whose numbers do not compare.

    Args:
        facts: as `provenance` returns them.
        header: of the study.

    Raises:
        InputError: naming what they are of several of.
    """
    faults = FaultList()
    for name in _REFUSED_MIXTURES:
        found = [str(value)[:12] for value in facts[name]]
        if len(found) > 1:
            problem = f"its trials come from {len(found)} {MIXTURES[name]}: {', '.join(found)}"
            fix = "their numbers do not compare; run the study again for those of before, or give --mixed"
            faults.add(f"study {header.name}", problem, fix)
    faults.raise_if_any(InputError)


def _over_genes(
    tracking_uri: str, trials: pd.DataFrame, table: pd.DataFrame, header: StudyHeader
) -> tuple[pd.DataFrame, list[StudyFigure]]:
    """Differences over genes and the figures of single genes; nothing where the metric is not one of test genes."""
    if not wants_predictions(header):
        return pd.DataFrame(), []
    runs = finished_runs(trials, header)
    predictions = fetch_predictions(tracking_uri, runs["run_id"])
    figures = gene_figures(runs, table, predictions, header)
    weights = shown_weights(tracking_uri, runs, table, header)
    states = states_figure(runs, table, predictions, weights, header)
    return gene_table(runs, predictions, header), figures if states is None else [*figures, states]


def shown_weights(
    tracking_uri: str, runs: pd.DataFrame, table: pd.DataFrame, header: StudyHeader
) -> dict[str, pd.DataFrame]:
    """Weights of the first of `state_runs` that keeps them, by its run; empty where none does.

    Args:
        runs, table, header: as for `state_runs`.

    Raises:
        TrackingError: the store cannot be reached, or a file is damaged.
    """
    for run_id in state_runs(runs, table, header)["run_id"]:
        found = fetch_state_weights(tracking_uri, [run_id])
        if found:
            return found
    return {}


def _settled(trials: pd.DataFrame, launch: StudyRun) -> pd.DataFrame:
    """The trials, those left running by a process that died marked as killed where the study itself has ended."""
    if launch.status == "RUNNING":
        return trials
    return trials.assign(status=trials["status"].replace({"RUNNING": "KILLED", "SCHEDULED": "KILLED"}))
