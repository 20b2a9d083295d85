"""Learned background states: the weights a_i that a trained model gives the channels, over its test genes.

N test genes, D channels, n states.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from prism_ray.errors import Fault, InputError
from prism_ray.report.style import colour_bar, new_figure
from prism_ray.report.text import number
from prism_ray.tracking.headers import StudyHeader

STATE_COLUMNS = ["arm", "seed", "fold", "state", "channel", "place", "group", "n_genes", "label", "weight", "spread"]
N_GROUPS = 40
"""Groups of genes, by observed expression, that a row of the map stands for."""
_N_COLUMNS = 2


def state_runs(runs: pd.DataFrame, table: pd.DataFrame, header: StudyHeader) -> pd.DataFrame:
    """The finished runs whose states may be shown, the first that keeps weights being the one: one run an arm.

    Of each arm whose models learned states, the best first, the run of the first cell type, fold and seed. Evaluations
    are among them: their weights are those that the changed input gives.

    Args:
        runs: as `finished_runs` gives them.
        table: as `arm_table` makes it.
        header: of the study.
    """
    if "param/model.n_states" not in runs:
        return runs.iloc[:0]
    learned = runs["param/model.n_states"].fillna(0) > 0
    if "param/model.states" in runs:
        learned &= runs["param/model.states"].fillna("learned") == "learned"
    able = runs[learned.astype(bool) & (runs["cell_type"] == header.cell_types[0])]
    means = table[table["arm"].isin(set(able["arm"])) & (table["cell_type"] == header.cell_types[0])]
    arms = means.sort_values("mean", ascending=header.direction == "minimize", kind="stable")["arm"]
    first = able.sort_values(["fold", "seed"], kind="stable").drop_duplicates("arm").set_index("arm", drop=False)
    return first.loc[arms]


def state_info(weights: pd.DataFrame, predictions: pd.DataFrame, run: pd.Series) -> pd.DataFrame:
    """Mean weights of one run by state, channel and group of genes, one row each; see `STATE_COLUMNS`.

    state and channel count from 1; place is the channel's place by its mean weight in state 1, from 0; group counts
    from 1, the genes with the lowest labels; label, weight: means over its n_genes genes; spread: standard deviation of
    the channel's weight over all genes.

    Args:
        weights: as `fetch_state_weights` gives them.
        predictions: of the same run, whose labels put the genes in order.
        run: a row of what `state_runs` gives.

    Raises:
        InputError: the weights are not of the predictions' genes.
    """
    if not np.array_equal(weights["gene_id"], predictions["gene_id"]):
        fault = Fault(f"state weights of run {run['run_id']}", "are of other genes than its predictions")
        raise InputError(str(fault), [fault])
    names = [name for name in weights if str(name).startswith("state_")]
    states = np.stack([np.stack(weights[name].to_list()) for name in names]).astype(np.float64)  # (n, N, D)
    label = predictions["label"].to_numpy(dtype=np.float64)
    groups = np.array_split(np.argsort(label, kind="stable"), min(N_GROUPS, len(label)))
    place = np.argsort(np.argsort(-states[0].mean(axis=0), kind="stable"), kind="stable")
    means = np.stack([states[:, genes].mean(axis=1) for genes in groups], axis=1)  # (n, groups, D)
    state, group, channel = (part.ravel() for part in np.indices(means.shape))
    return pd.DataFrame(
        {
            "arm": str(run["arm"]),
            "seed": int(run["seed"]),
            "fold": str(run["fold"]),
            "state": state + 1,
            "channel": channel + 1,
            "place": place[channel],
            "group": group + 1,
            "n_genes": np.array([len(genes) for genes in groups])[group],
            "label": np.array([label[genes].mean() for genes in groups])[group],
            "weight": means.ravel(),
            "spread": states.std(axis=1)[state, channel],
        }
    )[STATE_COLUMNS]


def draw_states(info: pd.DataFrame) -> Figure:
    """A map a state, one range of colours for all: channels from left to right, genes by expression upwards."""
    n_states = int(info["state"].max())
    n_columns = min(_N_COLUMNS, n_states)
    n_rows = math.ceil(n_states / n_columns)
    figure, axes = new_figure(n_rows, n_columns, height_in=0.6 + 2.6 * n_rows)
    for axis in axes[n_states:]:
        axis.remove()
    shown = axes[:n_states]
    ends = float(info["weight"].min()), float(info["weight"].max())
    for state, axis in enumerate(shown, start=1):
        cells = info[info["state"] == state].pivot(index="group", columns="place", values="weight")
        mapped = axis.imshow(
            cells.to_numpy(dtype=np.float64),
            cmap="viridis",
            aspect="auto",
            origin="lower",
            vmin=ends[0],
            vmax=ends[1],
            interpolation="nearest",
        )
        axis.set_title(f"state {state}", fontsize="medium")
        labels = info[info["state"] == state].drop_duplicates("group").sort_values("group")["label"].to_numpy()
        marks = sorted({0, len(labels) // 2, len(labels) - 1})
        axis.set_yticks(marks, [f"{labels[mark]:.1f}" for mark in marks])
        if state > n_states - n_columns:
            axis.set_xlabel("channels (by state 1)")
        if (state - 1) % n_columns == 0:
            axis.set_ylabel("observed expression of genes")
    colour_bar(figure, mapped, shown, "weight a")
    return figure


def states_caption(info: pd.DataFrame) -> str:
    """What the maps show, of which run, and what its numbers say."""
    first = info.iloc[0]
    n_genes = int(info.drop_duplicates("group")["n_genes"].sum())
    spread = float(info.drop_duplicates(["state", "channel"])["spread"].mean())
    text = (
        f"Weights a of the background states of one run ({first['arm']}, seed {first['seed']}, {first['fold']}): mean "
        f"over groups of its {n_genes} test genes, by channel in the order of state 1. A column of one colour is a "
        f"channel that is weighed alike for every gene; a change from bottom to top follows expression. From gene to "
        f"gene a weight varies by {number(spread)} (standard deviation, mean over channels)"
    )
    distance = _distance(info)
    if math.isnan(distance):
        return f"{text}."
    return (
        f"{text}; two states differ by {number(distance)} in a channel (mean). Maps that look alike are states that "
        f"training has not told apart."
    )


def _distance(info: pd.DataFrame) -> float:
    """Mean absolute difference of two states over channels and groups; nan with one state."""
    by_state = info.pivot(index=["group", "channel"], columns="state", values="weight").to_numpy(dtype=np.float64)
    pairs = itertools.combinations(range(by_state.shape[1]), 2)
    distances = [float(np.abs(by_state[:, one] - by_state[:, other]).mean()) for one, other in pairs]
    return float(np.mean(distances)) if distances else math.nan
