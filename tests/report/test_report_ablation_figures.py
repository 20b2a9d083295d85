"""Figures of subsets and of two settings varied together."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pandas as pd
import pytest
from scipy import stats

from prism_ray.report.figures import study_figures
from prism_ray.report.grid import GRID_COLUMNS, draw_grid, grid_caption, grid_info
from prism_ray.report.subsets import SUBSET_COLUMNS, draw_subsets, members_of, subset_caption, subset_info
from prism_ray.report.tables import arm_table
from tests.report.made_trials import trial, trials_of
from tests.tracking_support import STUDY

SUBSETS = {"none": 0.40, "h3k27ac": 0.30, "dnase": 0.35, "h3k27ac+dnase": 0.25}
SUBSET_STUDY = replace(STUDY, arms=tuple(SUBSETS), baseline="none", curve=None, seeds=(2, 22))
GRID_STUDY = replace(STUDY, arms=("a0b0", "a0b1", "a1b0", "a1b1"), baseline="a0b0", curve=None, seeds=(2, 22))


def subset_trials() -> pd.DataFrame:
    return trials_of(
        [
            trial(arm, seed, value + seed / 1000, **{"param/data.signals": arm})
            for arm, value in SUBSETS.items()
            for seed in SUBSET_STUDY.seeds
        ]
    )


def grid_trials() -> pd.DataFrame:
    rows = []
    for a, b in itertools.product((0.0, 1.0), (0.0, 1.0)):
        for seed in GRID_STUDY.seeds:
            weights = {"param/loss.alpha": a, "param/loss.beta": b}
            rows.append(trial(f"a{a:g}b{b:g}", seed, 0.3 - 0.1 * a + 0.05 * b + seed / 1000, **weights))
    return trials_of(rows)


def test_subsets_have_their_runs_and_members() -> None:
    info = subset_info(subset_trials(), SUBSET_STUDY)
    assert list(info.columns) == SUBSET_COLUMNS
    assert dict(zip(info["subset"], info["members"], strict=True)) == {
        "none": 0,
        "h3k27ac": 1,
        "dnase": 1,
        "h3k27ac+dnase": 2,
    }
    both = info[info["subset"] == "h3k27ac+dnase"]
    assert both["value"].tolist() == pytest.approx([0.252, 0.272])
    low, high = stats.t.interval(0.95, 1, loc=0.262, scale=stats.sem([0.252, 0.272]))
    assert (both["ci_low"].iloc[0], both["ci_high"].iloc[0]) == pytest.approx((low, high))
    assert members_of("none") == ()
    assert "4 subsets of signals" in subset_caption(info, SUBSET_STUDY)
    assert "8 single runs" in subset_caption(info, SUBSET_STUDY)


def test_the_matrix_has_a_column_a_subset_best_first() -> None:
    figure = draw_subsets(subset_info(subset_trials(), SUBSET_STUDY), SUBSET_STUDY)
    above, below = figure.axes
    means = [float(y) for y in above.lines[1].get_ydata()]
    assert means == sorted(means)
    filled = [list(line.get_ydata()) for line in below.lines[1::2]]
    # Best first: both, H3K27ac, DNase, nothing.
    assert filled == [[0, 1], [0], [1], []]
    assert [label.get_text() for label in below.get_yticklabels()] == ["h3k27ac", "dnase"]


def test_arms_that_differ_in_more_than_signals_are_no_matrix() -> None:
    twice = subset_trials().assign(**{"param/data.signals": ["none"] * 4 + ["dnase"] * 2 + ["h3k27ac"] * 2})
    assert not len(subset_info(twice, SUBSET_STUDY))
    assert not len(subset_info(subset_trials().iloc[:4], SUBSET_STUDY))
    assert not len(subset_info(subset_trials().drop(columns="param/data.signals"), SUBSET_STUDY))


def test_a_grid_has_every_combination() -> None:
    info = grid_info(grid_trials(), GRID_STUDY)
    assert list(info.columns) == GRID_COLUMNS
    cells = {(row["row_value"], row["column_value"]): row["mean"] for row in info.to_dict("records")}
    assert cells == pytest.approx({(0, 0): 0.312, (0, 1): 0.362, (1, 0): 0.212, (1, 1): 0.262})
    assert (info["row"].iloc[0], info["column"].iloc[0]) == ("loss.alpha", "loss.beta")
    assert set(info["n"]) == {2}
    assert "8 runs" in grid_caption(info, GRID_STUDY)
    figure = draw_grid(info, GRID_STUDY)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["0.3120", "0.3620", "0.2120", "0.2620"]
    (frame,) = figure.axes[0].patches
    assert frame.get_bbox().bounds == (-0.5, 0.5, 1, 1)  # column beta 0, row alpha 1


def test_an_incomplete_grid_or_a_third_setting_is_no_map() -> None:
    assert not len(grid_info(grid_trials().iloc[:6], GRID_STUDY))
    third = grid_trials().assign(**{"param/model.n_states": range(8)})
    assert not len(grid_info(third, GRID_STUDY))


def test_studies_get_the_figures_that_fit_them() -> None:
    subsets, grid = subset_trials(), grid_trials()
    names = [figure.name for figure in study_figures(subsets, arm_table(subsets, SUBSET_STUDY), SUBSET_STUDY)]
    assert names == ["subsets", "forest"]
    names = [figure.name for figure in study_figures(grid, arm_table(grid, GRID_STUDY), GRID_STUDY)]
    assert names == ["grid", "forest"]
