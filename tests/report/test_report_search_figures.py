"""Importances and parallel coordinates of a search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from prism_ray.report.importance import FEWEST_TRIALS, draw_importance, importance_caption, importance_info
from prism_ray.report.parallel import PARALLEL_COLUMNS, draw_parallel, parallel_caption, parallel_info
from prism_ray.report.pareto import PARETO_COLUMNS, draw_pareto, pareto_caption, pareto_info
from prism_ray.report.search_figures import pareto_figure
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


def test_the_front_is_what_no_other_trial_beats() -> None:
    values = [(0.4, 10.0), (0.3, 20.0), (0.35, 30.0), (0.2, 400.0), (0.2, 500.0)]
    rows = [
        trial("search", 2, error, **{"trial_id": f"t{index}", "cost/train_s": seconds})
        for index, (error, seconds) in enumerate(values)
    ]
    header = replace(search_header(5), second_metric="cost/train_s", second_direction="minimize")
    info = pareto_info(trials_of(rows), header)
    assert list(info.columns) == PARETO_COLUMNS
    assert dict(zip(info["trial_id"], info["on_front"], strict=True)) == {
        "t0": True,
        "t1": True,
        "t2": False,
        "t3": True,
        "t4": False,
    }
    (axis,) = draw_pareto(info, header, "best/mse").axes
    rest, steps, front = axis.lines
    assert list(rest.get_xdata()) == [30.0, 500.0]
    assert list(front.get_ydata()) == [0.4, 0.3, 0.2]
    assert steps.get_drawstyle() == "steps-post"
    assert axis.get_xscale() == "log"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("cost/train_s", "best/mse")
    caption = pareto_caption(info, header, "best/mse")
    assert "5 finished trials; 3 of them are on the front" in caption
    assert pareto_figure(trials_of(rows), header) is not None
    assert pareto_figure(trials_of(rows), search_header(5)) is None
    assert pareto_figure(trials_of(rows).assign(status="FAILED"), header) is None
