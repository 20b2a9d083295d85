"""Importances and parallel coordinates of a search."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from prism_ray.report.importance import FEWEST_TRIALS, draw_importance, importance_caption, importance_info
from prism_ray.report.parallel import PARALLEL_COLUMNS, draw_parallel, parallel_caption, parallel_info
from tests.report.made_trials import search_header, trial, trials_of


def made_search(n_trials: int, seed: int = 0) -> pd.DataFrame:
    """Trials whose value follows the learning rate alone; alpha is there for two of three trials."""
    draws = np.random.default_rng(seed)
    rows = []
    for index in range(n_trials):
        rate = 10 ** draws.uniform(-4, -2)
        rows.append(
            trial(
                "search",
                2,
                0.0,
                **{
                    "trial_id": f"trial-{index}",
                    "best/mse": (np.log10(rate) + 3) ** 2 + draws.normal(0, 0.01),
                    "param/optimizer.learning_rate": rate,
                    "param/model.d_model": int(draws.choice([8, 16, 32])),
                    "param/data.signals": str(draws.choice(["dnase", "h3k27ac", "none"])),
                    "param/loss.alpha": draws.uniform(0, 2) if index % 3 else None,
                },
            )
        )
    table = trials_of(rows)
    return table.astype({"param/loss.alpha": "Float64"})


def test_the_setting_that_decides_is_the_most_important() -> None:
    header = search_header(200)
    info = importance_info(made_search(200), header)
    assert info["parameter"].iloc[0] == "optimizer.learning_rate"
    assert info["importance"].iloc[0] > 0.8
    trials = dict(zip(info["parameter"], info["n_trials"], strict=True))
    assert trials == {"optimizer.learning_rate": 200, "model.d_model": 200, "data.signals": 200, "loss.alpha": 133}
    complete = info[info["n_trials"] == 200]
    assert complete["importance"].sum() == pytest.approx(1.0)
    assert "200 finished trials" in importance_caption(info, "best/mse")
    labels = [label.get_text() for label in draw_importance(info).axes[0].get_yticklabels()]
    assert "loss.alpha (133 trials)" in labels


def test_few_trials_have_no_importances() -> None:
    assert not len(importance_info(made_search(FEWEST_TRIALS - 1), search_header(50)))
    assert len(importance_info(made_search(FEWEST_TRIALS + 20), search_header(50)))


def test_parallel_coordinates_place_each_setting() -> None:
    trials = made_search(12)
    info = parallel_info(trials, search_header(12))
    assert list(info.columns) == PARALLEL_COLUMNS
    best = trials.sort_values("best/mse").iloc[0]
    first = info[info["rank"] == 1].set_index("parameter")
    assert set(first["trial_id"]) == {best["trial_id"]}
    rates = np.log(trials["param/optimizer.learning_rate"].astype(float))
    expected = (np.log(best["param/optimizer.learning_rate"]) - rates.min()) / np.ptp(rates)
    assert first.loc["optimizer.learning_rate", "height"] == pytest.approx(expected)
    heights = info[info["parameter"] == "data.signals"].drop_duplicates("setting").set_index("setting")["height"]
    assert heights.to_dict() == {"dnase": 0.0, "h3k27ac": 0.5, "none": 1.0}
    assert len(info[info["parameter"] == "loss.alpha"]) == 8
    assert "12 finished trials" in parallel_caption(info, "best/mse")
    figure = draw_parallel(info, search_header(12), "best/mse")
    # A trial without alpha passes below the axes.
    below = [line for line in figure.axes[0].lines if len(line.get_ydata()) > 2 and min(line.get_ydata()) < 0]
    assert len(below) == 4


def test_too_little_for_parallel_coordinates() -> None:
    assert not len(parallel_info(made_search(2), search_header(2)))
    one = made_search(9)[["param/model.d_model"]].columns
    trials = made_search(9)
    single = trials.drop(columns=[name for name in trials if name.startswith("param/") and name not in one])
    assert not len(parallel_info(single, search_header(9)))
