"""The map of learned background states: which run, what is drawn, what is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from prism_ray.errors import InputError
from prism_ray.report.gene_figures import states_figure
from prism_ray.report.states import N_GROUPS, STATE_COLUMNS, draw_states, state_info, state_runs, states_caption
from prism_ray.report.tables import arm_table
from prism_ray.tracking import StudyHeader
from tests.report.made_trials import trial, trials_of
from tests.tracking_support import STUDY

HEADER = replace(STUDY, arms=("n0", "n2", "n4"), n_trials=6)
MEANS = {"n0": 0.1, "n2": 0.3, "n4": 0.2}
N_GENES, N_CHANNELS = 200, 6


def made_trials() -> pd.DataFrame:
    rows = [trial(arm, seed, MEANS[arm], run_id=f"{arm}-{seed}") for arm in HEADER.arms for seed in (22, 2)]
    return trials_of(rows)


def made_genes(n_states: int = 2) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Weights and predictions: channel c of state i weighs (c + i) / 10, plus a part that follows the label."""
    label = np.random.default_rng(1).permutation(np.linspace(0, 4, N_GENES))
    names = [f"g{index}" for index in range(N_GENES)]
    channel = np.arange(N_CHANNELS) / 10
    states = {
        f"state_{state + 1}": list((channel + state / 10 + 0.01 * label[:, None]).astype(np.float32))
        for state in range(n_states)
    }
    return pd.DataFrame({"gene_id": names, **states}), pd.DataFrame({"gene_id": names, "label": label})


def test_the_best_arm_with_learned_states_is_shown() -> None:
    trials = made_trials()
    table = arm_table(trials, HEADER)

    def shown(trials: pd.DataFrame, header: StudyHeader = HEADER) -> list[str]:
        return state_runs(trials, table, header)["run_id"].tolist()

    assert shown(trials) == ["n4-2", "n2-2"]  # not n0, which has none, though it is better; the lowest seed
    assert shown(trials, replace(HEADER, direction="maximize")) == ["n2-2", "n4-2"]
    drawn = trials.assign(**{"param/model.states": ["learned"] * 4 + ["random"] * 2})
    assert shown(drawn) == ["n2-2"]
    assert shown(trials[trials["arm"] == "n0"]) == []
    assert shown(trials.drop(columns="param/model.n_states")) == []


def test_weights_are_means_over_groups_of_genes_by_expression() -> None:
    weights, predictions = made_genes()
    info = state_info(weights, predictions, made_trials().iloc[5])
    assert list(info.columns) == STATE_COLUMNS
    assert len(info) == 2 * N_CHANNELS * N_GROUPS
    assert set(info["n_genes"]) == {N_GENES // N_GROUPS}
    lowest = np.sort(predictions["label"])[: N_GENES // N_GROUPS]
    cell = info[(info["state"] == 2) & (info["channel"] == 4) & (info["group"] == 1)].iloc[0]
    assert cell["label"] == pytest.approx(lowest.mean())
    assert cell["weight"] == pytest.approx(0.3 + 0.1 + 0.01 * lowest.mean(), abs=1e-6)
    assert cell["spread"] == pytest.approx(0.01 * predictions["label"].std(ddof=0), abs=1e-6)
    # The heaviest channel of state 1 comes first, in every state.
    assert info.groupby("channel")["place"].unique().map(list).to_dict() == {
        channel: [N_CHANNELS - channel] for channel in range(1, N_CHANNELS + 1)
    }


def test_the_caption_has_the_runs_numbers() -> None:
    weights, predictions = made_genes()
    caption = states_caption(state_info(weights, predictions, made_trials().iloc[5]))
    assert "one run (n4, seed 2, fold_1)" in caption
    assert "200 test genes" in caption
    spread = 0.01 * predictions["label"].std(ddof=0)
    assert f"varies by {spread:.4f}" in caption
    assert "two states differ by 0.1000" in caption
    one, predictions = made_genes(1)
    assert "differ" not in states_caption(state_info(one, predictions, made_trials().iloc[5]))


@pytest.mark.parametrize("n_states", [1, 3])
def test_each_state_has_its_map(n_states: int) -> None:
    weights, predictions = made_genes(n_states)
    figure = draw_states(state_info(weights, predictions, made_trials().iloc[5]))
    assert [axis.get_title() for axis in figure.axes[:n_states]] == [f"state {n + 1}" for n in range(n_states)]
    assert len(figure.axes) == n_states + 1  # and one bar of colours
    cells = figure.axes[0].images[0].get_array()
    assert cells is not None
    assert cells.shape == (N_GROUPS, N_CHANNELS)
    assert (np.diff(cells, axis=1) < 0).all()
    assert (np.diff(cells, axis=0) > 0).all()


def test_weights_of_other_genes_are_refused() -> None:
    weights, predictions = made_genes()
    with pytest.raises(InputError, match="state weights of run n4-2: are of other genes than its predictions"):
        state_info(weights, predictions.iloc[::-1], made_trials().iloc[5])


def test_runs_without_weights_have_no_map() -> None:
    trials = made_trials()
    weights, predictions = made_genes()
    table = arm_table(trials, HEADER)
    figure = states_figure(trials, table, {"n4-2": predictions}, {"n4-2": weights}, HEADER)
    assert figure is not None
    assert figure.name == "states"
    # Weights of before they were kept are missing; the next arm has some.
    both = {"n4-2": predictions, "n2-2": predictions}
    figure = states_figure(trials, table, both, {"n2-2": weights}, HEADER)
    assert figure is not None
    assert set(figure.info["arm"]) == {"n2"}
    assert states_figure(trials, table, {"n4-2": predictions}, {}, HEADER) is None
    assert states_figure(trials, table, {}, {"n4-2": weights}, HEADER) is None
