"""Would an arm's difference hold on other genes? Predictions of both arms, gene by gene, and the intervals over genes.

R runs (seeds) of a fold that both arms have, N test genes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from prism_ray.errors import Fault, InputError
from prism_ray.report.values import latest, with_value
from prism_ray.statistics import FoldPredictions, gene_and_run_effects
from prism_ray.tracking.headers import StudyHeader

GENE_COLUMNS = [
    "cell_type",
    "arm",
    "n_runs",
    "n_genes",
    "difference",
    "genes_low",
    "genes_high",
    "both_low",
    "both_high",
]
Predictions = Mapping[str, pd.DataFrame]
"""Test predictions by run id, as `fetch_predictions` returns them."""


@dataclass(frozen=True)
class PairedFold:
    """Predictions of an arm and its baseline for one fold.

    Attributes:
        fold: its name.
        chrom: (N,) chromosome of each gene.
        predictions: of both arms.
    """

    fold: str
    chrom: np.ndarray
    predictions: FoldPredictions


def wants_predictions(header: StudyHeader) -> bool:
    """Whether the study's metric is one of test genes, of which there are predictions, and has something to compare."""
    return header.metric.startswith("test/") and header.baseline is not None


def finished_runs(trials: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """One finished trial a place (cell type, arm, seed, fold), whose predictions a report reads."""
    return latest(with_value(trials, header.metric))


def pairs_of_genes(header: StudyHeader, cell_type: str) -> list[tuple[str, str]]:
    """Arms, each with its reference, whose test genes and labels are the same: of one cell type."""
    pairs = [(arm, header.reference(arm)) for arm in header.arms_on(cell_type) if arm not in header.evaluated_on]
    return [(arm, reference) for arm, reference in pairs if reference is not None]


def paired_folds(
    runs: pd.DataFrame, predictions: Predictions, cell_type: str, arm: str, baseline: str
) -> list[PairedFold]:
    """Predictions of an arm and a baseline for each fold that both have, with the seeds that both have in it.

    Args:
        runs: as `finished_runs` gives them.
        predictions: of some of these runs; a run without counts as missing.

    Raises:
        InputError: two runs of a fold were tested on other genes or labels.
    """
    ours, theirs = (_by_place(runs, predictions, cell_type, name) for name in (arm, baseline))
    folds = []
    for fold in dict.fromkeys(fold for fold, _ in ours):
        seeds = [seed for other, seed in ours if other == fold and (fold, seed) in theirs]
        if not seeds:
            continue
        tables = [[runs_of[(fold, seed)] for seed in seeds] for runs_of in (ours, theirs)]
        first = tables[0][0]
        for table in (*tables[0], *tables[1]):
            _refuse_other_genes(first, table, fold, arm, baseline)
        arrays = [np.array([table["prediction"] for table in part], dtype=np.float64) for part in tables]
        label = first["label"].to_numpy(dtype=np.float64)
        folds.append(PairedFold(fold, first["chrom"].to_numpy(), FoldPredictions(arrays[0], arrays[1], label)))
    return folds


def gene_table(runs: pd.DataFrame, predictions: Predictions, header: StudyHeader) -> pd.DataFrame:
    """Each arm's difference from its reference with its intervals over genes, one row a cell type and arm.

    Columns: cell_type, arm; n_runs, n_genes that it rests on; difference of the metric, mean over folds of the mean
    over their runs; genes_low, genes_high: BCa bootstrap interval over genes, the runs as they are; both_low,
    both_high: over runs and genes together, nan where no fold has two runs. No row for an arm without predictions to
    pair.
    """
    metric = header.metric.removeprefix("test/")
    places, arms = [], []
    for cell_type in header.cell_types:
        for arm, reference in pairs_of_genes(header, cell_type):
            folds = paired_folds(runs, predictions, cell_type, arm, reference)
            if folds:
                places.append([cell_type, arm])
                arms.append([fold.predictions for fold in folds])
    rows = [
        [*place, genes.n_runs, genes.n_genes, genes.difference, genes.low, genes.high, both.low, both.high]
        for place, (genes, both) in zip(places, gene_and_run_effects(arms, metric), strict=True)
    ]
    return pd.DataFrame(rows, columns=GENE_COLUMNS)


def _by_place(
    runs: pd.DataFrame, predictions: Predictions, cell_type: str, arm: str
) -> dict[tuple[str, int], pd.DataFrame]:
    """Predictions of an arm by fold and seed."""
    # Without its metrics and settings, of which there may be a hundred.
    chosen = runs.loc[(runs["cell_type"] == cell_type) & (runs["arm"] == arm), ["fold", "seed", "run_id"]]
    return {
        (str(row["fold"]), int(row["seed"])): predictions[row["run_id"]]
        for row in chosen.to_dict("records")
        if row["run_id"] in predictions
    }


def _refuse_other_genes(first: pd.DataFrame, table: pd.DataFrame, fold: str, arm: str, baseline: str) -> None:
    # As Arrow has the names: thousands of them as Python's text, for each of many runs, take seconds.
    if not (first["gene_id"].equals(table["gene_id"]) and np.array_equal(first["label"], table["label"])):
        fault = Fault(
            f"test predictions of {arm} and {baseline}, {fold}",
            "are of other genes or labels",
            "compare trials of one store: their data digests differ, or a file was changed",
        )
        raise InputError(str(fault), [fault])
