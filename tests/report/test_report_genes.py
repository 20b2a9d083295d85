"""What a report says of single genes: intervals over them, fold by fold, predicted against observed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prism_ray.errors import InputError
from prism_ray.metrics import mse
from prism_ray.report.by_chrom import FOLD_COLUMNS, MOST_ARMS, draw_folds, fold_caption, fold_info
from prism_ray.report.figures import study_figures
from prism_ray.report.gene_figures import gene_figures
from prism_ray.report.genes import GENE_COLUMNS, finished_runs, gene_table, paired_folds, wants_predictions
from prism_ray.report.predicted import (
    draw_predicted,
    draw_residuals,
    predicted_caption,
    predicted_info,
    residual_caption,
    residual_info,
    shown_arms,
)
from prism_ray.report.style import inline_svg
from prism_ray.report.tables import arm_table
from prism_ray.statistics import gene_effect, run_and_gene_effect
from tests.report.made_predictions import predictions_of
from tests.report.made_trials import trial, trials_of
from tests.tracking_support import STUDY

ERRORS = {"n0": 0.6, "n2": 0.5}
HEADER = replace(STUDY, arms=("n0", "n2"), seeds=(2, 22, 222), folds=("fold_1", "fold_2"), n_trials=12)


def made_trials(header=HEADER, errors=ERRORS) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    rows = [
        trial(arm, seed, errors[arm], fold=fold, run_id=f"{arm}-{seed}-{fold}")
        for arm in header.arms
        for seed in header.seeds
        for fold in header.folds
    ]
    return trials_of(rows)


@pytest.fixture
def trials() -> pd.DataFrame:
    return made_trials()


@pytest.fixture
def predictions(trials: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return predictions_of(trials, ERRORS, n_on_x=60)


def test_gene_table_is_the_statistics_of_the_paired_predictions(trials: pd.DataFrame, predictions: dict) -> None:
    table = gene_table(finished_runs(trials, HEADER), predictions, HEADER)
    assert list(table.columns) == GENE_COLUMNS
    (row,) = table.to_dict("records")
    assert (row["arm"], row["n_runs"], row["n_genes"]) == ("n2", 6, 400)
    by_run = [
        mse(predictions[f"n2-{seed}-{fold}"]["prediction"], predictions[f"n2-{seed}-{fold}"]["label"])
        - mse(predictions[f"n0-{seed}-{fold}"]["prediction"], predictions[f"n0-{seed}-{fold}"]["label"])
        for seed in HEADER.seeds
        for fold in HEADER.folds
    ]
    assert row["difference"] == pytest.approx(np.mean(by_run))
    pairs = [fold.predictions for fold in paired_folds(finished_runs(trials, HEADER), predictions, "K562", "n2", "n0")]
    genes, both = gene_effect(pairs, "mse"), run_and_gene_effect(pairs, "mse")
    assert (row["genes_low"], row["genes_high"]) == (genes.low, genes.high)
    assert (row["both_low"], row["both_high"]) == (both.low, both.high)


def test_only_seeds_of_both_arms_are_paired(trials: pd.DataFrame, predictions: dict) -> None:
    runs = finished_runs(trials, HEADER)
    del predictions["n0-22-fold_1"]
    folds = {fold.fold: fold.predictions for fold in paired_folds(runs, predictions, "K562", "n2", "n0")}
    assert folds["fold_1"].arm.shape == (2, 200)
    assert folds["fold_2"].arm.shape == (3, 200)
    assert folds["fold_1"].arm[1] == pytest.approx(predictions["n2-222-fold_1"]["prediction"])
    assert folds["fold_1"].baseline[1] == pytest.approx(predictions["n0-222-fold_1"]["prediction"])


def test_runs_of_other_genes_are_refused(trials: pd.DataFrame, predictions: dict) -> None:
    predictions["n2-2-fold_1"] = predictions["n2-2-fold_1"].iloc[::-1].reset_index(drop=True)
    with pytest.raises(InputError, match="n2 and n0, fold_1: are of other genes or labels"):
        gene_table(finished_runs(trials, HEADER), predictions, HEADER)


def test_without_predictions_there_is_no_row_and_no_figure(trials: pd.DataFrame) -> None:
    runs, table = finished_runs(trials, HEADER), arm_table(trials, HEADER)
    assert not len(gene_table(runs, {}, HEADER))
    assert gene_figures(runs, table, {}, HEADER) == []
    assert not wants_predictions(replace(HEADER, metric="best/mse"))
    assert not wants_predictions(replace(HEADER, baseline=None))


def test_a_fold_has_its_sex_chromosome_apart(trials: pd.DataFrame, predictions: dict) -> None:
    info = fold_info(finished_runs(trials, HEADER), predictions, HEADER)
    assert list(info.columns) == FOLD_COLUMNS
    places = list(zip(info["fold"], info["chroms"], info["n_genes"], strict=True))
    assert places == [
        ("fold_1", "autosomes", 140),
        ("fold_1", "chrX", 60),
        ("fold_2", "autosomes", 140),
        ("fold_2", "chrX", 60),
    ]
    on_x = info[info["chroms"] == "chrX"]
    assert on_x["difference"].abs().max() < 1e-6  # there the arms were made alike
    assert (info.loc[info["chroms"] == "autosomes", "high"] < 0).all()
    assert "2 folds (400 test genes)" in fold_caption(info, HEADER)
    draw_folds(info, HEADER)


def test_one_fold_of_autosomes_needs_no_figure_of_folds() -> None:
    header = replace(HEADER, folds=("fold_1",))
    trials = made_trials(header)
    runs = finished_runs(trials, header)
    assert not len(fold_info(runs, predictions_of(trials, ERRORS), header))
    # Too few genes on chrX for an interval of their own.
    assert not len(fold_info(runs, predictions_of(trials, ERRORS, n_on_x=19), header))


def test_a_figure_of_many_arms_says_what_it_leaves_out() -> None:
    arms = tuple(f"n{index}" for index in range(MOST_ARMS + 3))
    header = replace(HEADER, arms=arms, seeds=(2,))
    errors = {arm: 0.5 for arm in arms}
    trials = made_trials(header, errors)
    info = fold_info(finished_runs(trials, header), predictions_of(trials, errors), header)
    assert info["arm"].nunique() == MOST_ARMS + 2
    assert f"The first {MOST_ARMS} of {MOST_ARMS + 2} arms" in fold_caption(info, header)
    assert len(draw_folds(info, header).axes) == MOST_ARMS


def test_predicted_is_a_genes_mean_over_runs(trials: pd.DataFrame, predictions: dict) -> None:
    info = predicted_info(finished_runs(trials, HEADER), predictions, HEADER)
    assert len(info) == 2 * 2 * 200
    (gene,) = info[(info["arm"] == "n2") & (info["gene_id"] == "fold1gene7")].to_dict("records")
    expected = np.mean([predictions[f"n2-{seed}-fold_1"]["prediction"][7] for seed in HEADER.seeds])
    assert gene["prediction"] == pytest.approx(expected, rel=1e-6)
    assert gene["n_runs"] == 3
    assert gene["label"] == predictions["n2-2-fold_1"]["label"][7]
    arms = shown_arms(arm_table(trials, HEADER), HEADER)
    assert arms == ("n0", "n2")
    caption = predicted_caption(info, arms)
    assert "400 test genes" in caption
    assert "12 runs in all" in caption
    assert len(drawn_axes(draw_predicted(info, arms))) == 2
    (panel,) = drawn_axes(draw_predicted(info[info["arm"] == "n0"], ("n0",)))
    assert panel.get_position().x1 < 0.6, "alone it stands at the left"


def drawn_axes(figure: Figure) -> list[Axes]:
    """Panels of a figure, without the bars of their colours."""
    figure.draw_without_rendering()
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def test_residuals_by_tenths_of_expression() -> None:
    label = np.arange(100, dtype=np.float64)
    predicted = pd.DataFrame(
        {
            "cell_type": "K562",
            "arm": "n0",
            "fold": "fold_1",
            "gene_id": [f"gene{index}" for index in range(100)],
            "label": label,
            "prediction": 0.5 * label,
        }
    )
    info = residual_info(predicted)
    assert info["tenth"].tolist() == list(range(1, 11))
    assert info["n_genes"].tolist() == [10] * 10
    # The first tenth holds 0 to 9: its mean residual is half of -4.5.
    assert info["residual"].iloc[0] == pytest.approx(-2.25)
    assert info["squared_error"].iloc[0] == pytest.approx(np.mean((0.5 * label[:10]) ** 2))
    assert "100 test genes" in residual_caption(info, ("n0",))
    draw_residuals(info, ("n0",))


def test_the_baseline_is_shown_beside_the_best_of_the_others(trials: pd.DataFrame) -> None:
    worse = trials.assign(**{"test/mse": trials["test/mse"].where(trials["arm"] == "n0", 0.9)})
    assert shown_arms(arm_table(worse, HEADER), HEADER) == ("n0", "n2")
    alone = trials[trials["arm"] == "n0"]
    assert shown_arms(arm_table(alone, HEADER), HEADER) == ("n0",)
    nothing = trials.assign(status="FAILED")
    assert shown_arms(arm_table(nothing, HEADER), HEADER) == ()


def test_long_names_of_arms_leave_room_for_the_axes() -> None:
    arms = tuple(f"signals-h3k27ac-dnase-hic-atac__window_bp-{length}00000__n_states-2" for length in (1, 2))
    header = replace(HEADER, arms=arms, baseline=arms[0])
    errors = dict(zip(arms, (0.6, 0.5), strict=True))
    trials = made_trials(header, errors)
    table, runs = arm_table(trials, header), finished_runs(trials, header)
    figures = gene_figures(runs, table, predictions_of(trials, errors, n_on_x=60), header)
    figures += study_figures(trials, table, header)
    assert {figure.name for figure in figures} >= {"folds", "predicted", "residuals", "forest"}
    for figure in figures:
        # Matplotlib warns where axes are left no room, and a warning is an error here.
        inline_svg(figure.figure, figure.name, figure.title)
